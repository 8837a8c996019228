package fleet

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func ctxOf(n int) wire.RunnerOptions {
	return wire.RunnerOptions{NumCtx: wire.OptionalInt{Value: n, Set: true}}
}

func TestModelMissing_IsOutUntilItIsListedAnew(t *testing.T) {
	row := tagRow("a:latest", "d1", day)
	n := newFake(tagsOf(row, tagRow("b:latest", "d2", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(10 * time.Second)
		asked := n.count("/api/tags")
		f.ModelMissing(view(f).Node, key("a"))
		if s := f.Snapshot(); s.Models[key("a")] != nil || s.Models[key("b")] == nil {
			t.Fatalf("models: %v", s.Models)
		}
		pass(900 * time.Millisecond)
		if n.count("/api/tags") == asked {
			t.Error("its models were not asked within a second")
		}
		if f.Snapshot().Models[key("a")] != nil {
			t.Error("the same row as before brought it back at once")
		}
		n.set(func(n *fake) { n.tags = tagsOf(tagRow("a:latest", "d1", day.Add(time.Hour))) })
		pass(40 * time.Second)
		if f.Snapshot().Models[key("a")] == nil {
			t.Error("it was pulled again and is not there")
		}
	}, n)
}

func TestModelMissing_RowThatStaysIsBelievedAgainAfterAWhile(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		for _, span := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
			f.ModelMissing(view(f).Node, key("a"))
			pass(span*time.Second - 100*time.Millisecond)
			if f.Snapshot().Models[key("a")] != nil {
				t.Fatalf("there before its %d s are over", span)
			}
			pass(200 * time.Millisecond)
			if f.Snapshot().Models[key("a")] == nil {
				t.Fatalf("not asked for when its %d s are over", span)
			}
		}
		pass(2 * missingMost)
		f.ModelMissing(view(f).Node, key("a"))
		pass(1100 * time.Millisecond)
		if f.Snapshot().Models[key("a")] == nil {
			t.Error("what was long ago still counts")
		}
	}, n)
}

func TestLoaded_RunnerIsKnownAtOnceAndOutlivesAnOlderPs(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		// A ps that begins now and answers in a second that nothing is loaded.
		n.set(func(n *fake) {
			n.mode = only("/api/ps", func(r *http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return respond(200, `{"models":[]}`), nil
			})
		})
		before := n.count("/api/ps")
		for n.count("/api/ps") == before {
			pass(10 * time.Millisecond)
		}
		f.Loaded(view(f).Node, key("A:LATEST"), ctxOf(4096))
		m := f.Snapshot().Models[key("a")]
		known := func() bool {
			v := view(f)
			r, ok := v.Runner(m)
			return ok && r.Exact && r.Options == ctxOf(4096) && r.ContextLength == 4096 && r.Digest == "d1"
		}
		if !known() {
			t.Fatalf("runners: %+v", view(f).Runners)
		}
		if body := string(f.Snapshot().PsBody(nil)); body != `{"models":[]}` {
			t.Errorf("ps shows a row that no node gave: %s", body)
		}
		n.set(func(n *fake) { n.mode = nil; n.ps = tagsOf(psRow("a:latest", "d1", 4096, day)) })
		for range 110 {
			if !known() {
				t.Fatalf("the older ps took it away: %+v", view(f).Runners)
			}
			pass(10 * time.Millisecond)
		}
		pass(3 * time.Second)
		if r := view(f).Runners; !known() || r[0].Size != 7 || r[0].VRAM != 3 {
			t.Errorf("after a ps that shows it: %+v", r)
		}
		n.set(func(n *fake) { n.ps = tagsOf() })
		pass(3 * time.Second)
		if r := view(f).Runners; len(r) != 0 {
			t.Errorf("after a ps without it: %+v", r)
		}
	}, n)
}

func TestLoaded_SomebodyElsesReloadIsSeen(t *testing.T) {
	for _, c := range []struct {
		name       string
		options    wire.RunnerOptions
		ours, then string
		exact      bool
	}{
		{"same", ctxOf(4096), psRow("a", "d1", 4096, day), psRow("a", "d1", 4096, day.Add(1)), true},
		{"clamped", ctxOf(1 << 20), psRow("a", "d1", 4096, day), psRow("a", "d1", 4096, day.Add(1)), true},
		{"other context", ctxOf(4096), psRow("a", "d1", 4096, day), psRow("a", "d1", 2048, day), false},
		{"other context after the node's own", wire.RunnerOptions{}, psRow("a", "d1", 4096, day), psRow("a", "d1", 2048, day), false},
		{"more than was asked", ctxOf(2048), psRow("a", "d1", 4096, day), psRow("a", "d1", 4096, day), false},
		{"other digest", ctxOf(4096), psRow("a", "d1", 4096, day), psRow("a", "d2", 4096, day), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				pass(time.Millisecond)
				f.Loaded(view(f).Node, key("a"), c.options)
				n.set(func(n *fake) { n.ps = tagsOf(c.ours) })
				pass(5 * time.Second)
				n.set(func(n *fake) { n.ps = tagsOf(c.then) })
				pass(5 * time.Second)
				r := view(f).Runners
				if len(r) != 1 || r[0].Exact != c.exact {
					t.Errorf("runners %+v, want one with exact %v", r, c.exact)
				}
			}, n)
		})
	}
}

