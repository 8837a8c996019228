package fleet

import (
	"time"
)

// mostDrops is how many drops are remembered: 2^5 s is about as long as the first ejection.
const mostDrops = 6

// hold is how long a node must pass its checks before it comes back: it doubles with each
// drop that is not forgotten, so that one that flaps is down most of the time, not up and
// down all the time.
func (h *health) hold(o *Options) time.Duration {
	if h.drops < 2 {
		return 0
	}
	return min(o.EjectBase, time.Second<<(h.drops-1))
}

// passed counts a version check that was passed. It tells whether the node is down and has
// now passed often enough: it then comes up with its inventory, through rise. An ejection
// for dials that failed ends here; any other does not: who answers checks may fail calls. See
// exercise.
func (n *Node) passed(o *Options) (rising bool, c change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails[check] = 0
	h := &n.health
	n.passes++
	if h.steady.IsZero() {
		h.steady = time.Now()
	}
	enough := n.passes >= o.Passes && time.Since(h.steady) >= h.hold(o)
	if !h.up {
		return enough || !h.checked, change{}
	}
	if enough && h.ejection.dials {
		n.recoverLocked(reasonEjected, true)
	}
	return false, n.settleLocked(o)
}

// rise brings a node up with what its polls have shown. One that was up before is on
// probation: what ran there may still hold its memory.
func (f *Fleet) rise(n *Node) {
	n.mu.Lock()
	h := &n.health
	if h.up {
		n.mu.Unlock()
		return
	}
	n.passes, n.fails, h.steady = 0, [polls]int{}, time.Time{}
	if h.risen && h.ejection.at.IsZero() {
		n.recoverLocked(reasonDown+h.why, true)
	}
	if h.ejection.at.IsZero() {
		h.well = time.Now()
	}
	h.checked, h.up, h.risen, h.why = true, true, true, ""
	c := n.settleLocked(f.opts.Load())
	n.mu.Unlock()
	f.tell(c)
}

// recoverLocked begins a recovery.
func (n *Node) recoverLocked(reason string, unproven bool) {
	h := &n.health
	now := time.Now()
	h.ejection = ejection{}
	h.recovery = recovery{from: now, reason: reason, unproven: unproven}
	h.well = now
}

// failed counts a poll that failed and began at begun. A refused connection, the first round
// of a new node and the last of too many failures take the node down.
func (f *Fleet) failed(n *Node, kind poll, err error, begun time.Duration) {
	o := f.opts.Load()
	refused := isRefused(err)
	n.mu.Lock()
	h := &n.health
	switch {
	case !h.up:
		n.passes, h.steady = 0, time.Time{}
	case !refused && n.alive.Load() >= int64(begun):
		// It was answering calls all the while: busy, not ill.
		n.mu.Unlock()
		return
	default:
		n.passes, h.steady = 0, time.Time{}
		n.fails[kind]++
		if !refused && n.fails[kind] < o.Fails {
			c := n.settleLocked(o)
			n.mu.Unlock()
			f.tell(c)
			return
		}
		n.dropLocked(o)
	}
	if refused {
		// What comes back is another process: it is not judged by what this one did.
		h.ejection = ejection{}
	}
	h.why, h.checked = reasonOf(err), true
	c := n.settleLocked(o)
	n.mu.Unlock()
	f.tell(c)
}

// dropLocked takes a node down that was up.
func (n *Node) dropLocked(o *Options) {
	h := &n.health
	h.forget(time.Now(), o)
	h.drops = min(h.drops+1, mostDrops)
	h.up, h.well, h.recovery = false, time.Time{}, recovery{}
	h.faults, h.lost, h.load, h.failing = 0, 0, 0, 0
	n.emptyLocked()
}

// emptyLocked forgets what the node had in memory.
func (n *Node) emptyLocked() {
	clear(n.loaded)
	n.setLocked(func(x *facts) { x.runners = nil })
}
