// Package tracing hangs what the gateway does for a request into the trace of who sent it.
//
// Where a handler before ours (Caddy's directive tracing) has put a span into the request's
// context, spans are its children, and a node is told of the span of its try. Where none has, a
// client's own trace context is passed on as it came. Where there is neither, all of it is nil
// and costs nothing. Spans hold words of the code and names of nodes and models: no prompt, no
// answer, no key, no path. tracing knows neither Caddy nor what exports the spans.
package tracing

import (
	"context"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// scope names who makes the spans.
const scope = "github.com/caddy-ollama/caddy-ollama"

// Attributes of spans (semantic conventions of OpenTelemetry for generative AI, and our own).
const (
	Operation     = attribute.Key("gen_ai.operation.name")
	Provider      = attribute.Key("gen_ai.provider.name")
	RequestModel  = attribute.Key("gen_ai.request.model")
	ResponseModel = attribute.Key("gen_ai.response.model")
	InputTokens   = attribute.Key("gen_ai.usage.input_tokens")
	OutputTokens  = attribute.Key("gen_ai.usage.output_tokens")
	Node          = attribute.Key("server.address") // its name: addresses are nobody's business
	ErrorType     = attribute.Key("error.type")
	Class         = attribute.Key("caddy_ollama.class")
	Route         = attribute.Key("caddy_ollama.route") // why a node was chosen
	Cache         = attribute.Key("caddy_ollama.cache")
	Backend       = attribute.Key("caddy_ollama.cache.backend")
)

// A Parent is what the spans of one request hang on. nil: there is no trace. It is never changed
// and safe for concurrent use.
type Parent struct {
	span   trace.SpanContext
	tracer trace.Tracer // nil: nothing is recorded
	state  string       // tracestate that is passed on
}

// From finds the trace of a request: the span in its context, else the trace context that its
// client has sent, if that is sound.
func From(ctx context.Context, h http.Header) *Parent {
	if span := trace.SpanFromContext(ctx); span.SpanContext().IsValid() {
		p := &Parent{span: span.SpanContext()}
		p.state = p.span.TraceState().String()
		if span.IsRecording() {
			p.tracer = span.TracerProvider().Tracer(scope)
		}
		return p
	}
	sent := h["Traceparent"]
	if len(sent) != 1 { // of two nobody knows which is meant
		return nil
	}
	span, ok := parse(sent[0])
	if !ok {
		return nil
	}
	return &Parent{span: span, state: parseState(h["Tracestate"])}
}

// parse reads a traceparent of version 00 (W3C Trace Context section 3.2), nothing looser.
func parse(text string) (trace.SpanContext, bool) {
	const length = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00")
	if len(text) != length || text[:3] != "00-" || text[35] != '-' || text[52] != '-' {
		return trace.SpanContext{}, false
	}
	traceID, err := trace.TraceIDFromHex(text[3:35]) // not all zeros, lower case
	if err != nil {
		return trace.SpanContext{}, false
	}
	spanID, err := trace.SpanIDFromHex(text[36:52])
	if err != nil {
		return trace.SpanContext{}, false
	}
	high, low := digit(text[53]), digit(text[54])
	if high < 0 || low < 0 {
		return trace.SpanContext{}, false
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: traceID, SpanID: spanID, TraceFlags: trace.TraceFlags(high<<4 | low), Remote: true,
	}), true
}

// digit is the value of a hexadecimal digit in lower case, or -1.
func digit(c byte) int { return strings.IndexByte("0123456789abcdef", c) }

// stateLimit bounds a tracestate, in bytes: what the standard has everybody pass on at least.
const stateLimit = 512

// parseState reads the tracestate of a request. What is wrong or longer is left out, which does
// not concern the traceparent.
func parseState(values []string) string {
	if len(values) == 0 {
		return ""
	}
	text := strings.Join(values, ",")
	if len(text) > stateLimit {
		return ""
	}
	state, err := trace.ParseTraceState(text)
	if err != nil {
		return ""
	}
	return state.String()
}

// TraceID is 32 hexadecimal digits, "" without a trace.
func (p *Parent) TraceID() string {
	if p == nil {
		return ""
	}
	return p.span.TraceID().String()
}

// Records tells whether spans are made. Ask it before what only they need.
func (p *Parent) Records() bool { return p != nil && p.tracer != nil }

// Start begins a span at a time; the zero Span, which does nothing, if none is recorded.
func (p *Parent) Start(name string, kind trace.SpanKind, at time.Time, attributes ...attribute.KeyValue) Span {
	if !p.Records() {
		return Span{}
	}
	ctx := trace.ContextWithSpanContext(context.Background(), p.span)
	_, span := p.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(at), trace.WithAttributes(attributes...))
	return Span{span}
}

// Tell writes into the headers of a request to a node which span it is part of: s, or who has
// sent the request if s is none.
func (p *Parent) Tell(h http.Header, s Span) {
	if p == nil {
		return
	}
	span := p.span
	if s.span != nil {
		span = s.span.SpanContext()
	}
	h["Traceparent"] = []string{"00-" + span.TraceID().String() + "-" + span.SpanID().String() + "-" + span.TraceFlags().String()}
	if p.state != "" {
		h["Tracestate"] = []string{p.state}
	}
}

// A Span is a part of what was done for a request. The zero value is none.
type Span struct{ span trace.Span }

// Recording tells whether there is a span. Ask it before what only it needs.
func (s Span) Recording() bool { return s.span != nil && s.span.IsRecording() }

// Context names the span for links to it; not valid if there is none.
func (s Span) Context() trace.SpanContext {
	if s.span == nil {
		return trace.SpanContext{}
	}
	return s.span.SpanContext()
}

// Set adds attributes.
func (s Span) Set(attributes ...attribute.KeyValue) {
	if s.span != nil {
		s.span.SetAttributes(attributes...)
	}
}

// Link tells that another span, perhaps of another trace, did what this one waited for.
func (s Span) Link(to trace.SpanContext) {
	if s.span != nil && to.IsValid() {
		s.span.AddLink(trace.Link{SpanContext: to})
	}
}

// Note marks a moment of the span.
func (s Span) Note(moment string) {
	if s.span != nil {
		s.span.AddEvent(moment)
	}
}

// End ends the span. failed is a word for error.type, "" if all went well.
func (s Span) End(failed string) {
	if s.span == nil {
		return
	}
	if failed != "" {
		s.span.SetAttributes(ErrorType.String(failed))
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}
