package schedule

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A workshop takes the orders of a queue and carries them out when the test says so.
type workshop struct {
	t      *testing.T
	queue  *Queue
	fleet  *fakeFleet
	nodes  []*fleet.Node
	models []string

	mu     sync.Mutex // guards what follows
	loaded map[*fleet.Node][]string
	size   int64
	orders []*Order
}

func newWorkshop(t *testing.T, nodes []*fleet.Node, models ...string) *workshop {
	s := &workshop{t: t, nodes: nodes, models: models, loaded: map[*fleet.Node][]string{}, size: 100}
	s.fleet = &fakeFleet{snap: snapshot(nodes, models, nil)}
	s.queue = NewQueue(s.fleet, LeastLoaded(func(int) int { return 1 }), s)
	return s
}

func (s *workshop) Load(o *Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.orders = append(s.orders, o)
}

// has makes models be loaded on a node.
func (s *workshop) has(n *fleet.Node, models ...string) {
	s.mu.Lock()
	s.loaded[n] = models
	snap := snapshot(s.nodes, s.models, s.loaded)
	for i := range snap.Nodes {
		for j := range snap.Nodes[i].Runners {
			snap.Nodes[i].Runners[j].Size = s.size
		}
	}
	s.mu.Unlock()
	s.fleet.set(snap)
}

// next takes the order that has been waiting longest; nil if there is none.
func (s *workshop) next() *Order {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.orders) == 0 {
		return nil
	}
	o := s.orders[0]
	s.orders = s.orders[1:]
	return o
}

// finish carries an order out: gone is what the node evicts by itself.
func (s *workshop) finish(o *Order, gone ...string) {
	s.mu.Lock()
	now := slices.DeleteFunc(slices.Clone(s.loaded[o.Node]), func(m string) bool {
		return m == o.Model || slices.Contains(o.Evict, m) || slices.Contains(gone, m)
	})
	s.mu.Unlock()
	s.has(o.Node, append(now, o.Model)...)
	o.Done(nil)
	synctest.Wait()
}

// ask asks in the background. The channel gets the grant or the error.
func (s *workshop) ask(ctx context.Context, a Ask) <-chan any {
	got := make(chan any, 1)
	go func() { // ends with the grant, the error or ctx
		g, err := s.queue.Acquire(ctx, a)
		if err != nil {
			got <- err
			return
		}
		got <- g
	}()
	synctest.Wait()
	return got
}

func (s *workshop) grant(got <-chan any) *Grant {
	s.t.Helper()
	select {
	case x := <-got:
		if g, ok := x.(*Grant); ok {
			return g
		}
		s.t.Fatalf("got %v, want a grant", x)
	default:
		s.t.Fatal("still waiting, want a grant")
	}
	return nil
}

func TestOrder_FiftyWhoWaitForAColdModelCauseOneLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(4, 1), "a")
		var got []<-chan any
		for range 50 {
			got = append(got, s.ask(t.Context(), Ask{Model: "a"}))
		}
		o := s.next()
		if o == nil || o.Reason != ReasonFirst || s.next() != nil {
			t.Fatalf("order %+v, want one and only one", o)
		}
		time.Sleep(time.Minute) // a load takes its time
		s.finish(o)
		g := s.grant(got[0])
		if g.Node != o.Node || g.Residency != Resident || g.Reason != ChoiceLoad {
			t.Errorf("granted %s as %v for %q", g.Node.Name(), g.Residency, g.Reason)
		}
		// Whoever is left is served by the copies that are worth it.
		for _, waiting := range got[1:] {
			g.Release()
			for o := s.next(); o != nil; o = s.next() {
				s.finish(o)
			}
			select {
			case x := <-waiting:
				g = x.(*Grant)
			default:
				t.Fatal("still waiting")
			}
		}
		g.Release()
	})
}

func TestOrder_TwoColdModelsOnOneNodeLoadOneAfterAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a", "b")
		a, b := s.ask(t.Context(), Ask{Model: "a"}), s.ask(t.Context(), Ask{Model: "b"})
		first := s.next()
		if first == nil || s.next() != nil {
			t.Fatal("want one order at a time")
		}
		s.finish(first)
		second := s.next()
		if second == nil || second.Model == first.Model {
			t.Fatalf("then %+v, want the other model", second)
		}
		s.finish(second)
		s.grant(a).Release()
		s.grant(b).Release()
	})
}

func TestOrder_WhoLeavesCancelsNothingForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a")
		ctx, leave := context.WithCancel(t.Context())
		s.ask(ctx, Ask{Model: "a"})
		other := s.ask(t.Context(), Ask{Model: "a"})
		o := s.next()
		leave()
		synctest.Wait()
		s.finish(o)
		s.grant(other).Release()
		if s.next() != nil {
			t.Error("it was loaded again")
		}
	})
}

func TestOrder_TheErrorIsToldToAllWhoWaitedAndToNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken file")
		s := newWorkshop(t, nodes(2, 1), "a")
		var got []<-chan any
		for range 10 {
			got = append(got, s.ask(t.Context(), Ask{Model: "a"}))
		}
		first := s.next()
		first.Done(broken)
		second := s.next()
		if second == nil || second.Node == first.Node {
			t.Fatalf("then %+v, want the other node", second)
		}
		second.Done(broken)
		synctest.Wait()
		for i, g := range got {
			select {
			case x := <-g:
				if x != broken {
					t.Errorf("%d got %v", i, x)
				}
			default:
				t.Errorf("%d still waits", i)
			}
		}
		later := s.ask(t.Context(), Ask{Model: "a"})
		o := s.next()
		if o == nil {
			t.Fatal("who came later has not had it tried again")
		}
		s.finish(o)
		s.grant(later).Release()
	})
}

