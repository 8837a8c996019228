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

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/suspect"
)

// An Engine is what outlives configurations. It is safe for concurrent use.
type Engine struct {
	fleet    *fleet.Fleet
	queue    *schedule.Queue
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
func NewEngine(log *slog.Logger) *Engine {
	ctx, cancel := context.WithCancel(context.Background())
	f := fleet.New(log)
	host, _ := os.Hostname() // without one the Host rule knows one name less
	return &Engine{
		fleet: f, queue: schedule.NewQueue(f, nil), log: log, host: host,
		observer: unobserved{}, suspects: suspect.New(),
		via: "caddy-ollama-" + rand.Text()[:8],
		ctx: ctx, cancel: cancel, closed: make(chan struct{}),
	}
}

// Observe has an observer told of each request from now on. It is for the time before the
// engine serves.
func (e *Engine) Observe(o Observer) { e.observer = o }

// Fleet is what is known of the nodes.
func (e *Engine) Fleet() *fleet.Fleet { return e.fleet }

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
