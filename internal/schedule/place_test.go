package schedule

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlace_OneWithRoomThenACopyThenTheLeastUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 1)
		s := newWorkshop(t, all, "a", "b", "c", "d", "e", "f")
		use := func(model string) {
			got := s.ask(t.Context(), Ask{Model: model})
			if o := s.next(); o != nil {
				s.finish(o)
			}
			s.grant(got).Release()
			time.Sleep(time.Minute)
		}
		where := func() string {
			return fmt.Sprint(s.loaded[all[0]], s.loaded[all[1]])
		}
		use("a")
		use("b")
		use("c")
		use("d")
		if where() != "[a c] [b d]" {
			t.Fatalf("loaded %s, want each where there is the most room", where())
		}
		// A third does not fit: the node evicts something by itself, and that is learned.
		got := s.ask(t.Context(), Ask{Model: "e"})
		o := s.next()
		if len(o.Evict) > 0 {
			t.Fatalf("evicts %v though nobody knows whether it must", o.Evict)
		}
		s.finish(o, s.loaded[o.Node][0])
		s.grant(got).Release()
		use("d")
		use("c")
		// Now something has to go: of what is left, what was used longest ago.
		before := where()
		got = s.ask(t.Context(), Ask{Model: "f"})
		o = s.next()
		s.finish(o)
		s.grant(got).Release()
		for _, model := range []string{"c", "d"} {
			if slices.Contains(o.Evict, model) {
				t.Errorf("%s: evicts %v, the last used", before, o.Evict)
			}
		}
	})
}

func TestPlace_NeverTheLastCopyOfAModelInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		s := newWorkshop(t, all, "a", "b")
		s.queue.bookLocked(all[0]).room = room{heldBytes: 100, heldCount: 1, fullBytes: 200, fullCount: 2}
		s.has(all[0], "a")
		running := s.grant(s.ask(t.Context(), Ask{Model: "a"}))
		b := s.ask(t.Context(), Ask{Model: "b"})
		if o := s.next(); o != nil {
			t.Fatalf("order %+v while a answers", o)
		}
		// Others for a go on for a while, then the node is kept for b.
		running.Release()
		o := s.next()
		if o == nil || !slices.Equal(o.Evict, []string{"a"}) {
			t.Fatalf("order %+v, want a to go when it is idle", o)
		}
		s.finish(o)
		s.grant(b).Release()
	})
}

func TestPlace_ABusyModelDoesNotKeepAnotherOutForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 2)
		s := newWorkshop(t, all, "a", "b")
		s.queue.bookLocked(all[0]).room = room{heldBytes: 100, heldCount: 1, fullBytes: 200, fullCount: 2}
		s.has(all[0], "a")
		one, two := s.grant(s.ask(t.Context(), Ask{Model: "a"})), s.grant(s.ask(t.Context(), Ask{Model: "a"}))
		b := s.ask(t.Context(), Ask{Model: "b"})
		for range 20 { // there is always a call more for a
			next := s.ask(t.Context(), Ask{Model: "a"})
			time.Sleep(time.Second)
			one.Release()
			synctest.Wait()
			if o := s.next(); o != nil {
				t.Fatal("loaded while a answers")
			}
			select {
			case x := <-next:
				one, two = two, x.(*Grant)
				continue
			default:
			}
			two.Release()
			s.finish(s.next())
			s.grant(b).Release()
			return
		}
		t.Error("b has waited for 20 s")
	})
}

func TestPlace_AFurtherCopyOnlyWhereTheWaitIsLongerThanALoad(t *testing.T) {
	for wait, want := range map[int]bool{1: false, 8: true} {
		synctest.Test(t, func(t *testing.T) {
			all := nodes(2, 1)
			s := newWorkshop(t, all, "a")
			s.queue.loadTimes["a"], s.queue.serviceTimes["a"] = 10*time.Second, 2*time.Second
			s.has(all[0], "a")
			running := s.grant(s.ask(t.Context(), Ask{Model: "a"}))
			ctx, cancel := context.WithCancel(t.Context())
			for range wait {
				s.ask(ctx, Ask{Model: "a"})
			}
			o := s.next()
			if (o != nil) != want || o != nil && (o.Reason != ReasonWait || o.Node != all[1]) {
				t.Errorf("%d calls of 2 s wait, a load takes 10 s: order %+v", wait, o)
			}
			cancel()
			synctest.Wait()
			running.Release()
		})
	}
}

func TestPlace_ACopyGoesBeforeANodeHasToChoose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(2, 1)
		s := newWorkshop(t, all, "a", "b", "c")
		s.has(all[0], "a")
		s.has(all[1], "a", "b")
		got := s.ask(t.Context(), Ask{Model: "c"})
		o := s.next()
		// Nobody knows whether either has room for one more.
		if !slices.Equal(o.Evict, []string{"a"}) {
			t.Errorf("evicts %v, want one of the two copies to go", o.Evict)
		}
		s.finish(o)
		s.grant(got).Release()
	})
}

