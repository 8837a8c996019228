package batch

import (
	"sync"
	"testing"
	"testing/synctest"
)

func TestFlights_TextsOfOneConfigurationAreJoinedByTheNext(t *testing.T) {
	f := &fleet{most: 1, took: each}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		next := &bench{Step: b.Flights.Step(Options{MaxItems: 1}, nil, f), fleet: f, t: t}
		free := f.busy()
		var clients sync.WaitGroup
		clients.Go(func() { b.ask("a", "b") }) // each ends with its answer
		synctest.Wait()
		clients.Go(func() { next.ask("b", "c") })
		synctest.Wait()
		free()
		clients.Wait()
		texts := 0
		for _, call := range f.sent() {
			texts += len(call)
		}
		if texts != 3 {
			t.Errorf("sent %q, want each text once", f.sent())
		}
		if len(next.open) > 0 || len(next.waiting) > 0 {
			t.Errorf("%d calls are open and %d wait after all", len(next.open), len(next.waiting))
		}
	})
}

func TestFlights_NobodyJoinsWhatIsForgotten(t *testing.T) {
	f := &fleet{most: 1, took: each}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		var clients sync.WaitGroup
		clients.Go(func() { b.ask("a") }) // each ends with its answer
		synctest.Wait()
		b.Forget()
		clients.Go(func() { b.ask("a") })
		synctest.Wait()
		clients.Go(func() { b.ask("a") }) // joins the second
		clients.Wait()
		if n := len(f.sent()); n != 2 {
			t.Errorf("%d calls, want the one that was forgotten and one anew", n)
		}
	})
}
