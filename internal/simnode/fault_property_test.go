package simnode_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// Whatever was wrong, whoever asked meanwhile and left: once the node is healed it answers, and nothing is booked.
func TestNode_RecoversFromAnyFaults(t *testing.T) {
	what := rapid.SampledFrom([]string{
		"status=500", "redirect=/x", "never", "first-byte=3s", "gap=2s", "reset-after=0", "reset-after=2", "close-after=1", "half-after=2",
		"half-after=20B", "clean-after=2", "too-long=9", "bad-line,frames=1", "giant-line=1KiB", "type=text/html", "crash,frames=2",
		"crash", "die,restart=5s", "die=term,frames=2,restart=1s", "load-fails", "file-gone", "busy", "missing", "slow=3",
	})
	when := rapid.SampledFrom([]string{"", ",share=0.5,seed=3", ",every=2", ",first=1", ",skip=1", ",model=b", ",path=*", ",after=5s,for=5s"})
	doors := rapid.SampledFrom([]string{"refuse,for=10s", "flap=4s", "hang-accept,for=10s", "deaf,for=10s"})
	rapid.Check(t, func(rt *rapid.T) {
		var faults []simnode.Fault
		add := func(text string) {
			f, err := simnode.ParseFault(text)
			if err != nil {
				rt.Fatal(err)
			}
			faults = append(faults, f)
		}
		for range rapid.IntRange(1, 3).Draw(rt, "faults") {
			add(what.Draw(rt, "what") + when.Draw(rt, "when"))
		}
		if rapid.Bool().Draw(rt, "door") {
			add(doors.Draw(rt, "door"))
		}
		wishes := rapid.SliceOfN(rapid.Custom(drawWish), 1, 10).Draw(rt, "wishes")
		var complaints []string
		inBubble(t, simnode.Options{Slots: 2, MaxLoaded: 2}, func(t *testing.T, b *bubble) {
			if err := b.node.SetFaults(faults...); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			for _, w := range wishes {
				go func() { // ends with ctx
					defer func() { done <- struct{}{} }()
					time.Sleep(w.after)
					ctx := ctx
					if w.leave > 0 {
						var leave context.CancelFunc
						ctx, leave = context.WithTimeout(ctx, w.leave)
						defer leave()
					}
					b.call(ctx, "/api/generate", fmt.Sprintf(`{"model":%q,"prompt":"x","options":{"num_predict":%d}}`, w.model, w.tokens))
				}()
			}
			time.Sleep(10 * time.Minute) // what still waits now waits for ever
			cancel()
			for range wishes {
				<-done
			}
			_ = b.node.SetFaults() // no faults are never wrong
			synctest.Wait()
			time.Sleep(10 * time.Second) // the dead are back
			s := b.node.Stats()
			if s.Running != 0 || s.Queue != 0 {
				complaints = append(complaints, fmt.Sprintf("booked: %+v", s))
			}
			for name, m := range s.Models {
				if m.Running != 0 || m.Waiting != 0 {
					complaints = append(complaints, fmt.Sprintf("%s booked: %+v", name, m))
				}
			}
			for _, model := range []string{"a", "b", "c"} {
				if a := b.call(t.Context(), "/api/generate", fmt.Sprintf(`{"model":%q,"prompt":"x","stream":false}`, model)); a.status != 200 {
					complaints = append(complaints, fmt.Sprintf("healed: %d %v %s", a.status, a.err, a.body))
				}
			}
		})
		for _, c := range complaints {
			rt.Error(c)
		}
	})
}
