package replica

import (
	"sync/atomic"
	"time"
)

// failureLimit is how many failures in a row open the breaker: one may be a connection that was
// closed while it was idle, three budgets are what a call may lose by Redis.
const failureLimit = 3

// What a breaker may be.
const (
	closed int32 = iota // operations are tried
	open                // not until a probe has succeeded
	over                // never again
)

// A breaker keeps operations from a Redis that does not answer. It is lock-free: each operation
// reads one word of it.
type breaker struct {
	state    atomic.Int32
	failures atomic.Int32 // since the last success
	first    atomic.Int64 // of these, when it was, in nanoseconds since born; 0: there is none
	born     time.Time
	// spread is how long failures that took all of their time must have been coming: of many
	// operations at once a single stall fails all.
	spread time.Duration
	// opened gets why, once for each time. It has room for one: who calls close has read it before.
	opened chan error
}

func (b *breaker) closed() bool { return b.state.Load() == closed }

func (b *breaker) succeed() {
	if b.failures.Load() != 0 {
		b.failures.Store(0)
		b.first.Store(0)
	}
}

// fail counts a failure; slow, if it was one of time.
func (b *breaker) fail(err error, slow bool) {
	now := max(1, int64(time.Since(b.born)))
	b.first.CompareAndSwap(0, now)
	if b.failures.Add(1) >= failureLimit && (!slow || time.Duration(now-b.first.Load()) >= b.spread) {
		b.open(err)
	}
}

// open opens it, unless it is.
func (b *breaker) open(err error) {
	if b.state.CompareAndSwap(closed, open) {
		b.opened <- err
	}
}

// close has operations tried again.
func (b *breaker) close() {
	b.failures.Store(0)
	b.first.Store(0)
	b.state.CompareAndSwap(open, closed)
}

// end keeps it from ever being closed again.
func (b *breaker) end() { b.state.Store(over) }
