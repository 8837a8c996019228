package schedule

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeFleet is a fleet that a test draws by hand.
type fakeFleet struct {
	mu   sync.Mutex
	snap *fleet.Snapshot
	subs []func()
}

func (f *fakeFleet) Snapshot() *fleet.Snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.snap
}

func (f *fakeFleet) Subscribe(fn func()) func() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs = append(f.subs, fn)
	return func() {}
}

func (f *fakeFleet) set(s *fleet.Snapshot) {
	f.mu.Lock()
	f.snap = s
	subs := f.subs
	f.mu.Unlock()
	for _, fn := range subs {
		fn()
	}
}

// nodes makes n nodes of the given slots, called n0, n1, ...
func nodes(n, slots int) []*fleet.Node {
	made := make([]*fleet.Node, n)
	for i := range made {
		made[i] = fleet.NewNode(fleet.NodeConfig{
			Name: fmt.Sprintf("n%d", i), URL: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}, Slots: slots,
		})
	}
	return made
}

// snapshot has all nodes up and every model on all of them, and the loaded ones as runners
// that were found there.
func snapshot(all []*fleet.Node, models []string, loaded map[*fleet.Node][]string) *fleet.Snapshot {
	s := &fleet.Snapshot{Ready: true, Asked: true, Version: "0.24.0", Models: map[string]*fleet.Model{}}
	for _, n := range all {
		v := fleet.NodeView{Node: n, State: fleet.Up}
		for _, m := range loaded[n] {
			v.Runners = append(v.Runners, fleet.Runner{Key: m, Digest: m, ContextLength: 2048})
		}
		s.Nodes = append(s.Nodes, v)
	}
	for _, m := range models {
		s.Models[m] = &fleet.Model{Key: m, Digests: []string{m}, Nodes: all}
	}
	return s
}

func newQueue(s *fleet.Snapshot, opts Options) (*Queue, *fakeFleet) {
	f := &fakeFleet{snap: s}
	q := NewQueue(f, LeastLoaded(func(int) int { return 1 }), nil) // ties: the first
	q.Configure(opts)
	return q, f
}

func acquire(t testing.TB, q *Queue, ask Ask) *Grant {
	t.Helper()
	ask.IdleOnly = true
	g, err := q.Acquire(context.Background(), ask)
	if err != nil {
		t.Fatalf("Acquire(%+v) = %v, want a grant at once", ask, err)
	}
	return g
}

// wait asks in the background and tells the name when it is granted, or the error.
func wait(ctx context.Context, q *Queue, ask Ask, name string, events chan<- string, grants chan<- *Grant) {
	go func() { // ends with the grant or ctx
		g, err := q.Acquire(ctx, ask)
		if err != nil {
			events <- name + ": " + err.Error()
			return
		}
		events <- name
		grants <- g
	}()
	synctest.Wait()
}

func options(numCtx int) wire.RunnerOptions {
	return wire.RunnerOptions{NumCtx: wire.OptionalInt{Value: numCtx, Set: true}}
}

func TestAcquire_NoMoreThanSlotsOfARunner(t *testing.T) {
	all := nodes(2, 2)
	q, _ := newQueue(snapshot(all, []string{"a"}, map[*fleet.Node][]string{all[0]: {"a"}, all[1]: {"a"}}), Options{})
	for range 4 {
		acquire(t, q, Ask{Model: "a"})
	}
	if _, err := q.Acquire(t.Context(), Ask{Model: "a", IdleOnly: true}); err != ErrBusy {
		t.Errorf("the fifth call of 2 nodes with 2 slots got %v, want ErrBusy", err)
	}
	if q.InFlight(all[0]) != 2 || q.InFlight(all[1]) != 2 {
		t.Errorf("in flight %d and %d, want 2 and 2", q.InFlight(all[0]), q.InFlight(all[1]))
	}
}

func TestAcquire_EmbeddingModelsHaveOneSlot(t *testing.T) {
	all := nodes(1, 4)
	q, _ := newQueue(snapshot(all, []string{"e"}, map[*fleet.Node][]string{all[0]: {"e"}}), Options{})
	acquire(t, q, Ask{Model: "e", Embedding: true})
	if _, err := q.Acquire(t.Context(), Ask{Model: "e", Embedding: true, IdleOnly: true}); err != ErrBusy {
		t.Errorf("second call = %v, want ErrBusy", err)
	}
}

