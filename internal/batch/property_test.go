package batch

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Whatever is asked for, by whom and in what order: each gets what one node would answer, each
// text is sent at most once, and the tokens of all who asked for different texts add up.
func TestAnswer_IsThatOfOneNode(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.SampledFrom(append(numbered("text", 12), "", "ü", `"\`))
		requests := rapid.SliceOfN(rapid.SliceOfN(text, 1, 12), 1, 8).Draw(rt, "requests")
		slots := rapid.IntRange(1, 3).Draw(rt, "slots")
		o := Options{MaxItems: rapid.IntRange(1, 5).Draw(rt, "most"), MaxBytes: rapid.IntRange(1, 60).Draw(rt, "bytes")}
		waits := rapid.SliceOfN(rapid.IntRange(0, 30), len(requests), len(requests)).Draw(rt, "waits")
		f, kept := &fleet{most: slots, took: each}, &store{}
		within(t, f, o, kept, func(t *testing.T, b *bench) {
			var clients sync.WaitGroup
			for i, texts := range requests {
				// Never at an instant at which something lands: who looks up before and asks after that
				// sends what was just there.
				time.Sleep(time.Duration(waits[i])*time.Millisecond + time.Microsecond)
				clients.Go(func() { // ends with its answer
					got, err := b.get(t.Context(), asking(t, "/api/embed", embedding(texts...)))
					if want := want(texts...); err != nil || countless(got) != countless(want) {
						rt.Errorf("%q\ngot  %s, %v\nwant %s", texts, got, err, want)
					}
				})
			}
			clients.Wait()
			times, node := map[string]int{}, 0
			for _, texts := range f.sent() {
				for _, text := range texts {
					node += tokensOf(text)
					if times[text]++; times[text] > 1 {
						rt.Errorf("%q was sent %d times", text, times[text])
					}
				}
			}
			told := 0
			for _, v := range kept.kept {
				told += v.Tokens
			}
			if told != node {
				rt.Errorf("the shares add up to %d tokens, the nodes said %d", told, node)
			}
		})
	})
}

func TestApportion_AddsUp(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 1<<20), 1, 40).Draw(rt, "weights")
		total := rapid.OneOf(rapid.IntRange(0, 1000), rapid.Just(1<<62)).Draw(rt, "total")
		sum, of := 0, 0
		for _, w := range weights {
			of += w
		}
		for i, share := range apportion(total, weights) {
			sum += share
			if of > 0 && total <= 1000 {
				if exact := float64(total) * float64(weights[i]) / float64(of); float64(share) <= exact-1 || float64(share) >= exact+1 {
					rt.Errorf("%v of %d: %d gets %d", weights, total, weights[i], share)
				}
			}
		}
		if sum != total {
			rt.Errorf("%v: the shares of %d add up to %d", weights, total, sum)
		}
	})
	if got := fmt.Sprint(apportion(10, []int{1, 1, 1}), apportion(4, []int{0, 0, 0}), apportion(7, []int{5, 0, 2})); got != "[4 3 3] [2 1 1] [5 0 2]" {
		t.Errorf("shares %s", got)
	}
}

func BenchmarkAnswer(b *testing.B) {
	route := *wire.Find("POST", "/api/embed").Route
	contentType, object := nodesAnswer(route, "m", false, []string{"the river"}, 0)
	next := answerer(func(_ context.Context, c *call.Call) (*recording.Reader, error) {
		if c.Seal != nil {
			c.Seal()
		}
		return recording.Replay(route, recording.Whole{ContentType: contentType, Object: object}), nil
	})
	step := newBench(b, nil, Options{}, nil, next)
	defer step.end()
	step.opts.Sent = nil
	c := asking(b, "/api/embed", embedding("the river"))
	for name, a := range map[string]call.Answerer{"ours": step.Step, "plain": next} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r, err := a.Answer(context.Background(), c)
				if err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
	step.Jobs.Wait()
}
