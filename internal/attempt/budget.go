package attempt

import (
	"sync"
	"time"
)

// The retry budget: what retries may cost all calls together, so that nodes which fail under
// load are not given more of it.
const (
	budgetShare  = 0.1  // retries earned by a call
	budgetEarned = 100  // earned retries kept at most: those of 1,000 calls
	budgetFloor  = 3.0  // retries a second in any case
	budgetSaved  = 30.0 // of these kept at most: ten seconds

	lossWindow = 2 * time.Second  // in which the calls of a lost node come back
	lossPause  = 10 * time.Second // from one loss of a node to the next that counts
)

// A Budget bounds retries. It outlives configurations and is safe for concurrent use. The zero
// value is a full one.
type Budget struct {
	mu     sync.Mutex // guards what follows
	earned float64
	spent  float64 // of the floor
	last   time.Time
	losses map[string]*loss
}

// A loss is a node whose connections ended all at once: each call that ran there may be made
// again, however many they are.
type loss struct {
	since time.Time
	calls int // that may still be made again
}

// Earn counts a call.
func (b *Budget) Earn() {
	b.mu.Lock()
	b.earned = min(b.earned+budgetShare, budgetEarned)
	b.mu.Unlock()
}

// Take pays for one retry and tells whether that was possible. node is the one that failed;
// lost says that it closed the connection without an answer, with inFlight calls on it.
func (b *Budget) Take(node string, lost bool, inFlight int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if lost && b.freeLocked(node, inFlight, now) {
		return true
	}
	if !b.last.IsZero() {
		b.spent = max(0, b.spent-budgetFloor*now.Sub(b.last).Seconds())
	}
	b.last = now
	switch {
	case b.earned >= 1:
		b.earned--
	case b.spent <= budgetSaved-1:
		b.spent++
	default:
		return false
	}
	return true
}

// freeLocked tells whether a retry is one of those that the loss of a node gives.
func (b *Budget) freeLocked(node string, inFlight int, now time.Time) bool {
	l := b.losses[node]
	if l == nil || now.Sub(l.since) >= lossPause {
		if b.losses == nil {
			b.losses = make(map[string]*loss)
		}
		for name, old := range b.losses { // nodes come and go
			if now.Sub(old.since) >= lossPause {
				delete(b.losses, name)
			}
		}
		l = &loss{since: now, calls: inFlight}
		b.losses[node] = l
	}
	if l.calls <= 0 || now.Sub(l.since) >= lossWindow {
		return false
	}
	l.calls--
	return true
}
