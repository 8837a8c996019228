package schedule

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A book keeps what was granted of one node.
type book struct {
	inFlight int                // grants not yet released
	runners  map[runnerKey]*use // those with grants
	order    *Order             // the load under way
	loading  *use               // the runner that a grant is loading now, being sent as it is
	trial    *Grant             // the one call that tries a node which is half open or ejected
	failed   map[runnerKey]failure
	used     map[string]time.Time // when a model was granted last, by key
	speeds   map[string]Speed     // by key of the model
	known    map[string]*known    // by key of the model: a node has one runner of it, and each load begins anew
	room     room

	loads []LoadRecord // the last few
	again int          // loads of what had been in use a moment before

	laterSince time.Time // since when it has no room for loads; zero: it has
}

func (q *Queue) bookLocked(n *fleet.Node) *book {
	b := q.books[n]
	if b == nil {
		b = &book{
			runners: make(map[runnerKey]*use), used: make(map[string]time.Time),
			speeds: make(map[string]Speed), known: make(map[string]*known),
		}
		q.books[n] = b
	}
	return b
}

// busy tells whether answers of a model run.
func (b *book) busy(model string) bool {
	if b == nil {
		return false
	}
	for k := range b.runners {
		if k.model == model {
			return true
		}
	}
	return false
}

// failedLocked is the error with which a load failed for which a call has waited; nil if none
// did. Who comes later has it tried again.
func (b *book) failedLocked(key runnerKey, w *waiter) error {
	if b == nil {
		return nil
	}
	f, ok := b.failed[key]
	if !ok || !isPlain(f.err) && (w == nil || w.sequence > f.sequence) || time.Now().After(f.until) {
		return nil
	}
	return f.err
}

// A runnerKey tells runners of one node apart, as the node does: by model and runner options.
// They are those that requests set: the model's own may become known while calls are on their
// way.
type runnerKey struct {
	model   string
	options wire.RunnerOptions
}

type use struct {
	key      runnerKey
	inFlight int
}

// A Grant is the permission to use one slot of one node.
type Grant struct {
	Node *fleet.Node
	// Residency is what was known of the model there when the grant was given.
	Residency Residency
	// Others is how many other nodes could serve the call, had this one not been given.
	Others int
	Reason string // why this node: see the Choice constants

	queue  *Queue
	use    *use
	beside int // calls on the node when it began, itself among them
	bytes  int // of its prompt, and how many of them the node knew
	known  int

	served      bool // it was answered to the end
	totals      wire.Totals
	first, took time.Duration

	released atomic.Bool
	began    time.Time
	late     *time.Timer // of a trial: wakes who has waited for it
}

// Loaded tells that the model is loaded: the node has begun to answer, so that it may load
// another one.
func (g *Grant) Loaded() {
	if g.Residency != Resident {
		g.queue.settle(g, func(b *book) { g.loadedLocked(b) })
	}
}

func (g *Grant) loadedLocked(b *book) {
	if b.loading == g.use {
		b.loading = nil
	}
}

// Release gives the slot back. Only the first call counts. What the call has shown of the
// node must have been reported to the fleet before: a node that is half open may be given its
// next call by this one.
func (g *Grant) Release() {
	if g.released.Swap(true) {
		return
	}
	g.queue.settle(g, func(b *book) {
		if g.served {
			g.queue.learnLocked(b, g)
		}
		b.inFlight--
		g.use.inFlight--
		if b.trial == g {
			b.trial = nil
			g.late.Stop()
		}
		if g.use.inFlight == 0 {
			g.loadedLocked(b) // nobody is left who could be loading it
			delete(b.runners, g.use.key)
		}
	})
}

// settle changes a node's book and grants what that makes possible.
func (q *Queue) settle(g *Grant, change func(*book)) {
	q.mu.Lock()
	if b := q.books[g.Node]; b != nil {
		change(b)
	}
	snap := q.fleet.Snapshot()
	q.forgetLocked(snap)
	q.unlock(q.dispatchLocked(snap))
}

// trialLocked is the call that tries a node, nil if none does.
func (q *Queue) trialLocked(n *fleet.Node) *Grant {
	if b := q.books[n]; b != nil {
		return b.trial
	}
	return nil
}

// tryLocked grants the one call that tries a node.
func (q *Queue) tryLocked(c Candidate, key runnerKey) *Grant {
	g := q.grantLocked(c, key)
	g.late = time.AfterFunc(trialWait, q.fleetChanged)
	g.Reason = ChoiceTrial
	q.books[g.Node].trial = g
	return g
}

func (q *Queue) grantLocked(c Candidate, key runnerKey) *Grant {
	b := q.bookLocked(c.Node)
	u := b.runners[key]
	if u == nil {
		u = &use{key: key}
		b.runners[key] = u
	}
	b.inFlight++
	u.inFlight++
	if c.Residency != Resident {
		b.loading = u
		delete(b.known, key.model)
	}
	now := time.Now()
	b.used[key.model] = now
	return &Grant{Node: c.Node, Residency: c.Residency, queue: q, use: u, began: now, beside: b.inFlight, known: c.Known}
}

// forgetLocked drops the books of nodes that have left the fleet and are idle.
func (q *Queue) forgetLocked(snap *fleet.Snapshot) {
	if len(q.books) <= len(snap.Nodes) {
		return
	}
	for n, b := range q.books {
		if b.inFlight == 0 && !slices.ContainsFunc(snap.Nodes, func(v fleet.NodeView) bool { return v.Node == n }) {
			delete(q.books, n)
		}
	}
}

// InFlight is the number of calls that hold a slot of the node.
func (q *Queue) InFlight(n *fleet.Node) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if b := q.books[n]; b != nil {
		return b.inFlight
	}
	return 0
}