func TestAcquire_FirstComeFirstServedInsideAClassAndClassesStrict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a"}, map[*fleet.Node][]string{all[0]: {"a"}}), Options{})
		g := acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		for _, w := range []struct {
			name  string
			class call.Class
		}{{"batch", call.Batch}, {"background 1", call.Background}, {"person 1", call.Interactive}, {"background 2", call.Background}, {"person 2", call.Interactive}} {
			wait(t.Context(), q, Ask{Model: "a", Class: w.class}, w.name, events, grants)
		}
		for _, want := range []string{"person 1", "person 2", "background 1", "background 2", "batch"} {
			g.Release()
			synctest.Wait()
			if got := <-events; got != want {
				t.Fatalf("served %q, want %q", got, want)
			}
			g = <-grants
		}
	})
}

func TestAcquire_BusyModelBlocksNobodyBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a", "b"}, map[*fleet.Node][]string{all[0]: {"a", "b"}}), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		wait(ctx, q, Ask{Model: "a"}, "a", events, grants)
		wait(ctx, q, Ask{Model: "b"}, "b", events, grants)
		if got := <-events; got != "b" {
			t.Errorf("served %q first, want b", got)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAcquire_ClientDepartureFreesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a"}, nil), Options{MaxLength: 1})
		g := acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		left := errors.New("client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		wait(ctx, q, Ask{Model: "a"}, "first", events, grants)
		wait(t.Context(), q, Ask{Model: "a"}, "second", events, grants)
		if got := <-events; got != "second: "+ErrQueueFull.Error() {
			t.Fatalf("with a place for one: %q, want second: queue is full", got)
		}
		cancel(left)
		synctest.Wait()
		if got := <-events; got != "first: client left" {
			t.Fatalf("%q, want the cause of the client's context", got)
		}
		if n := q.Waiting(call.Interactive); n != 0 {
			t.Fatalf("%d waiting after the departure, want 0", n)
		}
		wait(t.Context(), q, Ask{Model: "a"}, "third", events, grants)
		g.Release()
		synctest.Wait()
		if got := <-events; got != "third" {
			t.Errorf("%q, want third", got)
		}
	})
}

func TestAcquire_WaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a"}, nil), Options{MaxWait: time.Minute})
		g := acquire(t, q, Ask{Model: "a"})
		defer g.Release()
		began := time.Now()
		_, err := q.Acquire(t.Context(), Ask{Model: "a"})
		if took := time.Since(began); err != ErrWaitTooLong || took != time.Minute {
			t.Errorf("Acquire = %v after %v, want ErrWaitTooLong after 1m", err, took)
		}
	})
}

func TestAcquire_NoNodeIsToldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 1)
		full := snapshot(all, []string{"a"}, nil)
		q, f := newQueue(full, Options{})
		for name, c := range map[string]struct {
			ask  Ask
			want error
		}{
			"unknown model": {Ask{Model: "b"}, ErrGone},
			"all excluded":  {Ask{Model: "a", Exclude: []string{"n0", "n1"}}, ErrNoNode},
		} {
			if _, err := q.Acquire(t.Context(), c.ask); err != c.want {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		// Those who wait are told when the last node goes.
		a, b := acquire(t, q, Ask{Model: "a"}), acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		wait(t.Context(), q, Ask{Model: "a"}, "waiter", events, grants)
		f.set(snapshot(nil, nil, nil))
		synctest.Wait()
		if got := <-events; got != "waiter: "+ErrGone.Error() {
			t.Errorf("%q, want waiter: the model is gone", got)
		}
		a.Release()
		b.Release()
	})
}

// A reload may take all nodes away that have the model, and bring others of which nothing is known yet.
func TestAcquire_WhoWaitsIsNotSentAwayBeforeNewNodesWereAsked(t *testing.T) {
	all := nodes(2, 1)
	old, unasked := all[:1], all[1:]
	for _, c := range []struct {
		name    string
		ask     Ask
		between func() *fleet.Snapshot
		after   *fleet.Snapshot
		want    string
	}{
		{"they have it", Ask{Model: "a"}, func() *fleet.Snapshot { return snapshot(unasked, nil, nil) }, snapshot(unasked, []string{"a"}, nil), "waiter"},
		{"they do not", Ask{Model: "a"}, func() *fleet.Snapshot { return snapshot(unasked, nil, nil) }, snapshot(unasked, nil, nil), "waiter: " + ErrGone.Error()},
		{"there is none at all yet", Ask{Model: "a"}, func() *fleet.Snapshot { return snapshot(nil, nil, nil) }, snapshot(unasked, []string{"a"}, nil), "waiter"},
		{"the old ones go down", Ask{Model: "a"}, func() *fleet.Snapshot {
			s := snapshot(all, []string{"a"}, nil)
			s.Models["a"].Nodes = nil
			return s
		}, snapshot(unasked, []string{"a"}, nil), "waiter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, f := newQueue(snapshot(old, []string{"a"}, nil), Options{})
				held := acquire(t, q, Ask{Model: "a"})
				events, grants := make(chan string, 9), make(chan *Grant, 9)
				wait(t.Context(), q, c.ask, "waiter", events, grants)
				between := c.between()
				between.Asked = false
				f.set(between)
				held.Release()
				// One that comes now, such as a call whose node was lost, is no worse off.
				wait(t.Context(), q, Ask{Model: "a"}, "waiter", events, grants)
				select {
				case got := <-events:
					t.Errorf("%q before the new node was asked", got)
				default:
				}
				f.set(c.after)
				synctest.Wait()
				if got := <-events; got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
				for range 2 {
					select {
					case g := <-grants:
						g.Release()
						synctest.Wait()
					default:
					}
				}
			})
		})
	}
}

