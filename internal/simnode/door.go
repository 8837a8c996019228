package simnode

import "time"

// A door is how a node's connections fare. The zero value is one that stands open.
type door struct {
	shut   bool   // they are refused, the idle ones are closed
	hang   bool   // they are not accepted
	deaf   bool   // they are accepted, and not read
	tls    string // Fault.TLS
	births int    // how often the node came back; connections do not outlive it
	dead   bool
}

// door returns the state now, the time of the next change that time makes, or the zero time, and a channel that is
// closed at any other change.
func (n *Node) door() (d door, next time.Time, changed <-chan struct{}) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	d = door{shut: n.down, dead: n.down, births: n.births}
	for _, a := range n.faults {
		if !a.onConnections() {
			continue
		}
		there, until := a.present(now)
		if !until.IsZero() && (next.IsZero() || until.Before(next)) {
			next = until
		}
		if there {
			d.shut = d.shut || a.Refuse
			d.hang = d.hang || a.HangAccept
			d.deaf = d.deaf || a.Deaf
			if d.tls == "" {
				d.tls = a.TLS
			}
		}
	}
	return d, next, n.changed
}

func (n *Node) changedLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}

// watch tells apply the state of the door, now and at each change, until done is closed.
func (n *Node) watch(done <-chan struct{}, apply func(door)) {
	for {
		d, next, changed := n.door()
		apply(d)
		if !waitFor(done, changed, next) {
			return
		}
	}
}

// waitFor waits for a change and reports whether there will be further ones.
func waitFor(done, changed <-chan struct{}, next time.Time) bool {
	var alarm <-chan time.Time
	if !next.IsZero() {
		t := time.NewTimer(time.Until(next))
		defer t.Stop()
		alarm = t.C
	}
	select {
	case <-done:
		return false
	case <-changed:
	case <-alarm:
	}
	return true
}
