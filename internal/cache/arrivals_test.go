package cache

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

func TestArrivals_WhoAsksFirstStores(t *testing.T) {
	var a arrivals
	mine, other := call.Key{1}, call.Key{2}
	stored := 0
	n := a.announce([]call.Key{mine}, func() { stored++ })
	if a.settle(other); stored != 0 {
		t.Error("stored for another question")
	}
	if a.settle(mine); stored != 1 {
		t.Errorf("stored %d times for who asks", stored)
	}
	a.settle(mine)
	n.settle()
	if stored != 1 || a.pending.Load() != 0 {
		t.Errorf("stored %d times, %d pending", stored, a.pending.Load())
	}
}

func TestArrivals_AllWaitForWhoStores(t *testing.T) {
	var a arrivals
	var stored atomic.Bool
	entered, release := make(chan struct{}), make(chan struct{})
	n := a.announce([]call.Key{{1}, {2}}, func() { close(entered); <-release; stored.Store(true) })
	var asking sync.WaitGroup
	ask := func(settle func()) {
		asking.Go(func() {
			if settle(); !stored.Load() {
				t.Error("somebody goes on before the answer is stored")
			}
		})
	}
	ask(n.settle)
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
	first := a.announce([]call.Key{k}, func() { stored = append(stored, "first") })
	a.announce([]call.Key{k}, func() { stored = append(stored, "second") })
	first.settle()
	if a.pending.Load() != 1 {
		t.Fatal("the first one took the second one with it")
	}
	a.settle(k)
	if len(stored) != 2 || stored[1] != "second" {
		t.Errorf("stored: %q", stored)
	}
}