func TestAcquire_NodeComingBackServesWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 1)
		q, f := newQueue(snapshot(all[:1], []string{"a"}, nil), Options{})
		g := acquire(t, q, Ask{Model: "a"})
		defer g.Release()
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		wait(t.Context(), q, Ask{Model: "a"}, "waiter", events, grants)
		f.set(snapshot(all, []string{"a"}, nil))
		synctest.Wait()
		if got := <-events; got != "waiter" {
			t.Errorf("%q, want waiter", got)
		}
		if g := <-grants; g.Node != all[1] {
			t.Errorf("granted %s, want the node that came back", g.Node.Name())
		}
	})
}

func TestAcquire_NeverTwoColdLoadsAtOnceOnANode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, f := newQueue(snapshot(all, []string{"a", "b"}, nil), Options{})
		a := acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		wait(t.Context(), q, Ask{Model: "b"}, "b", events, grants)
		if len(events) > 0 {
			t.Fatalf("%s while a loads on its only node", <-events)
		}
		f.set(snapshot(all, []string{"a", "b"}, map[*fleet.Node][]string{all[0]: {"a"}}))
		a.Loaded() // a still answers, but no longer loads
		synctest.Wait()
		if got := <-events; got != "b" {
			t.Errorf("%q, want b", got)
		}
		a.Release()
	})
}

func TestAcquire_LoadThatFailsLetsTheNextBegin(t *testing.T) {
	all := nodes(1, 1)
	q, _ := newQueue(snapshot(all, []string{"a", "b"}, nil), Options{})
	acquire(t, q, Ask{Model: "a"}).Release()
	acquire(t, q, Ask{Model: "b"})
}

func TestAcquire_ReloadWaitsForRunningAnswersAndNewcomersBehindIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 4)
		q, f := newQueue(snapshot(all, []string{"a"}, map[*fleet.Node][]string{all[0]: {"a"}}), Options{})
		running := acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		wait(t.Context(), q, Ask{Model: "a", Requested: options(4096), Effective: options(4096)}, "reload", events, grants)
		// Slots are free, but this one would keep the reload waiting for ever.
		wait(t.Context(), q, Ask{Model: "a"}, "newcomer", events, grants)
		if len(events) > 0 {
			t.Fatalf("%s served while another answer runs and a reload waits", <-events)
		}
		running.Release()
		synctest.Wait()
		if got := <-events; got != "reload" {
			t.Fatalf("%q first, want reload", got)
		}
		g := <-grants
		if g.Residency != Reload {
			t.Errorf("residency %v, want Reload", g.Residency)
		}
		s := snapshot(all, []string{"a"}, nil)
		s.Nodes[0].Runners = []fleet.Runner{{Key: "a", Digest: "a", Exact: true, Options: options(4096), ContextLength: 4096}}
		f.set(s)
		g.Loaded()
		g.Release()
		synctest.Wait()
		if got := <-events; got != "newcomer" {
			t.Errorf("%q, want newcomer", got)
		}
		(<-grants).Release()
	})
}

func TestStop_TellsAllWhoWaitAndKeepsGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		q, _ := newQueue(snapshot(all, []string{"a"}, nil), Options{})
		g := acquire(t, q, Ask{Model: "a"})
		events, grants := make(chan string, 9), make(chan *Grant, 9)
		wait(t.Context(), q, Ask{Model: "a"}, "1", events, grants)
		wait(t.Context(), q, Ask{Model: "a", Class: call.Batch}, "2", events, grants)
		q.Stop()
		synctest.Wait()
		if len(events) != 2 {
			t.Errorf("%d were told, want 2", len(events))
		}
		if _, err := q.Acquire(t.Context(), Ask{Model: "a"}); err != ErrStopping {
			t.Errorf("Acquire after Stop = %v, want ErrStopping", err)
		}
		g.Release()
		if q.InFlight(all[0]) != 0 {
			t.Error("a grant released after Stop is still counted")
		}
	})
}

