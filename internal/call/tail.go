package call

import "sync"

// A Tail is what is left to do for a call when its client has the answer. The zero value is ready;
// it is safe for concurrent use.
type Tail struct {
	mu   sync.Mutex
	work []func()
	over bool
}

// Add leaves work for the end, or does it at once if that has been.
func (t *Tail) Add(work func()) {
	t.mu.Lock()
	later := !t.over
	if later {
		t.work = append(t.work, work)
	}
	t.mu.Unlock()
	if !later {
		work()
	}
}

// Waits tells whether there is work.
func (t *Tail) Waits() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.work) > 0
}

// End does what is left to do. Further work is done by who brings it.
func (t *Tail) End() {
	t.mu.Lock()
	work := t.work
	t.work, t.over = nil, true
	t.mu.Unlock()
	for _, w := range work {
		w()
	}
}
