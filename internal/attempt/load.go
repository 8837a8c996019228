package attempt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// unloadTimeout is how long a node may take to answer an unload, which it does at once.
const unloadTimeout = 5 * time.Second

// A LoadError is what a node said when it could not load a model. It is the answer to all
// calls that waited for it, each in its dialect.
type LoadError struct {
	Outcome Outcome
	Code    int
	Message string // the node's own words; "" if none can be read
}

func (e *LoadError) Error() string {
	return fmt.Sprintf("load: %s: node answered %d", e.Outcome, e.Code)
}

// A LoadFleet learns from loads.
type LoadFleet interface {
	Fleet
	Unloaded(n *fleet.Node, model string)
	LookAtRunners(context.Context, *fleet.Node)
}

// A LoadLog is told of each load that has ended.
type LoadLog interface {
	Loaded(node, model, reason, outcome string, took time.Duration)
}

// A Loader loads models for a schedule.Queue, with requests of its own. It is safe for
// concurrent use.
type Loader struct {
	Base
	Fleet   LoadFleet
	Log     LoadLog
	timeout atomic.Int64
}

// Configure sets how long a load may take; as Options.FirstByteTimeout.
func (l *Loader) Configure(o Options) { l.timeout.Store(int64(o.withDefaults().FirstByteTimeout)) }

// Load implements schedule.Loader.
func (l *Loader) Load(o *schedule.Order) {
	l.Pumps.Go(func() { // ends with the load, its time limit, or the engine
		began := time.Now()
		outcome, err := l.load(o)
		l.Log.Loaded(o.Node.Name(), short(o.Model), o.Reason, string(outcome), time.Since(began))
		o.Done(err)
	})
}

// load makes room, loads the model and lets the fleet know before anybody is granted it.
func (l *Loader) load(o *schedule.Order) (Outcome, error) {
	for _, model := range o.Evict {
		ctx, cancel := context.WithTimeout(l.Context, unloadTimeout)
		_, err := l.command(ctx, o.Node, "/api/generate", map[string]any{"model": short(model), "keep_alive": 0}, new(atomic.Bool))
		cancel()
		if err == nil {
			l.Fleet.Unloaded(o.Node, model)
		}
	}
	ctx, cancel := context.WithTimeoutCause(l.Context, time.Duration(l.timeout.Load()), ErrFirstByteTimeout)
	defer cancel()
	body := map[string]any{"model": short(o.Model), "stream": false}
	if options := o.Options.Map(); len(options) > 0 {
		body["options"] = options
	}
	// 0 would unload it again before anybody has used it: the call itself says it once more.
	if o.KeepAlive != nil && *o.KeepAlive != 0 {
		body["keep_alive"] = -1 // for ever
		if *o.KeepAlive > 0 {
			body["keep_alive"] = o.KeepAlive.String()
		}
	}
	path := "/api/generate"
	if o.Embedding {
		path, body["input"] = "/api/embed", []string{}
	}
	var connected atomic.Bool
	began := time.Now()
	_, err := l.command(ctx, o.Node, path, body, &connected)
	took := time.Since(began)
	if err == nil {
		l.Fleet.Loaded(o.Node, o.Model, o.Options)
		l.Fleet.Report(o.Node, fleet.Outcome{Kind: fleet.OK, Model: o.Model, FirstFrame: took, Took: took, Frames: 1})
		l.Fleet.LookAtRunners(l.Context, o.Node)
		return OK, nil
	}
	if l.Context.Err() != nil {
		return Canceled, schedule.ErrStopping
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return l.failed(o, err, connected.Load(), took)
}

// failed says what a load that failed means for those who wait, and reports it.
func (l *Loader) failed(o *schedule.Order, err error, connected bool, took time.Duration) (Outcome, error) {
	report := fleet.Outcome{Model: o.Model, Took: took, Err: err}
	var refused *call.StatusError
	if !errors.As(err, &refused) {
		f := faultOf(err, connected)
		report.Kind = kinds[f.Outcome]
		l.Fleet.Report(o.Node, report)
		return f.Outcome, f
	}
	outcome := classify(refused)
	report.Kind = kinds[outcome]
	l.Fleet.Report(o.Node, report)
	told := &LoadError{Outcome: outcome, Code: refused.Code, Message: wire.ErrorMessage(refused.Body)}
	switch outcome {
	case Busy:
		return outcome, &schedule.Later{Err: told}
	case Refused, RouteMissing:
		// What is wrong with it, if anything, the node says to the call itself in its own way.
		return outcome, schedule.ErrNotLoadable
	case Forbidden, Redirected:
		return outcome, &Fault{Outcome: outcome, Err: refused}
	}
	return outcome, told
}

// command sends a request of the engine's own and reads its answer.
func (l *Loader) command(ctx context.Context, n *fleet.Node, path string, fields map[string]any, connected *atomic.Bool) ([]byte, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	req := modelRequest(l.Via).WithContext(ctx)
	req.URL, req.Host = target(n.URL(), path), n.URL().Host
	req.Body, req.ContentLength = io.NopCloser(strings.NewReader(string(body))), int64(len(body))
	resp, err := n.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp)
	}
	return readObject(resp)
}

// short is a model's name as a person would write it.
func short(key string) string {
	name, err := wire.ParseModelName(key)
	if err != nil {
		return key
	}
	return name.Short()
}
