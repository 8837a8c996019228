package attempt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/suspect"
	"github.com/caddy-ollama/caddy-ollama/internal/tracing"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

const (
	errorLimit   = 1 << 20     // of the body of a node's refusal, bytes
	drainLimit   = 4 << 10     // of what may follow the final record, bytes
	drainTimeout = time.Second // the end follows the final record at once
)

// A try is one request to one node.
type try struct {
	*Step
	call      *call.Call
	sends     wire.Body
	texts     int // that sends asks vectors of, where that is known; else 1
	grant     *schedule.Grant
	recording *recording.Writer
	began     time.Time
	run       *suspect.Run
	span      tracing.Span
	first     time.Duration // until the first frame, or the object
	totals    wire.Totals   // of an answer that is no stream
	told      bool          // the fleet knows first
	count     int           // frames so far
	outcome   Outcome       // "" while it has not ended
	stalled   bool

	connected atomic.Bool // a connection was had: the node may have worked
	ctx       context.Context
	cancel    context.CancelCauseFunc
	release   func() bool // from the recording's context, whose end otherwise ends the try
	watch     *time.Timer // cancels the try when the next byte takes too long
	total     *time.Timer

	body   io.ReadCloser
	frames *wire.Splitter
	judge  *wire.Judge
}

// begin sends the request and returns when the first frame or the object is recorded; the
// rest of the answer is then read by a goroutine of its own, or before it returns if nobody
// reads it before its end (call.Call.Whole). On an error nothing is left.
func (t *try) begin() (err error) {
	t.ctx, t.cancel = context.WithCancelCause(t.Context)
	t.release = context.AfterFunc(t.recording.Context(), func() { t.cancel(context.Cause(t.recording.Context())) })
	defer func() {
		if err != nil {
			// A limit says more than the "context canceled" that it caused.
			if cause := context.Cause(t.ctx); cause != nil && t.recording.Context().Err() == nil {
				err = fmt.Errorf("%w (%w)", cause, err)
			}
			t.close()
		}
	}()
	t.watch = time.AfterFunc(t.patience(), func() { t.cancel(ErrFirstByteTimeout) })
	if t.opts.TotalTimeout > 0 {
		t.total = time.AfterFunc(t.opts.TotalTimeout, func() { t.cancel(ErrTotalTimeout) })
	}
	resp, err := t.send()
	if err != nil {
		return err
	}
	t.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case mediaType == "application/json":
		return t.object(resp)
	case !isStream(mediaType, t.call.Request.Route.Dialect):
	case t.call.Request.Task == wire.Answer:
		return t.beginFrames()
	default:
		// A command, answered as one piece. Its frames are not those of an answer: that of a
		// rendering has no end.
		return t.object(resp)
	}
	return fmt.Errorf("%w: content type %q", errProtocol, mediaType)
}

// isStream tells whether an answer of that type is a stream of the dialect. A node that has
// been given a web search tool sends its events under the name of native records.
func isStream(mediaType string, d wire.Dialect) bool {
	return mediaType == wire.StreamType(d) || d == wire.Anthropic && mediaType == wire.StreamType(wire.Ollama)
}

func (t *try) send() (*http.Response, error) {
	ctx := httptrace.WithClientTrace(t.ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { t.connected.Store(true) },
	})
	return t.post(ctx, t.grant.Node, t.call.Request.Route, t.sends, t.call.Trace, t.span)
}

// post sends a judged body: a fresh request, with nothing of the client's headers but the trace it
// belongs to, where there is one.
func (s *Step) post(ctx context.Context, node *fleet.Node, to wire.Route, body wire.Body, p *tracing.Parent, span tracing.Span) (*http.Response, error) {
	req := s.model.WithContext(ctx) // a copy
	if p != nil {
		req.Header = maps.Clone(req.Header) // which is that of all requests
		p.Tell(req.Header, span)
	}
	req.URL, req.Host = target(node.URL(), to.Path), node.URL().Host
	req.Body, req.ContentLength = io.NopCloser(body.Reader()), body.Len()
	return node.RoundTrip(req)
}

// target is a path at a node, whose URL may have one of its own before it.
func target(base *url.URL, path string) *url.URL {
	if base.Path != "" {
		return base.JoinPath(path)
	}
	u := *base
	u.Path = path
	return &u
}

// refusal reads a node's answer other than 200.
func refusal(resp *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(resp.Body, errorLimit))
	if err != nil {
		return fmt.Errorf("read the body of a %d: %w", resp.StatusCode, err)
	}
	return &call.StatusError{
		Code: resp.StatusCode, ContentType: resp.Header.Get("Content-Type"), Chunked: resp.ContentLength < 0, Body: body,
	}
}

// object records an answer that is one JSON object, or the events that answer a command, read
// to its end.
func (t *try) object(resp *http.Response) error {
	body, err := readObject(resp)
	if err != nil {
		return err
	}
	t.answered()
	if t.call.Request.Task == wire.Answer { // vectors have no frames to judge
		t.totals.PromptTokens = wire.EmbeddedTokens(t.call.Request.Route, body)
		t.call.Upstream.Told(t.totals)
	}
	t.ended(OK, nil)
	t.grant.Served(wire.Totals{}, t.first, t.first)
	t.close()
	t.run.Done()
	t.recording.Object(resp.Header.Get("Content-Type"), body)
	t.grant.Release()
	return nil
}

func readObject(resp *http.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, objectLimit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case len(body) > objectLimit:
		return nil, fmt.Errorf("%w: more than %d bytes", errProtocol, objectLimit)
	case resp.Header.Get("Content-Type") != "text/event-stream" && !wire.IsObject(body):
		return nil, fmt.Errorf("%w: not a JSON object", errProtocol)
	}
	return body, nil
}

