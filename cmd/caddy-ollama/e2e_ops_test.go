package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
	"github.com/caddy-ollama/caddy-ollama/ops"
)

// watching is a gateway as docs/monitoring.md says: a site serves the metrics. Its queue is short.
const watching = `{
	admin off
	persist_config off
	ollama {
		node %s {
			name a
			slots 2
		}
		node %s {
			name b
			slots 2
		}
		queue {
			max_length 10
		}
		health {
			interval 1s
		}
		cache {
			redis %s
			secret {env.CACHE_SECRET}
		}
		coalesce
	}
}

http://127.0.0.1:%s {
	bind 127.0.0.1
	metrics /metrics
	ollama_health /readyz ready
	handle /post/* {
		ollama_blog
	}
	ollama
}
`

// A watched is a running gateway with that Caddyfile.
type watched struct {
	*process
	address string // host and port
	url     string
	client  *http.Client
}

// startWatched starts one before nodes a and b and waits until it has used both.
func startWatched(t *testing.T, a, b string) *watched {
	t.Helper()
	redis, home := redistest.Start(t).URL(), t.TempDir()
	file := filepath.Join(home, "Caddyfile")
	for range 3 { // somebody else may take a port that was free
		port := freePort(t)
		if err := os.WriteFile(file, fmt.Appendf(nil, watching, a, b, redis, port), 0o600); err != nil {
			t.Fatal(err)
		}
		w := &watched{
			address: "127.0.0.1:" + port, url: base("http", "127.0.0.1", port),
			client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: patience},
		}
		t.Cleanup(w.client.CloseIdleConnections)
		w.process = start(t, []string{"HOME=" + home, "CACHE_SECRET=" + cacheSecret}, "run", "--config", file)
		if w.waitFor("serving initial configuration") {
			redistest.Until(t, "both nodes up", func() bool {
				return strings.Count(w.scrape(), "\ncaddy_ollama_node_up{node=\"a\"} 1\ncaddy_ollama_node_up{node=\"b\"} 1\n") == 1
			})
			return w
		}
		if !strings.Contains(w.output(), "address already in use") {
			break
		}
	}
	t.Fatal("run ended")
	return nil
}

// scrape is what Prometheus would read.
func (w *watched) scrape() string {
	w.t.Helper()
	_, text := get(w.t, w.client, w.url+"/metrics", "")
	return text
}

// post asks for an answer that must be one.
func (w *watched) post(path, body string) {
	w.t.Helper()
	resp, err := w.client.Post(w.url+path, "application/json", strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: %d %s, %v", body, resp.StatusCode, text, err)
	}
}

var sample = regexp.MustCompile(`(?m)^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})? `)

// What every rule and every panel reads is there in what the binary serves once each part of it
// has had something to do.
func TestOps_EveryMetricIsServed(t *testing.T) {
	t.Parallel()
	_, nodes := startSimulate(t, 2, "--slots", "2", "--models", "sim-small,sim-embed", "--scale", "0.2")
	w := startWatched(t, nodes[0], nodes[1])

	const certain = `,"options":{"temperature":0}`
	w.post("/api/embed", `{"model":"sim-embed","input":"one"}`)
	w.post("/api/chat", chatBody("sim-small", "never the same", "")) // not cached
	began, first := make(chan struct{}), make(chan *stream)
	go func() { // ends with the answer
		first <- askStream(t.Context(), w.client, w.url+"/api/chat", chatBody("sim-small", "the same", certain), func() { close(began) })
	}()
	<-began
	w.post("/api/chat", chatBody("sim-small", "the same", certain)) // joins
	if s := <-first; endOf(s) != "done" {
		t.Fatalf("%d %v %s", s.status, s.err, s.last())
	}
	w.post("/api/chat", chatBody("sim-small", "the same", certain)) // is stored
	if resp, _ := get(t, w.client, w.url+"/post/1", ""); resp.StatusCode != http.StatusNotFound {
		t.Fatalf("a post that the blog has not: %d", resp.StatusCode)
	}

	expressions, err := ops.Expressions()
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for deadline := time.Now().Add(patience); ; { // what goes to Redis does so in the background
		if missing = notServed(expressions, w.scrape()); len(missing) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not served:\n%s\nof\n%s", strings.Join(missing, "\n"), w.scrape())
		}
	}
}

// notServed are the metrics and labels of expressions that are in no sample of text.
func notServed(expressions []ops.Expression, text string) (missing []string) {
	served := make(map[string]string) // labels of all samples by name
	for _, found := range sample.FindAllStringSubmatch(text, -1) {
		served[found[1]] += found[2] + "\n"
	}
	for _, e := range expressions {
		selectors, _ := ops.Read(e.Text)
		for _, s := range selectors {
			if s.Metric == "up" || s.Metric == "ALERTS" || strings.Contains(s.Metric, ":") {
				continue // made by Prometheus
			}
			labels, ok := served[s.Metric]
			if !ok {
				missing = append(missing, s.Metric+" of "+e.Where)
			}
			for _, m := range s.Labels {
				if ok && m.Label != "job" && m.Label != "instance" && !strings.Contains(labels, m.Label+`="`) {
					missing = append(missing, s.Metric+"{"+m.Label+"} of "+e.Where)
				}
			}
		}
	}
	slices.Sort(missing)
	return slices.Compact(missing)
}
