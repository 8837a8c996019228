package cache

import (
	"sync"
	"sync/atomic"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// mostJobs bounds the jobs that store answers; who brings a further one does it at once.
const mostJobs = 128

// arrivals are answers that are complete and not yet stored: to encode and compress one takes up to
// a tenth of a millisecond, for which nobody is to wait but who asks for that very answer.
type arrivals struct {
	pending atomic.Int32 // how many keys there are in waiting
	jobs    atomic.Int32

	mu      sync.Mutex // guards what follows
	waiting map[call.Key]*arrival
}

// An arrival is one answer, or some vectors. It is stored by whoever comes first: the one who
// brought it, or one who asks for it.
type arrival struct {
	of    *arrivals
	keys  []call.Key
	store func()
	once  sync.Once
}

// announce lets who asks for one of some keys know that store is what there is to do first. The
// caller sees to it that settle is called.
func (a *arrivals) announce(keys []call.Key, store func()) *arrival {
	n := &arrival{of: a, keys: keys, store: store}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		a.waiting = make(map[call.Key]*arrival)
	}
	for _, k := range keys {
		a.waiting[k] = n // of two at once the later one
	}
	a.pending.Store(int32(len(a.waiting)))
	return n
}

// settle returns when the answer is stored.
func (n *arrival) settle() {
	n.once.Do(func() {
		defer n.forget()
		n.store()
	})
}

func (n *arrival) forget() {
	a := n.of
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range n.keys {
		if a.waiting[k] == n {
			delete(a.waiting, k)
		}
	}
	a.pending.Store(int32(len(a.waiting)))
}

// bring stores the answers of some keys in the background.
func (a *arrivals) bring(keys []call.Key, jobs *sync.WaitGroup, store func()) {
	if a.jobs.Add(1) > mostJobs {
		a.jobs.Add(-1)
		store()
		return
	}
	n := a.announce(keys, store)
	jobs.Go(func() { // ends when it is stored
		defer a.jobs.Add(-1)
		n.settle()
	})
}

// settle returns when no answer to a question is about to be stored.
func (a *arrivals) settle(k call.Key) {
	if a.pending.Load() == 0 {
		return
	}
	a.mu.Lock()
	n := a.waiting[k]
	a.mu.Unlock()
	if n != nil {
		n.settle()
	}
}

// settleAll returns when what was about to be stored is.
func (a *arrivals) settleAll() {
	a.mu.Lock()
	all := make([]*arrival, 0, len(a.waiting))
	for _, n := range a.waiting {
		all = append(all, n)
	}
	a.mu.Unlock()
	for _, n := range all {
		n.settle()
	}
}
