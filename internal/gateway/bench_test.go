package gateway

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A cannedNode answers every chat with the same records, from memory.
type cannedNode struct {
	node  *simnode.Pipe
	frame []byte
	count int
}

func (c *cannedNode) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path != "/api/chat" {
		return c.node.RoundTrip(r)
	}
	io.Copy(io.Discard, r.Body)
	body := bytes.Repeat(c.frame, c.count)
	body = append(body, `{"model":"tiny","created_at":"2026-11-24T10:00:00.123456789Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":123456789,"load_duration":1234567,"prompt_eval_count":9,"prompt_eval_duration":1234567,"eval_count":8,"eval_duration":12345678}`+"\n"...)
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-ndjson"}},
		ContentLength: -1, Body: io.NopCloser(bytes.NewReader(body)), Request: r,
	}, nil
}

// BenchmarkServe is the way of a call without a network: what the gateway itself costs.
func BenchmarkServe(b *testing.B) {
	for _, c := range []struct {
		name, body string
		frames     int
		cache      *cache.Options
	}{
		{"single", `{"model":"tiny","stream":false,"messages":[{"role":"user","content":"hello there"}]}`, 8, nil},
		{"single/hit", `{"model":"tiny","stream":false,"messages":[{"role":"user","content":"hello there"}]}`, 8, &cache.Options{Rules: cache.Rules{{TTL: time.Hour}}}},
		{"single/miss", `{"model":"tiny","stream":false,"messages":[{"role":"user","content":"hello there %d"}]}`, 8, &cache.Options{Rules: cache.Rules{{TTL: time.Hour}}, Memory: 1 << 20}},
		{"stream/hit", `{"model":"tiny","messages":[{"role":"user","content":"hello there"}]}`, 100, &cache.Options{Rules: cache.Rules{{TTL: time.Hour}}}},
		{"stream", `{"model":"tiny","messages":[{"role":"user","content":"hello there"}]}`, 8, nil},
		{"stream-2000", `{"model":"tiny","messages":[{"role":"user","content":"hello there"}]}`, 2000, nil},
	} {
		b.Run(c.name, func(b *testing.B) {
			ask := benchGateway(b, Config{Cache: c.cache}, c.frames)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				ask(httptest.NewRecorder(), strings.Replace(c.body, "%d", strconv.Itoa(n), 1))
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*(c.frames+1)), "ns/frame")
		})
	}
}

// BenchmarkMiss is what it costs to look for an answer in vain and to store it: the same calls
// through a gateway without a cache and through one whose cache is full.
func BenchmarkMiss(b *testing.B) {
	for _, c := range []struct {
		name  string
		cache *cache.Options
	}{
		{"none", nil},
		{"cache", &cache.Options{Rules: cache.Rules{{TTL: time.Hour}}, Memory: 1 << 20}},
	} {
		b.Run(c.name, func(b *testing.B) {
			ask := benchGateway(b, Config{Cache: c.cache}, 8)
			const body = `{"model":"tiny","messages":[{"role":"user","content":"Say words: 8 at a rate of 0 with a pause of 0 and number %d"}],"stream":false,"options":{"temperature":0}}`
			var waited time.Duration // by clients, for the end of the answer
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				w := &clockedWriter{ResponseRecorder: httptest.NewRecorder(), began: time.Now()}
				ask(w, strings.Replace(body, "%d", strconv.Itoa(n), 1))
				if w.flushed == 0 {
					w.flushed = time.Since(w.began)
				}
				waited += w.flushed
			}
			b.ReportMetric(float64(waited.Nanoseconds())/float64(b.N), "answered-ns/op")
		})
	}
}

// A clockedWriter knows when the answer was sent.
type clockedWriter struct {
	*httptest.ResponseRecorder
	began   time.Time
	flushed time.Duration // 0: with the return of the handler
}

func (w *clockedWriter) FlushError() error {
	w.flushed = time.Since(w.began)
	return nil
}

func (w *clockedWriter) Unwrap() http.ResponseWriter { return w.ResponseRecorder }

// benchGateway puts a gateway before nodes that answer with so many frames, and gives what asks it.
func benchGateway(b *testing.B, config Config, frames int) (ask func(w http.ResponseWriter, body string)) {
	pipe := simnode.NewPipe(simnode.New(simnode.Options{Models: simnode.GoldenModels()}))
	b.Cleanup(pipe.Close)
	engine := NewEngine(slog.New(slog.DiscardHandler))
	b.Cleanup(func() { engine.Close(); <-engine.Closed() })
	for i := range 4 {
		config.Nodes = append(config.Nodes, fleet.NodeConfig{
			Name: fmt.Sprint("n", i), URL: &url.URL{Scheme: "http", Host: "localhost:11434"}, Slots: 512, Key: fmt.Sprint(i),
			Transport: &cannedNode{pipe, []byte(`{"model":"tiny","created_at":"2026-11-24T10:00:00.123456789Z","message":{"role":"assistant","content":" word"},"done":false}` + "\n"), frames},
		})
	}
	settings := NewSettings(engine, config)
	hold := settings.Attach()
	b.Cleanup(hold.Detach)
	if err := engine.fleet.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	site, err := NewSite(SiteConfig{})
	if err != nil {
		b.Fatal(err)
	}
	for engine.fleet.Snapshot().Models["registry.ollama.ai/library/tiny:latest"].Identity == "" {
		runtime.Gosched()
	}
	return func(w http.ResponseWriter, body string) {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/api/chat", strings.NewReader(body))
		if rec := settings.Serve(w, r, Entry{Site: site}); rec.Status != http.StatusOK {
			b.Fatalf("%d %s", rec.Status, rec.Outcome)
		}
	}
}
