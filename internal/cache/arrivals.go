package cache

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// mostArrivals bounds the jobs that encode answers; who brings a further one does it at once.
const mostArrivals = 128

// arrivals are answers that are complete and not yet stored: to encode and compress one takes a
// tenth of a millisecond, for which nobody waits but who asks for that very answer.
type arrivals struct {
	count atomic.Int32

	mu      sync.Mutex // guards what follows
	waiting map[call.Key]chan struct{}
}

// bring stores the answers of some keys in the background.
func (a *arrivals) bring(keys []call.Key, jobs *sync.WaitGroup, store func()) {
	if a.count.Add(1) > mostArrivals {
		a.count.Add(-1)
		store()
		return
	}
	stored := make(chan struct{})
	a.mu.Lock()
	if a.waiting == nil {
		a.waiting = make(map[call.Key]chan struct{})
	}
	for _, k := range keys {
		a.waiting[k] = stored // of two at once the later one
	}
	a.mu.Unlock()
	jobs.Go(func() { // ends when it is stored
		store()
		a.mu.Lock()
		for _, k := range keys {
			if a.waiting[k] == stored {
				delete(a.waiting, k)
			}
		}
		a.mu.Unlock()
		a.count.Add(-1)
		close(stored)
	})
}

// wait returns when no answer to a call is about to be stored, or with ctx.
func (a *arrivals) wait(ctx context.Context, w *call.Caching) {
	if a.count.Load() == 0 {
		return
	}
	for _, q := range [...]*call.Question{&w.Question, w.Native} {
		if q != nil {
			a.waitFor(ctx, q.Key)
		}
	}
}

// waitFor returns when no answer to a question is about to be stored, or with ctx.
func (a *arrivals) waitFor(ctx context.Context, k call.Key) {
	if a.count.Load() == 0 {
		return
	}
	a.mu.Lock()
	stored := a.waiting[k]
	a.mu.Unlock()
	if stored == nil {
		return
	}
	select {
	case <-stored:
	case <-ctx.Done():
	}
}
