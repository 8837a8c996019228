package recording

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// readAll reads a recording to its end and gives the data and how it ended.
func readAll(ctx context.Context, f *Reader) (string, error) {
	var b strings.Builder
	frames := make([]Frame, 3)
	for {
		n, err := f.Read(ctx, frames)
		for _, fr := range frames[:n] {
			b.Write(fr.Data)
		}
		if err != nil {
			return b.String(), err
		}
	}
}

func follow(t testing.TB, r interface{ Follow() (*Reader, error) }) *Reader {
	t.Helper()
	f, err := r.Follow()
	if err != nil {
		t.Fatalf("Follow: %v", err)
	}
	return f
}

func TestReader_LateFollowerHearsFromTheBeginning(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 0)
	first := follow(t, w)
	defer first.Close()
	for i := range 5 {
		if err := w.Append(fmt.Append(nil, i), wire.Part, false); err != nil {
			t.Fatal(err)
		}
	}
	late, err := first.Fork()
	if err != nil {
		t.Fatal(err)
	}
	defer late.Close()
	w.Append([]byte("."), wire.Final, false)
	w.Complete()
	for name, f := range map[string]*Reader{"first": first, "late": late} {
		if got, err := readAll(t.Context(), f); got != "01234." || err != io.EOF {
			t.Errorf("%s read %q, %v; want 01234., EOF", name, got, err)
		}
	}
}

func TestReader_WaitsForFramesAndKeepsArrivalTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t.Context(), new(wire.Request), 0)
		f := follow(t, w)
		defer f.Close()
		go func() { // ends with the recording
			for range 3 {
				time.Sleep(time.Second)
				w.Append([]byte("x"), wire.Part, false)
			}
			w.Complete()
		}()
		frames := make([]Frame, 8)
		for i := 1; i <= 3; i++ {
			n, err := f.Read(t.Context(), frames)
			if n != 1 || err != nil {
				t.Fatalf("Read %d = %d, %v; want one frame as it arrives", i, n, err)
			}
			if want := time.Duration(i) * time.Second; frames[0].At != want {
				t.Errorf("frame %d arrived at %v, want %v", i, frames[0].At, want)
			}
		}
		if _, err := f.Read(t.Context(), frames); err != io.EOF {
			t.Errorf("end = %v, want EOF", err)
		}
	})
}

func TestReader_ContextEndsOnlyTheWait(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 0)
	f := follow(t, w)
	defer f.Close()
	cause := errors.New("client left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := f.Read(ctx, make([]Frame, 1)); err != cause {
		t.Errorf("Read = %v, want the cause of its context", err)
	}
	if w.Context().Err() != nil {
		t.Error("the upstream call ended with one reader's wait")
	}
	w.Complete()
}

func TestClose_LastReaderCancelsUpstream(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 0)
	a, b := follow(t, w), follow(t, w)
	a.Close()
	a.Close()
	if w.Context().Err() != nil {
		t.Fatal("cancelled while a reader was left")
	}
	b.Close()
	if got := context.Cause(w.Context()); got != ErrAbandoned {
		t.Errorf("cause = %v, want ErrAbandoned", got)
	}
	if err := w.Append([]byte("x"), wire.Part, false); err != ErrAbandoned {
		t.Errorf("Append = %v, want ErrAbandoned", err)
	}
	if _, err := b.Fork(); err != ErrAbandoned {
		t.Errorf("Fork of an abandoned recording = %v, want ErrAbandoned", err)
	}
}

func TestEnd_TellsHowItEnded(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		do    func(*Writer)
		begun bool
	}{
		"never began":      {func(w *Writer) { w.Break(boom) }, false},
		"broke off":        {func(w *Writer) { w.Append([]byte("x"), wire.Part, false); w.Break(boom) }, true},
		"first end stands": {func(w *Writer) { w.Break(boom); w.Complete() }, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := New(t.Context(), new(wire.Request), 0)
			f := follow(t, w)
			defer f.Close()
			c.do(w)
			_, err := readAll(t.Context(), f)
			var end *EndError
			if !errors.As(err, &end) || end.Begun != c.begun || !errors.Is(err, boom) {
				t.Errorf("end = %#v, want begun %v with cause boom", err, c.begun)
			}
			if w.Context().Err() == nil {
				t.Error("the upstream context outlives the recording")
			}
			select {
			case <-w.Done():
			default:
				t.Error("Done is open after the end")
			}
		})
	}
}

func TestObject_IsThereInsteadOfFrames(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 0)
	f := follow(t, w)
	defer f.Close()
	if _, _, ok := f.Object(); ok {
		t.Error("an object before there is one")
	}
	w.Object("application/json", []byte("{}"))
	if ct, body, ok := f.Object(); !ok || ct != "application/json" || string(body) != "{}" {
		t.Errorf("Object = %q %q %v", ct, body, ok)
	}
}

