// Package fleet owns the nodes and what is known of each: its state and speed, which models
// lie on its disk, which runners are loaded, and what the models are.
//
// Each node is polled by one goroutine of its own, so a node that hangs hangs nothing else;
// traffic teaches the rest at once. All of it is read from one immutable Snapshot. fleet
// chooses no node, counts no call and knows nothing of dialects or clients.
//
// Two kinds of evidence make a node's State. Checks tell whether it is there: they take it
// Down and, all alone, bring it back. Calls tell whether it works: too many faults in a row
// eject it, and no passed check ends that, but one call that it answers: after the time that an
// ejection lasts, or sooner if meanwhile it answers for a model that it has loaded. So a node
// that died or hung is back soon, and one that only pretends to be well stays out.
package fleet

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A NodeConfig says how one node is reached.
type NodeConfig struct {
	Name      string            // unique in the fleet; for logs, labels and the admin API
	URL       *url.URL          // scheme and host:port only
	Slots     int               // concurrent generations per runner. Default: 1.
	Transport http.RoundTripper // how it is reached; sets the node's own headers. The caller keeps it alive.
	Key       string            // stands for the transport's settings: equal Name, URL and Key keep the node's state
}

// A Fleet is the nodes as they are now. It is safe for concurrent use.
type Fleet struct {
	log      *slog.Logger
	born     time.Time // what monotonic stamps count from
	snapshot atomic.Pointer[Snapshot]
	opts     atomic.Pointer[Options]
	models   identities

	speeds   speeds
	stirred  chan struct{}             // holds one: the keeper is to look
	replaced func(identities []string) // nil: nobody wants to know
	observer Observer                  // nil: nobody

	ctx    context.Context // the life of every goroutine here
	cancel context.CancelFunc
	wg     sync.WaitGroup

	arranging   sync.Mutex // guards what follows and orders the changes of nodes
	static      []NodeConfig
	discoverers []*discoverer

	mu         sync.Mutex      // guards what follows; only nodes' locks are taken under it
	nodes      []*Node         // replaced, never changed
	drained    map[string]bool // names that Drain was told and Resume not
	configured bool            // and every discovery of the configuration has looked once
	keeping    bool
	closed     bool

	ejecting sync.Mutex // held from counting the ejected nodes to ejecting one more

	building sync.Mutex // guards what follows and orders the snapshots
	built    build
	ready    chan struct{} // closed by the first snapshot that is Ready

	subscribing sync.Mutex // guards what follows
	subscribers map[*func()]struct{}

	looking  sync.Mutex // guards what follows
	lastLook *look
}

// New returns a fleet without nodes. Close must be called to end its goroutines.
func New(log *slog.Logger) *Fleet {
	f := &Fleet{
		log: log, born: time.Now(), ready: make(chan struct{}), subscribers: make(map[*func()]struct{}),
		stirred: make(chan struct{}, 1), drained: make(map[string]bool),
	}
	f.speeds.models = make(map[string]*paces)
	f.ctx, f.cancel = context.WithCancel(context.Background())
	f.models.known = make(map[string]*shown)
	f.models.pending = make(map[string]bool)
	opts := Options{}.withDefaults()
	f.opts.Store(&opts)
	f.snapshot.Store(&Snapshot{Models: map[string]*Model{}})
	return f
}

// Configure sets what the fleet is from now on. A node whose Name, URL and Key are those of
// one there is already keeps that one's pointer, state and polls; it takes over the new slots
// and transport. Nodes no longer named are polled no more and leave the snapshot; they finish
// their calls. Nodes that opts.Discover finds come after those named here; what was found by
// the same name before is there at once. After Close it does nothing.
func (f *Fleet) Configure(nodes []NodeConfig, opts Options) {
	opts = opts.withDefaults()
	f.arranging.Lock()
	f.mu.Lock()
	closed := f.closed
	if !closed && !f.keeping {
		f.keeping = true
		f.wg.Go(func() { f.keep(f.ctx) }) // ends with Close
	}
	f.mu.Unlock()
	if closed {
		f.arranging.Unlock()
		return
	}
	f.opts.Store(&opts)
	f.static = slices.Clone(nodes)
	old := f.replaceDiscoverersLocked(opts)
	for _, d := range old {
		d.cancel()
	}
	f.arrangeLocked()
	for _, d := range f.discoverers {
		var ctx context.Context
		ctx, d.cancel = context.WithCancel(f.ctx)
		f.launch(func() { f.discover(ctx, d) }) // ends with the next Configure, or with Close
	}
	f.arranging.Unlock()
	f.publish()
	f.stir()
	for _, d := range old {
		d.dismiss(slices.Collect(maps.Values(d.nodes)))
	}
}

