package tracing

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

const (
	sound   = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
)

func TestFrom_OnlyASoundTraceparentIsPassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		sent []string
		on   bool
	}{
		"sound":               {[]string{sound}, true},
		"not sampled":         {[]string{sound[:53] + "00"}, true},
		"further flags":       {[]string{sound[:53] + "a3"}, true},
		"none":                {nil, false},
		"empty":               {[]string{""}, false},
		"two":                 {[]string{sound, sound}, false},
		"upper case trace":    {[]string{strings.Replace(sound, "4bf", "4BF", 1)}, false},
		"upper case span":     {[]string{strings.Replace(sound, "f067aa", "F067AA", 1)}, false},
		"upper case flags":    {[]string{sound[:53] + "0A"}, false},
		"flags of no hex":     {[]string{sound[:53] + "0g"}, false},
		"no trace":            {[]string{"00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01"}, false},
		"no span":             {[]string{"00-" + traceID + "-0000000000000000-01"}, false},
		"version ff":          {[]string{"ff" + sound[2:]}, false},
		"a later version":     {[]string{"01" + sound[2:]}, false},
		"a later version's":   {[]string{"01" + sound[2:] + "-what"}, false},
		"more behind":         {[]string{sound + "-what"}, false},
		"space before":        {[]string{" " + sound}, false},
		"a line break":        {[]string{sound[:53] + "0\n"}, false},
		"another separator":   {[]string{strings.Replace(sound, "-", "_", 2)}, false},
		"cut":                 {[]string{sound[:54]}, false},
		"something else":      {[]string{"Bearer sk-canary"}, false},
		"as long, but no hex": {[]string{strings.Repeat("x", len(sound))}, false},
	} {
		h := http.Header{}
		if c.sent != nil {
			h["Traceparent"] = c.sent
		}
		p := From(t.Context(), h)
		got := http.Header{}
		p.Tell(got, Span{})
		switch {
		case c.on && (got.Get("Traceparent") != c.sent[0] || p.TraceID() != traceID || len(got) != 1):
			t.Errorf("%s: %q became %v, trace %q", name, c.sent, got, p.TraceID())
		case !c.on && (p != nil || len(got) != 0 || p.TraceID() != ""):
			t.Errorf("%s: %q became %v", name, c.sent, got)
		}
		if p.Records() || p.Start("x", trace.SpanKindClient, time.Now()).Recording() {
			t.Errorf("%s: there is a span where nobody traces", name)
		}
	}
}

func TestFrom_TracestateGoesOnIfItIsSound(t *testing.T) {
	for name, c := range map[string]struct {
		sent []string
		want string
	}{
		"one":          {[]string{"vendor=value"}, "vendor=value"},
		"two headers":  {[]string{"a=1", "b=2"}, "a=1,b=2"},
		"not a list":   {[]string{"what is this"}, ""},
		"one twice":    {[]string{"a=1,a=2"}, ""},
		"long":         {[]string{"a=" + strings.Repeat("x", 250), "b=" + strings.Repeat("x", 250), "c=" + strings.Repeat("x", 50)}, ""},
		"a line break": {[]string{"a=1\nX-Api-Key: x"}, ""},
	} {
		got := http.Header{}
		From(t.Context(), http.Header{"Traceparent": {sound}, "Tracestate": c.sent}).Tell(got, Span{})
		if got.Get("Tracestate") != c.want || got.Get("Traceparent") != sound {
			t.Errorf("%s: %q became %v, want %q", name, c.sent, got, c.want)
		}
	}
}

func TestFrom_TheSpanInTheContextCountsAndNotTheClient(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test")
	ctx, outer := tracer.Start(t.Context(), "handler")
	p := From(ctx, http.Header{"Traceparent": {sound}})
	if !p.Records() || p.TraceID() != outer.SpanContext().TraceID().String() {
		t.Fatalf("trace %s, want that of the context", p.TraceID())
	}
	h := http.Header{}
	p.Tell(h, Span{})
	if want := "00-" + p.TraceID() + "-" + outer.SpanContext().SpanID().String() + "-01"; h.Get("Traceparent") != want {
		t.Errorf("without a span of its own: %v, want %s", h, want)
	}
	s := p.Start("attempt", trace.SpanKindClient, time.Now())
	p.Tell(h, s)
	if want := "00-" + p.TraceID() + "-" + s.Context().SpanID().String() + "-01"; h.Get("Traceparent") != want {
		t.Errorf("of a try: %v, want %s", h, want)
	}
	s.End("reset")
	ended := spans.Ended()
	if len(ended) != 1 || ended[0].Parent().SpanID() != outer.SpanContext().SpanID() || ended[0].Status().Code.String() != "Error" {
		t.Errorf("ended %+v, want one below the context's that failed", ended)
	}
}

func TestFrom_ASpanThatIsNotSampledStillNamesTheTrace(t *testing.T) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
	ctx, outer := provider.Tracer("test").Start(t.Context(), "handler")
	p := From(ctx, http.Header{})
	h := http.Header{}
	p.Tell(h, p.Start("attempt", trace.SpanKindClient, time.Now()))
	if want := "00-" + p.TraceID() + "-" + outer.SpanContext().SpanID().String() + "-00"; p.Records() || h.Get("Traceparent") != want {
		t.Errorf("records %v, %v, want %s", p.Records(), h, want)
	}
}

func TestParent_NothingCostsNothing(t *testing.T) {
	h, ctx := http.Header{"Content-Type": {"application/json"}}, context.Background()
	if n := testing.AllocsPerRun(100, func() {
		p := From(ctx, h)
		s := p.Start("attempt", trace.SpanKindClient, time.Time{})
		if s.Recording() || p.Records() {
			t.Error("a trace of nothing")
		}
		s.Note("first frame")
		p.Tell(h, s)
		s.End("")
	}); n != 0 {
		t.Errorf("%v allocations where nobody traces", n)
	}
}

func FuzzFrom(f *testing.F) {
	f.Add(sound, "a=1,b=2")
	f.Add(sound+"-x", "=")
	f.Fuzz(func(t *testing.T, parent, state string) {
		h := http.Header{}
		From(t.Context(), http.Header{"Traceparent": {parent}, "Tracestate": {state}}).Tell(h, Span{})
		if got := h.Get("Traceparent"); got != "" && got != parent {
			t.Errorf("%q became %q", parent, got)
		}
		if got := h.Get("Tracestate"); len(got) > stateLimit || strings.ContainsAny(got, "\r\n\x00") {
			t.Errorf("%q became %q", state, got)
		}
	})
}

// BenchmarkFrom shows what a request costs of which there is no trace.
func BenchmarkFrom(b *testing.B) {
	for name, h := range map[string]http.Header{"nobody": {"Content-Type": {"application/json"}}, "client": {"Traceparent": {sound}}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p := From(context.Background(), h)
				s := p.Start("attempt", trace.SpanKindClient, time.Time{})
				s.End("")
			}
		})
	}
}
