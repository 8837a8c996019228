package coalesce

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A nextFunc is a next step.
type nextFunc func(context.Context, *call.Call) (*recording.Reader, error)

func (f nextFunc) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	return f(ctx, c)
}

// What a call that others may join pays when none does.
func BenchmarkLead(b *testing.B) {
	next := nextFunc(func(_ context.Context, c *call.Call) (*recording.Reader, error) {
		w := recording.New(context.Background(), c.Request, 0)
		r, err := w.Follow()
		w.Append([]byte("."), wire.Final, true)
		w.Complete()
		return r, err
	})
	var jobs sync.WaitGroup
	step := New(Base{Context: context.Background(), Jobs: &jobs}).Step(Options{}, next)
	for _, way := range []struct {
		name string
		call.Answerer
	}{{"ours", step}, {"plain", next}} {
		b.Run(way.name, func(b *testing.B) {
			c := chat("a")
			b.ReportAllocs()
			for b.Loop() {
				r, err := way.Answer(b.Context(), c)
				if err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

// One operation is a joining follower of an answer that runs: it reads what has been said and leaves.
func BenchmarkJoin(b *testing.B) {
	for _, others := range []int{1, 1000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			w := recording.New(context.Background(), chat("a").Request, 0)
			r, err := w.Follow()
			if err != nil {
				b.Fatal(err)
			}
			w.Append([]byte("x"), wire.Part, false)
			var jobs sync.WaitGroup
			next := nextFunc(func(context.Context, *call.Call) (*recording.Reader, error) { return r, nil })
			step := New(Base{Context: context.Background(), Jobs: &jobs}).Step(Options{MaxFollowers: 1 << 40}, next)
			for range others {
				r, err := step.Answer(b.Context(), chat("a"))
				if err != nil {
					b.Fatal(err)
				}
				defer r.Close()
			}
			c, frames := chat("a"), make([]recording.Frame, 32)
			b.ReportAllocs()
			for b.Loop() {
				r, err := step.Answer(b.Context(), c)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := r.Read(b.Context(), frames); n != 1 || err != nil {
					b.Fatal(n, err)
				}
				r.Close()
			}
			w.Complete()
		})
	}
}

// One operation is a first frame for all who wait, from its being there to the last one's having
// a reader.
func BenchmarkBegin(b *testing.B) {
	for _, followers := range []int{1, 50, 1000} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			begin := make(chan struct{})
			next := nextFunc(func(_ context.Context, c *call.Call) (*recording.Reader, error) {
				w := recording.New(context.Background(), c.Request, 0)
				r, err := w.Follow()
				<-begin
				w.Append([]byte("."), wire.Final, true)
				context.AfterFunc(w.Context(), w.Complete)
				return r, err
			})
			var jobs sync.WaitGroup
			flights := New(Base{Context: context.Background(), Jobs: &jobs})
			step := flights.Step(Options{}, next)
			for b.Loop() {
				b.StopTimer()
				var have, leave, left sync.WaitGroup
				leave.Add(1)
				for range followers {
					have.Add(1)
					left.Go(func() { // ends with the operation
						r, err := step.Answer(context.Background(), chat("a"))
						have.Done()
						if err != nil {
							b.Error(err)
							return
						}
						leave.Wait()
						r.Close()
					})
				}
				for waiting := 0; waiting < followers; {
					runtime.Gosched()
					flights.mu.Lock()
					if f := flights.table[chat("a").Joining.Key]; f != nil {
						waiting = f.waiting
					}
					flights.mu.Unlock()
				}
				b.StartTimer()
				begin <- struct{}{}
				have.Wait()
				b.StopTimer()
				flights.Forget()
				leave.Done()
				left.Wait()
				b.StartTimer()
			}
		})
	}
}

// One operation is an answer of 200 frames from its first to its last, all of them read one by
// one by so many followers.
func BenchmarkFrames(b *testing.B) {
	const frames = 200
	for _, followers := range []int{1, 50, 1000} {
		b.Run(fmt.Sprintf("followers=%d", followers), func(b *testing.B) {
			var w *recording.Writer
			next := nextFunc(func(_ context.Context, c *call.Call) (*recording.Reader, error) {
				w = recording.New(context.Background(), c.Request, 0)
				r, err := w.Follow()
				w.Append(make([]byte, 120), wire.Part, false)
				return r, err
			})
			var jobs sync.WaitGroup
			step := New(Base{Context: context.Background(), Jobs: &jobs}).Step(Options{}, next)
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				var readers sync.WaitGroup
				heard := make(chan struct{}, followers)
				for range followers {
					r, err := step.Answer(b.Context(), chat("a"))
					if err != nil {
						b.Fatal(err)
					}
					readers.Go(func() { // ends with the answer
						defer r.Close()
						into, n := make([]recording.Frame, 1), 0
						for {
							_, err := r.Read(context.Background(), into)
							if err != nil {
								if err != io.EOF || n != frames {
									b.Errorf("%d frames, %v", n, err)
								}
								return
							}
							n++
							heard <- struct{}{}
						}
					})
				}
				for range followers {
					<-heard
				}
				b.StartTimer()
				for range frames - 1 {
					w.Append(make([]byte, 120), wire.Part, false)
					for range followers { // a node is slower than they are: frame by frame
						<-heard
					}
				}
				w.Complete()
				readers.Wait()
			}
			b.ReportMetric(float64(b.N)*(frames-1)/b.Elapsed().Seconds(), "frames/s")
			b.ReportMetric(float64(b.N)*(frames-1)*float64(followers)/b.Elapsed().Seconds(), "deliveries/s")
		})
	}
}
