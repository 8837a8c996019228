package simnode

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/blob"
)

// Options of a Node. The zero value is a node without models.
type Options struct {
	// Models are the installed models. One whose name a node could not store is left out.
	Models []Model

	// Slots is how many answers a loaded model gives at once (OLLAMA_NUM_PARALLEL). Embedding models always have
	// one. Default: 1.
	Slots int

	// Version is what /api/version tells. From 0.30 on the node speaks the newest forms of the wire instead of those of
	// 0.24.0. Default: "0.24.0".
	Version string

	MaxLoaded int // loaded models (OLLAMA_MAX_LOADED_MODELS). Default: 3.

	// MaxQueue bounds the requests that wait for a load, besides the one whose turn it is (OLLAMA_MAX_QUEUE);
	// further ones are answered 503. Requests for loaded models never count. Default: 512.
	MaxQueue int

	// PromptCache is how many tokens of prompts a runner remembers besides those in its slots, as the newest nodes do in
	// the host's memory. Default: none.
	PromptCache int

	// VRAM is the memory for runners in bytes; idle runners are evicted to stay within it, and a model that does not
	// fit even so is loaded in part. 0: no bound but MaxLoaded, and runners count as running on the CPU.
	VRAM int64

	// KeepAlive is how long an idle runner stays loaded when no request said otherwise (OLLAMA_KEEP_ALIVE).
	// Default: 5m. Negative: for ever.
	KeepAlive time.Duration

	// Scale multiplies every simulated duration: loads, prompts, tokens; not keep-alive. 0 means 1.
	Scale float64

	// CheckHost turns on the Host rule of a server bound to a loopback address: names other than localhost, *.local,
	// *.localhost, *.internal and this machine's, and addresses that are not loopback, private or unspecified, are 403.
	CheckHost bool

	// Restart is how long after a death the node is back, as a supervisor would have it. Default: it stays dead.
	Restart time.Duration

	// Admin lets clients read and change the faults at /_faults. Without it, that is an unknown path as on a real node.
	Admin bool

	// Registry reaches the registries that models are pulled from and pushed to, by the host in their names. Default: a
	// transport of its own, which does not call the one that a name without a host stands for. A Pipe to a
	// registry.Registry reaches that one by any name, also in virtual time.
	Registry http.RoundTripper

	// Disk is how many bytes of files the node has room for, those of its Models included, which are there even when
	// they do not fit. A pull or a blob beyond fails as on a full disk. Default: no bound.
	Disk int64

	// WriteRate is how many bytes a second of each layer that is pulled and each blob that is sent are taken in; Scale
	// and Fault.Slow change that time, too. Default: as fast as they come.
	WriteRate int64

	// Dir is where the node says that its files are (OLLAMA_MODELS). The digest of a model that is created from a file
	// hangs on it, as on a real node. Default: "/var/lib/ollama/models".
	Dir string
}

func (o Options) withDefaults() Options {
	orNumber(&o.Slots, 1)
	orString(&o.Dir, modelsDir)
	orString(&o.Version, "0.24.0")
	orNumber(&o.MaxLoaded, 3)
	orNumber(&o.MaxQueue, 512)
	switch {
	case o.KeepAlive == 0:
		o.KeepAlive = 5 * time.Minute
	case o.KeepAlive < 0:
		o.KeepAlive = forever
	}
	if o.Scale <= 0 {
		o.Scale = 1
	}
	return o
}

// A Node is one simulated server. It is an http.Handler and safe for concurrent use.
type Node struct {
	opts   Options
	newest bool // it speaks the newest forms
	entry  http.Handler
	client *http.Client // to registries
	own    bool         // its transport is the node's own

	running sync.WaitGroup // handlers and armed timers; Close waits for them

	mu       sync.Mutex // guards what follows
	closed   bool
	down     bool            // it is dead
	life     context.Context // ends with Close or a death
	end      context.CancelCauseFunc
	births   int         // how often it came back
	revival  *time.Timer // nil unless it is dead and will come back
	faults   []*armed
	changed  chan struct{}         // closed when its door may have changed, and replaced
	models   map[string]*installed // by name.key
	runners  map[string]*runner    // by weights
	turns    turns
	stats    Stats
	perModel map[string]*ModelStats

	files     map[string]blob.File // by hex digest
	used      int64                // bytes of disk
	partials  map[string]*inflow   // what has come of layers whose download ended early, by digest
	downloads map[string]*transfer // by digest
}

// New returns a running Node. It starts no goroutine; Close ends what requests started.
func New(opts Options) *Node {
	n := &Node{
		opts:     opts.withDefaults(),
		models:   make(map[string]*installed),
		runners:  make(map[string]*runner),
		perModel: make(map[string]*ModelStats),
		changed:  make(chan struct{}),

		files: make(map[string]blob.File), partials: make(map[string]*inflow), downloads: make(map[string]*transfer),
	}
	n.client = &http.Client{Transport: n.opts.Registry}
	if n.opts.Registry == nil {
		n.client.Transport, n.own = newOwnTransport(), true
	}
	n.newest = newestForms(n.opts.Version)
	n.stats.Requests = make(map[string]int)
	n.stats.Faulted = make(map[string]int)
	n.life, n.end = context.WithCancelCause(context.Background())
	now := time.Now()
	for _, m := range opts.Models {
		if name, err := parseName(m.Name); err == nil {
			n.models[name.key()] = n.bring(m.withDefaults(now), name)
		}
	}
	n.entry = n.routes()
	return n
}

// ServeHTTP answers one request. On a closed or dead node it cuts the connection, as a server that has been stopped
// would, and so it does while a fault refuses connections.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d, _, _ := n.door(); d.shut {
		panic(http.ErrAbortHandler)
	}
	life := n.begin(r.URL.Path)
	defer n.finish(r.URL.Path)

	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	cut := make(chan struct{})
	stop := context.AfterFunc(life, func() {
		defer close(cut)
		cancel(errDied)
		// A client that does not read, or does not finish its request, would hold up Close for ever. A writer without
		// deadlines cannot block.
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(time.Unix(1, 0))
		_ = conn.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-cut
			panic(http.ErrAbortHandler) // a stopped server does not finish the answers it was giving
		}
	}()
	r = r.WithContext(ctx)
	n.answer(w, r, n.struckBy(r))
}

// begin counts a request and returns the life of the node that it belongs to.
func (n *Node) begin(path string) context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.down {
		panic(http.ErrAbortHandler) // net/http's own way of closing a connection without an answer
	}
	n.running.Add(1)
	if path != adminPath {
		n.stats.Requests[path]++
		n.stats.Running++
		n.stats.Peak = max(n.stats.Peak, n.stats.Running)
	}
	return n.life
}

func (n *Node) finish(path string) {
	n.mu.Lock()
	if path != adminPath {
		n.stats.Running--
	}
	n.mu.Unlock()
	n.running.Done()
}

// Close ends the running answers, whose connections are cut as those of a stopped server are, unloads every model and
// waits for the node's goroutines. Requests that come later are cut too. Close may be called more than once.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	n.cancelRevivalLocked()
	n.end(errDied)
	for _, r := range n.runners {
		r.disarmLocked()
	}
	n.mu.Unlock()
	n.running.Wait()
	if n.own {
		n.client.CloseIdleConnections()
	}
}