func TestRelease_SecondCallDoesNotCount(t *testing.T) {
	all := nodes(1, 1)
	q, _ := newQueue(snapshot(all, []string{"a"}, map[*fleet.Node][]string{all[0]: {"a"}}), Options{})
	g := acquire(t, q, Ask{Model: "a"})
	g.Release()
	acquire(t, q, Ask{Model: "a"})
	g.Release()
	if n := q.InFlight(all[0]); n != 1 {
		t.Errorf("in flight %d, want 1", n)
	}
}

// Whatever is asked, released, loaded and lost in whatever order: no runner has more calls
// than slots, no node loads two at once, and in the end nothing is left.
func TestQueue_NeverMoreThanSlotsNorTwoLoads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := nodes(rapid.IntRange(1, 4).Draw(t, "nodes"), rapid.IntRange(1, 3).Draw(t, "slots"))
		models := []string{"a", "b", "c"}
		loaded := map[*fleet.Node][]string{}
		q, f := newQueue(snapshot(all, models, loaded), Options{})
		var grants []*Grant
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				ask := Ask{Model: rapid.SampledFrom(models).Draw(t, "model"), IdleOnly: true}
				if rapid.Bool().Draw(t, "other options") {
					ask.Requested, ask.Effective = options(4096), options(4096)
				}
				if g, err := q.Acquire(context.Background(), ask); err == nil {
					grants = append(grants, g)
				}
			case 2:
				if len(grants) > 0 {
					i := rapid.IntRange(0, len(grants)-1).Draw(t, "release")
					grants[i].Release()
					grants = append(grants[:i], grants[i+1:]...)
				}
			case 3:
				if len(grants) > 0 {
					grants[rapid.IntRange(0, len(grants)-1).Draw(t, "loaded")].Loaded()
				}
			case 4:
				up := all[:rapid.IntRange(0, len(all)).Draw(t, "up")]
				f.set(snapshot(up, models, loaded))
			}
			running := map[*fleet.Node]map[runnerKey]int{}
			for _, g := range grants {
				if running[g.Node] == nil {
					running[g.Node] = map[runnerKey]int{}
				}
				running[g.Node][g.use.key]++
			}
			for n, runners := range running {
				total := 0
				for k, calls := range runners {
					total += calls
					if calls > n.Slots() {
						t.Fatalf("%s: %d calls of %v on %d slots", n.Name(), calls, k, n.Slots())
					}
				}
				if total != q.InFlight(n) {
					t.Fatalf("%s: %d in flight, the book says %d", n.Name(), total, q.InFlight(n))
				}
			}
		}
		for _, g := range grants {
			g.Release()
		}
		for _, n := range all {
			if q.InFlight(n) != 0 {
				t.Fatalf("%s: %d in flight at the end", n.Name(), q.InFlight(n))
			}
		}
		if len(q.lines) != 0 {
			t.Fatalf("%d lines left", len(q.lines))
		}
	})
}

// ignored takes orders and does nothing.
type ignored struct{}

func (ignored) Load(*Order) {}

// BenchmarkAcquire is one choice over a large fleet, with nobody or many waiting for models that
// are busy.
func BenchmarkAcquire(b *testing.B) {
	for _, waiting := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("nodes=50/models=200/waiting=%d", waiting), func(b *testing.B) {
			all := nodes(50, 4)
			var models []string
			for i := range 200 {
				models = append(models, fmt.Sprintf("m%d", i))
			}
			loaded := map[*fleet.Node][]string{}
			for i, n := range all {
				for k := range 4 {
					loaded[n] = append(loaded[n], models[(4*i+k)%len(models)])
				}
			}
			f := &fakeFleet{snap: snapshot(all, models, loaded)}
			q := NewQueue(f, nil, ignored{})
			q.Configure(Options{MaxLength: waiting + 1, MaxWait: -1})
			ctx, cancel := context.WithCancel(context.Background())
			var gone sync.WaitGroup
			busy := min(waiting, 10) // models that all wait for
			for i := range busy {
				for range 4 {
					if _, err := q.Acquire(ctx, Ask{Model: models[i]}); err != nil {
						b.Fatal(err)
					}
				}
			}
			for i := range waiting {
				gone.Go(func() { _, _ = q.Acquire(ctx, Ask{Model: models[i%busy]}) }) // ends with ctx
			}
			for q.Waiting(call.Interactive) < waiting {
				time.Sleep(time.Millisecond)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				g, err := q.Acquire(context.Background(), Ask{Model: models[busy+i%(len(models)-busy)]})
				if err != nil {
					b.Fatal(err)
				}
				g.Release()
			}
			cancel()
			gone.Wait()
		})
	}
}
