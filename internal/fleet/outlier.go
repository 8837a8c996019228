package fleet

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// lostTogether is how close to each other connections are lost that one death has cut.
const lostTogether = time.Second

// briefly is how long a node is ejected when half of the fleet is out already: each time one
// call tries it, so that its failures cost a call a second and not those of all its slots.
const briefly = time.Second

// What is too large a part of faults among a node's calls. Half of its calls failing leads
// there in about eleven.
const (
	failingStep   = 1. / 16 // what the last call counts
	failingMost   = 0.25
	failingFactor = 3    // times what others have: what all nodes fail says nothing of one
	failingNone   = 0.01 // is as good as none
)

// others are the other nodes, as far as they matter when one is judged.
type others struct {
	room    bool    // the fleet stands one more that is out: no more than half of it is then
	usable  bool    // one of them takes calls
	failing float64 // what the median of those that take calls has
}

// fault counts a call that the node failed, and ejects the node for the last of too many.
func (f *Fleet) fault(n *Node, r Outcome) {
	o := f.opts.Load()
	f.ejecting.Lock()
	rest := f.othersOf(n)
	n.mu.Lock()
	n.faultLocked(r, f.worth(n, r, o), o, rest)
	c := n.settleLocked(o)
	n.mu.Unlock()
	f.ejecting.Unlock()
	f.tell(c)
}

// othersOf looks at the other nodes. Those that are drained count as not there. f.ejecting is
// held, so that two nodes do not take the same place.
func (f *Fleet) othersOf(n *Node) (rest others) {
	out, all := 1, 1
	var room [16]float64 // on the stack for the usual fleet
	failing := room[:0]
	for _, other := range f.configuredNodes() {
		x := other.facts.Load()
		if other == n || x.draining {
			continue
		}
		all++
		if x.ejected || x.state == Down {
			out++
		}
		if x.state == Up || x.state == Probation {
			rest.usable = true
			failing = append(failing, math.Float64frombits(other.failing.Load()))
		}
	}
	rest.room = 2*out <= all
	if len(failing) > 0 {
		slices.Sort(failing)
		rest.failing = failing[(len(failing)-1)/2]
	}
	return rest
}

// worth is what a fault counts towards an ejection. A node where the model is loaded and that
// has answered nobody while a call waited in vain has hung: two such calls in a row are enough, or
// one behind any other fault, or each slot that one leaves would take one more. A single one may
// just have had a long prompt.
func (f *Fleet) worth(n *Node, r Outcome, o *Options) int {
	silent := r.Kind == Timeout && r.Resident && r.FirstFrame == 0 && n.alive.Load() < int64(f.since()-r.Took)
	if silent {
		return max(1, o.EjectAfter-1)
	}
	return 1
}

func (n *Node) faultLocked(r Outcome, worth int, o *Options, rest others) {
	h := &n.health
	now := time.Now()
	began := now.Add(-r.Took)
	switch {
	case !h.up:
		return // it is said already
	case !h.ejection.at.IsZero():
		// Only the call that was let through to try it says something new.
		if !h.ejection.open.IsZero() && !began.Before(h.ejection.open) {
			n.ejectLocked(r, r.Kind == Connect || r.Kind == TLS, o, rest)
		}
		return
	case began.Before(h.recovery.from):
		return // of the time when it was ill
	}
	h.press(o)
	if r.Kind == Reset {
		together := h.lost > 0 && now.Sub(h.lostAt) < lostTogether && began.Before(h.lostAt)
		h.lost++
		h.lostAt = now
		if h.lost > 1 && !h.recovery.unproven && !h.draining {
			n.recoverLocked(reasonLost, true)
			n.emptyLocked() // ps, which is asked for, shows what is still there
		}
		if together {
			return
		}
	} else {
		h.lost = 0
	}
	dial := r.Kind == Connect || r.Kind == TLS
	h.dials = dial && (h.dials || h.faults == 0)
	h.faults += worth
	h.failing += (1 - h.failing) * failingStep
	if o.EjectAfter <= 0 || h.draining {
		return
	}
	if h.faults >= o.EjectAfter || rest.usable && h.failing > max(failingMost, failingFactor*rest.failing) {
		n.ejectLocked(r, h.dials, o, rest)
	}
}

// ejectLocked ejects a node for the last of its faults, or does so again, if that leaves another
// one to take its calls.
func (n *Node) ejectLocked(last Outcome, dials bool, o *Options, rest others) {
	if !rest.room && !rest.usable {
		return
	}
	h := &n.health
	now := time.Now()
	h.forget(now, o)
	d := min(briefly, o.EjectBase)
	if rest.room {
		// Remembering more would not make it longer, only keep it long.
		h.ejections = min(h.ejections+1, int((o.EjectCap+o.EjectBase-1)/o.EjectBase))
		d = min(o.EjectCap, time.Duration(h.ejections)*o.EjectBase)
	}
	d -= time.Duration(rand.Int64N(int64(d/10) + 1)) // so that nodes ejected together do not return together
	h.ejection = ejection{
		at: now, until: now.Add(d), soonest: now.Add(soonest(max(1, h.ejections), d)),
		reason: reasons[last.Kind], model: last.Model, dials: dials, brief: !rest.room,
	}
	if dials {
		h.drops = min(h.drops+1, mostDrops) // for hold: passed checks end it
	}
	h.recovery, h.well = recovery{}, time.Time{}
	h.faults, h.lost, h.load, h.failing = 0, 0, 0, 0
	n.passes, h.steady = 0, time.Time{} // only checks from now on count for it
}
