package fleet

import (
	"context"
	"errors"
	"math"
	"time"
)

// A Kind is how a call to a node ended, as far as the node's health is concerned.
type Kind uint8

const (
	OK        Kind = iota // answered to its end
	Connect               // not dialled: certainly no work
	TLS                   // dialled, but no trust or no TLS
	Reset                 // the connection ended before the answer did
	Status5xx             // an error of the node, but for those of the kinds below
	Timeout               // no first byte, no further frame or no end in time
	Protocol              // not an answer of Ollama's
	Truncated             // an orderly end before the answer's own
	Busy                  // 503: load, no illness
	Missing               // 404: it does not have the model; no illness
	Refused               // any other 4xx: the client's affair, and a sign of life
	Canceled              // nobody waited any more: nothing
)

// reasons are what people see of a fault.
var reasons = [...]string{
	Connect: "unreachable", TLS: "TLS failed", Reset: "connection closed", Status5xx: "status 5xx",
	Timeout: "timeout", Protocol: errNotOllama.Error(), Truncated: "answer cut short",
}

// An Outcome is what a call has shown of a node.
type Outcome struct {
	Kind     Kind
	Model    string // key of its name
	Resident bool   // the model was loaded as asked when the call was granted
	// FirstFrame is the time from sending to the first frame or the whole object, Took that to
	// the end of the call; a failed call has a Took as well. Zero: not measured.
	FirstFrame, Took time.Duration
	Told             bool  // FirstFrame was told by Begun
	Frames           int   // of the answer; 1 for an object
	Err              error // of Connect and TLS: tells a refused connection from others
}

// Report tells how a call to a node ended. It must come before the call's grant is released,
// for a half-open node gets its next call by the release. It is cheap while the node is well.
//
// Connect, TLS, Reset, Status5xx, Timeout, Protocol and Truncated are faults: five in a row
// (Options.EjectAfter) eject the node, or two of which one is the wait for a loaded model while
// the node answered nobody, or many more among its calls than the other nodes have; the last few
// count as load for a while. A refused connection takes it down at once.
// Connections lost together are one fault, but put the node on probation: its process may have
// died. OK ends a row of faults, decides for a half-open node, and teaches the node's speed.
// Busy counts as load only, and the node is full for a second.
func (f *Fleet) Report(n *Node, r Outcome) {
	switch r.Kind {
	case OK:
		f.answered(n, r)
	case Connect, TLS:
		if errors.Is(r.Err, context.Canceled) {
			return
		}
		f.failed(n, check, r.Err, math.MaxInt64) // however many calls were answered before
		f.fault(n, r)
		n.want(check)
	case Reset:
		f.fault(n, r)
		n.want(check, ps) // is it there, and what has it still loaded
	case Status5xx, Timeout, Protocol, Truncated:
		f.fault(n, r)
	case Busy:
		f.busy(n)
	case Missing:
		f.ModelMissing(n, r.Model)
	case Refused:
		f.Answered(n)
	case Canceled:
	}
}

// answered takes over a complete answer.
func (f *Fleet) answered(n *Node, r Outcome) {
	f.Answered(n)
	f.learn(n, r)
	if n.healthy.Load() {
		return
	}
	n.mu.Lock()
	h := &n.health
	h.faults, h.lost, h.load = 0, 0, 0
	h.failing -= h.failing * failingStep
	switch began := time.Now().Add(-r.Took); {
	case h.ejection.at.IsZero():
		h.recovery.unproven = false
	case !began.Before(h.ejection.since()):
		n.recoverLocked(reasonEjected, false)
	}
	c := n.settleLocked(f.opts.Load())
	n.mu.Unlock()
	f.tell(c)
}

// proved ends the doubt whether a node that came back can load a model.
func (f *Fleet) proved(n *Node) {
	if n.healthy.Load() {
		return
	}
	n.mu.Lock()
	n.health.recovery.unproven = false
	c := n.settleLocked(f.opts.Load())
	n.mu.Unlock()
	f.tell(c)
}

// busy lets a refusal for want of room count as load.
func (f *Fleet) busy(n *Node) {
	o := f.opts.Load()
	n.mu.Lock()
	n.health.press(o)
	n.health.fullUntil = time.Now().Add(fullFor)
	c := n.settleLocked(o)
	n.mu.Unlock()
	f.tell(c)
}

// fullFor is how long a node that refused a call for want of room is given none.
const fullFor = time.Second

// press adds a call to those that the node seems to have in flight.
func (h *health) press(o *Options) {
	h.load = min(h.load+1, mostLoad)
	h.loadUntil = time.Now().Add(o.FaultLoad)
}

// mostLoad bounds what faults count as calls in flight: more than the slots of most nodes.
const mostLoad = 5
