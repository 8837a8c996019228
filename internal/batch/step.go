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
	"errors"
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

// ErrNotCached refuses a call whose client wants stored vectors or none.
var ErrNotCached = errors.New("not all vectors are stored, and the client wants no others")

// A Base is what gathered calls need of the engine they live in.
type Base struct {
	Context context.Context // ends all of them
	Jobs    *sync.WaitGroup // counts their goroutines; each ends with the answer, with the last who waits, or with Context
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

	// Told is told what became of a call, before its answer is given. nil: nobody is.
	Told func(*call.Call, Result)
	// Sent is told how many texts a call had that was answered or refused. nil: nobody is.
	Sent func(items int)
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

// A Result is what became of the texts of a call that was answered.
type Result struct {
	Items int // texts of the request; the others count equal ones once
	Found int // known before
	// Joined were in flight already, for another call; Sent were not.
	Joined, Sent int
	// Shared tells that the count of tokens has parts that were apportioned, since no node has told
	// what these texts cost by themselves.
	Shared bool
}

// Items is what the step wants of the cache.
type Items interface {
	// Lookup gives what is known of each question, nil where nothing is. The call says in Caching
	// what it wishes. It is called once for each call, before anything is sent for it.
	Lookup(ctx context.Context, c *call.Call, qs []call.Question) []*Vector
	// Store keeps a vector if it is to be kept. The call is the one that asked first, as Lookup
	// got it, but with the Upstream of what was sent. It must be quick.
	Store(c *call.Call, q call.Question, v *Vector)
}

// A Vector is what a node made of a text. It is never changed.
type Vector struct {
	Text   []byte // its JSON, as the node wrote it; a part of a longer answer, so who keeps it copies it
	Tokens int    // of the text
	Shared bool   // Tokens was apportioned among the texts of one call
}

// A Step answers embedding requests from vectors. It is safe for concurrent use.
type Step struct {
	Base
	opts  Options
	items Items
	next  call.Answerer

	mu     sync.Mutex         // guards what follows, and what items and gathered calls say it guards
	open   map[kin]*gathered  // that take further texts
	flying map[call.Key]*item // that can be joined
}

// New makes the step. items may be nil: nothing is kept.
func New(b Base, o Options, items Items, next call.Answerer) *Step {
	return &Step{
		Base: b, opts: o.withDefaults(), items: items, next: next,
		open: make(map[kin]*gathered), flying: make(map[call.Key]*item),
	}
}

// Answer implements call.Answerer. Its errors are those of the next step, ErrNotCached, a
// *PanicError, one that wraps wire.ErrFrame, and the causes of ctx and of the engine's context.
func (s *Step) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	e, ok := apart(c)
	if !ok {
		return s.next.Answer(ctx, c)
	}
	for _, over := range [...]context.Context{ctx, s.Context} {
		if over.Err() != nil {
			return nil, context.Cause(over)
		}
	}
	a := s.newAsk(c, e)
	a.lookUp(ctx)
	if c.Caching.Control.OnlyIfCached && a.result.Found < len(a.parts) {
		return nil, ErrNotCached
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
	if s.opts.Told != nil {
		s.opts.Told(c, a.result)
	}
	return recording.Replay(c.Request.Route, whole), nil
}

// apart takes a request apart if its texts may go their own ways: it is known whose they are,
// and nothing is asked beyond the vectors.
func apart(c *call.Call) (*wire.Embedding, bool) {
	switch w, r := c.Caching, c.Request; {
	case w == nil, w.Tenant == "", w.Identity == "", w.Version == "", c.IdleOnly:
		return nil, false
	case r.KeepAlive != nil && *r.KeepAlive == 0: // it also says to unload the model
		return nil, false
	default:
		return r.Embedding(mostTexts)
	}
}
