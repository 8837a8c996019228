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
	"slices"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/suspect"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Defaults of Options.
const (
	DefaultFirstByteTimeout = 5 * time.Minute // a cold load may take minutes (ollama-api 4, 9)
	DefaultStallTimeout     = time.Minute     // a token takes seconds at worst
	DefaultRetries          = 2
)

// busyWait is how long a call may meet nodes that are full although their slots are not (others
// use them, too) before it is told so. A node counts as full for a second.
const busyWait = 4 * time.Second

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
	InFlight(*fleet.Node) int
}

// A Fleet learns from traffic, and knows what is usual.
type Fleet interface {
	Answered(*fleet.Node)
	Loaded(n *fleet.Node, model string, effective wire.RunnerOptions)
	Begun(*fleet.Node, fleet.Outcome)
	Report(*fleet.Node, fleet.Outcome)
	FirstByte(n *fleet.Node, model string, resident bool) (expected time.Duration, ok bool)
}

// A Base is what the steps of all configurations share: it outlives each of them.
type Base struct {
	Context context.Context // ends all upstream calls
	Queue   Scheduler
	Fleet   Fleet
	Budget  *Budget
	// Suspects are requests that may have taken nodes down.
	Suspects *suspect.Suspects
	Log      Log
	Pumps    *sync.WaitGroup // counts the goroutines that read answers; each ends with its answer or with Context
	Via      string          // the engine's own name in the Via header of requests to nodes, by which it knows a loop
}

// A Step answers calls by asking nodes.
type Step struct {
	Base
	// model is what all judged requests to nodes have in common: nothing of a client's.
	model *http.Request
	opts  Options
}

// New makes the step.
func New(base Base, opts Options) *Step {
	return &Step{Base: base, opts: opts.withDefaults(), model: modelRequest(base.Via)}
}

func modelRequest(via string) *http.Request {
	return &http.Request{
		Method: http.MethodPost, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Content-Type":    {"application/json"},
			"Accept-Encoding": {"identity"},
			"User-Agent":      {"caddy-ollama"},
			"Via":             {"1.1 " + via},
		},
	}
}

// Retries is how many tries beyond the first a call may cost.
func (s *Step) Retries() int { return max(0, s.opts.Retries) }

// Answer asks nodes until one has begun to answer. Its errors are a *call.StatusError (a
// node refused the request itself), a *Fault (nodes failed), one of package schedule, or the
// cause of ctx.
func (s *Step) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	w := recording.New(s.Context, c.Request, 0)
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
		KeepAlive: c.Request.KeepAlive,
		Turns:     c.Request.Conversation(),
		Plain:     c.Embedding && c.Request.Route.Operation != wire.Embed,
		IdleOnly:  c.IdleOnly,
		Patient:   c.Patient,
	}
	s.Budget.Earn()
	body, texts, seal := c.Request.Body, 1, c.Seal
	var fingerprint suspect.Fingerprint
	if seal == nil {
		fingerprint = s.Suspects.Fingerprint(c.Request.Model.Key(), body)
	}
	var last error
	for {
		if seal == nil && s.Suspects.Refused(fingerprint) {
			return ErrDeadly
		}
		ask.Exclude = c.Upstream.FailedNodes()
		asked := time.Now()
		span := waits(c, asked)
		g, err := s.Queue.Acquire(w.Context(), ask)
		waited(span, w, g, err)
		c.Upstream.Queued(time.Since(asked))
		if err != nil {
			if errors.Is(err, schedule.ErrNoNode) && last != nil && !misleads(last, c.Upstream) {
				return last // every node that could serve it has failed
			}
			return err
		}
		if seal != nil { // what is sent is known only now
			body, texts = seal()
			seal = nil
			if fingerprint = s.Suspects.Fingerprint(c.Request.Model.Key(), body); s.Suspects.Refused(fingerprint) {
				g.Release()
				return ErrDeadly
			}
		}
		c.Upstream.Granted(g.Node.Name(), g.Reason)
		s.Log.Chosen(g.Reason)
		t := &try{Step: s, call: c, sends: body, texts: texts, grant: g, recording: w, began: time.Now(), run: s.Suspects.Running(g.Node.Name(), fingerprint)}
		t.beginSpan()
		reason := Outcome(c.Upstream.LastOutcome())
		err = t.begin()
		c.Upstream.Waited(time.Since(t.began))
		if err == nil {
			began := Outcome("") // how it ends is not known, and not asked: a pump may be writing it
			if c.Whole {
				began = t.outcome
			}
			s.retried(reason, began)
			return nil // the grant and the rest of the answer are the pump's now
		}
		fault, again := s.weigh(w, t, err)
		s.retried(reason, t.outcome)
		t.run.Done()
		g.Release() // after what it has shown was reported
		if !again {
			return fault
		}
		last = fault
	}
}

// misleads tells whether the last of several failures would have a client believe that the
// model or the route is nowhere, although another node failed otherwise.
func misleads(last error, u *call.Upstream) bool {
	var refused *call.StatusError
	if !errors.As(last, &refused) || refused.Code != http.StatusNotFound {
		return false
	}
	return slices.ContainsFunc(u.Tries(), func(t call.Try) bool {
		return t.Outcome != string(ModelMissing) && t.Outcome != string(RouteMissing)
	})
}

// weigh says what a failed try means for the call and reports it.
func (s *Step) weigh(w *recording.Writer, t *try, err error) (fault error, again bool) {
	if w.Context().Err() != nil {
		t.ended(Canceled, nil)
		return context.Cause(w.Context()), false
	}
	var refused *call.StatusError
	if errors.As(err, &refused) {
		outcome := classify(refused)
		t.ended(outcome, refused)
		switch outcome {
		case Refused:
			return refused, false
		case ModelMissing, RouteMissing, NoMemory:
			return refused, true
		case Busy: // back to the queue: nodes that are full are for a moment only
			return refused, t.call.Upstream.Full() < busyWait
		case Forbidden, Redirected:
			return &Fault{Outcome: outcome, Err: refused}, true
		}
		return refused, s.Again(t.call)
	}
	f := faultOf(err, t.connected.Load())
	if f.Outcome == Reset {
		t.run.Died()
	}
	t.ended(f.Outcome, f.Err)
	if f.Outcome == ConnectError || f.Outcome == TLSError {
		return f, true
	}
	return f, s.Again(t.call)
}

// Again tells whether a call may be made again after its last try, which may have done work,
// and pays for it: from the call's retries and from the budget of all calls. A connection that
// ended without an answer is made up for once only: what closes two may be the request itself
// (ollama-api 11).
func (s *Step) Again(c *call.Call) bool {
	tries := c.Upstream.Tries()
	if len(tries) == 0 {
		return false // it was another call's answer that it heard
	}
	last := tries[len(tries)-1]
	lost := last.Outcome == string(Reset)
	if lost && !c.Upstream.Lost() {
		return false
	}
	if !c.Upstream.Retry() {
		return false
	}
	if !s.Budget.Take(last.Node, lost, last.Beside) {
		s.Log.Retried(Outcome(last.Outcome), RetryExhausted)
		return false
	}
	return true
}
