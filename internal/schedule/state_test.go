package schedule

import (
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// inState is a snapshot of nodes that all have model a loaded, the first of which is changed.
func inState(all []*fleet.Node, change func(*fleet.NodeView)) *fleet.Snapshot {
	loaded := map[*fleet.Node][]string{}
	for _, n := range all {
		loaded[n] = []string{"a"}
	}
	s := snapshot(all, []string{"a"}, loaded)
	change(&s.Nodes[0])
	return s
}

func setState(s fleet.State) func(*fleet.NodeView) {
	return func(v *fleet.NodeView) { v.State = s }
}

func TestAcquire_OnlyUsableNodesAndAtOnce(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*fleet.NodeView)
		err    error
	}{
		{"up", setState(fleet.Up), nil},
		{"probation", setState(fleet.Probation), nil},
		{"half open", setState(fleet.HalfOpen), nil},
		{"ejected", setState(fleet.Ejected), ErrNoNode},
		{"draining", setState(fleet.Draining), ErrNoNode},
		{"down", setState(fleet.Down), ErrNoNode},
		{"ejected for its calls", ejected, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _ := newQueue(inState(nodes(1, 4), c.change), Options{})
				began := time.Now()
				if _, err := q.Acquire(t.Context(), Ask{Model: "a"}); err != c.err || time.Since(began) != 0 {
					t.Errorf("%v after %v, want %v at once", err, time.Since(began), c.err)
				}
			})
		})
	}
}

func TestAcquire_HalfOpenNodeGetsOneCallUntilThatIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 4)
		q, f := newQueue(inState(all, func(v *fleet.NodeView) { v.State, v.Runners = fleet.HalfOpen, nil }), Options{})
		// The next call tries it, though the model is loaded on the other node only.
		trial := acquire(t, q, Ask{Model: "a"})
		if trial.Node != all[0] {
			t.Fatalf("granted %s, want the half-open node", trial.Node.Name())
		}
		for range 4 {
			if g := acquire(t, q, Ask{Model: "a"}); g.Node != all[1] {
				t.Fatalf("granted %s while the half-open node is tried", g.Node.Name())
			}
		}
		// A call that nobody waited for says nothing: another one tries the node.
		trial.Release()
		again := acquire(t, q, Ask{Model: "a"})
		if again.Node != all[0] {
			t.Fatalf("granted %s, want the half-open node again", again.Node.Name())
		}
		// What is reported before the release rules after it.
		f.set(inState(all, setState(fleet.Probation)))
		again.Release()
		if g := acquire(t, q, Ask{Model: "a"}); g.Node != all[0] {
			t.Errorf("granted %s", g.Node.Name())
		}
	})
}

func TestAcquire_HalfOpenNodeIsNotForASecondTry(t *testing.T) {
	all := nodes(3, 1)
	q, _ := newQueue(inState(all, setState(fleet.HalfOpen)), Options{})
	if g := acquire(t, q, Ask{Model: "a", Exclude: []string{"n2"}}); g.Node != all[1] {
		t.Errorf("granted %s, want the node that is up", g.Node.Name())
	}
	if g := acquire(t, q, Ask{Model: "a", Exclude: []string{"n2"}}); g.Node != all[0] {
		t.Errorf("granted %s, want the half-open node rather than none", g.Node.Name())
	}
}

// ejected makes a node one whose calls failed.
func ejected(v *fleet.NodeView) { v.State, v.LastResort = fleet.Ejected, true }

func TestAcquire_OnlyANodeBeingTriedIsWaitedForAWhile(t *testing.T) {
	for name, state := range map[string]func(*fleet.NodeView){"half open": setState(fleet.HalfOpen), "ejected": ejected} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				all := nodes(1, 4)
				q, f := newQueue(inState(all, state), Options{})
				trial := acquire(t, q, Ask{Model: "a"})
				events, waiting := make(chan string, 1), make(chan *Grant, 1)
				wait(t.Context(), q, Ask{Model: "a"}, "waiter", events, waiting)
				f.set(inState(all, setState(fleet.Probation)))
				trial.Release()
				synctest.Wait()
				if len(waiting) != 1 {
					t.Fatal("the end of the trial was not waited for")
				}
				(<-waiting).Release()

				f.set(inState(all, state))
				acquire(t, q, Ask{Model: "a"})
				began := time.Now()
				if _, err := q.Acquire(t.Context(), Ask{Model: "a"}); err != ErrNoNode || time.Since(began) != trialWait {
					t.Errorf("%v after %v, want ErrNoNode after %v", err, time.Since(began), trialWait)
				}
				if _, err := q.Acquire(t.Context(), Ask{Model: "a"}); err != ErrNoNode || time.Since(began) != trialWait {
					t.Errorf("%v after %v, want ErrNoNode at once", err, time.Since(began)-trialWait)
				}
			})
		})
	}
}

