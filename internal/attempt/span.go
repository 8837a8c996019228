package attempt

import (
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/tracing"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// waits begins the span of a wait for a slot.
func waits(c *call.Call, at time.Time) tracing.Span {
	if !c.Trace.Records() {
		return tracing.Span{}
	}
	return c.Trace.Start("queue", trace.SpanKindInternal, at,
		tracing.RequestModel.String(c.Request.Model.Short()), tracing.Class.String(c.Class.String()))
}

// waited ends it.
func waited(span tracing.Span, w *recording.Writer, g *schedule.Grant, err error) {
	if !span.Recording() {
		return
	}
	if err == nil {
		span.Set(tracing.Node.String(g.Node.Name()), tracing.Route.String(g.Reason))
		span.End("")
		return
	}
	var (
		unloaded *LoadError
		fault    *Fault
	)
	word := "_OTHER" // of the conventions: no word is better than one that is not known
	switch {
	case w.Context().Err() != nil:
		word = string(Canceled)
	case errors.As(err, &unloaded):
		word = string(unloaded.Outcome)
	case errors.As(err, &fault):
		word = string(fault.Outcome)
	case errors.Is(err, schedule.ErrQueueFull):
		word = "queue_full"
	case errors.Is(err, schedule.ErrWaitTooLong):
		word = "wait_too_long"
	case errors.Is(err, schedule.ErrNoNode):
		word = "no_node"
	case errors.Is(err, schedule.ErrStopping):
		word = "stopping"
	}
	span.End(word)
}

// beginSpan begins the span of a try.
func (t *try) beginSpan() {
	if !t.call.Trace.Records() {
		return
	}
	r := t.call.Request
	t.span = t.call.Trace.Start("attempt", trace.SpanKindClient, t.began,
		tracing.Operation.String(operation(r.Route.Operation)), tracing.Provider.String("ollama"),
		tracing.RequestModel.String(r.Model.Short()), tracing.Node.String(t.grant.Node.Name()), tracing.Route.String(t.grant.Reason))
	t.call.Upstream.Traced(t.span.Context())
}

// endSpan ends it.
func (t *try) endSpan(o Outcome) {
	if !t.span.Recording() {
		return
	}
	if o != OK {
		t.span.End(string(o))
		return
	}
	said := []attribute.KeyValue{tracing.ResponseModel.String(t.call.Request.Model.Short())}
	if t.judge != nil {
		if totals := t.judge.Totals(); totals.PromptTokens > 0 || totals.OutputTokens > 0 {
			said = append(said, tracing.InputTokens.Int(totals.PromptTokens), tracing.OutputTokens.Int(totals.OutputTokens))
		}
	}
	t.span.Set(said...)
	t.span.End("")
}

// operation is the word of the conventions for an operation.
func operation(o wire.Operation) string {
	switch o {
	case wire.Generate:
		return "text_completion"
	case wire.Embed:
		return "embeddings"
	}
	return "chat"
}
