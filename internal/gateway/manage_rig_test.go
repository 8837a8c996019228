package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A manager is a node of the recordings that is told what it says to requests which change models.
type manager struct {
	http.Handler // the simulated node
	t            *testing.T
	// script answers such a request, and tells whether it did. Else the simulated node does.
	script func(m *manager, w http.ResponseWriter, r *http.Request, body string) bool

	mu    sync.Mutex // guards what follows
	asked []string   // method, path and body of what changes models or tells of blobs
	left  int        // requests that were canceled
}

func newManager(t *testing.T, script func(*manager, http.ResponseWriter, *http.Request, string) bool) *manager {
	return &manager{Handler: goldenNode(t, 0.01), t: t, script: script}
}

var managedPaths = []string{"/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/"}

func (m *manager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	for _, path := range managedPaths {
		if !strings.HasPrefix(r.URL.Path, path) {
			continue
		}
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		m.mu.Lock()
		m.asked = append(m.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+string(body)))
		m.mu.Unlock()
		if m.script != nil && m.script(m, w, r, string(body)) {
			return
		}
	}
	m.Handler.ServeHTTP(w, r)
}

func (m *manager) requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.asked...)
}

func (m *manager) canceled() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

// inferred is how many requests the node has had that make or load something.
func (m *manager) inferred() int {
	requests := m.Handler.(*simnode.Node).Stats().Requests
	return requests["/api/generate"] + requests["/api/chat"]
}

// has makes the node have a model from now on.
func (m *manager) has(model string) {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "http://localhost/api/copy", strings.NewReader(`{"source":"tiny","destination":"`+model+`"}`))
	m.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		m.t.Errorf("copy: %d %s", w.Code, w.Body)
	}
}

// says writes lines of progress.
func says(w http.ResponseWriter, lines ...string) {
	w.Header().Set("Content-Type", ndjson)
	for _, l := range lines {
		io.WriteString(w, l+"\n")
		w.(http.Flusher).Flush()
	}
}

const (
	layerHalf  = `{"status":"pulling c54460c78625","digest":"sha256:c54460c78625","total":1000,"completed":500}`
	layerWhole = `{"status":"pulling c54460c78625","digest":"sha256:c54460c78625","total":1000,"completed":1000}`
	manifest   = `{"status":"pulling manifest"}`
	succeeded  = `{"status":"success"}`
)

// pulls has a node have a model after its progress.
func pulls(model string) func(*manager, http.ResponseWriter, *http.Request, string) bool {
	return func(m *manager, w http.ResponseWriter, r *http.Request, _ string) bool {
		if r.URL.Path != "/api/pull" {
			return false
		}
		says(w, manifest, layerHalf, layerWhole, `{"status":"verifying sha256 digest"}`, `{"status":"writing manifest"}`)
		m.has(model)
		says(w, succeeded)
		return true
	}
}

// tells has a node answer everything with the same lines.
func tells(lines ...string) func(*manager, http.ResponseWriter, *http.Request, string) bool {
	return func(_ *manager, w http.ResponseWriter, _ *http.Request, _ string) bool {
		says(w, lines...)
		return true
	}
}

// refuses has a node answer everything with a status.
func refuses(status int, body string) func(*manager, http.ResponseWriter, *http.Request, string) bool {
	return func(_ *manager, w http.ResponseWriter, _ *http.Request, _ string) bool {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		io.WriteString(w, body)
		return true
	}
}

// dies has a node break off after lines.
func dies(lines ...string) func(*manager, http.ResponseWriter, *http.Request, string) bool {
	return func(_ *manager, w http.ResponseWriter, _ *http.Request, _ string) bool {
		says(w, lines...)
		panic(http.ErrAbortHandler)
	}
}

// hangs has a node say nothing more after lines.
func hangs(lines ...string) func(*manager, http.ResponseWriter, *http.Request, string) bool {
	return func(m *manager, w http.ResponseWriter, r *http.Request, _ string) bool {
		says(w, lines...)
		<-r.Context().Done()
		m.mu.Lock()
		m.left++
		m.mu.Unlock()
		return true
	}
}

// managing is a rig whose clients may change models.
func managingRig(t *testing.T, c ManageConfig, nodes ...*manager) *rig {
	handlers := make([]http.Handler, len(nodes))
	for i, n := range nodes {
		handlers[i] = n
	}
	return newRig(t, rigOptions{site: SiteConfig{Manage: true, Managing: c}}, handlers...)
}

// asks sends a request and gives its whole answer.
func (r *rig) asks(method, target, body string, headers ...string) (status int, answer string, header http.Header) {
	r.Helper()
	q, err := http.NewRequestWithContext(r.Context(), method, "http://localhost"+target, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	resp, err := r.front.RoundTrip(q)
	if err != nil {
		r.Fatalf("%s %s: %v", method, target, err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatalf("%s %s: read: %v", method, target, err)
	}
	return resp.StatusCode, string(all), resp.Header
}

// lastLine is the last record of a stream.
func lastLine(answer string) string {
	lines := strings.Split(strings.TrimSpace(answer), "\n")
	return lines[len(lines)-1]
}

// listed tells whether the merged list shows a model.
func (r *rig) listed(model string) bool {
	_, tags, _ := r.asks(http.MethodGet, "/api/tags", "")
	return strings.Contains(tags, `"name":"`+model+`"`)
}

// audited keeps the lines of audit of an engine, from now on.
func audited(e *Engine) *auditLog {
	l := new(auditLog)
	e.log = slog.New(l)
	return l
}

type auditLog struct {
	mu    sync.Mutex // guards what follows
	lines []map[string]string
}

func (l *auditLog) Enabled(context.Context, slog.Level) bool { return true }
func (l *auditLog) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *auditLog) WithGroup(string) slog.Handler            { return l }

func (l *auditLog) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "a model was managed" || r.Level != slog.LevelInfo {
		return nil
	}
	fields := map[string]string{}
	r.Attrs(func(a slog.Attr) bool { fields[a.Key] = a.Value.String(); return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fields)
	return nil
}

// take gives the lines since the last time.
func (l *auditLog) take() []map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}