func TestOrder_WhatAllNodesFailIsNotTriedOnAllOfThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken file")
		s := newWorkshop(t, nodes(9, 1), "a")
		got := s.ask(t.Context(), Ask{Model: "a"})
		tried := 0
		for o := s.next(); o != nil; o = s.next() {
			tried++
			o.Done(broken)
		}
		if x := <-got; x != broken || tried != failedMost {
			t.Errorf("%v after %d nodes, want %v after %d", x, tried, broken, failedMost)
		}
	})
}

func TestOrder_WhenALoadHasFailedAnEjectedNodeIsTheLastResort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 1)
		s := newWorkshop(t, all, "a")
		snap := snapshot(all, []string{"a"}, map[*fleet.Node][]string{all[1]: {"a"}})
		ejected(&snap.Nodes[1])
		s.fleet.set(snap)
		got := s.ask(t.Context(), Ask{Model: "a"})
		s.next().Done(errors.New("broken file"))
		synctest.Wait()
		if g := s.grant(got); g.Node != all[1] || g.Reason != ChoiceTrial {
			t.Errorf("granted %s for %q, want the ejected node", g.Node.Name(), g.Reason)
		}
	})
}

// Clients name as many runner options as they like.
func TestOrder_WhatNobodyWaitsForIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(2, 1), "a")
		for i := range 200 {
			ctx, leave := context.WithCancel(t.Context())
			got := s.ask(ctx, Ask{Model: "a", Requested: options(1000 + i), Effective: options(1000 + i), Turns: turns(uint64(i))})
			switch o := s.next(); i % 3 {
			case 0:
				snap := snapshot(s.nodes, s.models, nil)
				viewOf(snap, o.Node).Runners = []fleet.Runner{{Key: "a", Digest: "a", Exact: true, Options: o.Options}}
				s.fleet.set(snap)
				o.Done(nil)
				synctest.Wait()
				s.grant(got).Release()
			case 1:
				leave()
				synctest.Wait()
				o.Done(errors.New("broken file"))
			case 2:
				o.Done(errors.New("broken file"))
				s.next().Done(errors.New("broken file"))
				<-got
			}
			leave()
			synctest.Wait()
			time.Sleep(time.Second)
		}
		if n := len(s.queue.clocks) + len(s.queue.lines); n != 0 {
			t.Errorf("%d clocks and lines are left", n)
		}
		for _, b := range s.queue.books {
			if len(b.known) > 1 || len(b.failed) > 60 {
				t.Errorf("%d conversations' runners and %d failures are remembered", len(b.known), len(b.failed))
			}
		}
	})
}

func TestOrder_ALoadDoesNotCountAsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a")
		s.queue.Configure(Options{MaxWait: time.Minute})
		first := s.ask(t.Context(), Ask{Model: "a"})
		second := s.ask(t.Context(), Ask{Model: "a"})
		o := s.next()
		time.Sleep(5 * time.Minute)
		s.finish(o)
		g := s.grant(first)
		began := time.Now()
		if x := <-second; x != ErrWaitTooLong || time.Since(began) < 59*time.Second || time.Since(began) > 62*time.Second {
			t.Errorf("%v after %v of waiting, want ErrWaitTooLong after a minute", x, time.Since(began))
		}
		g.Release()
	})
}

func TestOrder_ANodeWithoutTimeForLoadsIsAskedAgainForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := errors.New("server busy")
		s := newWorkshop(t, nodes(1, 1), "a")
		got := s.ask(t.Context(), Ask{Model: "a"})
		began := time.Now()
		for o := s.next(); o != nil; o = s.next() {
			time.Sleep(time.Second)
			o.Done(&Later{busy})
		}
		if x := <-got; x != busy || time.Since(began) < laterFor {
			t.Errorf("%v after %v, want %v after %v", x, time.Since(began), busy, laterFor)
		}
	})
}

func TestOrder_WhatANodeRefusesToLoadIsSentAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a")
		got := s.ask(t.Context(), Ask{Model: "a"})
		s.next().Done(ErrNotLoadable)
		synctest.Wait()
		if g := s.grant(got); g.Residency != Cold {
			t.Errorf("granted as %v", g.Residency)
		}
	})
}

func TestLoads_AreRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		s := newWorkshop(t, all, "a")
		load := func() {
			got := s.ask(t.Context(), Ask{Model: "a"})
			s.finish(s.next())
			s.grant(got).Release()
		}
		load()
		if n := s.queue.Again(all[0]); n != 0 {
			t.Errorf("%d loads of what had been in use, of one load", n)
		}
		time.Sleep(time.Hour)
		s.has(all[0])
		load()
		s.has(all[0])
		for range 2 * recordedLoads {
			load()
			s.has(all[0])
		}
		loads := s.queue.Loads(all[0])
		if len(loads) != recordedLoads || loads[0].Model != "a" || loads[0].Reason != ReasonFirst || loads[0].Failed {
			t.Errorf("remembered: %+v", loads)
		}
		if n := s.queue.Again(all[0]); n != 2*recordedLoads {
			t.Errorf("%d loads of what had been in use, want %d", n, 2*recordedLoads)
		}
	})
}
