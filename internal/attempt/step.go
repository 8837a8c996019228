// Package attempt gets an answer from a node: try after try, each on a node that was granted.
//
// Until the first frame has arrived a fault of a node is tried on another one; after it the
// recording ends broken off, for the client to be told in its dialect. A try that certainly
// did no work costs nothing but is made once a node; any other costs one of the call's
// retries. attempt knows what faults look like; it does not judge the health of nodes, it
// reports what it saw.
package attempt

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Defaults of Options.
const (
	DefaultFirstByteTimeout = 5 * time.Minute // a cold load may take minutes (ollama-api 4, 9)
	DefaultStallTimeout     = time.Minute     // a token takes seconds at worst
	DefaultRetries          = 2
)

// objectLimit bounds an answer that is one object: 3,000 embeddings of 4,096 numbers.
const objectLimit = 256 << 20

// Options limit the tries of a call. The zero value works. The limit of a dial belongs to
// the node's transport.
type Options struct {
	FirstByteTimeout time.Duration // from sending to the first frame. Default: 5m.
	StallTimeout     time.Duration // from one frame to the next. Default: 60s.
	TotalTimeout     time.Duration // of one try as a whole. Default: none.
	Retries          int           // tries beyond the first that may have done work. Default: 2. Negative: none.
}

func (o Options) withDefaults() Options {
	if o.FirstByteTimeout == 0 {
		o.FirstByteTimeout = DefaultFirstByteTimeout
	}
	if o.StallTimeout == 0 {
		o.StallTimeout = DefaultStallTimeout
	}
	if o.Retries == 0 {
		o.Retries = DefaultRetries
	}
	return o
}

// A Scheduler grants slots.
type Scheduler interface {
	Acquire(context.Context, schedule.Ask) (*schedule.Grant, error)
}

// A Fleet learns from traffic.
type Fleet interface {
	Answered(*fleet.Node)
	Loaded(n *fleet.Node, model string, effective wire.RunnerOptions)
	ModelMissing(n *fleet.Node, model string)
	Unreachable(n *fleet.Node, err error)
}

// A Step answers calls by asking nodes.
type Step struct {
	ctx   context.Context // the engine's: what all upstream calls hang on
	queue Scheduler
	fleet Fleet
	via   string
	// model is what all judged requests to nodes have in common: nothing of a client's.
	model *http.Request
	opts  Options
	pumps *sync.WaitGroup
}

// New makes the step. ctx is the engine's and ends all upstream calls; via is the engine's
// own name in the Via header of requests to nodes, by which it knows a loop; pumps counts
// the goroutines that read answers, each of which ends with its answer or with ctx.
func New(ctx context.Context, queue Scheduler, f Fleet, pumps *sync.WaitGroup, via string, opts Options) *Step {
	return &Step{
		ctx: ctx, queue: queue, fleet: f, via: via, opts: opts.withDefaults(), pumps: pumps,
		model: &http.Request{
			Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{
				"Content-Type":    {"application/json"},
				"Accept-Encoding": {"identity"},
				"User-Agent":      {"caddy-ollama"},
				"Via":             {"1.1 " + via},
			},
		},
	}
}

// Retries is how many tries beyond the first a call may cost.
func (s *Step) Retries() int { return max(0, s.opts.Retries) }

// Answer asks nodes until one has begun to answer. Its errors are a *call.StatusError (a
// node refused the request itself), a *Fault (nodes failed), one of package schedule, or the
// cause of ctx.
func (s *Step) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	w := recording.New(s.ctx, 0)
	r, err := w.Follow()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, r.Close) // the only reader leaves: the upstream call ends
	err = s.begin(w, c)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// begin tries nodes until the first frame or the object is recorded.
func (s *Step) begin(w *recording.Writer, c *call.Call) error {
	ask := schedule.Ask{
		Model:     c.Request.Model.Key(),
		Requested: c.Request.Runner,
		Effective: c.Runner,
		Embedding: c.Embedding,
		Class:     c.Class,
	}
	var last error
	for {
		ask.Exclude = c.Upstream.FailedNodes()
		asked := time.Now()
		g, err := s.queue.Acquire(w.Context(), ask)
		c.Upstream.Queued(time.Since(asked))
		if err != nil {
			if errors.Is(err, schedule.ErrNoNode) && last != nil {
				return last // every node that could serve it has failed
			}
			return err
		}
		t := &try{Step: s, call: c, grant: g, recording: w, began: time.Now()}
		err = t.begin()
		if err == nil {
			return nil // the grant and the rest of the answer are the pump's now
		}
		g.Release()
		fault, again := s.weigh(w, t, err)
		if !again {
			return fault
		}
		last = fault
	}
}

// weigh says what a failed try means for the call and reports it.
func (s *Step) weigh(w *recording.Writer, t *try, err error) (fault error, again bool) {
	if w.Context().Err() != nil {
		t.ended(Canceled)
		return context.Cause(w.Context()), false
	}
	var refused *call.StatusError
	if errors.As(err, &refused) {
		outcome := classify(refused)
		t.ended(outcome)
		switch outcome {
		case Refused:
			return refused, false
		case ModelMissing:
			s.fleet.ModelMissing(t.grant.Node, t.call.Request.Model.Key())
			return refused, true
		case Busy:
			return refused, true
		case Forbidden, Redirected:
			return &Fault{Outcome: outcome, Err: refused}, true
		}
		return refused, t.call.Upstream.Retry()
	}
	f := faultOf(err, t.connected.Load())
	t.ended(f.Outcome)
	if f.Outcome == ConnectError || f.Outcome == TLSError {
		s.fleet.Unreachable(t.grant.Node, f.Err)
		return f, true
	}
	return f, t.call.Upstream.Retry()
}
