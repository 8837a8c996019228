package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

// What must be nowhere but in requests and answers. A canary has no word that anything else has.
const (
	promptCanary  = "Heuschreckenplage"
	systemCanary  = "Zitronenfalterfluegel"
	nodesCanary   = "Wolkenkuckucksheim"       // what a node says in its errors: it may repeat a prompt
	modelCanary   = "Lindwurmhoehle"           // a model that nobody has
	keyCanary     = "sk-Quittengeleeglas-0001" // alice's
	strangeCanary = "sk-Brombeerhecken-0002"   // nobody's
	otherCanary   = "Regenbogenforelle"        // further headers and parts of bodies
)

// secretive is a gateway that tells all it can: it logs at debug level, traces, serves metrics, and
// saves its configuration. The filter is the one of docs/caddyfile.md.
const secretive = `{
	admin unix/%[1]s/admin.sock|0600
	debug
	metrics
	grace_period 5s
	ollama {
		node %[2]s {
			name a
			slots 4
		}
		node %[3]s {
			name b
			slots 4
		}
		health {
			interval 500ms
		}
		cache {
			redis %[4]s
			secret {env.CACHE_SECRET}
			ttl 1h
		}
		coalesce
		batch embed
	}
}

http://127.0.0.1:%[5]s {
	bind 127.0.0.1
	log {
		output file %[1]s/access.log
		format filter {
			request>headers>X-Api-Key delete
		}
	}
	metrics /metrics
	ollama_status /status
	tracing {
		span ` + outermost + `
	}
	ollama {
		keys {file.%[1]s/keys}
		explain
		num_ctx max 4096
	}
}
`

// word has the nodes fail in the nth way.
func word(n int) string { return fmt.Sprintf("trip-%d.", n) }

// trip has a node fail as told for who says the word.
func trip(t *testing.T, word string, fault map[string]any) string {
	t.Helper()
	fault["contains"] = word
	text, err := json.Marshal(fault)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// A teller asks a secretive gateway and remembers what it was answered.
type teller struct {
	t       *testing.T
	client  *http.Client
	url     string
	answers []string // texts of single answers, and numbers of vectors
}

var saidText = regexp.MustCompile(`"(?:content|response|text)":"((?:[^"\\]|\\.){24,})"|"embedding[s]?":\[+((?:-?[0-9.e-]+,){3})`)

// ask sends a request, which may fail, and gives its status.
func (c *teller) ask(ctx context.Context, method, path, body string, headers ...string) (status int) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+keyCanary)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		r.Header.Del("Authorization")
		if name != "" {
			r.Header.Set(name, value)
		}
	}
	resp, err := c.client.Do(r)
	if err != nil {
		if ctx.Err() == nil {
			c.t.Errorf("%s: %v", path, err)
		}
		return 0
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body) // it may break off: that is what is tested
	for _, said := range saidText.FindAllStringSubmatch(string(text), -1) {
		c.answers = append(c.answers, (said[1] + said[2])[:min(24, len(said[1]+said[2]))])
	}
	return resp.StatusCode
}

// well are requests that are answered, in all dialects.
var well = [][2]string{
	{"/api/chat", `{"model":"sim-small","stream":false,"messages":[{"role":"system","content":"` + systemCanary + `"},{"role":"user","content":"` + promptCanary + `"}]}`},
	{"/api/chat", `{"model":"sim-small","messages":[{"role":"user","content":"` + promptCanary + ` streamed"}],"options":{"num_ctx":65536}}`},
	{"/api/generate", `{"model":"sim-small","stream":false,"system":"` + systemCanary + `","prompt":"` + promptCanary + ` generated"}`},
	{"/api/embed", `{"model":"sim-embed","input":["` + promptCanary + `","` + otherCanary + `"]}`},
	{"/api/embeddings", `{"model":"sim-embed","prompt":"` + promptCanary + `"}`},
	{"/v1/chat/completions", `{"model":"sim-small","user":"` + otherCanary + `","messages":[{"role":"user","content":"` + promptCanary + ` of OpenAI's"}]}`},
	{"/v1/completions", `{"model":"sim-small","prompt":"` + promptCanary + ` completed"}`},
	{"/v1/embeddings", `{"model":"sim-embed","input":"` + promptCanary + `"}`},
	{"/v1/responses", `{"model":"sim-small","instructions":"` + systemCanary + `","input":"` + promptCanary + ` responded"}`},
	{"/v1/messages", `{"model":"sim-small","max_tokens":64,"system":"` + systemCanary + `","metadata":{"user_id":"` + otherCanary + `"},"messages":[{"role":"user","content":"` + promptCanary + ` of Anthropic's"}]}`},
}

