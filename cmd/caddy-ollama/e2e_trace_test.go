package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

// A collector takes spans as OpenTelemetry's does, over HTTP.
type collector struct {
	*httptest.Server
	t *testing.T

	mu    sync.Mutex // guards what follows
	raw   strings.Builder
	spans []*tracepb.Span
}

func startCollector(t *testing.T) *collector {
	c := &collector{t: t}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var said tracepb.TracesData // the same as an ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &said)
		}
		if err != nil {
			t.Errorf("a collector was sent %d bytes: %v", len(body), err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, of := range said.ResourceSpans {
			for _, in := range of.ScopeSpans {
				c.spans = append(c.spans, in.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// env has a gateway send its spans there, soon.
func (c *collector) env() []string {
	return []string{
		"OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf", "OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_METRICS_EXPORTER=none",
	}
}

// all is whatever it was sent.
func (c *collector) all() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw.String()
}

// trace waits until the span that Caddy makes is there, which is the last to end, and gives the
// spans of that trace.
func (c *collector) trace(id string) (spans []*tracepb.Span) {
	c.t.Helper()
	redistest.Until(c.t, "the trace "+id, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		spans = nil
		for _, s := range c.spans {
			if hex.EncodeToString(s.TraceId) == id {
				spans = append(spans, s)
			}
		}
		return slices.ContainsFunc(spans, func(s *tracepb.Span) bool { return s.Name == outermost })
	})
	return spans
}

// outermost is the name of the span that Caddy makes.
const outermost = "gateway"

// tree lists the spans of a trace as "parent > name", with what is known beforehand of ours, in
// the order in which they began.
func tree(spans []*tracepb.Span) (lines []string) {
	names := make(map[string]string)
	for _, s := range spans {
		names[string(s.SpanId)] = s.Name
	}
	slices.SortStableFunc(spans, func(a, b *tracepb.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	for _, s := range spans {
		line := names[string(s.ParentSpanId)] + " > " + s.Name
		for _, name := range []string{"server.address", "error.type", "caddy_ollama.cache"} {
			if value := attribute(s, name); value != "" && s.Name != outermost {
				line += " " + value
			}
		}
		lines = append(lines, line)
	}
	return lines
}

func attribute(s *tracepb.Span, name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			if text := a.Value.GetStringValue(); text != "" {
				return text
			}
			return fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return ""
}

// named gives the last span of a name.
func named(t *testing.T, spans []*tracepb.Span, name string) (found *tracepb.Span) {
	t.Helper()
	for _, s := range spans {
		if s.Name == name {
			found = s
		}
	}
	if found == nil {
		t.Fatalf("no span %s in %q", name, tree(spans))
	}
	return found
}

// A listening proxy stands before a node and hears which spans it is told of.
type listening struct {
	*httptest.Server
	mu    sync.Mutex // guards what follows
	heard []string
}

func startListening(t *testing.T, node string) *listening {
	to, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	l, proxy := new(listening), httputil.NewSingleHostReverseProxy(to)
	proxy.FlushInterval = -1
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		l.heard = append(l.heard, r.Header.Get("Traceparent"))
		l.mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listening) has(traceparent string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.heard, traceparent)
}

// tracing is a gateway as docs/tracing.md says. The first node fails once for who says so.
const tracing = `{
	admin off
	persist_config off
	ollama {
		node %s {
			name a
			slots 4
		}
		node %s {
			name b
			slots 4
		}
		cache
		coalesce
	}
}

http://127.0.0.1:%s {
	bind 127.0.0.1
	tracing {
		span ` + outermost + `
	}
	ollama
}
`

// traceID and traceparent are those of the nth request of a test.
func traceID(n int) string     { return fmt.Sprintf("%032x", 0xabcdef00+n) }
func traceparent(n int) string { return "00-" + traceID(n) + "-00000000000000ff-01" }

// A collector is shown how each request was answered: which tries it took, and that it was a
// replay, or another one's answer. A client's own span is above it all, the nodes are told of the
// tries.
func TestTrace_ACollectorSeesHowARequestWasAnswered(t *testing.T) {
	t.Parallel()
	c, home := startCollector(t), t.TempDir()
	_, one := startSimulate(t, 1, "--models", "sim-small", "--slots", "4", "--fault", "status=500,contains=stumble,first=1")
	_, two := startSimulate(t, 1, "--models", "sim-small", "--slots", "4")
	a, b := startListening(t, one[0]), startListening(t, two[0])
	port, file := freePort(t), filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, tracing, a.URL, b.URL, port), 0o600); err != nil {
		t.Fatal(err)
	}
	run := start(t, append(c.env(), "HOME="+home), "run", "--config", file)
	if !run.waitFor("serving initial configuration") {
		t.Fatal("run ended")
	}
	client := &http.Client{Transport: new(http.Transport), Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	requests := 0
	begin := func(prompt string) (n int, began *http.Response) {
		t.Helper()
		requests++
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base("http", "127.0.0.1", port)+"/api/chat",
			strings.NewReader(chatBody("sim-small", prompt, `,"options":{"temperature":0}`)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Traceparent", traceparent(requests))
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return requests, resp
	}
	finish := func(resp *http.Response) {
		t.Helper()
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), `"done":true`) {
			t.Fatalf("%d %s %v", resp.StatusCode, text, err)
		}
	}

	redistest.Until(t, "a stored answer", func() bool { // what a model's answers depend on is known soon
		_, resp := begin("warm")
		finish(resp)
		return strings.HasPrefix(resp.Header.Get("Cache-Status"), "caddy-ollama; hit")
	})
	lead, first := begin("the leader's")
	follower, second := begin("the leader's")
	finish(first)
	finish(second)
	hit, third := begin("the leader's")
	finish(third)
	led, followed, stored := c.trace(traceID(lead)), c.trace(traceID(follower)), c.trace(traceID(hit))

	attempt := named(t, led, "attempt")
	node := attribute(attempt, "server.address")
	if got, want := tree(led), []string{" > gateway", "gateway > queue " + node, "gateway > attempt " + node}; !slices.Equal(got, want) {
		t.Errorf("generated: got %q, want %q", got, want)
	}
	if got := hex.EncodeToString(named(t, led, outermost).ParentSpanId); got != "00000000000000ff" {
		t.Errorf("Caddy's span is below %s, want the client's", got)
	}
	for name, want := range map[string]string{
		"gen_ai.operation.name": "chat", "gen_ai.provider.name": "ollama", "gen_ai.request.model": "sim-small:latest", "gen_ai.response.model": "sim-small:latest",
	} {
		if got := attribute(attempt, name); got != want {
			t.Errorf("attempt: %s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"} {
		if got := attribute(attempt, name); got == "" || got == "0" {
			t.Errorf("attempt: %s is %q", name, got)
		}
	}
	if attempt.Kind != tracepb.Span_SPAN_KIND_CLIENT || len(attempt.Events) != 1 || attempt.Events[0].Name != "first frame" {
		t.Errorf("attempt: %v", attempt)
	}
	told := "00-" + traceID(lead) + "-" + hex.EncodeToString(attempt.SpanId) + "-01"
	if asked := map[string]*listening{"a": a, "b": b}[node]; asked == nil || !asked.has(told) {
		t.Errorf("node %q was not told %s", node, told)
	}

	if got, want := tree(followed), []string{" > gateway", "gateway > follow"}; !slices.Equal(got, want) {
		t.Errorf("followed: got %q, want %q", got, want)
	}
	if links := named(t, followed, "follow").Links; len(links) != 1 || string(links[0].SpanId) != string(attempt.SpanId) || string(links[0].TraceId) != string(attempt.TraceId) {
		t.Errorf("follow is linked to %v, want the leader's attempt", links)
	}
	if got, want := tree(stored), []string{" > gateway", "gateway > replay hit"}; !slices.Equal(got, want) {
		t.Errorf("stored: got %q, want %q", got, want)
	}

	// Until the node that fails is the one that is asked first.
	want := []string{" > gateway", "gateway > queue a", "gateway > attempt a status_5xx", "gateway > queue b", "gateway > attempt b"}
	var got []string
	for range 50 {
		n, resp := begin(fmt.Sprint(requests, " times you may stumble"))
		finish(resp)
		if got = tree(c.trace(traceID(n))); len(got) > 3 {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("tried again: got %q, want %q", got, want)
	}
}

// Without tracing in the Caddyfile a client's trace goes on to the node as it came.
func TestTrace_WithoutTracingTheClientsGoesOn(t *testing.T) {
	t.Parallel()
	_, nodes := startSimulate(t, 1, "--models", "sim-small", "--scale", "0.05")
	node := startListening(t, nodes[0])
	g := startUp(t, []string{"OLLAMA_NODES=" + node.URL})
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base("http", "localhost", g.httpPort)+"/api/chat", strings.NewReader(chatBody("sim-small", "x", "")))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Traceparent", traceparent(1))
	resp, err := g.client("HTTP/1.1").Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if !node.has(traceparent(1)) {
		t.Error("the node was not told")
	}
	if got := resp.Header.Get("Server-Timing"); !strings.Contains(got, "node;dur=") || !strings.Contains(got, "ttft;dur=") {
		t.Errorf("Server-Timing %q", got)
	}
}
