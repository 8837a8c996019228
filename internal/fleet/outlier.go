package fleet

import (
	"math/rand/v2"
	"time"
)

// lostTogether is how close to each other connections are lost that one death has cut.
const lostTogether = time.Second

// fault counts a call that the node failed, and ejects the node for the last of too many.
func (f *Fleet) fault(n *Node, r Outcome) {
	o := f.opts.Load()
	f.ejecting.Lock()
	room := f.roomToEject()
	n.mu.Lock()
	n.faultLocked(r, o, room)
	c := n.settleLocked(o)
	n.mu.Unlock()
	f.ejecting.Unlock()
	f.tell(c)
}

// roomToEject tells whether one more ejected node would still be at most half of the fleet.
// Nodes that are drained count as not there. f.ejecting is held, so that two nodes do not
// take the same place.
func (f *Fleet) roomToEject() bool {
	ejected, all := 0, 0
	for _, n := range f.configuredNodes() {
		x := n.facts.Load()
		if x.draining {
			continue
		}
		all++
		if x.ejected {
			ejected++
		}
	}
	return 2*(ejected+1) <= all
}

func (n *Node) faultLocked(r Outcome, o *Options, room bool) {
	h := &n.health
	now := time.Now()
	began := now.Add(-r.Took)
	switch {
	case !h.up:
		return // it is said already
	case !h.ejection.at.IsZero():
		// Only the call that was let through to try it says something new.
		if !h.ejection.open.IsZero() && !began.Before(h.ejection.open) {
			n.ejectLocked(reasons[r.Kind], r.Kind == Connect || r.Kind == TLS, o)
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
	h.faults++
	if o.EjectAfter > 0 && h.faults >= o.EjectAfter && room && !h.draining {
		n.ejectLocked(reasons[r.Kind], h.dials, o)
	}
}

// ejectLocked ejects a node, or does so again.
func (n *Node) ejectLocked(reason string, dials bool, o *Options) {
	h := &n.health
	now := time.Now()
	h.forget(now, o)
	// Remembering more would not make it longer, only keep it long.
	h.ejections = min(h.ejections+1, int((o.EjectCap+o.EjectBase-1)/o.EjectBase))
	d := min(o.EjectCap, time.Duration(h.ejections)*o.EjectBase)
	d -= time.Duration(rand.Int64N(int64(d/10) + 1)) // so that nodes ejected together do not return together
	h.ejection = ejection{at: now, until: now.Add(d), reason: reason, dials: dials}
	if dials {
		h.drops = min(h.drops+1, mostDrops) // for hold: passed checks end it
	}
	h.recovery, h.well = recovery{}, time.Time{}
	h.faults, h.lost, h.load = 0, 0, 0
	n.passes, h.steady = 0, time.Time{} // only checks from now on count for it
}

func (f *Fleet) logPanic(s *Snapshot) {
	if s.Panic {
		f.log.Warn("too few nodes are usable: ejected ones are used again")
	} else {
		f.log.Info("enough nodes are usable: ejected ones are not used")
	}
}