func TestLimit_SlowReaderIsCutAlone(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 10)
	slow, quick := follow(t, w), follow(t, w)
	defer slow.Close()
	defer quick.Close()
	var got strings.Builder
	frames := make([]Frame, 1)
	for i := range 30 {
		w.Append([]byte{byte('a' + i%26)}, wire.Part, false)
		n, err := quick.Read(t.Context(), frames)
		if n != 1 || err != nil {
			t.Fatalf("quick reader: %d, %v", n, err)
		}
		got.Write(frames[0].Data)
	}
	w.Complete()
	if got.Len() != 30 {
		t.Errorf("quick reader got %d frames, want 30", got.Len())
	}
	if _, err := slow.Read(t.Context(), frames); err != ErrSlow {
		t.Errorf("slow reader got %v, want ErrSlow", err)
	}
	if w.kept > 10 {
		t.Errorf("%d bytes kept, limit 10", w.kept)
	}
}

func TestLimit_NobodyJoinsPastIt(t *testing.T) {
	w := New(t.Context(), new(wire.Request), 4)
	f := follow(t, w)
	defer f.Close()
	w.Append([]byte("12345"), wire.Part, false)
	if _, err := f.Fork(); err != ErrPastLimit {
		t.Errorf("Fork = %v, want ErrPastLimit", err)
	}
	if n, err := f.Read(t.Context(), make([]Frame, 1)); n != 1 || err != nil {
		t.Errorf("the reader that was there got %d, %v; want the frame", n, err)
	}
	w.Complete()
}

// Whatever the order of appends, joins, reads and leaves: a reader that is not cut hears
// every frame once and in order, and no more than limit and one frame are kept.
func TestRecording_EveryReaderHearsEverythingOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 64).Draw(t, "limit")
		w := New(context.Background(), new(wire.Request), limit)
		root, _ := w.Follow()
		defer root.Close()
		type follower struct {
			*Reader
			next byte
		}
		followers := []*follower{{Reader: root}}
		sent := byte(0)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				size := rapid.IntRange(1, 8).Draw(t, "size")
				w.Append([]byte(strings.Repeat(string(rune(sent)), 1)+strings.Repeat(" ", size-1)), wire.Part, false)
				sent = (sent + 1) % 128
				if w.kept > limit && len(w.frames) > 1 {
					t.Fatalf("%d bytes kept over the limit of %d", w.kept, limit)
				}
			case 2:
				if f, err := root.Fork(); err == nil {
					defer f.Close()
					followers = append(followers, &follower{Reader: f})
				}
			case 3:
				f := followers[rapid.IntRange(0, len(followers)-1).Draw(t, "who")]
				frames := make([]Frame, rapid.IntRange(1, 4).Draw(t, "room"))
				n, err := f.look(frames)
				if err == ErrSlow {
					continue
				}
				for _, fr := range frames[:n] {
					if fr.Data[0] != f.next {
						t.Fatalf("got frame %d, want %d", fr.Data[0], f.next)
					}
					f.next = (f.next + 1) % 128
				}
			}
		}
		w.Complete()
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, readers := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("readers=%d", readers), func(b *testing.B) {
			w := New(context.Background(), new(wire.Request), 1<<20)
			var wg sync.WaitGroup
			for range readers {
				f := follow(b, w)
				wg.Go(func() {
					defer f.Close()
					frames := make([]Frame, 64)
					for {
						if _, err := f.Read(context.Background(), frames); err != nil {
							return
						}
					}
				})
			}
			data := make([]byte, 120)
			b.ReportAllocs()
			for b.Loop() {
				w.Append(data, wire.Part, false)
			}
			w.Complete()
			wg.Wait()
		})
	}
}

func TestReader_ThatWaitsForMuchIsWokenForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t.Context(), new(wire.Request), 100)
		f, err := w.Follow()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		f.WaitForMuch()
		var reads []int
		read := make(chan struct{})
		go func() { // ends with the recording
			defer close(read)
			for {
				n, err := f.Read(t.Context(), make([]Frame, 20))
				if err != nil {
					if err != io.EOF {
						t.Error(err)
					}
					return
				}
				reads = append(reads, n)
			}
		}()
		synctest.Wait()
		for range 20 { // 200 bytes: it would be cut if it slept on
			if err := w.Append([]byte("0123456789"), wire.Part, false); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		w.Append([]byte("."), wire.Final, true)
		w.Complete()
		<-read
		total := 0
		for _, n := range reads {
			total += n
		}
		if total != 21 || len(reads) > 10 {
			t.Errorf("frames read at once: %v, want 21 in few reads", reads)
		}
	})
}
