// Package coalesce lets equal calls share one running upstream call.
//
// A flight owns the wait for the first frame; from then on the recording lives as long as one
// of its followers does, and each follows at its own pace. A flight has a context of its own:
// no client's leaving ends it but the last one's. Whatever happens, each call gets an answer,
// an error or the cause of its own context. coalesce knows nothing of HTTP, dialects or nodes.
package coalesce

import (
	"context"
	"sync"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

// DefaultMaxFollowers is more than wait for one answer anywhere but in a flood, and few enough
// to be woken for each frame.
const DefaultMaxFollowers = 1024

// A Base is what flights need of the engine they live in.
type Base struct {
	Context context.Context // ends all flights
	Jobs    *sync.WaitGroup // counts their goroutines; each ends with the first frame, or with Context
}

// Options limit what is shared. The zero value works.
type Options struct {
	// MaxFollowers is how many calls may join one flight beside the one that leads it. Who
	// leaves before the first frame gives its place back. The next call leads a flight of its
	// own, which others then join. Default: 1024.
	MaxFollowers int
}

func (o Options) withDefaults() Options {
	if o.MaxFollowers <= 0 {
		o.MaxFollowers = DefaultMaxFollowers
	}
	return o
}

// Flights are the running upstream calls that others may follow. They outlive configurations.
// Safe for concurrent use.
type Flights struct {
	Base

	mu    sync.Mutex // guards what follows, and what the flights say it guards
	table map[call.Key]*flight
}

// New makes an empty table of flights.
func New(b Base) *Flights { return &Flights{Base: b, table: make(map[call.Key]*flight)} }

// Forget has nobody join the flights of now any more: what they answer may be out of date.
// Those who follow them go on.
func (t *Flights) Forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.table)
}

// Running is the number of flights that can be joined.
func (t *Flights) Running() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.table)
}

// A seat is what a call has in a flight.
type seat struct {
	*flight
	leads bool
	late  bool // the first frame is there already
}

// enter has a call follow a flight of its own key or of the native one, or else lead one,
// which takes the place in the table of any that it may not follow.
func (t *Flights) enter(c *call.Call, native *call.Key, most int) (s seat, ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !c.Joining.Alone {
		for _, key := range [...]*call.Key{&c.Joining.Key, native} {
			if key == nil {
				continue
			}
			if f := t.table[*key]; f != nil && f.followLocked(c, most) {
				return seat{flight: f, late: f.own != nil}, nil
			}
		}
	}
	f, ctx := newFlight(t.Context, c)
	t.table[c.Joining.Key] = f
	return seat{flight: f, leads: true}, ctx
}

// begin tells those who wait that a flight has an answer, or has none.
func (t *Flights) begin(f *flight, r *recording.Reader, err error) {
	t.mu.Lock()
	f.own, f.err = r, err
	if err != nil {
		t.removeLocked(f)
	}
	deserted := f.waiting == 0
	t.mu.Unlock()
	close(f.begun)
	if deserted && r != nil {
		r.Close()
	}
}

// take gives a call that has waited its reader. again tells that the flight has nothing for it.
func (t *Flights) take(s seat, c *call.Call) (r *recording.Reader, again bool, err error) {
	t.mu.Lock()
	if again, err = s.judge(c); again || err != nil {
		end := t.leaveLocked(s)
		t.mu.Unlock()
		end()
		return nil, again, err
	}
	if s.waiting == 1 { // so that a flight that nobody joined costs no second reader
		s.waiting = 0
		t.mu.Unlock()
		return s.own, false, nil
	}
	t.mu.Unlock()
	if r = t.fork(s.flight); r == nil {
		again = true // its beginning is gone already
	}
	t.mu.Lock()
	s.waiting--
	last := s.waiting == 0
	t.mu.Unlock()
	if last {
		s.own.Close() // those who follow have theirs
	}
	return r, again, nil
}

// fork gives a reader of a flight that has begun; nil: all have left it, or its beginning is
// gone. That is for ever, so nobody else need try. It is done without the lock: it takes its time
// where many follow.
func (t *Flights) fork(f *flight) *recording.Reader {
	r, err := f.own.Fork()
	if err != nil {
		t.remove(f)
		return nil
	}
	return r
}

// leave gives up a wait for the first frame.
func (t *Flights) leave(s seat) {
	t.mu.Lock()
	end := t.leaveLocked(s)
	t.mu.Unlock()
	end()
}

// leaveLocked has one call less wait that did not get a reader. end is to be called without the
// lock: the last one ends what the flight holds, which may be an upstream call.
func (t *Flights) leaveLocked(s seat) (end func()) {
	s.waiting--
	if !s.leads {
		s.followers--
	}
	switch {
	case s.waiting > 0:
		return func() {}
	case s.own != nil:
		return s.own.Close
	}
	t.removeLocked(s.flight) // what ends without a first frame is not to be joined
	return func() { s.cancel(recording.ErrAbandoned) }
}

// remove takes a flight out of the table.
func (t *Flights) remove(f *flight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(f)
}

// removeLocked leaves a younger flight in the place alone.
func (t *Flights) removeLocked(f *flight) {
	if key := f.lead.Joining.Key; t.table[key] == f {
		delete(t.table, key)
	}
}
