package fleet

import (
	"context"
	"log/slog"
	"math"
	"time"
)

// A State is what the scheduler may do with a node.
type State uint8

const (
	Down      State = iota // its checks fail: it gets no calls
	Up                     // gets calls
	Probation              // it has recovered: gets a growing share of its slots
	Ejected                // its checks are passed but its calls failed: gets none for a time
	HalfOpen               // its ejection is over: gets one call, whose end decides
	Draining               // taken out by the operator: finishes what it has, gets no more
)

// States lists all states.
var States = [...]State{Down, Up, Probation, Ejected, HalfOpen, Draining}

// String is the word used in logs, metrics and the admin API.
func (s State) String() string {
	switch s {
	case Down:
		return "down"
	case Up:
		return "up"
	case Probation:
		return "probation"
	case Ejected:
		return "ejected"
	case HalfOpen:
		return "half_open"
	case Draining:
		return "draining"
	}
	return "unknown"
}

// Alive tells whether the node answers its checks, so that it may be asked what takes no slot:
// the details of a model, an unload.
func (s State) Alive() bool { return s != Down }

// Reasons that are no faults.
const (
	reasonOperator = "by the operator"
	reasonEjected  = "was ejected"
	reasonDown     = "was down: " // and why
	reasonLost     = "connections lost"
)

// rampSteps is in how many steps a share grows: each is a new snapshot.
const rampSteps = 10

// A health is what the state of a node follows from.
type health struct {
	checked  bool      // its first round is over
	up       bool      // by its checks
	risen    bool      // it has been up
	why      string    // it is down
	steady   time.Time // when the first was passed of the checks passed in a row; zero: none
	draining bool

	failing   float64 // part of its calls that were faults, the last few counting most
	faults    int     // of calls, in a row
	dials     bool    // all of faults were dials
	lost      int     // connections lost in a row
	lostAt    time.Time
	load      int // what faults and refusals count as calls in flight
	loadUntil time.Time
	fullUntil time.Time // it has refused a call for want of room
	ejection  ejection  // at is zero: none
	recovery  recovery  // from is zero: none
	ejections int       // not yet forgotten
	drops     int       // from up to down or out for dials, not yet forgotten
	well      time.Time // since when it forgets; zero while it is ill
}

type ejection struct {
	at, until time.Time
	soonest   time.Time // when passed exercises may end it
	open      time.Time // since when it is half open; zero: not yet
	reason    string
	model     string // of the last call, by key
	dials     bool   // by dials alone: passed checks end it
	brief     bool   // because too many are ejected already
	exercised bool   // somebody does
	passes    int    // exercises in a row
}

// since is when a call must have begun to say something about the ejection.
func (e *ejection) since() time.Time {
	if e.open.IsZero() {
		return e.at
	}
	return e.open
}

type recovery struct {
	from     time.Time
	reason   string
	unproven bool // no call has been answered or loaded a model since
}

// state is what follows from h.
func (h *health) state() (State, string) {
	switch {
	case !h.up:
		return Down, h.why
	case h.draining:
		return Draining, reasonOperator
	case !h.ejection.at.IsZero() && h.ejection.open.IsZero():
		return Ejected, h.ejection.reason
	case !h.ejection.at.IsZero():
		return HalfOpen, h.ejection.reason
	case !h.recovery.from.IsZero():
		return Probation, h.recovery.reason
	}
	return Up, ""
}

// age brings about what time alone changes, and tells when it will do so again; zero: never.
func (h *health) age(now time.Time, o *Options) (next time.Time) {
	sooner := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	h.forget(now, o)
	if h.load > 0 {
		if now.Before(h.loadUntil) {
			sooner(h.loadUntil)
		} else {
			h.load = 0
		}
	}
	if now.Before(h.fullUntil) {
		sooner(h.fullUntil)
	}
	if e := &h.ejection; !e.at.IsZero() && e.open.IsZero() {
		if end := e.end(); now.Before(end) {
			sooner(end)
		} else {
			e.open = now
		}
	}
	if r := &h.recovery; !r.from.IsZero() && !r.unproven {
		if share := h.share(now, o); share < 1 {
			// A step more is reached a nanosecond later at worst: steps are cut down.
			sooner(r.from.Add(time.Duration(int64(share*rampSteps+1.5)*int64(o.SlowStart)/rampSteps + 1)))
		} else {
			*r = recovery{}
		}
	}
	return next
}

