package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Entry says where a request came in.
type Entry struct {
	Site *Site
	// HostRule applies Ollama's rule for servers bound to a loopback address: a foreign Host
	// header is refused, so that a web page cannot reach in by rebinding a name.
	HostRule bool
}

// A request is one HTTP request on its way.
type request struct {
	*Settings
	site     *Site
	hostRule bool
	w        http.ResponseWriter
	r        *http.Request
	route    wire.Route
	param    string // what stands in the place of :name in the route
	passes   bool   // a route of the site's own, sent on unseen
	began    time.Time
	tenant   string // whose verified key the request presents, "" on a site without keys
	// wantsStream is known once the request is parsed; a node words an error's content type
	// by it.
	wantsStream bool
}

// Serve answers one request of a client.
func (s *Settings) Serve(w http.ResponseWriter, r *http.Request, entry Entry) {
	q := &request{Settings: s, site: entry.Site, hostRule: entry.HostRule, w: w, r: r, began: time.Now()}
	if !q.enter() { // paths, Host, Origin, methods: as a node does before any handler
		return
	}
	if !s.engine.enter() {
		q.refuse(errClosing)
		return
	}
	defer s.engine.leave()

	var err error
	q.tenant, err = q.identify()
	switch {
	case slices.Contains(r.Header.Values("Via"), "1.1 "+s.engine.via):
		err = errLoop
	case err != nil: // who asks may not
	case q.passes:
		err = q.pass()
	case q.route.Access == wire.Cloud, q.route.Access == wire.Manage:
		err = q.forbidden()
	case q.route.Access == wire.Read:
		err = q.read()
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

	c, body, err := q.admit()
	defer body.release()
	if err != nil {
		return err
	}
	defer q.settle(c)
	switch {
	case c.Request.Task == wire.Unload:
		return q.unload(c)
	case c.Request.Stream:
		return q.stream(c)
	}
	return q.single(c)
}

// admit reads and judges the request and finds out what it asks for.
func (q *request) admit() (*call.Call, *body, error) {
	body, err := q.engine.readBody(q.w, q.r, q.limits, wire.Expands(q.route))
	if err != nil {
		return nil, body, err
	}
	parsed, err := wire.Parse(q.route, body.bytes)
	if err != nil {
		return nil, body, err
	}
	if parsed.Stream {
		q.announceEvents()
	}
	if err := q.guard(parsed); err != nil {
		return nil, body, err
	}
	model, err := q.resolve(parsed.Model)
	if err != nil {
		return nil, body, err
	}
	if err := q.guardContext(parsed, model); err != nil {
		return nil, body, err
	}
	return &call.Call{
		Request:   parsed,
		Identity:  model.Identity,
		Runner:    parsed.Runner.Over(model.Parameters),
		Embedding: model.Embedding,
		Class:     q.site.class,
		Tenant:    q.tenant,
		Upstream:  call.NewUpstream(q.tries.Retries()),
	}, body, nil
}

// settle says once what became of a call that met trouble.
func (q *request) settle(c *call.Call) {
	tries := c.Upstream.Tries()
	if !slices.ContainsFunc(tries, func(t call.Try) bool { return t.Failed }) {
		return
	}
	said := make([]string, len(tries))
	for i, t := range tries {
		said[i] = fmt.Sprintf("%s %s after %v", t.Node, t.Outcome, t.Took.Round(time.Millisecond))
	}
	q.engine.log.WarnContext(q.r.Context(), "a node failed a call",
		"operation", q.route.Operation.String(), "dialect", q.route.Dialect.String(),
		"model", c.Request.Model.Short(), "tries", said,
		"queued", c.Upstream.QueueTime(), "took", time.Since(q.began))
}

// ctx ends with the client.
func (q *request) ctx() context.Context { return q.r.Context() }
