// Package gateway is the way of a request, and what lives as long as the process.
//
// The Engine owns what must survive a reload: the fleet, the queue and the running upstream
// calls. Each configuration makes an immutable Settings and attaches it; the newest live
// Attachment rules, and when it is detached the one before rules again. The way itself is
// in way.go, top to bottom. gateway knows HTTP and the dialects' errors; it knows nothing of
// Caddy.
package gateway

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/batch"
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/coalesce"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/manage"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/suspect"
)

// An Engine is what outlives configurations. It is safe for concurrent use.
type Engine struct {
	fleet    *fleet.Fleet
	queue    *schedule.Queue
	loader   *attempt.Loader
	cache    *cache.Cache
	flights  *coalesce.Flights
	texts    *batch.Flights // of embeddings
	jobs     *manage.Jobs   // pulls, pushes and creates
	uploads  *manage.Uploads
	log      *slog.Logger
	observer Observer
	via      string // names this engine in Via headers
	host     string // of the machine, for the Host rule

	ctx      context.Context // of all upstream calls
	cancel   context.CancelFunc
	pumps    sync.WaitGroup // goroutines that read answers; each ends with its answer or ctx
	bodies   budget         // bytes of request bodies
	streams  budget         // inference requests
	budget   attempt.Budget // of retries
	suspects *suspect.Suspects
	closed   chan struct{}

	mu          sync.Mutex // guards what follows
	attachments []*Attachment
	calls       int  // requests on their way
	closing     bool // no configuration holds it
	stopping    bool // the process is leaving
}

// NewEngine makes an engine that serves nothing until Settings are attached. log outlives
// all configurations.
func NewEngine(log *slog.Logger) *Engine { return newEngine(log, nil) }

// newEngine makes an engine that chooses among free slots as told; nil: as it should.
func newEngine(log *slog.Logger, choose schedule.Choice) *Engine {
	ctx, cancel := context.WithCancel(context.Background())
	f := fleet.New(log)
	host, _ := os.Hostname() // without one the Host rule knows one name less
	e := &Engine{
		fleet: f, log: log, host: host,
		observer: unobserved{}, suspects: suspect.New(),
		via: "caddy-ollama-" + rand.Text()[:8],
		ctx: ctx, cancel: cancel, closed: make(chan struct{}),
	}
	e.loader = &attempt.Loader{Base: attempt.Base{Context: ctx, Pumps: &e.pumps, Via: e.via}, Fleet: f, Log: e}
	e.loader.Configure(attempt.Options{})
	e.queue = schedule.NewQueue(f, choose, e.loader)
	e.flights = coalesce.New(coalesce.Base{Context: ctx, Jobs: &e.pumps})
	e.texts = batch.New(batch.Base{Context: ctx, Jobs: &e.pumps})
	e.jobs = manage.NewJobs(manage.Base{Context: ctx, Running: &e.pumps, Done: e.managed})
	e.uploads = manage.NewUploads(manage.UploadOptions{Options: e.options()})
	e.cache = cache.New(cache.Base{
		Context: ctx, Jobs: &e.pumps, Log: log, Watch: watcher{e}, Excusable: excusable,
		VersionAt:  func(node string) string { return f.Snapshot().VersionAt(node) },
		Identities: func() map[string]bool { return f.Snapshot().Identities() },
		Purged:     e.forget,
	})
	e.queue.Observe(watcher{e})
	f.Observe(watcher{e})
	f.OnReplaced(func(identities []string) { e.cache.Replaced(identities); e.forget() })
	return e
}

// forget has nobody join what was begun before: who asks after a purge is not to hear it.
func (e *Engine) forget() {
	e.flights.Forget()
	e.texts.Forget()
}

// gathered tells the observer of a call to a node that has texts of embeddings.
func (e *Engine) gathered(model string, texts int, waited time.Duration) {
	e.observer.Gathered(model, texts, waited)
}

// A watcher has the engine's observer told of what lives as long as the engine: the observer comes
// after it.
type watcher struct{ *Engine }

func (w watcher) CacheOperated(backend, op string, took time.Duration) {
	w.observer.CacheOperated(backend, op, took)
}

func (w watcher) CacheEvicted(backend, reason string)         { w.observer.CacheEvicted(backend, reason) }
func (w watcher) CacheCorrupt(backend string)                 { w.observer.CacheCorrupt(backend) }
func (w watcher) CacheRefreshed(result string)                { w.observer.CacheRefreshed(result) }
func (w watcher) CacheStored(class string, ttl time.Duration) { w.observer.CacheStored(class, ttl) }

func (w watcher) Waited(class call.Class, result string, took time.Duration) {
	w.observer.Waited(class, result, took)
}

func (w watcher) NodeMoved(node string, to fleet.State) { w.observer.NodeMoved(node, to) }

func (w watcher) NodeChecked(node, result string, took time.Duration) {
	w.observer.NodeChecked(node, result, took)
}

// Loaded implements attempt.LoadLog.
func (e *Engine) Loaded(node, model, reason, result string, took time.Duration) {
	e.observer.Loaded(node, reason, result, took)
	level, text := slog.LevelDebug, "a model was loaded"
	if result != string(attempt.OK) && result != string(attempt.Canceled) {
		level, text = slog.LevelWarn, "a model could not be loaded"
	}
	e.log.Log(e.ctx, level, text, "node", node, "model", model, "reason", reason, "result", result, "took", took)
}

// Observe has an observer told of each request from now on. It is for the time before the
// engine serves.
func (e *Engine) Observe(o Observer) { e.observer = o }

// Fleet is what is known of the nodes.
func (e *Engine) Fleet() *fleet.Fleet { return e.fleet }

// Cache keeps answers.
func (e *Engine) Cache() *cache.Cache { return e.cache }

// Purge makes stored answers invalid, and has nobody follow those that are being generated. ctx
// bounds the wait for Redis.
func (e *Engine) Purge(ctx context.Context, t cache.Target) cache.Purged {
	defer e.forget()
	return e.cache.Purge(ctx, t)
}

// Queue holds the calls that wait.
func (e *Engine) Queue() *schedule.Queue { return e.queue }

// Close lets the requests that are on their way finish and refuses others; the last one out
// ends what the engine runs. It returns at once.
func (e *Engine) Close() {
	e.mu.Lock()
	last := !e.closing && e.calls == 0
	e.closing = true
	e.mu.Unlock()
	if last {
		go e.shutdown() // ends when all that the engine runs has ended
	}
}

// Closed is closed when everything the engine ran has ended.
func (e *Engine) Closed() <-chan struct{} { return e.closed }

// Stop empties the queue because the process is leaving: who waits for a slot gets an honest
// refusal, running answers go on.
func (e *Engine) Stop() {
	e.mu.Lock()
	e.stopping = true
	e.mu.Unlock()
	e.queue.Stop()
}

// enter counts a request, unless the engine is closing.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.calls++
	return true
}

func (e *Engine) leave() {
	e.mu.Lock()
	e.calls--
	last := e.closing && e.calls == 0
	e.mu.Unlock()
	if last {
		go e.shutdown()
	}
}

func (e *Engine) shutdown() {
	e.queue.Stop()
	e.cancel()
	e.fleet.Close()
	e.pumps.Wait()
	close(e.closed)
}

// InFlight is the number of requests on their way.
func (e *Engine) InFlight() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}
