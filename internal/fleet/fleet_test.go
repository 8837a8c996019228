package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestFleet_IsNotReadyBeforeItIsConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(slog.New(slog.DiscardHandler))
		defer f.Close()
		if s := f.Snapshot(); s == nil || s.Ready || s.Models == nil {
			t.Fatalf("snapshot of a new fleet: %+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := f.Ready(ctx); err != context.DeadlineExceeded {
			t.Fatalf("Ready: %v", err)
		}
		f.Configure(nil, Options{})
		if err := f.Ready(t.Context()); err != nil || !f.Snapshot().Ready {
			t.Fatalf("a fleet without nodes is not ready: %v", err)
		}
	})
}

func TestFleet_ReadyWaitsForTheLastFirstRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		good, bad := newFake(tagsOf(tagRow("a:latest", "d1", day))), newFake(tagsOf())
		bad.mode = hang
		f := New(slog.New(slog.DiscardHandler))
		defer f.Close()
		begun := time.Now()
		f.Configure([]NodeConfig{config("good", good), config("bad", bad)}, Options{})
		synctest.Wait()
		s := f.Snapshot()
		if s.Ready || s.Nodes[0].State != Up || len(s.Models[key("a")].Nodes) != 1 {
			t.Fatalf("before the hanging node has failed: ready %v, first node %v", s.Ready, s.Nodes[0].State)
		}
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 2*time.Second {
			t.Errorf("ready after %v, want one Timeout", took)
		}
		if v := f.Snapshot().Nodes[1]; v.State != Down || v.Reason != "timeout" {
			t.Errorf("hanging node: %v %q", v.State, v.Reason)
		}
	})
}

func TestConfigure_KeptNodeKeepsStateRemovedOneIsNotAsked(t *testing.T) {
	a, b := newFake(tagsOf(tagRow("a:latest", "d1", day))), newFake(tagsOf(tagRow("b:latest", "d2", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		before := f.Snapshot()
		asked := a.count("/api/tags")
		moved := newFake(a.tags)
		c := config("n1", moved)
		c.Slots = 4
		f.Configure([]NodeConfig{config("n3", newFake(tagsOf())), c}, Options{})
		s := f.Snapshot()
		if len(s.Nodes) != 2 || s.Nodes[1].Node != before.Nodes[0].Node || s.Nodes[1].State != Up {
			t.Fatalf("kept node: %+v", s.Nodes)
		}
		if s.Nodes[1].Node.Slots() != 4 {
			t.Errorf("kept node has %d slots, want the new 4", s.Nodes[1].Node.Slots())
		}
		if s.Models[key("b")] != nil || s.Models[key("a")] == nil {
			t.Errorf("models after the removal: %v", s.Models)
		}
		gone := b.count("/api/version")
		pass(time.Minute)
		if n := b.count("/api/version"); n != gone {
			t.Errorf("the removed node was asked %d times more", n-gone)
		}
		if n := a.count("/api/tags"); n != asked {
			t.Errorf("the replaced transport was used %d times more", n-asked)
		}
		if moved.count("/api/tags") == 0 {
			t.Error("the new transport was not used")
		}
	}, a, b)
}

func TestConfigure_AnotherURLOrKeyIsAnotherNode(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		before := view(f).Node
		c := config("n1", newFake(tagsOf()))
		c.Key = "tls"
		f.Configure([]NodeConfig{c}, Options{})
		if view(f).Node == before {
			t.Error("a node with another key kept its pointer")
		}
	}, newFake(tagsOf()))
}

func TestConfigure_ShorterIntervalsRuleAtOnce(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{Interval: time.Hour, PsInterval: time.Hour, TagsInterval: time.Hour}, func(t *testing.T, f *Fleet) {
		pass(time.Minute)
		before := n.count("/api/ps")
		f.Configure([]NodeConfig{config("n1", n)}, Options{PsInterval: time.Second})
		pass(10 * time.Second)
		if got := n.count("/api/ps") - before; got < 8 || got > 12 {
			t.Errorf("%d looks at the runners in 10 s, want about 10", got)
		}
	}, n)
}

func TestClose_EndsAHangingPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newFake(tagsOf())
		n.mode = hang
		f := New(slog.New(slog.DiscardHandler))
		f.Configure([]NodeConfig{config("n1", n)}, Options{Timeout: time.Hour})
		synctest.Wait()
		f.Close()
		f.Close()
		f.Configure([]NodeConfig{config("n2", n)}, Options{})
		f.Lookup(t.Context())
		if len(f.Snapshot().Nodes) != 1 {
			t.Error("a closed fleet was configured")
		}
	})
}

func TestSubscribe_IsCalledAfterTheSnapshotUntilCancelled(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		var calls, saw atomic.Int64
		cancel := f.Subscribe(func() {
			calls.Add(1)
			saw.Store(int64(len(f.Snapshot().Models)))
		})
		pass(time.Minute)
		if calls.Load() != 0 {
			t.Errorf("%d calls though nothing has changed", calls.Load())
		}
		n.set(func(n *fake) { n.tags = tagsOf(tagRow("a:latest", "", day)) })
		pass(40 * time.Second)
		if calls.Load() != 1 || saw.Load() != 1 {
			t.Errorf("%d calls, the last saw %d models; want 1 and 1", calls.Load(), saw.Load())
		}
		cancel()
		cancel()
		n.set(func(n *fake) { n.tags = tagsOf() })
		pass(40 * time.Second)
		if calls.Load() != 1 {
			t.Error("called after it was cancelled")
		}
	}, n)
}

// The order of rows within a second varies between answers of a real node.
func TestFleet_OrderOfRowsAloneIsNoChange(t *testing.T) {
	x, y := tagRow("x:latest", "", day), tagRow("y:latest", "", day)
	n := newFake(tagsOf(x, y))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		before := f.Snapshot()
		n.set(func(n *fake) { n.tags = tagsOf(y, x) })
		pass(40 * time.Second)
		if f.Snapshot() != before {
			t.Error("a new snapshot for the same rows")
		}
	}, n)
}

func TestFleet_SimulatedNodesOverConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(slog.New(slog.DiscardHandler))
		defer f.Close()
		var configs []NodeConfig
		for i := range 2 {
			node := simnode.New(simnode.Options{Models: simnode.GoldenModels()})
			defer node.Close()
			pipe := simnode.NewPipe(node)
			defer pipe.Close()
			configs = append(configs, config(fmt.Sprintf("sim%d", i), pipe))
		}
		f.Configure(configs, Options{})
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		pass(time.Second)
		s := f.Snapshot()
		if s.Version != "0.24.0" || len(s.Models) != 7 {
			t.Fatalf("version %q, %d models", s.Version, len(s.Models))
		}
		m := s.Models[key("tiny")]
		if m.Identity == "" || nodeNames(m.Nodes) != "sim0 sim1" || m.Parameters.NumCtx.Value != 2048 || m.Embedding {
			t.Errorf("tiny: %+v", m)
		}
		if !s.Models[key("tinyembed")].Embedding {
			t.Error("tinyembed is not known to embed")
		}
		if s.Models[key("tiny2")].Identity == m.Identity {
			t.Error("two models of one identity")
		}
		body := strings.NewReader(`{"model":"tiny","prompt":"hello","stream":false}`)
		resp, err := postTo(t, s.Nodes[1].Node, "/api/generate", body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		pass(3 * time.Second)
		r, ok := f.Snapshot().Nodes[1].Runner(m)
		if !ok || r.ContextLength != 2048 || r.Exact {
			t.Errorf("found runner: %+v %v", r, ok)
		}
	})
}
