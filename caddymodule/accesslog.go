package caddymodule

import (
	"net/http"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// addToAccessLog puts what became of a request into the line that Caddy writes of it, as the
// object "ollama". A site without a log has no such line, and pays nothing.
func addToAccessLog(r *http.Request, record *gateway.Record) {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil || server.Logs == nil {
		return
	}
	if fields, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		fields.Add(zap.Object("ollama", recordFields{record}))
	}
}

// recordFields spells a record for a log. Durations are in seconds, as Caddy's own are. What is
// not known of a request is absent.
type recordFields struct{ *gateway.Record }

// MarshalLogObject implements zapcore.ObjectMarshaler.
func (r recordFields) MarshalLogObject(e zapcore.ObjectEncoder) error {
	e.AddString("request_id", r.RequestID)
	if r.TraceID != "" {
		e.AddString("trace_id", r.TraceID)
	}
	if r.Tenant != "" {
		e.AddString("tenant", r.Tenant)
	}
	e.AddString("endpoint", r.Endpoint)
	if r.Operation != "" {
		e.AddString("operation", r.Operation)
		e.AddString("dialect", r.Dialect)
	}
	e.AddString("outcome", string(r.Outcome))
	if r.Items > 0 {
		e.AddInt("items", r.Items)
		e.AddInt("items_failed", r.ItemsFailed)
	}
	if r.Reason != "" {
		e.AddString("reason", string(r.Reason))
	}
	if r.Model == "" {
		return nil
	}
	e.AddString("model", r.Model)
	e.AddBool("stream", r.Stream)
	if n := len(r.Tries); n > 0 {
		e.AddString("node", r.Tries[n-1].Node)
		e.AddInt("attempts", n)
	}
	if r.Route != "" {
		e.AddString("route", r.Route)
	}
	e.AddFloat64("queue", r.Queue.Seconds())
	if r.FirstByte > 0 {
		e.AddFloat64("time_to_first_token", r.FirstByte.Seconds())
		e.AddFloat64("first_byte", r.FirstByte.Seconds()) // the same, as it was called first
	}
	r.addCache(e)
	if t := r.Totals; t.PromptTokens > 0 || t.OutputTokens > 0 {
		e.AddInt("prompt_tokens", t.PromptTokens)
		e.AddInt("output_tokens", t.OutputTokens)
	}
	return nil
}

// addCache tells what the cache did, and under which name it did it.
func (r recordFields) addCache(e zapcore.ObjectEncoder) {
	c := r.Cache
	if r.Coalesced {
		e.AddBool("coalesced", true)
		e.AddInt("tokens_saved", c.Saved.OutputTokens)
	}
	if t := c.Texts; t.Items > 0 {
		e.AddInt("texts", t.Items)
		e.AddInt("texts_found", t.Found)
		e.AddInt("texts_joined", t.Joined)
	}
	if c.Status == "" {
		return
	}
	e.AddString("cache", string(c.Status))
	if c.Detail != "" {
		e.AddString("cache_detail", c.Detail)
	}
	if key := r.CacheKey(); key != "" {
		e.AddString("cache_key", key)
	}
	if c.Status == call.Hit || c.Status == call.Stale {
		e.AddString("cache_backend", c.Backend)
		e.AddString("cache_rule", c.Rule)
		e.AddFloat64("cache_age", c.Age.Seconds())
		e.AddInt("tokens_saved", c.Saved.OutputTokens)
	}
}
