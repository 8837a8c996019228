package schedule

import (
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A room is what has been learned of a node's memory: no API tells it. What was loaded there
// together fits; what made the node evict something does not.
type room struct {
	heldBytes, fullBytes int64 // full is 0 while unknown
	heldCount, fullCount int
}

type answer uint8

const (
	no answer = iota
	perhaps
	yes
)

// fits tells whether so many models of so many bytes fit. bytes may be too small, where sizes
// are not known.
func (r *room) fits(bytes int64, count int) answer {
	switch {
	case bytes <= r.heldBytes && count <= r.heldCount:
		return yes
	case r.fullBytes > 0 && bytes >= r.fullBytes, r.fullCount > 0 && count >= r.fullCount:
		return no
	}
	return perhaps
}

// held learns that so much is loaded.
func (r *room) held(bytes int64, count int) {
	r.heldBytes, r.heldCount = max(r.heldBytes, bytes), max(r.heldCount, count)
	if r.fullBytes > 0 && r.heldBytes >= r.fullBytes {
		r.fullBytes = 0
	}
	if r.fullCount > 0 && r.heldCount >= r.fullCount {
		r.fullCount = 0
	}
}

// full learns that so much did not fit.
func (r *room) full(bytes int64, count int) {
	moreBytes, moreCount := bytes > r.heldBytes, count > r.heldCount
	switch {
	case moreBytes: // memory is what mostly runs out
		if r.fullBytes == 0 || bytes < r.fullBytes {
			r.fullBytes = bytes
		}
	case moreCount:
		if r.fullCount == 0 || count < r.fullCount {
			r.fullCount = count
		}
	default:
		// It did fit once: something else has taken the memory.
		*r = room{fullBytes: bytes, fullCount: count}
	}
}

// learnRoomLocked compares what the node has loaded after an order with what it had before.
func (q *Queue) learnRoomLocked(snap *fleet.Snapshot, b *book, o *Order) {
	v := viewOf(snap, o.Node)
	if v == nil {
		return
	}
	var bytes, size int64
	count := 0
	for i := range v.Runners {
		bytes += v.Runners[i].Size
		count++
		if v.Runners[i].Key == o.Model {
			size = v.Runners[i].Size
		}
	}
	if count > 0 && count < o.count+1 {
		// Something went that was not told to: the node had to evict.
		b.room.full(o.bytes+size, o.count+1)
	}
	b.room.held(bytes, count)
}

// observeLocked learns sizes and what fits from a new snapshot.
func (q *Queue) observeLocked(snap *fleet.Snapshot) {
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if b := q.books[v.Node]; b != nil {
			b.forgetRunnersLocked(v)
		}
		if len(v.Runners) == 0 {
			continue
		}
		var bytes int64
		known := true
		for j := range v.Runners {
			r := &v.Runners[j]
			bytes += r.Size
			if r.Size > 0 {
				q.sizes[r.Key] = r.Size
			} else {
				known = false
			}
		}
		if b := q.books[v.Node]; known && b != nil && b.order == nil {
			b.room.held(bytes, len(v.Runners))
		}
	}
}

func viewOf(snap *fleet.Snapshot, n *fleet.Node) *fleet.NodeView {
	i := slices.IndexFunc(snap.Nodes, func(v fleet.NodeView) bool { return v.Node == n })
	if i < 0 {
		return nil
	}
	return &snap.Nodes[i]
}

// A Preload is a model that is kept loaded on a node.
type Preload struct {
	Node    string             // its name
	Model   string             // key of its name
	Options wire.RunnerOptions // over the model's own
}

// forever is the keep_alive of what is kept loaded.
var forever = time.Duration(-1)

// preloadedLocked tells whether a model is to be kept on a node.
func (q *Queue) preloadedLocked(n *fleet.Node, model string) bool {
	return slices.ContainsFunc(q.opts.Preloads, func(p Preload) bool { return p.Node == n.Name() && p.Model == model })
}

// failedOfLate tells whether a load has failed a moment ago: a preload waits for nothing, so it
// is tried again after a while only.
func (q *Queue) failedOfLate(b *book, key runnerKey) bool {
	f, ok := b.failed[key]
	return ok && time.Since(f.at) < preloadAgain
}

const preloadAgain = 30 * time.Second

// preloadLocked orders what is to be kept loaded and is not.
func (q *Queue) preloadLocked(snap *fleet.Snapshot) {
	if q.loader == nil || q.stopping {
		return
	}
	for _, p := range q.opts.Preloads {
		m := snap.Models[p.Model]
		if m == nil {
			continue
		}
		for i := range snap.Nodes {
			v := &snap.Nodes[i]
			if v.Node.Name() != p.Node || !v.Usable() || v.Trial() || v.Full || !slices.Contains(m.Nodes, v.Node) {
				continue
			}
			key := runnerKey{model: m.Key, options: p.Options}
			if r, ok := v.Runner(m); ok && r.Matches(p.Options, p.Options.Over(m.Parameters)) {
				continue
			}
			b := q.bookLocked(v.Node)
			if b.order != nil || b.loading != nil || b.busy(m.Key) || q.failedOfLate(b, key) {
				continue // it is looked at again with the next snapshot
			}
			if place, ok := q.placeOnLocked(snap, v, m, false); ok {
				q.orderLocked(&place, m, key, &forever, ReasonPreload)
			}
		}
	}
}
