package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A fake is a node as its transport sees it: it answers from fields, in no time.
type fake struct {
	mu      sync.Mutex // guards what follows
	version string
	tags    string
	ps      string
	shows   map[string]string // by the model asked for; else 404
	asked   map[string]int    // requests by path
	shown   []string          // models asked for
	used    []string          // path and body of what exercises asked
	mode    func(r *http.Request) (*http.Response, error)
}

func newFake(tags string) *fake {
	return &fake{version: "0.24.0", tags: tags, ps: `{"models":[]}`, shows: map[string]string{}, asked: map[string]int{}}
}

func (n *fake) set(change func(*fake)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *fake) count(path string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked[path]
}

func (n *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	var model string
	var b []byte
	if r.Body != nil {
		var v struct{ Model string }
		b, _ = io.ReadAll(r.Body)
		_ = json.Unmarshal(b, &v)
		model = v.Model
	}
	n.mu.Lock()
	n.asked[r.URL.Path]++
	mode := n.mode
	status, body := http.StatusOK, ""
	switch r.URL.Path {
	case "/api/version":
		body = fmt.Sprintf(`{"version":%q}`, n.version)
	case "/api/tags":
		body = n.tags
	case "/api/ps":
		body = n.ps
	case "/api/generate":
		n.used = append(n.used, r.URL.Path+" "+string(b))
		body = `{"model":"a","response":"","done":true,"done_reason":"load"}`
	case "/api/embed":
		n.used = append(n.used, r.URL.Path+" "+string(b))
		body = `{"model":"a","embeddings":[]}`
	case "/api/show":
		n.shown = append(n.shown, model)
		if body = n.shows[model]; body == "" {
			status, body = http.StatusNotFound, `{"error":"model not found"}`
		}
	}
	n.mu.Unlock()
	if mode != nil {
		if resp, err := mode(r); resp != nil || err != nil {
			return resp, err
		}
	}
	return respond(status, body), nil
}

func respond(status int, body string) *http.Response {
	return &http.Response{
		StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: -1,
	}
}

// Modes of a fake.
func hang(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func refuse(*http.Request) (*http.Response, error) {
	return nil, fmt.Errorf("dial tcp 10.0.0.9:11434: connect: %w", syscall.ECONNREFUSED)
}

func status(code int) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return respond(code, "secret 10.0.0.9"), nil }
}

func only(path string, mode func(*http.Request) (*http.Response, error)) func(*http.Request) (*http.Response, error) {
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != path {
			return nil, nil
		}
		return mode(r)
	}
}

// Rows and answers.

func tagsOf(rows ...string) string { return `{"models":[` + strings.Join(rows, ",") + `]}` }

func tagRow(name, digest string, modified time.Time) string {
	return fmt.Sprintf(`{"name":%q,"model":%q,"modified_at":%q,"size":1,"digest":%q,"novel":[1, 2]}`,
		name, name, modified.Format(time.RFC3339Nano), digest)
}

func psRow(name, digest string, context int, expires time.Time) string {
	return fmt.Sprintf(`{"name":%q,"model":%q,"size":7,"digest":%q,"expires_at":%q,"size_vram":3,"context_length":%d}`,
		name, name, digest, expires.Format(time.RFC3339Nano), context)
}

var day = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// key is the canonical key of a name.
func key(name string) string {
	n, err := wire.ParseModelName(name)
	if err != nil {
		panic(err)
	}
	return n.Key()
}

func named(t testing.TB, spelling string) wire.ModelName {
	t.Helper()
	n, err := wire.ParseModelName(spelling)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func config(name string, transport http.RoundTripper) NodeConfig {
	return NodeConfig{Name: name, URL: &url.URL{Scheme: "http", Host: name + ":11434"}, Transport: transport}
}

// inBubble runs a test in virtual time over fakes n1, n2, ... It is ready when the test begins.
func inBubble(t *testing.T, opts Options, test func(t *testing.T, f *Fleet), fakes ...*fake) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := New(slog.New(slog.DiscardHandler))
		defer f.Close()
		configs := make([]NodeConfig, len(fakes))
		for i, n := range fakes {
			configs[i] = config(fmt.Sprintf("n%d", i+1), n)
		}
		f.Configure(configs, opts)
		if err := f.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		test(t, f)
	})
}

// pass lets virtual time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func nodeNames(nodes []*Node) string {
	names := make([]string, len(nodes))
	for i, n := range nodes {
		names[i] = n.Name()
	}
	return strings.Join(names, " ")
}

// view is the first node's.
func view(f *Fleet) NodeView { return f.Snapshot().Nodes[0] }

// A logged is a handler that keeps its lines.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSpace(l.b.String()), "\n")
}

var errLost = errors.New("lost")

func postTo(t *testing.T, n *Node, path string, body io.Reader) (*http.Response, error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL().String()+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := n.RoundTrip(r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	return resp, err
}