// share is the part of its slots that a recovering node may be given. 0 means one call.
func (h *health) share(now time.Time, o *Options) float64 {
	r := &h.recovery
	switch {
	case r.from.IsZero():
		return 1
	case r.unproven:
		return 0
	case o.SlowStart <= 0:
		return 1
	}
	steps := int64(now.Sub(r.from)) * rampSteps / int64(o.SlowStart)
	return min(1, float64(steps)/rampSteps)
}

// forget lets one ejection and one drop go for each span of health.
func (h *health) forget(now time.Time, o *Options) {
	if h.well.IsZero() {
		return
	}
	if spans := now.Sub(h.well) / o.Forget; spans > 0 {
		h.well = h.well.Add(spans * o.Forget)
		n := int(min(spans, 1<<20))
		h.ejections, h.drops = max(0, h.ejections-n), max(0, h.drops-n)
	}
}

// A change is what became of a node's facts.
type change struct {
	node    *Node
	any     bool // there is something new to show
	sooner  bool // time changes something sooner than it would have
	moved   bool // into another state, or into its first
	from    State
	state   State
	reason  string
	seconds float64 // how long an ejection lasts
}

// settleLocked shows what follows from the node's health now.
func (n *Node) settleLocked(o *Options) change {
	now := time.Now()
	h, was := &n.health, n.facts.Load()
	due := n.next
	n.next = h.age(now, o)
	x := *was
	x.checked = h.checked
	x.state, x.reason = h.state()
	x.draining = h.draining
	x.ejected, x.dials = !h.ejection.at.IsZero() && !h.ejection.brief, h.ejection.dials
	x.until = time.Time{}
	if x.state == Ejected {
		x.until = h.ejection.end()
	}
	x.ejections, x.load, x.full = h.ejections, h.load, now.Before(h.fullUntil)
	x.share = 1
	if x.state == Probation {
		x.share = h.share(now, o)
	}
	c := change{node: n, from: was.state, state: x.state, reason: x.reason}
	c.sooner = !n.next.IsZero() && (due.IsZero() || n.next.Before(due))
	if c.moved = x.state != was.state || x.checked != was.checked; c.moved {
		x.since = now
	}
	if x.state == Ejected {
		c.seconds = h.ejection.until.Sub(now).Seconds()
	}
	c.any = c.moved || x.reason != was.reason || x.draining != was.draining || x.ejected != was.ejected ||
		x.dials != was.dials || !x.until.Equal(was.until) || x.ejections != was.ejections || x.load != was.load ||
		x.full != was.full || x.share != was.share
	if c.any {
		n.facts.Store(&x)
	}
	n.failing.Store(math.Float64bits(h.failing))
	n.healthy.Store(x.state == Up && n.fails == [polls]int{} && h.faults == 0 && h.lost == 0 && h.load == 0 && h.failing < failingNone)
	return c
}

// tell logs and publishes a change. No lock may be held.
func (f *Fleet) tell(c change) {
	if c.any || c.sooner {
		f.stir()
	}
	if !c.any {
		return
	}
	f.noteChange(c)
	f.publish()
	if c.state == Ejected {
		f.exercise(c.node)
	}
}

// noteChange logs and counts a change. No lock may be held.
func (f *Fleet) noteChange(c change) {
	if !c.moved {
		return
	}
	if f.observer != nil && c.state != c.from {
		f.observer.NodeMoved(c.node.Name(), c.state)
	}
	level := slog.LevelInfo
	attrs := append(make([]slog.Attr, 0, 4),
		slog.String("node", c.node.Name()), slog.String("state", c.state.String()), slog.String("reason", c.reason))
	switch c.state {
	case Down:
		level = slog.LevelWarn
	case Ejected:
		level = slog.LevelWarn
		attrs = append(attrs, slog.Float64("seconds", c.seconds))
	}
	f.log.LogAttrs(context.Background(), level, "node state changed", attrs...)
}
