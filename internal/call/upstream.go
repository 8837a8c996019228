package call

import (
	"sync"
	"time"
)

// An Upstream is what was tried for a call. All followers of a flight share it, a single
// answer that is asked again goes on with it, and settle reads it. Safe for concurrent use.
type Upstream struct {
	mu          sync.Mutex // guards what follows
	tries       []Try
	retriesLeft int
	queued      time.Duration
}

// A Try is one request to one node.
type Try struct {
	Node    string // its name
	Outcome string // a word of package attempt
	Failed  bool   // the node is to blame, or busy: another one is asked next
	Took    time.Duration
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

// Queued adds to the time spent waiting for a slot.
func (u *Upstream) Queued(d time.Duration) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.queued += d
}

// QueueTime is the time spent waiting for slots so far.
func (u *Upstream) QueueTime() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.queued
}
