package fleet

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Node is one Ollama server. Its pointer is its identity while it is configured. It is safe
// for concurrent use; what is known of it stands in the Snapshot.
type Node struct {
	key       nodeKey
	url       *url.URL
	slots     atomic.Int32
	transport atomic.Pointer[http.RoundTripper]

	life    context.Context    // of its goroutines; nil: it has none
	end     context.CancelFunc // ends life
	wake    chan struct{}      // holds one: something was wanted
	facts   atomic.Pointer[facts]
	alive   atomic.Int64  // when a call or an exercise was answered last, as Fleet.since
	healthy atomic.Bool   // up, and nothing has failed of late
	failing atomic.Uint64 // the bits of health.failing

	mu       sync.Mutex // guards what follows and orders the facts
	health   health
	next     time.Time  // when time alone changes the facts; zero: never
	passes   int        // checks passed in a row
	fails    [polls]int // polls of a kind that failed in a row while it is up
	loaded   map[string]loading
	unloaded map[string]time.Duration // when an unload was answered, by model
	missing  map[string]missed
	wanted   [polls]bool
	lookers  [polls][]func() // told after the next poll of a kind that begins from now on
}

// A nodeKey is what a node keeps its state under.
type nodeKey struct{ name, url, key string }

func keyOf(c NodeConfig) nodeKey {
	k := nodeKey{name: c.Name, key: c.Key}
	if c.URL != nil {
		k.url = c.URL.String()
	}
	return k
}

// facts are what is known of a node: replaced, never changed.
type facts struct {
	state   State
	reason  string
	since   time.Time
	version string
	checked bool // its first round is over
	tags    *inventory
	runners []Runner

	draining  bool
	ejected   bool // even while it is down; not briefly
	dials     bool // for dials alone
	until     time.Time
	ejections int
	load      int // what its last faults count
	full      bool
	share     float64            // of its slots
	weights   map[string]float64 // by model, below 1; replaced, never changed
}

// A loading is what Loaded told of a runner.
type loading struct {
	digest  string // of the model then, "" if unknown
	options wire.RunnerOptions
	at      time.Duration
	context int // that ps showed for it first, 0: none yet
}

// NewNode makes a node that belongs to no fleet: nobody polls it.
func NewNode(c NodeConfig) *Node {
	n := &Node{
		key:      keyOf(c),
		url:      &url.URL{},
		end:      func() {},
		wake:     make(chan struct{}, 1),
		loaded:   make(map[string]loading),
		unloaded: make(map[string]time.Duration),
		missing:  make(map[string]missed),
	}
	if c.URL != nil {
		u := *c.URL
		n.url = &u
	}
	n.alive.Store(-1)
	n.configure(c)
	n.health.why = "not checked yet"
	n.facts.Store(&facts{state: Down, reason: n.health.why, since: time.Now(), tags: &inventory{}, share: 1})
	return n
}

// configure takes over what may change without the node being another one.
func (n *Node) configure(c NodeConfig) {
	n.slots.Store(int32(max(1, min(c.Slots, 1<<16))))
	t := c.Transport
	if t == nil {
		t = http.DefaultTransport
	}
	n.transport.Store(&t)
}

// Name is unique in the fleet.
func (n *Node) Name() string { return n.key.name }

// URL has scheme and host only. It must not be changed.
func (n *Node) URL() *url.URL { return n.url }

// Slots is how many generations one of its runners may be given at once; at least 1.
func (n *Node) Slots() int { return int(n.slots.Load()) }

// RoundTrip sends a request through the node's transport, under the rules of
// http.RoundTripper. The request's URL is the caller's to set.
func (n *Node) RoundTrip(r *http.Request) (*http.Response, error) {
	return (*n.transport.Load()).RoundTrip(r)
}

// want has a poll made soon. It never blocks.
func (n *Node) want(kinds ...poll) {
	n.mu.Lock()
	for _, k := range kinds {
		if k < polls {
			n.wanted[k] = true
		}
	}
	n.mu.Unlock()
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// setLocked replaces the facts.
func (n *Node) setLocked(change func(*facts)) {
	next := *n.facts.Load()
	change(&next)
	n.facts.Store(&next)
}

// sameRunners tells whether two lists show the same.
func sameRunners(a, b []Runner) bool {
	return slices.EqualFunc(a, b, func(x, y Runner) bool {
		return x.Key == y.Key && x.Digest == y.Digest && x.Exact == y.Exact && x.Options == y.Options &&
			x.ContextLength == y.ContextLength && x.row == y.row
	})
}
