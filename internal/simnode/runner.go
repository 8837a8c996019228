package simnode

import (
	"context"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A runner is a model that is loaded with certain options. The node's mutex guards the fields that change.
type runner struct {
	node    *Node
	model   *installed
	name    name // the name it was loaded under; /api/ps shows this one
	opts    api.Runner
	context int   // tokens a slot holds: num_ctx within the trained length
	memory  int64 // bytes
	vram    int64 // bytes of memory that are on the GPU

	gone chan struct{}   // closed when the runner has been unloaded, or has died
	life context.Context // ends when it crashes, with that as its cause
	end  context.CancelCauseFunc

	// What follows changes.
	dropped   bool // it crashed, or its node died
	refs      int  // requests that use it, those waiting for a slot included
	keepAlive time.Duration
	expiresAt time.Time // zero until it was idle for the first time
	timer     *time.Timer
	evict     bool        // somebody needs its place
	counts    *ModelStats // nil until it is asked something
	free      []*slot
	forgotten promptCache  // by the slots
	waiting   []chan *slot // in order; buffered, so that a slot can be handed over under the mutex
}

// A slot is one answer at a time and the prefix cache of those before.
type slot struct {
	cache []int // tokens whose state it holds
}

func (n *Node) slotsOf(m *installed) int {
	if m.embedsOnly() {
		return 1
	}
	return n.opts.Slots
}

func newRunner(n *Node, m *installed, opts api.Runner) *runner {
	r := &runner{
		node:      n,
		model:     m,
		name:      m.name,
		opts:      opts,
		context:   min(opts.NumCtx, m.ContextLength),
		keepAlive: n.opts.KeepAlive,
		gone:      make(chan struct{}),
	}
	r.life, r.end = context.WithCancelCause(context.Background())
	r.memory = m.memory(r.context, n.slotsOf(m))
	if n.opts.VRAM > 0 {
		room := n.opts.VRAM - n.stats.Orphaned
		for _, other := range n.runners {
			room -= other.vram
		}
		r.vram = max(0, min(r.memory, room))
	}
	r.forgotten.most = n.opts.PromptCache
	for range n.slotsOf(m) {
		r.free = append(r.free, new(slot))
	}
	return r
}

// memory is what a runner with that many tokens of context in each slot takes, in bytes.
func (m Model) memory(context, slots int) int64 {
	return m.Memory + m.CacheBytes*int64(min(context, m.ContextLength))*int64(slots)
}

// useLocked books one request on the runner. A request that gives no keep-alive keeps what was said before.
func (r *runner) useLocked(keepAlive *api.Duration) {
	r.refs++
	r.disarmLocked()
	if keepAlive != nil {
		r.keepAlive = keepAlive.Duration
	}
}

// release ends one request's use. The keep-alive starts when the last one ends.
func (r *runner) release() {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	if r.refs--; r.refs > 0 || r.dropped {
		return
	}
	if r.keepAlive <= 0 || r.evict {
		r.unloadLocked()
		return
	}
	r.expiresAt = now().Add(r.keepAlive)
	if r.keepAlive == forever || r.node.closed {
		return
	}
	r.node.running.Add(1) // given back by the timer, or by disarmLocked when that stops it
	var t *time.Timer
	t = time.AfterFunc(r.keepAlive, func() {
		defer r.node.running.Done()
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		if r.timer == t { // else somebody has begun to use it
			r.timer = nil
			r.unloadLocked()
		}
	})
	r.timer = t
}

func (r *runner) disarmLocked() {
	if r.timer != nil && r.timer.Stop() {
		r.node.running.Done()
	}
	r.timer = nil
}

// expireLocked lets the runner go as soon as nobody uses it.
func (r *runner) expireLocked() {
	r.keepAlive = 0
	r.disarmLocked()
	if r.refs == 0 {
		r.unloadLocked()
	}
}

func (r *runner) unloadLocked() {
	if r.node.runners[r.model.Weights] != r {
		return
	}
	delete(r.node.runners, r.model.Weights)
	close(r.gone)
	if r.evict {
		r.node.stats.Evictions++
	} else {
		r.node.stats.Expired++
	}
}

// slot waits for a slot, in order and without bound, and takes it with the prompt's longest known prefix among the
// free ones. It returns how many of the tokens the slot has in its cache. The caller gives it back with giveBack.
func (r *runner) slot(ctx context.Context, tokens []int) (s *slot, cached int, err error) {
	n := r.node
	n.mu.Lock()
	stats := r.countsLocked()
	if len(r.free) > 0 {
		best := slices.MaxFunc(r.free, func(a, b *slot) int {
			return commonPrefix(a.cache, tokens) - commonPrefix(b.cache, tokens)
		})
		r.free = slices.DeleteFunc(r.free, func(s *slot) bool { return s == best })
		cached = r.takeLocked(stats, best, tokens)
		n.mu.Unlock()
		return best, cached, nil
	}
	handed := make(chan *slot, 1)
	r.waiting = append(r.waiting, handed)
	stats.Waiting++
	stats.PeakWaiting = max(stats.PeakWaiting, stats.Waiting)
	n.mu.Unlock()

	select {
	case s = <-handed:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	stats.Waiting--
	if err == nil {
		return s, r.takeLocked(stats, s, tokens), nil
	}
	if n.clientLeftLocked(err) {
		stats.Cancelled++
	}
	if i := slices.Index(r.waiting, handed); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	} else {
		r.passOnLocked(<-handed) // it was handed over in the same moment
	}
	return nil, 0, err
}

func (r *runner) countsLocked() *ModelStats {
	if r.counts == nil {
		r.counts = r.node.modelStatsLocked(r.name.short())
	}
	return r.counts
}

func (r *runner) takeLocked(stats *ModelStats, s *slot, tokens []int) (cached int) {
	stats.Answers++
	stats.startLocked()
	r.forgotten.exchange(s, tokens)
	if cached = commonPrefix(s.cache, tokens); cached*2 >= len(tokens) {
		r.node.stats.PrefixHits++
	}
	return cached
}

// giveBack returns a slot that now has the tokens in its cache, to whoever waits the longest.
func (r *runner) giveBack(s *slot, tokens []int) {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	s.cache = tokens
	r.countsLocked().endLocked()
	r.passOnLocked(s)
}

func (r *runner) passOnLocked(s *slot) {
	if len(r.waiting) == 0 {
		r.free = append(r.free, s)
		return
	}
	r.waiting[0] <- s
	r.waiting = slices.Delete(r.waiting, 0, 1)
}

// slotGain is how much of a whole answer's speed each further answer adds to a runner's: four answers took 9.3 s on one
// slot and 7.6 s on two, on a real node.
const slotGain = 0.22

// slowdown is the factor by which a token takes longer now than if its answer were alone.
func (r *runner) slowdown() float64 {
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	k := float64(r.countsLocked().Running)
	return max(1, k/(1+slotGain*(k-1)))
}

func commonPrefix(a, b []int) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
