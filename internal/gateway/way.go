package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/tracing"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Entry says where a request came in.
type Entry struct {
	Site *Site
	// HostRule applies Ollama's rule for servers bound to a loopback address: a foreign Host
	// header is refused, so that a web page cannot reach in by rebinding a name.
	HostRule bool
	// Name tells this site from others, the same after a reload: clients without a credential
	// share answers with those of their own site only.
	Name string
	// User is who Caddy has found the client to be, "" if nobody.
	User string
}

// A request is one HTTP request on its way.
type request struct {
	*Settings
	site      *Site
	siteName  string
	user      string // of another handler, not of a key
	hostRule  bool
	w         http.ResponseWriter
	r         *http.Request
	route     wire.Route
	param     string // what stands in the place of :name in the route
	passes    bool   // a route of the site's own, sent on unseen
	item      bool   // of a batch of prompts
	itemModel string // asked for by an item: the key of its name, once it is known
	began     time.Time
	tenant    string // whose verified key the request presents, "" on a site without keys
	record    *Record
	call      *call.Call      // of an inference request, once admitted
	managed   *management     // of a request that changes models, or unloads one
	awaited   *awaited        // nil: the body comes unasked
	trace     *tracing.Parent // nil: there is none
	asked     time.Time       // when an answer was asked for, of a request whose spans are recorded
	// wantsStream is known once the request is parsed; a node words an error's content type
	// by it.
	wantsStream bool
	streams     bool // the answer is one

	// What goes with the call, in one piece with the request.
	caching call.Caching
	cached  call.Cached
}

// Serve answers one request of a client and tells what became of it. It panics with
// http.ErrAbortHandler to cut an answer that cannot be ended in order.
func (s *Settings) Serve(w http.ResponseWriter, r *http.Request, entry Entry) *Record {
	q := &request{
		Settings: s, site: entry.Site, siteName: entry.Name, user: entry.User, hostRule: entry.HostRule,
		w: w, r: r, began: time.Now(),
		record: &Record{RequestID: requestID(r.Header), Endpoint: "other"},
	}
	w.Header()["X-Request-Id"] = []string{q.record.RequestID}
	observed := false
	defer func() {
		p := recover()
		if p != nil {
			p = q.recovered(p)
		}
		q.settle()
		if observed {
			s.engine.observer.Ended(q.record)
		}
		if p != nil {
			panic(p)
		}
	}()
	q.trace = tracing.From(r.Context(), r.Header)
	q.record.TraceID = q.trace.TraceID()
	q.awaits()
	goesOn := q.enter() // paths, Host, Origin, methods: as a node does before any handler
	q.record.Endpoint = endpoint(q.route)
	if q.route.Path != "" {
		q.record.Operation, q.record.Dialect = q.route.Operation.String(), q.route.Dialect.String()
	}
	if q.passes {
		q.record.Endpoint, q.record.Operation, q.record.Dialect = "pass", "", "" // nobody knows what it asks
	}
	s.engine.observer.Began(q.record.Endpoint)
	observed = true
	if goesOn {
		q.serve()
	}
	return q.record
}

// serve answers a request that has a route.
func (q *request) serve() {
	if !q.engine.enter() {
		q.refuse(errClosing)
		return
	}
	defer q.engine.leave()
	if q.route.Access == wire.Manage {
		q.managed = &management{operation: q.route.Operation.String(), began: q.began}
		if q.r.Method == http.MethodHead {
			q.managed.operation = opBlobHead
		}
	}
	var err error
	q.tenant, err = q.identify()
	q.record.Tenant = q.tenant
	switch {
	case slices.Contains(q.r.Header.Values("Via"), "1.1 "+q.engine.via):
		err = errLoop
	case err != nil: // who asks may not
	case q.passes:
		err = q.pass()
	case q.route.Access == wire.Cloud:
		err = q.forbidden()
	case q.route.Access == wire.Manage:
		err = q.manage()
	case q.route.Access == wire.Read:
		err = q.read()
	case q.route.Operation == wire.Batch:
		err = q.batch()
	default:
		err = q.infer()
	}
	if err != nil {
		q.refuse(err)
	}
}

// infer is the way of text and vectors.
func (q *request) infer() error {
	if !q.engine.streams.take(1, int64(q.limits.Streams)) {
		return errStreams
	}
	defer q.engine.streams.give(1)

	body, err := q.engine.readBody(q.w, q.r, q.limits, wire.Expands(q.route))
	defer body.release()
	q.record.Upload = time.Since(q.began)
	if err != nil {
		return err
	}
	return q.reply(body.bytes)
}

// reply is infer once the body is there.
func (q *request) reply(body []byte) error {
	c, err := q.admit(body)
	if err != nil {
		return err
	}
	q.call = c
	if q.trace.Records() {
		q.asked = time.Now()
	}
	if c.Request.Stream {
		q.engine.observer.Streams(q.record.Endpoint)
	}
	switch {
	case c.Request.Task == wire.Unload && q.site.ignoresUnload():
		q.ignoreUnload(c)
		return nil
	case c.Request.Task == wire.Unload:
		return q.unload(c)
	case c.Request.Stream:
		return q.stream(c)
	}
	return q.single(c)
}