// A copy has the digest of its original, and a node runs both in one runner.
func TestLoaded_CopyUsesTheRunnerOfItsOriginal(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day), tagRow("copy:latest", "d1", day)))
	n.ps = tagsOf(psRow("a:latest", "d1", 2048, day))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Millisecond)
		f.Loaded(view(f).Node, key("a"), ctxOf(2048))
		f.Loaded(view(f).Node, key("copy"), ctxOf(4096))
		v := view(f)
		r, ok := v.Runner(f.Snapshot().Models[key("a")])
		if len(v.Runners) != 1 || !ok || r.Options != ctxOf(4096) {
			t.Errorf("runners: %+v", v.Runners)
		}
	}, n)
}

func TestLoaded_IsSilentWhenNothingIsNew(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		f.Loaded(view(f).Node, key("a"), ctxOf(2048))
		before := f.Snapshot()
		node := view(f).Node
		model := key("a")
		if n := testing.AllocsPerRun(100, func() {
			f.Loaded(node, model, ctxOf(2048))
			f.Answered(node)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if f.Snapshot() != before {
			t.Error("a new snapshot")
		}
	}, n)
}

func TestUnloaded_RunnerIsGoneAndAnOlderPsBringsItNotBack(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	row := psRow("a:latest", "d1", 2048, day)
	n.ps = tagsOf(row)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) {
			n.mode = only("/api/ps", func(*http.Request) (*http.Response, error) {
				time.Sleep(time.Second)
				return respond(200, tagsOf(row)), nil
			})
		})
		before := n.count("/api/ps")
		for n.count("/api/ps") == before {
			pass(10 * time.Millisecond)
		}
		f.Unloaded(view(f).Node, key("a"))
		n.set(func(n *fake) { n.mode = nil; n.ps = tagsOf() })
		cancel := f.Subscribe(func() { // the next ps comes right after the older one has ended
			if r := view(f).Runners; len(r) != 0 {
				t.Errorf("runners: %+v", r)
			}
		})
		pass(3 * time.Second)
		cancel()
		if r := view(f).Runners; len(r) != 0 {
			t.Fatalf("runners: %+v", r)
		}
		n.set(func(n *fake) { n.ps = tagsOf(row) })
		pass(3 * time.Second)
		if len(view(f).Runners) != 1 {
			t.Error("what a later ps shows is not there")
		}
	}, n)
}

func TestLookup_FindsWhatWasJustPulled(t *testing.T) {
	a, b := newFake(tagsOf()), newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		b.set(func(n *fake) { n.tags = tagsOf(tagRow("new:latest", "d", day)) })
		f.Lookup(t.Context())
		if m := f.Snapshot().Models[key("new")]; m == nil || nodeNames(m.Nodes) != "n2" {
			t.Errorf("after Lookup: %+v", m)
		}
	}, a, b)
}

func TestLookup_AsksOnceASecondAndWaitsASecond(t *testing.T) {
	well, ill := newFake(tagsOf()), newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		ill.set(func(n *fake) { n.mode = hang })
		before := well.count("/api/tags")
		begun := time.Now()
		done := make(chan time.Duration)
		for range 50 {
			go func() { // ends with its Lookup
				f.Lookup(context.Background())
				done <- time.Since(begun)
			}()
		}
		for range 50 {
			if took := <-done; took != lookWait {
				t.Errorf("waited %v for a node that hangs, want %v", took, lookWait)
			}
		}
		if got := well.count("/api/tags") - before; got != 1 {
			t.Errorf("a node was asked %d times by 50 calls", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		at := time.Now()
		f.Lookup(ctx)
		if time.Since(at) != 0 {
			t.Error("it outlived its context")
		}
	}, well, ill)
}

func TestLookup_RightAfterAnotherAsksNobody(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		before := n.count("/api/tags")
		for range 10 {
			at := time.Now()
			f.Lookup(t.Context())
			if took := time.Since(at); took != 0 {
				t.Errorf("waited %v", took)
			}
		}
		if got := n.count("/api/tags") - before; got != 1 {
			t.Errorf("asked %d times at once, want 1", got)
		}
		pass(lookWait)
		f.Lookup(t.Context())
		if got := n.count("/api/tags") - before; got != 2 {
			t.Errorf("asked %d times after a second, want 2", got)
		}
	}, n)
}

func TestLookup_ANodeInDoubtIsNotAsked(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{Interval: time.Minute, Fails: 100}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = only("/api/version", status(500)) })
		f.Unreachable(view(f).Node, errLost)
		pass(1200 * time.Millisecond)
		before := n.count("/api/tags")
		f.Lookup(t.Context())
		if n.count("/api/tags") != before {
			t.Error("asked though its last check has failed")
		}
	}, n)
}

func TestLookup_OfNodesThatAreGoneReturns(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = hang })
		done := make(chan struct{})
		go func() { f.Lookup(context.Background()); close(done) }() // ends with its Lookup
		synctest.Wait()
		at := time.Now()
		f.Configure(nil, Options{})
		<-done
		if took := time.Since(at); took > lookWait {
			t.Errorf("waited %v", took)
		}
		f.Lookup(t.Context())
	}, n)
}
