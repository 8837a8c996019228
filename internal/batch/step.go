// Package batch makes texts, not requests, the unit of embeddings.
//
// A request is taken apart into its texts. What is known of them is not asked again, what is in
// flight is joined, and the rest is gathered: a gathered call is handed on at once and takes
// further texts until it is granted a slot, so that at an idle node nobody waits for anybody and
// at a busy one few calls carry much. A gathered call lives as long as one who waits for it; a
// text that spoils one fails its owner alone. batch knows nothing of HTTP, nodes or stores.
package batch

import (
	"context"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Defaults of Options.
const (
	DefaultMaxItems = 32
	DefaultMaxBytes = 128 << 10 // some 32,000 tokens (algorithms 4)
)

const (
	// mostTexts is how many texts of one request are told apart, each for a few hundred bytes of
	// memory: five times what was seen to work in one call (ollama-api 6).
	mostTexts = 16 << 10
	// mostAhead is how many full calls one request may have waiting at once: more than a fleet
	// works at, and few enough that the largest array leaves the queue to others.
	mostAhead = 32
)

// A Base is what gathered calls need of the engine they live in.
type Base struct {
	Context context.Context // ends all of them
	Jobs    *sync.WaitGroup // counts their goroutines; each ends with the answer, with the last who waits, or with Context
}

// Flights are the texts in flight, for the calls of all configurations to join. They outlive
// configurations. Safe for concurrent use.
type Flights struct {
	Base

	mu     sync.Mutex         // guards what follows, and what items, gathered calls and steps say it guards
	flying map[call.Key]*item // that can be joined
}

// New makes an empty table of texts.
func New(b Base) *Flights { return &Flights{Base: b, flying: make(map[call.Key]*item)} }

// Forget has nobody join the texts of now any more: their vectors may be out of date. Those who
// wait for them go on.
func (f *Flights) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.flying)
}

// Options say what is sent together. The zero value works.
type Options struct {
	MaxItems int // texts in one call. Default: 32.
	MaxBytes int // of the texts in one call; a longer text goes alone. Default: 128 KiB.
	// Window is how long a call waits for further texts before it is handed on, unless it is full
	// before. Default: not at all.
	Window time.Duration
	// Retries is how many tries a gathered call may cost beyond the first. Default: none.
	Retries int

	// Sent is told of each call that is sent how many texts it has, and how long the first of them
	// waited for others and for a slot. nil: nobody is.
	Sent func(model string, texts int, waited time.Duration)
}

func (o Options) withDefaults() Options {
	if o.MaxItems <= 0 {
		o.MaxItems = DefaultMaxItems
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	return o
}

// Items is what the step wants of the cache.
type Items interface {
	// Lookup gives what is known of each question, nil where nothing is, and who keeps what a node
	// makes of the others, nil if nothing is to be kept. The call says in Caching what it wishes;
	// what came of it is written into Cached. It is called once for each call, before anything is
	// sent for it.
	Lookup(ctx context.Context, c *call.Call, qs []call.Question) ([]*call.Vector, call.Keep)
}

// A Step answers embedding requests from vectors. It is safe for concurrent use.
type Step struct {
	*Flights
	opts  Options
	items Items
	next  call.Answerer

	// Flights.mu guards what follows.

	open    map[kin]*gathered // that take further texts
	waiting map[kin]int       // texts of calls that are not sealed
	costs   map[string]*cost  // of calls, by the identity of the model
}

// Step makes the step that answers embeddings text by text; other calls go on to next. items may
// be nil: nothing is kept.
func (f *Flights) Step(o Options, items Items, next call.Answerer) *Step {
	return &Step{
		Flights: f, opts: o.withDefaults(), items: items, next: next,
		open: make(map[kin]*gathered), waiting: make(map[kin]int), costs: make(map[string]*cost),
	}
}

// Answer implements call.Answerer. Its errors are those of the next step, call.ErrNotCached, a
// *PanicError, one that wraps wire.ErrFrame, and the causes of ctx and of the engine's context.
func (s *Step) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	if c.Vectors == nil || c.IdleOnly {
		return s.next.Answer(ctx, c)
	}
	for _, over := range [...]context.Context{ctx, s.Context} {
		if over.Err() != nil {
			return nil, context.Cause(over)
		}
	}
	a := s.newAsk(c)
	a.lookUp(ctx)
	if c.Caching.Control.OnlyIfCached && a.result.Found < len(a.parts) {
		return nil, call.ErrNotCached
	}
	err := a.wait(ctx)
	var whole recording.Whole
	if err == nil {
		whole, err = a.answer()
	}
	a.settle()
	if err != nil {
		a.leave()
		return nil, err
	}
	c.Cached.Gathered(a.result, a.saved)
	return recording.Replay(c.Request.Route, whole), nil
}

// Apart takes a request apart whose texts may go their own ways; nil if it is to go as it is. Its
// model, tenant and what may be kept of it must be known, and it must not be a command.
func Apart(r *wire.Request) *wire.Embedding {
	e, _ := r.Embedding(mostTexts)
	return e
}