// wrong are requests that are refused, here or by a node.
var wrong = [][2]string{
	{"/api/chat", `{"model":"` + modelCanary + `","messages":[{"role":"user","content":"` + promptCanary + `"}]}`},
	{"/api/chat", `{"model":"` + modelCanary + `: ` + promptCanary + `","messages":[]}`},
	{"/api/chat", `{"model":"sim-small","messages":"` + promptCanary + `"}`},
	{"/api/chat", `{"model":"sim-small","messages":[{"role":"user","content":"` + promptCanary},
	{"/api/chat", `{"model":"sim-embed","messages":[{"role":"user","content":"` + promptCanary + `"}]}`},
	{"/api/chat", `{"model":"sim-small","format":"` + otherCanary + `","messages":[{"role":"user","content":"` + promptCanary + `"}]}`},
	{"/api/chat", `{"model":"sim-small","messages":[{"role":"user","content":"x","images":["` + promptCanary + `!"]}]}`},
	{"/api/generate", `{"model":"sim-small","context":[99999999],"prompt":"` + promptCanary + `"}`},
	{"/api/generate", `{"model":"sim-small","keep_alive":"` + otherCanary + `","prompt":"` + promptCanary + `"}`},
	{"/api/pull", `{"model":"` + modelCanary + `"}`},
	{"/v1/chat/completions", `{"model":"sim-small","temperature":"` + otherCanary + `","messages":[{"role":"user","content":"` + promptCanary + `"}]}`},
	{"/v1/messages", `{"model":"sim-small","messages":[{"role":"` + otherCanary + `","content":"` + promptCanary + `"}]}`},
	{"/v1/responses", `{"model":"sim-small","input":[{"type":"` + otherCanary + `"}]}`},
	{"/api/embed", `{"model":"sim-embed","input":{"x":"` + promptCanary + `"}}`},
}