// launch starts a goroutine that Close waits for, unless Close has begun.
func (f *Fleet) launch(run func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.wg.Go(run)
	}
}

// arrangeLocked makes the nodes those of the configuration and the discoverers. It is for the
// caller to publish them. arranging is held.
func (f *Fleet) arrangeLocked() {
	configs, looked := f.configsLocked()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.configured = looked
	left := make(map[nodeKey][]*Node, len(f.nodes))
	for _, n := range f.nodes {
		left[n.key] = append(left[n.key], n)
	}
	next := make([]*Node, 0, len(configs))
	for _, c := range configs {
		key := keyOf(c)
		if kept := left[key]; len(kept) > 0 {
			n := kept[0]
			left[key] = kept[1:]
			n.configure(c)
			n.want(nothing) // it looks at the new intervals
			next = append(next, n)
			continue
		}
		n := NewNode(c)
		if f.drained[n.Name()] {
			n.health.draining = true
			n.settleLocked(f.opts.Load()) // nobody else knows it yet
		}
		ctx, cancel := context.WithCancel(f.ctx)
		n.life, n.end = ctx, cancel
		p := &poller{fleet: f, node: n}
		f.wg.Go(func() { p.run(ctx) }) // ends when the node is removed, or with Close
		next = append(next, n)
	}
	f.nodes = next
	f.mu.Unlock()

	var gone []*Node
	for _, nodes := range left {
		gone = append(gone, nodes...)
	}
	for _, n := range gone {
		n.end()
	}
	f.speeds.forgetNodes(gone)
}

// Close ends all polls and lookups and waits for them. The last snapshot stays.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
	f.arranging.Lock()
	old := f.discoverers
	f.discoverers = nil
	f.arranging.Unlock()
	for _, d := range old {
		d.dismiss(slices.Collect(maps.Values(d.nodes)))
	}
}

// Snapshot is what is known now. It is never nil and never changes.
func (f *Fleet) Snapshot() *Snapshot { return f.snapshot.Load() }

// Ready waits for the first inventory: until every configured node has answered or failed its
// first round of polls, which takes three Timeouts at most, after the first lookup of each
// Discovery, which takes five seconds at most. Once ready, a fleet stays ready.
// The error is that of ctx.
func (f *Fleet) Ready(ctx context.Context) error {
	select {
	case <-f.ready:
		return nil
	default:
	}
	select {
	case <-f.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Subscribe has fn called after each new snapshot, outside any lock and possibly by several
// goroutines at once. It must be quick. cancel may be called more than once; a call that had
// begun before may still end after it.
func (f *Fleet) Subscribe(fn func()) (cancel func()) {
	f.subscribing.Lock()
	defer f.subscribing.Unlock()
	key := &fn
	f.subscribers[key] = struct{}{}
	return func() {
		f.subscribing.Lock()
		defer f.subscribing.Unlock()
		delete(f.subscribers, key)
	}
}

// OnReplaced has fn told of identities that a node has something else for, before a snapshot shows
// it. It must be quick. It is for the time before the fleet is configured.
func (f *Fleet) OnReplaced(fn func(identities []string)) { f.replaced = fn }

// publish makes a snapshot of what is known now, tells the subscribers, and has models asked
// for that are new in it. No lock may be held.
func (f *Fleet) publish() {
	f.building.Lock()
	f.mu.Lock()
	nodes, configured := f.nodes, f.configured
	f.mu.Unlock()
	s, relisted, replaced := f.built.next(nodes, configured, &f.models)
	if len(replaced) > 0 && f.replaced != nil {
		f.replaced(replaced)
	}
	was := f.snapshot.Load()
	f.snapshot.Store(s)
	if s.Ready && !was.Ready {
		close(f.ready)
	}
	f.building.Unlock()

	f.subscribing.Lock()
	subscribers := make([]func(), 0, len(f.subscribers))
	for fn := range f.subscribers {
		subscribers = append(subscribers, *fn)
	}
	f.subscribing.Unlock()
	for _, fn := range subscribers {
		fn()
	}
	if relisted {
		f.identify()
	}
}

// configuredNodes are the nodes of now, in configured order.
func (f *Fleet) configuredNodes() []*Node {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes
}

// since is the age of the fleet: a stamp that no step of the wall clock disturbs.
func (f *Fleet) since() time.Duration { return time.Since(f.born) }
