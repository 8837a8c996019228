package cache

import (
	"sync"
	"sync/atomic"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

const (
	// mostJobs bounds the jobs that store answers; who brings further ones does it at once.
	mostJobs = 128
	// pileSize is how many small answers are stored together: what it takes is in the processor's
	// caches for all but the first then, which makes it cost a third.
	pileSize = 16
)

// arrivals are answers that are complete and not yet stored: to encode and compress one takes up to
// a tenth of a millisecond, for which nobody is to wait but who asks for that very answer.
type arrivals struct {
	pending atomic.Int32 // how many keys there are in waiting
	jobs    atomic.Int32

	mu      sync.Mutex // guards what follows
	waiting map[call.Key]*arrival
	pile    []*arrival // those that wait for others
}

// An arrival is one answer, or some vectors. It is stored by whoever comes first: the one who
// brought it, or one who asks for it.
type arrival struct {
	keys  []call.Key
	store func()
	once  sync.Once
}

// announceLocked lets who asks for one of an arrival's keys know what there is to do first.
func (a *arrivals) announceLocked(n *arrival) {
	if a.waiting == nil {
		a.waiting = make(map[call.Key]*arrival)
	}
	for _, k := range n.keys {
		a.waiting[k] = n // of two at once the later one
	}
	a.pending.Store(int32(len(a.waiting)))
}

// settleOne returns when an arrival is stored.
func (a *arrivals) settleOne(n *arrival) {
	n.once.Do(func() {
		defer a.forget(n)
		n.store()
	})
}

func (a *arrivals) forget(n *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range n.keys {
		if a.waiting[k] == n {
			delete(a.waiting, k)
		}
	}
	a.pending.Store(int32(len(a.waiting)))
}

// bring stores an arrival in the background.
func (a *arrivals) bring(n *arrival, jobs *sync.WaitGroup) {
	a.mu.Lock()
	a.announceLocked(n)
	a.mu.Unlock()
	a.settleLater(jobs, n)
}

// heap stores an arrival in the background, when there are more of them, or when it is asked for.
func (a *arrivals) heap(n *arrival, jobs *sync.WaitGroup) {
	a.mu.Lock()
	a.announceLocked(n)
	a.pile = append(a.pile, n)
	var full []*arrival
	if len(a.pile) == pileSize {
		full, a.pile = a.pile, make([]*arrival, 0, pileSize)
	}
	a.mu.Unlock()
	if full != nil {
		a.settleLater(jobs, full...)
	}
}

func (a *arrivals) settleLater(jobs *sync.WaitGroup, all ...*arrival) {
	settle := func() {
		defer a.jobs.Add(-1)
		for _, n := range all {
			a.settleOne(n)
		}
	}
	if a.jobs.Add(1) > mostJobs {
		settle()
		return
	}
	jobs.Go(settle) // ends when they are stored
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
		a.settleOne(n)
	}
}

// settleAll returns when what was about to be stored is.
func (a *arrivals) settleAll() {
	a.mu.Lock()
	all := make([]*arrival, 0, len(a.waiting))
	for _, n := range a.waiting {
		all = append(all, n)
	}
	a.pile = nil
	a.mu.Unlock()
	for _, n := range all {
		a.settleOne(n)
	}
}
