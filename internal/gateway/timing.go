package gateway

import (
	"strconv"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/tracing"
)

// timing tells the client where its time went, in Server-Timing (W3C): what the cache did, the
// wait for slots, the node's time to the first frame, and of a stream the time to its first byte,
// of anything else the whole time. It is sent with the status line, so a stream's whole time is
// not known.
func (q *request) timing() {
	if q.passes {
		return // what the node says goes back as it is
	}
	line := make([]byte, 0, 128)
	if q.call != nil {
		if q.call.Cached != nil {
			switch r := q.call.Cached.Result(); {
			case r.Status == call.Hit, r.Status == call.Stale:
				line = append(append(line, "cache;desc="...), r.Status...)
			case r.Lead != nil:
				line = append(line, "coalesced"...)
			}
		}
		queued, first := q.call.Upstream.Timing()
		line = appendDuration(line, "queue", queued)
		line = appendDuration(line, "node", first)
	}
	if q.streams {
		line = appendDuration(line, "ttft", q.record.FirstByte)
	} else {
		line = appendDuration(line, "total", time.Since(q.began))
	}
	if len(line) > 0 {
		q.w.Header()["Server-Timing"] = []string{string(line)}
	}
}

// appendDuration adds a metric in milliseconds, of which microseconds are shown. 0 is what is not
// known.
func appendDuration(line []byte, name string, d time.Duration) []byte {
	if d <= 0 {
		return line
	}
	if len(line) > 0 {
		line = append(line, ", "...)
	}
	line = append(append(line, name...), ";dur="...)
	return strconv.AppendFloat(line, float64(d)/float64(time.Millisecond), 'f', 3, 64)
}

// traceShared makes the span of an answer that was not generated for the request: a replay of a
// stored one, or one that was heard while it was generated for another request.
func (q *request) traceShared(rec *Record) {
	if q.asked.IsZero() {
		return
	}
	var span tracing.Span
	model := tracing.RequestModel.String(q.call.Request.Model.Short())
	switch {
	case rec.Cache.Status == call.Hit, rec.Cache.Status == call.Stale:
		span = q.trace.Start("replay", trace.SpanKindInternal, q.asked, model,
			tracing.Cache.String(string(rec.Cache.Status)), tracing.Backend.String(rec.Cache.Backend))
	case rec.Coalesced:
		span = q.trace.Start("follow", trace.SpanKindInternal, q.asked, model)
		span.Link(rec.Cache.Lead.Span())
	default:
		return
	}
	failed := ""
	if rec.Outcome != OK {
		failed = string(rec.Outcome)
	}
	span.End(failed)
}