func TestPlace_WhatIsOnItsWayOutGetsNoCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 2)
		s := newWorkshop(t, all, "a", "b")
		s.queue.bookLocked(all[0]).room = room{heldBytes: 100, heldCount: 1, fullBytes: 200, fullCount: 2}
		s.has(all[0], "a")
		b := s.ask(t.Context(), Ask{Model: "b"})
		o := s.next()
		a := s.ask(t.Context(), Ask{Model: "a"})
		if len(a) != 0 {
			t.Fatalf("got %v while it is being unloaded", <-a)
		}
		s.finish(o)
		s.grant(b).Release()
		back := s.next()
		if back == nil || back.Model != "a" {
			t.Fatalf("then %+v, want a again", back)
		}
		s.finish(back)
		s.grant(a).Release()
	})
}

func TestPreload_IsKeptAndNeverEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := nodes(1, 1)
		s := newWorkshop(t, all, "a", "b")
		s.queue.Configure(Options{Preloads: []Preload{{Node: "n0", Model: "a"}}})
		o := s.next()
		if o == nil || o.Reason != ReasonPreload || o.KeepAlive == nil || *o.KeepAlive >= 0 {
			t.Fatalf("order %+v, want it for ever", o)
		}
		s.finish(o)
		s.queue.bookLocked(all[0]).room = room{heldBytes: 100, heldCount: 1, fullBytes: 200, fullCount: 2}
		ctx, cancel := context.WithCancel(t.Context())
		s.ask(ctx, Ask{Model: "b"})
		if o := s.next(); o != nil {
			t.Errorf("order %+v, want it not to go", o)
		}
		cancel()
		synctest.Wait()
		s.has(all[0]) // somebody has unloaded it
		if o := s.next(); o == nil || o.Model != "a" {
			t.Errorf("order %+v, want it again", o)
		}
	})
}

func TestPreload_SeveralOfANodeOneAfterAnotherAndAgainAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a", "b")
		s.queue.Configure(Options{Preloads: []Preload{{Node: "n0", Model: "a"}, {Node: "n0", Model: "b"}}})
		s.next().Done(errors.New("broken file"))
		synctest.Wait()
		o := s.next()
		if o == nil || o.Model != "b" {
			t.Fatalf("then %+v, want b", o)
		}
		s.finish(o)
		if o := s.next(); o != nil {
			t.Fatalf("order %+v right after its failure", o)
		}
		time.Sleep(preloadAgain + time.Second)
		if o := s.next(); o == nil || o.Model != "a" {
			t.Errorf("order %+v after a while, want a again", o)
		}
	})
}

// A client's call may have the model loaded meanwhile, and fail, too.
func TestPreload_IsOrderedAgainAfterALoadForACallHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a")
		s.queue.Configure(Options{Preloads: []Preload{{Node: "n0", Model: "a"}}})
		s.next().Done(errors.New("no memory"))
		time.Sleep(preloadAgain / 2)
		events, grants := make(chan string, 1), make(chan *Grant, 1)
		wait(t.Context(), s.queue, Ask{Model: "a"}, "call", events, grants)
		o := s.next()
		if o == nil || o.Reason != ReasonFirst {
			t.Fatalf("order %+v, want one for the call", o)
		}
		o.Done(errors.New("no memory"))
		if got := <-events; got != "call: no memory" {
			t.Fatalf("%q, want the failure", got)
		}
		time.Sleep(preloadAgain + time.Second)
		if o := s.next(); o == nil || o.Reason != ReasonPreload {
			t.Errorf("order %+v after a while, want it again", o)
		}
	})
}

func TestPreload_NothingIsOrderedAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newWorkshop(t, nodes(1, 1), "a", "b")
		s.queue.Configure(Options{Preloads: []Preload{{Node: "n0", Model: "a"}, {Node: "n0", Model: "b"}}})
		o := s.next()
		s.queue.Stop()
		o.Done(ErrStopping)
		time.Sleep(2 * preloadAgain)
		if o := s.next(); o != nil {
			t.Errorf("order %+v after the end", o)
		}
	})
}

func TestRoom_LearnsWhatFits(t *testing.T) {
	var r room
	if r.fits(10, 1) != perhaps {
		t.Error("nothing is known and it says so")
	}
	r.held(20, 2)
	r.full(30, 3)
	for _, c := range []struct {
		bytes int64
		count int
		want  answer
	}{{20, 2, yes}, {5, 1, yes}, {25, 2, perhaps}, {25, 3, perhaps}, {30, 2, no}} {
		if got := r.fits(c.bytes, c.count); got != c.want {
			t.Errorf("%d bytes in %d: %v, want %v", c.bytes, c.count, got, c.want)
		}
	}
	r.full(15, 2) // something else takes memory now
	if r.fits(20, 2) != no || r.fits(5, 1) != perhaps {
		t.Error("what once fitted still does")
	}
}