// admit judges the request and finds out what it asks for.
func (q *request) admit(body []byte) (*call.Call, error) {
	parsed, err := q.parse(body)
	if err != nil {
		return nil, err
	}
	class := q.site.class
	if q.item {
		class, parsed.Stream = call.Batch, false // its answer is one object, whatever it says
		q.itemModel = parsed.Model.Key()
	}
	if parsed.Stream {
		q.announceEvents()
	}
	if err := q.guard(parsed); err != nil {
		return nil, err
	}
	model, err := q.resolve(parsed.Model)
	if err != nil && !(model != nil && q.config.Cache != nil && errors.Is(err, errNoneUp)) { // what is stored may still be given
		return nil, err
	}
	if err := q.guardContext(parsed, model); err != nil {
		return nil, err
	}
	c := &call.Call{
		Request:   parsed,
		Identity:  model.Identity,
		Runner:    parsed.Runner.Over(model.Parameters),
		Embedding: model.Embedding,
		Class:     class,
		Whole:     !parsed.Stream,
		Patient:   q.item,
		Tenant:    q.tenant,
		Upstream:  call.NewUpstream(q.tries.Retries()),
		Trace:     q.trace,
	}
	if q.config.Cache != nil || q.config.Coalesce != nil || q.config.Embed != nil && parsed.Route.Operation == wire.Embed {
		q.share(c, model)
	}
	return c, nil
}

// settle completes the record, and says once what became of a call that met trouble.
func (q *request) settle() {
	rec := q.record
	rec.Took = time.Since(q.began)
	if rec.Outcome == "" {
		rec.Outcome = outcomeOf(nil, rec.Status)
	}
	if rec.Outcome == ClientCanceled {
		rec.Phase = q.phase()
	}
	if q.managed != nil {
		q.managed.outcome = rec.Outcome
		q.engine.audit(q.r.Context(), q.managed, q.who(), rec.RequestID)
	}
	if q.call == nil {
		return
	}
	if q.call.Cached != nil {
		q.settleShared(rec)
		q.traceShared(rec)
	}
	rec.Model, rec.Stream = q.call.Request.Model.Short(), q.call.Request.Stream
	_, rec.Route = q.call.Upstream.Route()
	rec.Nodes += q.call.Upstream.NodeTime()
	rec.Tries, rec.Queue, rec.Totals = q.call.Upstream.Tries(), q.call.Upstream.QueueTime(), q.call.Upstream.Totals()
	if node, reason := q.call.Upstream.Route(); node != "" && q.engine.log.Enabled(q.r.Context(), slog.LevelDebug) {
		q.engine.log.DebugContext(q.r.Context(), "a request was routed", "request_id", rec.RequestID, "model", rec.Model, "node", node, "reason", reason)
	}
	if !slices.ContainsFunc(rec.Tries, func(t call.Try) bool { return t.Failed }) {
		return
	}
	said := make([]string, len(rec.Tries))
	for i, t := range rec.Tries {
		said[i] = fmt.Sprintf("%s %s after %v", t.Node, t.Outcome, t.Took.Round(time.Millisecond))
	}
	q.engine.log.WarnContext(q.r.Context(), "a node failed a call",
		"request_id", rec.RequestID, "endpoint", rec.Endpoint,
		"model", rec.Model, "tries", said, "outcome", string(rec.Outcome),
		"queued", rec.Queue, "took", rec.Took)
}

// recovered deals with a panic on the way. What it gives is to be panicked with again.
func (q *request) recovered(p any) any {
	if p == http.ErrAbortHandler {
		if q.record.Outcome == "" {
			q.record.Outcome = Truncated
		}
		return p
	}
	q.panicked(p, debug.Stack())
	q.record.Outcome = InternalError
	if q.record.Status != 0 {
		return http.ErrAbortHandler // the answer has begun and cannot be mended
	}
	q.refuse(errPanic)
	return nil
}

// panicked counts and logs a panic, without its value, which may hold what a client sent.
func (q *request) panicked(p any, stack []byte) {
	q.engine.observer.Panicked()
	q.engine.log.ErrorContext(q.r.Context(), "panic while a request was answered",
		"request_id", q.record.RequestID, "endpoint", q.record.Endpoint, "panic", fmt.Sprintf("%T", p), "stack", string(stack))
}

// head writes the status line, and remembers it.
func (q *request) head(status int) {
	q.record.Status = status
	switch {
	case q.awaited != nil && !q.awaited.asked.Load():
		// Else the server first reads the body that nobody has asked for: behind the wrappers of
		// other handlers it does not know that the client waits.
		q.w.Header().Set("Connection", "close")
	case q.r.ProtoMajor == 1 && q.r.TransferEncoding != nil:
		// It may have had a Content-Length, too, of which net/http tells nothing: for a proxy before
		// this one its body may have ended elsewhere, so what follows may be another client's, or
		// made to look like it. A server must close then (RFC 9112 section 6.1).
		q.w.Header().Set("Connection", "close")
	}
	q.timing()
	q.w.WriteHeader(status)
}

// answers notes that the first byte of an answer is about to be written.
func (q *request) answers() { q.record.FirstByte = time.Since(q.began) }

// ctx ends with the client.
func (q *request) ctx() context.Context { return q.r.Context() }
