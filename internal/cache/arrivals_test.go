package cache

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

func announce(a *arrivals, keys []call.Key, store func()) *arrival {
	n := &arrival{keys: keys, store: store}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.announceLocked(n)
	return n
}

func TestArrivals_WhoAsksFirstStores(t *testing.T) {
	var a arrivals
	mine, other := call.Key{1}, call.Key{2}
	stored := 0
	n := announce(&a, []call.Key{mine}, func() { stored++ })
	if a.settle(other); stored != 0 {
		t.Error("stored for another question")
	}
	if a.settle(mine); stored != 1 {
		t.Errorf("stored %d times for who asks", stored)
	}
	a.settle(mine)
	a.settleOne(n)
	if stored != 1 || a.pending.Load() != 0 {
		t.Errorf("stored %d times, %d pending", stored, a.pending.Load())
	}
}

func TestArrivals_AllWaitForWhoStores(t *testing.T) {
	var a arrivals
	var stored atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	n := announce(&a, []call.Key{{1}, {2}}, func() { close(entered); <-release; stored.Store(true) })
	var asking sync.WaitGroup
	ask := func(settle func()) {
		asking.Go(func() {
			if settle(); !stored.Load() {
				t.Error("somebody goes on before the answer is stored")
			}
		})
	}
	ask(func() { a.settleOne(n) })
	<-entered
	ask(a.settleAll)
	ask(func() { a.settle(call.Key{1}) })
	ask(func() { a.settle(call.Key{2}) })
	close(release)
	asking.Wait()
}

func TestArrivals_TheLaterOfTwoStays(t *testing.T) {
	var a arrivals
	k := call.Key{1}
	var stored []string
	first := announce(&a, []call.Key{k}, func() { stored = append(stored, "first") })
	announce(&a, []call.Key{k}, func() { stored = append(stored, "second") })
	a.settleOne(first)
	if a.pending.Load() != 1 {
		t.Fatal("the first one took the second one with it")
	}
	a.settle(k)
	if len(stored) != 2 || stored[1] != "second" {
		t.Errorf("stored: %q", stored)
	}
}

func TestArrivals_SmallOnesAreStoredTogether(t *testing.T) {
	var a arrivals
	var jobs sync.WaitGroup
	var stored atomic.Int32
	for i := range 2*pileSize + 3 {
		if i == 5 {
			a.settle(call.Key{4})
			if stored.Load() != 1 {
				t.Errorf("%d were stored for who asks for one", stored.Load())
			}
		}
		a.heap(&arrival{keys: []call.Key{{byte(i)}}, store: func() { stored.Add(1) }}, &jobs)
	}
	jobs.Wait()
	if stored.Load() != 2*pileSize || a.pending.Load() != 3 {
		t.Errorf("%d stored, %d pending, want %d and 3", stored.Load(), a.pending.Load(), 2*pileSize)
	}
	a.settleAll()
	if stored.Load() != 2*pileSize+3 || a.pending.Load() != 0 || a.jobs.Load() != 0 {
		t.Errorf("in the end %d stored, %d pending, %d jobs", stored.Load(), a.pending.Load(), a.jobs.Load())
	}
}
