package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fetch asks as a browser or a program does. It follows no redirect.
func (g *gateway) fetch(method, host, path, accept string) (*http.Response, string) {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, base("https", "localhost", g.tlsPort)+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	if host != "" {
		r.Host = host
	}
	c := g.client("HTTP/2.0")
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(r)
	for deadline := time.Now().Add(patience); err != nil && strings.Contains(err.Error(), "tls: internal error") && time.Now().Before(deadline); {
		resp, err = c.Do(r) // the certificate is made in the background
	}
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, string(text)
}

const (
	html   = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8" // as browsers say
	isNode = "Ollama is running"
)

func TestUp_BrowsersGetTheBlogAndProgramsTheAPI(t *testing.T) {
	t.Parallel()
	g := startUpOutOfNothing(t)
	if !g.waitFor("/login/link?token=") {
		t.Fatal("it does not say how to sign in")
	}
	if !strings.Contains(g.output(), "blog: https://localhost:"+g.tlsPort) {
		t.Error("it does not say where the blog is")
	}
	for _, c := range []struct {
		method, host, path, accept string
		status                     int
		has                        string
	}{
		{"GET", "", "/", html, 200, "Welcome"},
		{"GET", "", "/", "", 200, isNode},
		{"GET", "", "/", "*/*", 200, isNode},
		{"GET", "", "/", "application/json", 200, isNode},
		{"HEAD", "", "/", "", 200, ""},
		{"HEAD", "", "/", html, 200, ""},
		{"GET", "", "/api/tags", html, 200, `"models"`},
		{"GET", "", "/v1/models", html, 200, `"list"`},
		{"GET", "", "/api/nothing", html, 404, "404 page not found"},
		{"GET", "", "/v1", html, 404, "404 page not found"},
		{"GET", "", "/post/1", "", 301, ""},
		{"GET", "", "/post/1/welcome", "", 200, "<h1>"},
		{"GET", "", "/no/such/page", "", 404, "<h1>"},
		{"GET", "", "/status/", html, 200, "<html"},
		{"GET", "evil.example.com", "/", html, 403, ""},
		{"GET", "evil.example.com", "/post/1/welcome", html, 403, ""},
	} {
		resp, text := g.fetch(c.method, c.host, c.path, c.accept)
		if resp.StatusCode != c.status || !strings.Contains(text, c.has) || c.status == 403 && text != "" {
			t.Errorf("%s %s%s, Accept %q: got %d %.200q, want %d with %q", c.method, c.host, c.path, c.accept, resp.StatusCode, text, c.status, c.has)
		}
		isBlog := resp.Header.Get("Content-Security-Policy") != "" && !strings.HasPrefix(c.path, "/status")
		if wants := strings.HasPrefix(c.path, "/post") || strings.HasPrefix(c.path, "/no") || c.has == "Welcome"; isBlog != wants && c.host == "" {
			t.Errorf("%s %s, Accept %q: answered by the blog: %v, want %v", c.method, c.path, c.accept, isBlog, wants)
		}
	}
	if _, text := get(t, g.client("HTTP/1.1"), base("http", "localhost", g.httpPort)+"/", ""); text != isNode {
		t.Errorf("over HTTP: got %q", text)
	}
	if info, err := os.Stat(filepath.Join(g.dataDir, "blog.db")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the database: %v, %v", info, err)
	}
}

func TestUp_BlogOff(t *testing.T) {
	t.Parallel()
	_, urls := startSimulate(t, 1)
	g := startUp(t, []string{"OLLAMA_NODES=" + urls[0]}, "--blog", "off")
	if _, text := g.fetch("GET", "", "/", html); text != isNode {
		t.Errorf("/: got %q", text)
	}
	if _, err := os.Stat(filepath.Join(g.dataDir, "blog.db")); !os.IsNotExist(err) {
		t.Errorf("there is a database: %v", err)
	}
	if strings.Contains(g.output(), "blog:") {
		t.Error("it tells of a blog")
	}
}

