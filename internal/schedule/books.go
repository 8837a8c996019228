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
	loading  *use               // the runner that a grant is loading now
	trial    *Grant             // the one call that tries a node which is half open
}

// A runnerKey tells runners of one node apart, as the node does: by model and runner
// options.
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

	queue    *Queue
	use      *use
	released atomic.Bool
	began    time.Time   // of a trial
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
	ready := q.dispatchLocked(snap)
	q.mu.Unlock()
	deliver(ready)
}

// trialWait is how long the call that tries a node is waited for by others that have nowhere
// else to go: it may have to load a model, or meet nobody who answers.
const trialWait = 10 * time.Second

// placeLocked gives a call a slot if a node has one for it: (nil, nil) if it must wait,
// ErrNoNode if no node could ever serve it as things stand. Only if no other node could serve
// it, one that is ejected is tried. held are nodes that an earlier call waits to become idle,
// because it needs the same model with other options there; nil if nobody waits.
func (q *Queue) placeLocked(snap *fleet.Snapshot, ask *Ask, held map[*fleet.Node]*Ask) (*Grant, error) {
	m := snap.Models[ask.Model]
	if m == nil {
		return nil, ErrNoNode
	}
	key := runnerKey{model: m.Key, options: ask.Effective}
	var (
		room     [16]Candidate // on the stack for the usual fleet
		free     = room[:0]
		possible = 0
		trial    Candidate   // a node that is half open; its Node is nil if there is none
		resort   Candidate   // one that is ejected
		tried    = false     // one of either is being tried
		wait     *fleet.Node // where a reload would be possible soonest
		waitFor  int
	)
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if !slices.Contains(m.Nodes, v.Node) || slices.Contains(ask.Exclude, v.Node.Name()) {
			continue
		}
		if !v.Usable() && !v.LastResort {
			continue
		}
		if v.Trial() {
			if g := q.trialLocked(v.Node); g != nil {
				tried = tried || time.Since(g.began) < trialWait
				continue
			}
		}
		c, isFree, busy := q.candidateLocked(v, m, key, ask)
		if v.LastResort {
			if isFree {
				resort = c
			}
			continue
		}
		possible++
		if busy > 0 {
			if held[v.Node] == nil && (wait == nil || busy < waitFor) {
				wait, waitFor = v.Node, busy
			}
			continue
		}
		if !isFree {
			continue
		}
		if h := held[v.Node]; h != nil && h.Model == ask.Model {
			continue
		}
		if v.Trial() {
			trial = c
			continue
		}
		free = append(free, c)
	}
	switch {
	case possible > 0:
	case resort.Node != nil:
		return q.tryLocked(resort, key), nil
	case tried:
		return nil, nil
	default:
		return nil, ErrNoNode
	}
	// A node is tried by the next call, however near others have the model, or it might be left
	// out for ever; but not by one that has met a fault already, if it need not.
	if trial.Node != nil && (len(ask.Exclude) == 0 || len(free) == 0) {
		g := q.tryLocked(trial, key)
		g.Others = possible - 1
		return g, nil
	}
	if len(free) == 0 {
		if wait != nil && held != nil {
			held[wait] = ask
		}
		return nil, nil
	}
	g := q.grantLocked(free[q.choose(free)], key)
	g.Others = possible - 1
	return g, nil
}

// candidateLocked judges one node that has the model: whether a slot is free. busy counts the
// answers that must end before the model can be loaded there with other options: a node
// would let such a request wait for them and block all loads behind it (ollama-api 9).
func (q *Queue) candidateLocked(v *fleet.NodeView, m *fleet.Model, key runnerKey, ask *Ask) (c Candidate, isFree bool, busy int) {
	slots := v.Node.Slots()
	if ask.Embedding {
		slots = 1
	}
	c = Candidate{Node: v.Node, Residency: Cold, InFlight: v.Load, Slots: slots, Weight: v.Weight(m.Key)}
	if r, ok := v.Runner(m); ok {
		c.Residency = Reload
		if r.Matches(ask.Requested, ask.Effective) {
			c.Residency = Resident
		}
	}
	b := q.books[v.Node]
	switch {
	case v.Full:
		return c, false, 0
	case b == nil:
		return c, true, 0
	}
	c.InFlight += b.inFlight
	if limit, ok := v.Limit(); ok && b.inFlight >= limit {
		return c, false, 0
	}
	own := b.runners[key]
	if own != nil && own.inFlight >= slots {
		return c, false, 0
	}
	if b.loading != nil && b.loading != own && (c.Residency != Resident || b.loading.key.model == key.model) {
		return c, false, 0 // it loads something else, or just this model otherwise
	}
	if c.Residency == Resident {
		return c, true, 0
	}
	for k, u := range b.runners {
		if k.model == key.model && u != own {
			busy += u.inFlight
		}
	}
	if busy > 0 {
		return c, false, busy
	}
	return c, true, 0
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
	g.began, g.late = time.Now(), time.AfterFunc(trialWait, q.fleetChanged)
	q.books[g.Node].trial = g
	return g
}

func (q *Queue) grantLocked(c Candidate, key runnerKey) *Grant {
	b := q.books[c.Node]
	if b == nil {
		b = &book{runners: make(map[runnerKey]*use)}
		q.books[c.Node] = b
	}
	u := b.runners[key]
	if u == nil {
		u = &use{key: key}
		b.runners[key] = u
	}
	b.inFlight++
	u.inFlight++
	if c.Residency != Resident {
		b.loading = u
	}
	return &Grant{Node: c.Node, Residency: c.Residency, queue: q, use: u}
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
