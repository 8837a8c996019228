package simnode

import (
	"context"
	"net/http"
	"sync"
	"time"
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
}

func (o Options) withDefaults() Options {
	orNumber(&o.Slots, 1)
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
	life   context.Context // ends with Close
	end    context.CancelFunc

	running sync.WaitGroup // handlers and armed keep-alive timers; Close waits for them

	mu       sync.Mutex // guards what follows
	closed   bool
	models   map[string]*installed // by name.key
	blobs    map[string]struct{}   // digests of files that were sent
	runners  map[string]*runner    // by weights
	turns    turns
	stats    Stats
	perModel map[string]*ModelStats
}

// New returns a running Node. It starts no goroutine; Close ends what requests started.
func New(opts Options) *Node {
	n := &Node{
		opts:     opts.withDefaults(),
		models:   make(map[string]*installed),
		blobs:    make(map[string]struct{}),
		runners:  make(map[string]*runner),
		perModel: make(map[string]*ModelStats),
	}
	n.newest = newestForms(n.opts.Version)
	n.stats.Requests = make(map[string]int)
	n.life, n.end = context.WithCancel(context.Background())
	now := time.Now()
	for _, m := range opts.Models {
		if name, err := parseName(m.Name); err == nil {
			n.models[name.key()] = install(m.withDefaults(now), name)
		}
	}
	n.entry = n.routes()
	return n
}

// ServeHTTP answers one request. On a closed node it cuts the connection, as a server that has been stopped would.
func (n *Node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		panic(http.ErrAbortHandler) // net/http's own way of closing a connection without an answer
	}
	n.running.Add(1)
	n.stats.Requests[r.URL.Path]++
	n.mu.Unlock()
	defer n.running.Done()

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	cut := make(chan struct{})
	stop := context.AfterFunc(n.life, func() {
		defer close(cut)
		cancel()
		// A client that does not read would hold up Close for ever. A writer without deadlines cannot block.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Unix(1, 0))
	})
	n.entry.ServeHTTP(w, r.WithContext(ctx))
	if stop() {
		return
	}
	<-cut
	panic(http.ErrAbortHandler) // a stopped server does not finish the answers it was giving
}

// Close ends the running answers, whose connections are cut as those of a stopped server are, unloads every model and
// waits for the node's goroutines. Requests that come later are cut too. Close may be called more than once.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	n.end()
	for _, r := range n.runners {
		r.disarmLocked()
	}
	n.mu.Unlock()
	n.running.Wait()
}

// scaled converts a simulated duration to the time it takes here.
func (n *Node) scaled(d time.Duration) time.Duration {
	return time.Duration(float64(d) * n.opts.Scale)
}

// pass lets simulated time pass. It returns the context's error when that ends first.
func pass(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