func TestAcquire_AnEjectedNodeIsTheLastResort(t *testing.T) {
	all := nodes(2, 1)
	q, _ := newQueue(inState(all, ejected), Options{})
	g := acquire(t, q, Ask{Model: "a"})
	if g.Node != all[1] {
		t.Fatalf("granted %s, want the node that is up", g.Node.Name())
	}
	if _, err := q.Acquire(t.Context(), Ask{Model: "a", IdleOnly: true}); err != ErrBusy {
		t.Errorf("%v, want to wait for the node that is up", err)
	}
	if g := acquire(t, q, Ask{Model: "a", Exclude: []string{all[1].Name()}}); g.Node != all[0] {
		t.Errorf("granted %s, want the ejected node rather than none", g.Node.Name())
	}
}

// Row 23: no stampede on a node that came back.
func TestAcquire_ProbationLimitsTheWholeNode(t *testing.T) {
	for share, want := range map[float64]int{0: 1, 0.2: 1, 0.5: 2, 0.9: 3} {
		synctest.Test(t, func(t *testing.T) {
			all := nodes(1, 4)
			on := func(v *fleet.NodeView) {
				v.State, v.Share = fleet.Probation, share
				v.Runners = append(v.Runners, fleet.Runner{Key: "b", Digest: "b"})
			}
			s := inState(all, on)
			s.Models["b"] = &fleet.Model{Key: "b", Digests: []string{"b"}, Nodes: all}
			q, f := newQueue(s, Options{})
			var grants []*Grant
			for i := range want {
				grants = append(grants, acquire(t, q, Ask{Model: []string{"a", "b"}[i%2]}))
			}
			for _, m := range []string{"a", "b"} {
				if _, err := q.Acquire(t.Context(), Ask{Model: m, IdleOnly: true}); err != ErrBusy {
					t.Errorf("share %v: call %d for %s got %v, want ErrBusy", share, want+1, m, err)
				}
			}
			// Who waits is served as soon as the share has grown.
			events, waiting := make(chan string, 1), make(chan *Grant, 1)
			wait(t.Context(), q, Ask{Model: "a"}, "waiter", events, waiting)
			f.set(inState(all, setState(fleet.Up)))
			synctest.Wait()
			if len(waiting) != 1 {
				t.Fatalf("share %v: not served when the node is up again", share)
			}
			for _, g := range append(grants, <-waiting) {
				g.Release()
			}
		})
	}
}

func TestAcquire_DrainingNodeFinishesAndGetsNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 4)
		q, f := newQueue(inState(all, setState(fleet.Up)), Options{})
		g := acquire(t, q, Ask{Model: "a"})
		f.set(inState(all, setState(fleet.Draining)))
		for range 4 {
			if g := acquire(t, q, Ask{Model: "a"}); g.Node != all[1] {
				t.Fatal("a draining node was granted")
			}
		}
		g.Release()
		if n := q.InFlight(all[0]); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

func TestAcquire_FailuresCountAsCallsInFlight(t *testing.T) {
	all := nodes(2, 4)
	q, _ := newQueue(inState(all, func(v *fleet.NodeView) { v.Load = 2 }), Options{})
	for i, want := range []*fleet.Node{all[1], all[1], all[0]} {
		if g := acquire(t, q, Ask{Model: "a"}); g.Node != want {
			t.Errorf("call %d: granted %s, want %s", i, g.Node.Name(), want.Name())
		}
	}
}

// Row 21: with calls that take a node 20 times as long, it gets its part of them and no more.
func TestLeastLoaded_SlowNodeGetsItsPart(t *testing.T) {
	all := nodes(3, 8)
	r := rand.New(rand.NewPCG(1, 2))
	f := &fakeFleet{snap: inState(all, func(v *fleet.NodeView) { v.Weights = map[string]float64{"a": 0.05} })}
	q := NewQueue(f, LeastLoaded(r.IntN), nil)
	type running struct {
		g   *Grant
		end int
	}
	var calls []running
	got := map[*fleet.Node]int{}
	for now := range 20000 {
		kept := calls[:0]
		for _, c := range calls {
			if c.end > now {
				kept = append(kept, c)
				continue
			}
			c.g.Release()
		}
		calls = kept
		g, err := q.Acquire(context.Background(), Ask{Model: "a", IdleOnly: true})
		if err != nil {
			continue // more than the fleet can do
		}
		took := 10
		if g.Node == all[0] {
			took *= 20
		}
		got[g.Node]++
		calls = append(calls, running{g, now + took})
	}
	share := float64(got[all[0]]) / 20000
	if share > 0.02 || got[all[0]] < 20 {
		t.Errorf("the slow node got %d of 20000 calls, want a few", got[all[0]])
	}
	if d := got[all[1]] - got[all[2]]; d > 1000 || d < -1000 {
		t.Errorf("the others got %d and %d", got[all[1]], got[all[2]])
	}
}

