package simnode

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// errQueueFull is the answer to a request that needs a load when MaxQueue others wait already.
var errQueueFull = errors.New("server busy, please try again.  maximum pending requests exceeded")

// A loadError is a load that failed by itself; its text is the model's LoadError.
type loadError struct{ text string }

func (e *loadError) Error() string { return e.text }

// turns is the queue of the requests whose model must be loaded or reloaded. They are served strictly one at a time,
// in order: one that waits for a busy model to finish holds up all behind it, also those for other models.
type turns struct {
	taken   bool
	waiting []chan struct{} // in order; a turn begins when its channel is closed
}

// acquire returns a runner for the model with the runner options, loading it first if need be. The caller must give
// it back with release. keepAlive, when set, replaces what the runner was told before.
//
// The load belongs to the caller: when ctx ends, it is thrown away, and whoever waits next starts it anew.
func (n *Node) acquire(ctx context.Context, m *installed, opts api.Runner, keepAlive *api.Duration) (*runner, error) {
	opts.NumCtx = max(opts.NumCtx, 4) // a real node's own floor
	if troublesOf(ctx).busy {
		return nil, n.refused()
	}
	n.mu.Lock()
	if r := n.usableLocked(m, opts); r != nil {
		r.useLocked(keepAlive)
		n.mu.Unlock()
		return r, nil
	}
	turn, err := n.queueLocked()
	n.mu.Unlock()
	if err != nil {
		return nil, err
	}
	select {
	case <-turn:
	case <-ctx.Done():
		n.endTurn(turn)
		return nil, context.Cause(ctx)
	}
	defer n.endTurn(turn)
	for {
		n.mu.Lock()
		if r := n.usableLocked(m, opts); r != nil { // who was served before loaded it
			r.useLocked(keepAlive)
			n.mu.Unlock()
			return r, nil
		}
		victim := n.victimLocked(m, opts)
		if victim == nil {
			n.mu.Unlock()
			return n.load(ctx, m, opts, keepAlive)
		}
		victim.evict = true
		victim.expireLocked()
		n.mu.Unlock()
		select {
		case <-victim.gone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// usableLocked returns the runner that can take the request as it is: of the same weights, loaded with the same
// runner options. A negative num_gpu leaves the choice to the node and never differs.
func (n *Node) usableLocked(m *installed, opts api.Runner) *runner {
	r := n.runners[m.Weights]
	if r == nil {
		return nil
	}
	had := r.opts
	if opts.NumGPU < 0 {
		had.NumGPU = opts.NumGPU
	}
	sameMap := (had.UseMMap == nil) == (opts.UseMMap == nil) && (had.UseMMap == nil || *had.UseMMap == *opts.UseMMap)
	had.UseMMap, opts.UseMMap = nil, nil
	if !sameMap || had != opts {
		return nil
	}
	return r
}

// queueLocked takes a place in the queue of loads; the channel is closed when it is the caller's turn.
func (n *Node) queueLocked() (chan struct{}, error) {
	turn := make(chan struct{})
	switch {
	case !n.turns.taken:
		n.turns.taken = true
		close(turn)
	case len(n.turns.waiting) >= n.opts.MaxQueue:
		n.stats.Refused++
		return nil, errQueueFull
	default:
		n.turns.waiting = append(n.turns.waiting, turn)
	}
	n.stats.Queue++
	n.stats.PeakQueue = max(n.stats.PeakQueue, n.stats.Queue)
	return turn, nil
}

// endTurn ends the caller's turn, or takes its place in the queue back when the turn has not come.
func (n *Node) endTurn(turn chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Queue--
	if i := slices.Index(n.turns.waiting, turn); i >= 0 {
		n.turns.waiting = slices.Delete(n.turns.waiting, i, i+1)
		return
	}
	if len(n.turns.waiting) == 0 {
		n.turns.taken = false
		return
	}
	close(n.turns.waiting[0])
	n.turns.waiting = slices.Delete(n.turns.waiting, 0, 1)
}

// victimLocked returns the runner that has to go before the model can be loaded, or nil. It is the model's own when
// that must be reloaded; else, when there is no room, an idle one with the shortest keep-alive, or the one with the
// shortest of all when none is idle.
func (n *Node) victimLocked(m *installed, opts api.Runner) *runner {
	if r := n.runners[m.Weights]; r != nil {
		return r
	}
	if len(n.runners) == 0 {
		return nil
	}
	if len(n.runners) < n.opts.MaxLoaded && n.fitsLocked(m, opts) {
		return nil
	}
	all := make([]*runner, 0, len(n.runners))
	for _, r := range n.runners {
		all = append(all, r)
	}
	return slices.MinFunc(all, func(a, b *runner) int {
		return cmp.Or(
			cmp.Compare(min(a.refs, 1), min(b.refs, 1)),
			cmp.Compare(a.keepAlive, b.keepAlive),
			cmp.Compare(a.model.Weights, b.model.Weights)) // by model file, as a real node does
	})
}

func (n *Node) fitsLocked(m *installed, opts api.Runner) bool {
	if n.opts.VRAM <= 0 {
		return true
	}
	used := m.memory(opts.NumCtx, n.slotsOf(m)) + n.stats.Orphaned
	for _, r := range n.runners {
		used += r.memory
	}
	return used <= n.opts.VRAM
}

// load loads the model while it is the caller's turn.
func (n *Node) load(ctx context.Context, m *installed, opts api.Runner, keepAlive *api.Duration) (*runner, error) {
	if opts.NumThread > mostThreads {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	if err := pass(ctx, n.scaled(ctx, m.LoadTime)); err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if text := cmp.Or(troublesOf(ctx).loadFails, m.LoadError, batchError(opts.NumBatch)); text != "" {
		n.stats.LoadsFailed++
		return nil, &loadError{text}
	}
	if ctx.Err() != nil || n.closed || n.down {
		return nil, cmp.Or(context.Cause(ctx), errDied)
	}
	r := newRunner(n, m, opts)
	n.runners[m.Weights] = r
	n.stats.Loads++
	r.useLocked(keepAlive)
	return r, nil
}

// refused counts a request that found the queue full.
func (n *Node) refused() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.Refused++
	return errQueueFull
}

// mostThreads is from where on a load has no end: 100000 threads had not begun to answer after 25 s, and held up the
// loads of all other models.
const mostThreads = 10000

// batchError is how a load with a batch that is too small fails on a real node, whose last words are cut at random.
func batchError(size int) string {
	switch {
	case size == 0:
		return "llama runner process has terminated: llama_init_from_model: n_batch and n_ubatch cannot both be zero\npanic:"
	case size < 0:
		return "llama runner process has terminated: " + signal
	}
	return ""
}

// expire is an unload request: the runner takes no keep-alive any more and goes when it is idle, at once if it is.
// Requests that come before that are still served.
func (n *Node) expire(m *installed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if r := n.runners[m.Weights]; r != nil {
		r.expiresAt = now()
		r.expireLocked()
	}
}

const forever = time.Duration(1<<63 - 1)
