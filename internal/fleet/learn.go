package fleet

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Unreachable tells that a node could not be dialled: it is a Report of Connect.
func (f *Fleet) Unreachable(n *Node, err error) { f.Report(n, Outcome{Kind: Connect, Err: err}) }

// ModelMissing tells that a node answered 404 for a model that it lists. The model is out of
// its inventory until the node lists it anew, and its models are asked again within a second.
func (f *Fleet) ModelMissing(n *Node, key string) {
	if n.lacks(key) {
		f.publish()
	}
	n.want(tags)
}

// Loaded tells that a call for a model was answered with these runner options: the runner is
// known at once, and a node that has come back has proved that it can load. It is cheap when
// nothing is new.
func (f *Fleet) Loaded(n *Node, key string, effective wire.RunnerOptions) {
	f.proved(n)
	if n.loads(key, effective, f.since()) {
		f.publish()
		n.want(ps) // for its size, and for what had to go
	}
}

// Unloaded tells that a node has answered an unload. The node lets a running answer end
// first; if so, its next ps shows the runner again.
func (f *Fleet) Unloaded(n *Node, key string) {
	if n.unloads(key, f.since()) {
		f.publish()
	}
	n.want(ps)
}

// Answered tells that a call got its first byte. It is a passed check, and failures of polls
// that ran meanwhile do not count. A node that is down still shows its inventory before it is
// up; and it ends no ejection. It takes no lock while the node is well.
func (f *Fleet) Answered(n *Node) {
	n.alive.Store(int64(f.since()))
	if n.healthy.Load() {
		return
	}
	n.mu.Lock()
	n.fails = [polls]int{}
	down := !n.health.up
	if down {
		n.passes++
		if n.health.steady.IsZero() {
			n.health.steady = time.Now()
		}
	}
	c := n.settleLocked(f.opts.Load())
	n.mu.Unlock()
	f.tell(c)
	if down {
		n.want(check)
	}
}

// lookWait is how long Lookup waits, and the time between two rounds of it.
const lookWait = time.Second

// A look is one round of Lookup.
type look struct {
	begun   time.Time
	waiting atomic.Int32 // nodes that have not answered, and one for whoever starts it
	done    chan struct{}
}

func (l *look) answered() {
	if l.waiting.Add(-1) == 0 {
		close(l.done)
	}
}

// Lookup asks all nodes that are alive for their models now, because one was asked for that
// nobody lists. It returns when the snapshot shows their answers, when ctx ends, or after a
// second. However often it is called, nodes are asked once a second at most: who comes while
// a round runs shares it, who comes right after it learns nothing new.
func (f *Fleet) Lookup(ctx context.Context) {
	f.looking.Lock()
	l := f.lastLook
	if l == nil || time.Since(l.begun) >= lookWait {
		l = &look{begun: time.Now(), done: make(chan struct{})}
		l.waiting.Store(1)
		f.lastLook = l
		for _, n := range f.configuredNodes() {
			if n.facts.Load().state.Alive() {
				l.waiting.Add(1)
				n.lookFor(tags, l.answered)
			}
		}
		l.answered()
	}
	f.looking.Unlock()

	timer := time.NewTimer(lookWait)
	defer timer.Stop()
	select {
	case <-l.done:
	case <-timer.C:
	case <-ctx.Done():
	case <-f.ctx.Done():
	}
}

// Asked waits for nodes of which nothing is known yet, as a reload may bring them: until the
// snapshot shows what came of their first round, until ctx ends, or for a second.
func (f *Fleet) Asked(ctx context.Context) {
	news := make(chan struct{}, 1)
	defer f.Subscribe(func() {
		select {
		case news <- struct{}{}:
		default:
		}
	})()
	timer := time.NewTimer(lookWait)
	defer timer.Stop()
	for !f.Snapshot().Asked {
		select {
		case <-news:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		case <-f.ctx.Done():
			return
		}
	}
}

// LookAtModels asks a node now for its models, and returns when the snapshot shows them, when ctx
// ends, or after a few seconds.
func (f *Fleet) LookAtModels(ctx context.Context, n *Node) { f.lookAt(ctx, n, tags, modelsWait) }

// modelsWait is longer than lookWait: a node that has just written a model is slow for a moment, and
// whoever was told that the model is there is to see it.
const modelsWait = 3 * time.Second

// LookAtRunners asks a node now what it has loaded, and returns when the snapshot shows it,
// when ctx ends, or after a second.
func (f *Fleet) LookAtRunners(ctx context.Context, n *Node) { f.lookAt(ctx, n, ps, lookWait) }

func (f *Fleet) lookAt(ctx context.Context, n *Node, k poll, wait time.Duration) {
	done := make(chan struct{})
	n.lookFor(k, func() { close(done) })
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	case <-f.ctx.Done():
	}
}

// lookFor has done called after the next poll of a kind.
func (n *Node) lookFor(k poll, done func()) {
	n.mu.Lock()
	n.lookers[k] = append(n.lookers[k], done)
	n.mu.Unlock()
	n.want(nothing)
}