// A gateway that tells all it can, and everything that can happen to a request: what was asked and
// answered, and with which key, is in nothing that it leaves behind.
func TestCanary_WhatIsSaidIsNowhereElse(t *testing.T) {
	t.Parallel()
	redis, spans, home := redistest.Start(t), startCollector(t), t.TempDir()
	sim := []string{"--slots", "4", "--models", "sim-small,sim-embed", "--scale", "0.05"}
	says := `{"error":"` + nodesCanary + `"}`
	// First what ends a stream in its middle: the others have the nodes ejected for a while.
	trips := []map[string]any{
		{"end": "clean", "frames": 3},
		{"bad_line": says, "frames": 2},
		{"bad_line": nodesCanary, "frames": 2},
		{"end": "reset", "frames": 3},
		{"crash": true, "frames": 2},
		{"status": 400, "body": says},
		{"status": 404, "body": says},
		{"status": 503, "body": says},
		{"status": 500, "body": says},
		{"bad_line": says},
		{"status": 200, "type": "text/html", "body": "<h1>" + nodesCanary},
		{"redirect": "http://127.0.0.1:1/" + nodesCanary},
	}
	for i, fault := range trips {
		sim = append(sim, "--fault", trip(t, word(i), fault))
	}
	_, nodes := startSimulate(t, 2, sim...)
	if err := os.WriteFile(filepath.Join(home, "keys"), fmt.Appendf(nil, "alice %x\n", sha256.Sum256([]byte(keyCanary))), 0o600); err != nil {
		t.Fatal(err)
	}
	port, file := freePort(t), filepath.Join(home, "Caddyfile")
	if err := os.WriteFile(file, fmt.Appendf(nil, secretive, home, nodes[0], nodes[1], redis.URL(), port), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(spans.env(), "HOME="+home, "CACHE_SECRET="+cacheSecret)
	run := start(t, env, "run", "--config", file)
	if !run.waitFor("serving initial configuration") {
		t.Fatal("run ended")
	}
	c := &teller{t: t, url: base("http", "127.0.0.1", port), client: &http.Client{Transport: new(http.Transport), Timeout: patience}}
	t.Cleanup(c.client.CloseIdleConnections)
	redistest.Until(t, "Redis up", func() bool {
		return strings.Contains(mustAsk(t, env, "cache", "stats", "--json", "--config", file), `"redis":"up"`)
	})

	for range 3 { // so that some are stored by then
		for _, q := range well {
			if status := c.ask(t.Context(), http.MethodPost, q[0], q[1]); status != http.StatusOK {
				t.Errorf("%s %s: status %d", q[0], q[1], status)
			}
		}
	}
	if len(c.answers) < 10 {
		t.Errorf("%d texts of answers, too few to look for", len(c.answers))
	}
	for _, q := range wrong {
		if status := c.ask(t.Context(), http.MethodPost, q[0], q[1]); status < 400 {
			t.Errorf("%s %s: status %d", q[0], q[1], status)
		}
	}
	for _, header := range []string{
		"X-Api-Key: " + keyCanary, "X-Api-Key: " + strangeCanary, "Authorization: Bearer " + strangeCanary, "Authorization: " + strangeCanary, "Cookie: session=" + strangeCanary, ": ",
	} {
		c.ask(t.Context(), http.MethodPost, well[0][0], well[0][1], header)
	}
	for i := range trips {
		for _, q := range []string{`{"model":"sim-small","stream":true,`, `{"model":"sim-small","stream":false,`} {
			body := q + `"messages":[{"role":"user","content":"` + promptCanary + " " + word(i) + `"}]}`
			c.ask(t.Context(), http.MethodPost, "/api/chat", body)
			c.ask(t.Context(), http.MethodPost, "/v1/chat/completions", body)
			c.ask(t.Context(), http.MethodPost, "/v1/messages", strings.Replace(body, "{", `{"max_tokens":64,`, 1))
		}
	}
	leaving, leave := context.WithCancel(t.Context())
	leave()
	c.ask(leaving, http.MethodPost, well[1][0], well[1][1])
	redistest.Until(t, "answers in Redis", func() bool { return len(redis.Keys()) > 2 })
	mustAsk(t, env, "reload", "--force", "--config", file)

	said := append(slices.Clone(c.answers), promptCanary, systemCanary, nodesCanary, modelCanary, keyCanary, strangeCanary, otherCanary, cacheSecret)
	admin := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(home, "admin.sock"))
	}}}
	for path, has := range map[string]string{
		"/metrics": "caddy_ollama_requests_total", "/config/": `"tracing"`, "/ollama/nodes": `"name":"a"`,
		"/ollama/status": `"name":"a"`,
	} {
		_, text := get(t, admin, "http://localhost"+path, "localhost")
		if !strings.Contains(strings.ReplaceAll(text, `": "`, `":"`), has) {
			t.Errorf("%s has no %s in it:\n%s", path, has, text)
		}
		checkNothingIn(t, path, text, said)
	}
	_, metrics := get(t, c.client, c.url+"/metrics", "")
	checkNothingIn(t, "the site's metrics", metrics, said)
	shown, page := get(t, c.client, c.url+"/status", "")
	if shown.StatusCode != http.StatusOK || !strings.Contains(page, "Nodes") {
		t.Errorf("the status page: %s\n%s", shown.Status, page)
	}
	checkNothingIn(t, "the status page", page, said)
	checkNothingIn(t, "top", mustAsk(t, env, "top", "--once", "--config", file), said)
	checkNothingIn(t, "cache stats", mustAsk(t, env, "cache", "stats", "--config", file), said)
	checkNothingIn(t, "nodes", mustAsk(t, env, "nodes", "--config", file), said)
	dump := ""
	for _, key := range redis.Keys() {
		dump += key + "\n"
		if redis.Command("TYPE", key) == "string" {
			dump += fmt.Sprint(redis.Command("GET", key)) + "\n"
		}
	}
	checkNothingIn(t, "Redis", dump, said)

	if code := run.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
	log := run.output()
	access, err := os.ReadFile(filepath.Join(home, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	for where, of := range map[string]struct {
		text string
		has  []string // or the test looks at the wrong place
	}{
		"the log": {log, []string{`"level":"debug"`, "a node failed a call", "a request was routed"}},
		"the access log": {string(access), []string{
			`"tenant":"alice"`, `"trace_id":"`, `"operation":"chat"`, `"outcome":"truncated"`, `"outcome":"unauthorized"`, `"outcome":"upstream_error"`,
			`"cache":"hit"`, `"time_to_first_token":`, `"Server-Timing":`,
		}},
		"the spans": {spans.all(), []string{"queue", "attempt", "replay", "sim-small:latest"}},
	} {
		for _, part := range of.has {
			if !strings.Contains(of.text, part) {
				t.Errorf("%s has no %s in it", where, part)
			}
		}
		checkNothingIn(t, where, of.text, said)
	}
	checkHome(t, home, said)
}
