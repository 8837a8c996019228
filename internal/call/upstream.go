package call

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Upstream is what was tried for a call. All followers of a flight share it, a single
// answer that is asked again goes on with it, and settle reads it. Safe for concurrent use.
type Upstream struct {
	mu          sync.Mutex // guards what follows
	tries       []Try
	retriesLeft int
	queued      time.Duration
	totals      wire.Totals
	lost        int
	fullSince   time.Time
	node        string
	reason      string
	first       time.Duration
	span        trace.SpanContext
	atNode      bool // it was granted a slot, and has not gone back to the queue
	waited      time.Duration
}

// A Try is one request to one node.
type Try struct {
	Node    string // its name
	Outcome string // a word of package attempt
	Failed  bool   // the node is to blame: it is not asked again for this call
	Took    time.Duration
	Beside  int // calls on the node when it ended, this one among them
}

// NewUpstream allows retries tries that may have done work beyond the first.
func NewUpstream(retries int) *Upstream { return &Upstream{retriesLeft: retries} }

// Tried records a try that has ended or has begun to stream.
func (u *Upstream) Tried(t Try) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.tries = append(u.tries, t)
}

// Tries copies what has been recorded.
func (u *Upstream) Tries() []Try {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]Try(nil), u.tries...)
}

// LastTook is how long the last try took; 0 before there was one.
func (u *Upstream) LastTook() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.tries) == 0 {
		return 0
	}
	return u.tries[len(u.tries)-1].Took
}

// LastOutcome is how the last try ended, "" before there was one.
func (u *Upstream) LastOutcome() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.tries) == 0 {
		return ""
	}
	return u.tries[len(u.tries)-1].Outcome
}

// Full notes that a node was full and tells for how long the call has met such nodes.
func (u *Upstream) Full() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.fullSince.IsZero() {
		u.fullSince = time.Now()
	}
	return time.Since(u.fullSince)
}

// Granted notes which node the call goes to now, and why that one: a word of package schedule.
func (u *Upstream) Granted(node, reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.node, u.reason, u.first, u.atNode = node, reason, 0, true
}

// Answered notes how long the node that the call went to last took to its first frame.
func (u *Upstream) Answered(first time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.first = first
}

// Timing is the time spent waiting for slots so far, and how long the node that the call went to
// last took to its first frame; 0 before it came.
func (u *Upstream) Timing() (queued, first time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.queued, u.first
}

// Traced notes the span of the try that is being made.
func (u *Upstream) Traced(span trace.SpanContext) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.span = span
}

// Span names the span of the last try, for links from those that hear the same answer; not valid
// if nobody traces it.
func (u *Upstream) Span() trace.SpanContext {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.span
}

// AtNode tells whether the call has a slot, or had one when it ended; else it waits for one.
func (u *Upstream) AtNode() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.atNode
}

// Route is where the call went last and why; "" before it went anywhere.
func (u *Upstream) Route() (node, reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.node, u.reason
}

// FailedNodes names the nodes that are not asked again for this call.
func (u *Upstream) FailedNodes() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var names []string
	for _, t := range u.tries {
		if t.Failed {
			names = append(names, t.Node)
		}
	}
	return names
}

// Retry takes one retry and tells whether there was one left.
func (u *Upstream) Retry() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.retriesLeft <= 0 {
		return false
	}
	u.retriesLeft--
	return true
}

// Lost counts a connection that ended without an answer, and tells whether it was the first:
// what closes two may be the request itself (ollama-api 11).
func (u *Upstream) Lost() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lost++
	return u.lost == 1
}

// Told records what a complete answer told of itself.
func (u *Upstream) Told(t wire.Totals) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.totals = t
}

// Totals are those of the answer, zero while it is not complete.
func (u *Upstream) Totals() wire.Totals {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.totals
}

// Queued adds to the time spent waiting for a slot.
func (u *Upstream) Queued(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.queued += d
	u.atNode = false // until Granted
}

// QueueTime is the time spent waiting for slots so far.
func (u *Upstream) QueueTime() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.queued
}

// Waited adds to the time spent waiting for a node to begin its answer, or to end it where nobody
// reads it before its end.
func (u *Upstream) Waited(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waited += d
}

// NodeTime is the time that was spent so.
func (u *Upstream) NodeTime() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.waited
}