func TestLeastLoaded_Weights(t *testing.T) {
	never := func(int) int { return 1 }
	for _, c := range []struct {
		name       string
		candidates []Candidate
		random     func(int) int
		want       int
	}{
		{"idle slow after busy fast", []Candidate{{Slots: 4, Weight: 0.05}, {Slots: 4, InFlight: 3}}, never, 1},
		{"twice as slow before three times as busy", []Candidate{{Slots: 4, Weight: 0.5}, {Slots: 4, InFlight: 2}}, never, 0},
		{"slow but loaded before fast on disk", []Candidate{{Slots: 1, Weight: 0.05}, {Slots: 1, Residency: Cold}}, never, 0},
		{"one in many tries the slow one", []Candidate{{Slots: 4}, {Slots: 4, Weight: 0.05}}, func(n int) int { return 0 }, 1},
		{"not while it is busy", []Candidate{{Slots: 4}, {Slots: 4, Weight: 0.05, InFlight: 1}}, func(n int) int { return 0 }, 0},
		{"nor with a load before it", []Candidate{{Slots: 4}, {Slots: 4, Weight: 0.05, Residency: Cold}}, func(n int) int { return 0 }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := LeastLoaded(c.random)(c.candidates); got != c.want {
				t.Errorf("chose %d of %+v, want %d", got, c.candidates, c.want)
			}
		})
	}
}

// Whatever states the nodes go through: a half-open node never has two calls since it is half
// open, none that is not usable is granted, and one on probation never more than its limit.
func TestQueue_StatesAreObeyed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := nodes(rapid.IntRange(1, 4).Draw(t, "nodes"), rapid.IntRange(1, 4).Draw(t, "slots"))
		snap := inState(all, setState(fleet.Up))
		q, f := newQueue(snap, Options{})
		var grants []*Grant
		tried := map[*fleet.Node]*Grant{}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				g, err := q.Acquire(context.Background(), Ask{Model: "a", IdleOnly: true})
				if err != nil {
					continue
				}
				grants = append(grants, g)
				for i := range snap.Nodes {
					v := &snap.Nodes[i]
					if v.Node != g.Node {
						continue
					}
					if !v.Usable() && !v.LastResort {
						t.Fatalf("granted %s, which is %s", g.Node.Name(), v.State)
					}
					if limit, ok := v.Limit(); ok && q.InFlight(g.Node) > limit {
						t.Fatalf("%d calls of %d on probation", q.InFlight(g.Node), limit)
					}
					if v.Trial() {
						if tried[g.Node] != nil {
							t.Fatalf("two calls try %s", g.Node.Name())
						}
						tried[g.Node] = g
					}
				}
			case 2:
				if len(grants) > 0 {
					i := rapid.IntRange(0, len(grants)-1).Draw(t, "release")
					if tried[grants[i].Node] == grants[i] {
						delete(tried, grants[i].Node)
					}
					grants[i].Release()
					grants = append(grants[:i], grants[i+1:]...)
				}
			case 3:
				snap = inState(all, func(*fleet.NodeView) {})
				for i := range snap.Nodes {
					v := &snap.Nodes[i]
					v.State = fleet.State(rapid.IntRange(0, int(fleet.Draining)).Draw(t, "state"))
					v.Share = float64(rapid.IntRange(0, 10).Draw(t, "share")) / 10
					v.LastResort = v.State == fleet.Ejected && rapid.Bool().Draw(t, "dialled")
				}
				f.set(snap)
			}
		}
	})
}

func TestAcquire_AFullNodeIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 4)
		q, f := newQueue(inState(all, func(v *fleet.NodeView) { v.Full = true }), Options{})
		events, waiting := make(chan string, 1), make(chan *Grant, 1)
		wait(t.Context(), q, Ask{Model: "a"}, "waiter", events, waiting)
		if len(events) != 0 {
			t.Fatalf("%s, want to wait", <-events)
		}
		f.set(inState(all, setState(fleet.Up)))
		synctest.Wait()
		if len(waiting) != 1 {
			t.Error("not served when the node has room again")
		}
	})
}
