// Package fleet owns the nodes and what is known of each: whether it is up, which models lie
// on its disk, which runners are loaded, and what the models are.
//
// Each node is polled by one goroutine of its own, so a node that hangs hangs nothing else;
// traffic teaches the rest at once. All of it is read from one immutable Snapshot. fleet
// chooses no node, counts no call and knows nothing of dialects or clients.
package fleet

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
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

// Options say how nodes are polled.
type Options struct {
	// Interval is the time between version checks of a node, jittered by a tenth. While its
	// state is about to change it is checked every second, if that is sooner. Default: 5s.
	Interval time.Duration
	// Timeout is how long one poll may take. Default: 2s.
	Timeout time.Duration
	// Passes is how many checks in a row bring a down node up. The first check of a new node
	// counts alone. Default: 2.
	Passes int
	// Fails is how many failed checks in a row take it down; a refused connection does at
	// once. Default: 3.
	Fails int
	// PsInterval is the time between looks at a node's runners. Default: 2s.
	PsInterval time.Duration
	// TagsInterval is the time between looks at a node's models. Default: 30s.
	TagsInterval time.Duration
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(max(o.Interval, 0), 5*time.Second)
	o.Timeout = cmp.Or(max(o.Timeout, 0), 2*time.Second)
	o.Passes = cmp.Or(max(o.Passes, 0), 2)
	o.Fails = cmp.Or(max(o.Fails, 0), 3)
	o.PsInterval = cmp.Or(max(o.PsInterval, 0), 2*time.Second)
	o.TagsInterval = cmp.Or(max(o.TagsInterval, 0), 30*time.Second)
	return o
}

// A Fleet is the nodes as they are now. It is safe for concurrent use.
type Fleet struct {
	log      *slog.Logger
	born     time.Time // what monotonic stamps count from
	snapshot atomic.Pointer[Snapshot]
	opts     atomic.Pointer[Options]
	models   identities

	ctx    context.Context // the life of every goroutine here
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu         sync.Mutex // guards what follows; only nodes' locks are taken under it
	nodes      []*Node    // replaced, never changed
	configured bool
	closed     bool

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
	f := &Fleet{log: log, born: time.Now(), ready: make(chan struct{}), subscribers: make(map[*func()]struct{})}
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
// and transport. Nodes no longer named are polled no more and leave the snapshot. After Close
// it does nothing.
func (f *Fleet) Configure(nodes []NodeConfig, opts Options) {
	opts = opts.withDefaults()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return
	}
	f.opts.Store(&opts)
	f.configured = true

	gone := make(map[nodeKey][]*Node, len(f.nodes))
	for _, n := range f.nodes {
		gone[n.key] = append(gone[n.key], n)
	}
	next := make([]*Node, 0, len(nodes))
	for _, c := range nodes {
		key := keyOf(c)
		if kept := gone[key]; len(kept) > 0 {
			n := kept[0]
			gone[key] = kept[1:]
			n.configure(c)
			n.want(nothing) // it looks at the new intervals
			next = append(next, n)
			continue
		}
		n := NewNode(c)
		ctx, cancel := context.WithCancel(f.ctx)
		n.end = cancel
		p := &poller{fleet: f, node: n}
		f.wg.Go(func() { p.run(ctx) }) // ends when the node is removed, or with Close
		next = append(next, n)
	}
	f.nodes = next
	f.mu.Unlock()

	for _, nodes := range gone {
		for _, n := range nodes {
			n.end()
		}
	}
	f.publish()
}

// Close ends all polls and waits for them. The last snapshot stays.
func (f *Fleet) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	f.wg.Wait()
}

// Snapshot is what is known now. It is never nil and never changes.
func (f *Fleet) Snapshot() *Snapshot { return f.snapshot.Load() }

// Ready waits for the first inventory: until every configured node has answered or failed its
// first round of polls, which takes three Timeouts at most. Once ready, a fleet stays ready.
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

// publish makes a snapshot of what is known now, tells the subscribers, and has models asked
// for that are new in it. No lock may be held.
func (f *Fleet) publish() {
	f.building.Lock()
	f.mu.Lock()
	nodes, configured := f.nodes, f.configured
	f.mu.Unlock()
	s, relisted := f.built.next(nodes, configured, &f.models)
	first := s.Ready && !f.snapshot.Load().Ready
	f.snapshot.Store(s)
	if first {
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
