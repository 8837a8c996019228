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
			pipe := simnode.NewPipe(simnode.New(simnode.Options{Models: simnode.GoldenModels()}))
			defer pipe.Close()
			engine := NewEngine(slog.New(slog.DiscardHandler))
			defer func() { engine.Close(); <-engine.Closed() }()
			config := Config{Cache: c.cache}
			for i := range 4 {
				config.Nodes = append(config.Nodes, fleet.NodeConfig{
					Name: fmt.Sprint("n", i), URL: &url.URL{Scheme: "http", Host: "localhost:11434"}, Slots: 512, Key: fmt.Sprint(i),
					Transport: &cannedNode{pipe, []byte(`{"model":"tiny","created_at":"2026-11-24T10:00:00.123456789Z","message":{"role":"assistant","content":" word"},"done":false}` + "\n"), c.frames},
				})
			}
			settings := NewSettings(engine, config)
			defer settings.Attach().Detach()
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
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/api/chat", strings.NewReader(strings.Replace(c.body, "%d", strconv.Itoa(n), 1)))
				w := httptest.NewRecorder()
				settings.Serve(w, r, Entry{Site: site})
				if w.Code != http.StatusOK {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*(c.frames+1)), "ns/frame")
		})
	}
}