// beginFrames records the first frame and leaves the others to a pump.
func (t *try) beginFrames() error {
	req := t.call.Request
	t.frames = wire.NewSplitter(t.body, req.Route.Dialect)
	t.judge = wire.NewJudge(req.Route.Dialect, req.Route.Operation)
	if err := t.next(); err != nil {
		return err
	}
	t.answered()
	// What has come with the first frame needs no goroutine: often that is all but the end.
	err := t.readyFrames()
	if err == nil && !t.judge.Complete() { // else the end tells it as well
		t.told = true
		t.Fleet.Begun(t.grant.Node, t.shown())
	}
	if t.call.Whole {
		t.pump(err) // to hand frames to a goroutine that waits for all of them costs a tenth of a short answer
		return nil
	}
	t.Pumps.Go(func() { t.pump(err) }) // ends with the answer, its last reader, or the engine
	return nil
}

// readyFrames records what can be recorded without waiting, and ends the recording if the
// final frame is among it.
func (t *try) readyFrames() error {
	for !t.judge.Complete() && t.frames.Ready() {
		if err := t.next(); err != nil {
			return err
		}
	}
	if t.judge.Complete() {
		t.complete()
	}
	return nil
}

// next records one frame.
func (t *try) next() error {
	frame, err := t.frames.Next()
	if errors.Is(err, io.EOF) {
		return errTruncated
	}
	if err != nil {
		return err
	}
	kind, err := t.judge.Frame(frame)
	if err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	t.count++
	if kind == wire.Fault {
		return nodeError(t.judge.Message())
	}
	// What has arrived together is shown together; the end comes after the final frame.
	return t.recording.Append(frame, kind, kind == wire.Final || t.frames.Ready())
}

// pump records the frames that are still to come and ends the recording. err is what the
// frames before ended with.
func (t *try) pump(err error) {
	defer t.close()
	defer t.grant.Release()
	defer t.run.Done()
	for err == nil && !t.judge.Complete() {
		t.watch.Reset(t.opts.StallTimeout)
		if err = t.next(); err == nil {
			err = t.readyFrames()
		}
	}
	if err != nil {
		t.broke(err)
		return
	}
	t.drain()
}

// complete ends the recording after its final frame. Another call may have the slot.
func (t *try) complete() {
	t.call.Upstream.Told(t.judge.Totals()) // before the end can be read: settle reads it then
	t.ended(OK, nil)
	t.grant.Served(t.judge.Totals(), t.first, time.Since(t.began))
	t.release() // the connection outlives the recording
	t.grant.Release()
	t.recording.Complete()
}

// broke ends the recording before its end.
func (t *try) broke(err error) {
	if t.recording.Context().Err() != nil {
		t.ended(Canceled, nil)
		t.recording.Break(context.Cause(t.recording.Context()))
		return
	}
	if cause := context.Cause(t.ctx); cause != nil {
		err = cause
		if errors.Is(cause, ErrFirstByteTimeout) { // the watch guards the frames by now
			err = ErrStallTimeout
		}
	}
	f := faultOf(err, t.connected.Load())
	t.stalled = errors.Is(err, ErrStallTimeout)
	t.ended(f.Outcome, f.Err)
	t.recording.Break(f)
}

// drain reads the end of the body behind the final record, so that the connection can be
// used again. A node that holds it open loses the connection, nothing else.
func (t *try) drain() {
	t.watch.Reset(drainTimeout)
	io.Copy(io.Discard, io.LimitReader(t.body, drainLimit))
}

// answered tells of the first frame.
func (t *try) answered() {
	t.first = time.Since(t.began)
	t.call.Upstream.Answered(t.first)
	t.span.Note("first frame")
	t.Fleet.Answered(t.grant.Node)
	if t.grant.Residency != schedule.Resident {
		// First the fleet, then the grant: nobody must see the node free to load and the
		// model not yet there.
		t.Fleet.Loaded(t.grant.Node, t.call.Request.Model.Key(), t.call.Runner)
		t.grant.Loaded()
	}
}

// ended tells how the try ended. It comes before the grant is given back.
func (t *try) ended(o Outcome, err error) {
	node, took := t.grant.Node, time.Since(t.began)
	t.call.Upstream.Tried(call.Try{
		Node: node.Name(), Outcome: string(o), Failed: !blameless(o), Took: took, Beside: t.Queue.InFlight(node),
	})
	t.outcome = o
	said := Ended{Node: node.Name(), Model: t.call.Request.Model.Short(), Outcome: o, Took: took, First: t.first, Stalled: t.stalled}
	if said.Totals = t.totals; o == OK && t.judge != nil {
		said.Totals = t.judge.Totals()
	}
	t.Log.Tried(said)
	t.endSpan(o)
	r := t.shown()
	r.Kind, r.Took, r.Frames, r.Err = kinds[o], took, t.count, err
	t.Fleet.Report(node, r)
}

// shown is what is known of it once the first frame has come.
func (t *try) shown() fleet.Outcome {
	return fleet.Outcome{
		Model: t.call.Request.Model.Key(), Resident: t.grant.Residency == schedule.Resident, FirstFrame: t.first, Told: t.told,
	}
}

func (t *try) close() {
	t.release()
	t.watch.Stop()
	if t.total != nil {
		t.total.Stop()
	}
	t.cancel(nil)
	if t.frames != nil {
		t.frames.Release()
	}
	if t.body != nil {
		t.body.Close()
	}
}