// posted makes a directory of posts with long texts, for import.
func posted(t *testing.T, count, words int) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "posts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		text := fmt.Sprintf("---\ntitle: Post %d\nid: %d\ncreated: 2026-01-02T03:04:05Z\npublished: 2026-01-02T03:04:05Z\n---\n%s\n", i+1, i+1001, strings.Repeat("word ", words))
		if err := os.WriteFile(filepath.Join(dir, "posts", fmt.Sprintf("%04d.md", i+1)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// exported counts the posts that the blog has.
func (g *gateway) exported() (posts int) {
	g.t.Helper()
	out := mustAsk(g.t, g.env, "blog", "export", g.t.TempDir())
	if _, err := fmt.Sscanf(out, "%d post", &posts); err != nil {
		g.t.Fatalf("%s: %v", out, err)
	}
	return posts
}

// answers holds that the proxy is not concerned.
func (g *gateway) answers(what string) {
	g.t.Helper()
	checkNativeStream(g.t, askStream(g.t.Context(), g.client("HTTP/1.1"), base("http", "localhost", g.httpPort)+"/api/chat", chatBody("sim-small", what, ""), nil), "HTTP/1.1")
}

// 32: no file can grow beyond two megabytes, of the gateway or of who writes.
func TestMatrix_AFullDiskCostsAWriteOfTheBlogOnly(t *testing.T) {
	t.Parallel()
	_, urls := startSimulate(t, 1)
	g := startUp(t, []string{"OLLAMA_NODES=" + urls[0]})
	dir := posted(t, 20, 50_000)
	cmd := exec.CommandContext(t.Context(), "bash", "-c", `ulimit -f 2048; exec "$@"`, "sh", binary, "blog", "import", dir)
	cmd.Env = g.env
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "the database is not available") {
		t.Fatalf("importing 5 MB: %v\n%s", err, out)
	}
	g.answers("with a full disk")
	if resp, _ := g.fetch("GET", "", "/", html); resp.StatusCode != http.StatusOK {
		t.Errorf("the blog: %d", resp.StatusCode)
	}
	before := g.exported()
	mustAsk(t, g.env, "blog", "import", dir)
	if n := g.exported(); n != 21 || before > 20 {
		t.Errorf("%d posts before and %d after there is room, want 21 with the first one", before, n)
	}
}

// 36: gateway and writer are killed in the middle of writes.
func TestMatrix_AKilledGatewayLosesNoPost(t *testing.T) {
	t.Parallel()
	_, urls := startSimulate(t, 1)
	g := startUp(t, []string{"OLLAMA_NODES=" + urls[0]})
	if !g.waitFor("token=") {
		t.Fatal("no blog")
	}
	const count = 1000
	dir := posted(t, count, 200)
	had := 1
	for range 4 {
		writer := exec.CommandContext(t.Context(), binary, "blog", "import", dir)
		writer.Env = g.env
		if err := writer.Start(); err != nil {
			t.Fatal(err)
		}
		shown := had
		for deadline := time.Now().Add(patience); shown == had && shown <= count && time.Now().Before(deadline); {
			shown = g.exported() // what is read was committed
		}
		writer.Process.Kill()
		g.end(os.Kill)
		writer.Wait()
		g.process = start(t, g.env, "up", "--listen", "localhost:"+g.httpPort, "--https", g.tlsPort)
		if !g.waitFor("READY") {
			t.Fatal("it does not start again")
		}
		if had = g.exported(); had < shown {
			t.Fatalf("%d posts, and there were %d before", had, shown)
		}
	}
	mustAsk(t, g.env, "blog", "import", dir)
	if n := g.exported(); n != count+1 {
		t.Errorf("%d posts in the end, want %d", n, count+1)
	}
	if resp, text := g.fetch("GET", "", "/", html); resp.StatusCode != http.StatusOK || !strings.Contains(text, "Post ") {
		t.Errorf("the blog: %d", resp.StatusCode)
	}
	g.answers("after all")
}
