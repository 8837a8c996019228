package gateway

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/keys"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

// keyFor makes a site's keys with one of them, whose owner is alice.
func keyFor(t *testing.T) (*keys.Keys, string) {
	t.Helper()
	line, secret, err := keys.New("alice")
	if err != nil {
		t.Fatal(err)
	}
	k, err := keys.Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	return k, secret
}

// with sends a request with headers and gives the answer.
func (r *rig) with(method, path, body string, header http.Header) (int, string, http.Header) {
	r.Helper()
	q, err := http.NewRequestWithContext(r.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	q.Header = header
	resp, err := r.front.RoundTrip(q)
	if err != nil {
		r.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(all), resp.Header
}

// One table for all ways to send a key: what is checked of one is checked of all.
func TestCredential_IsOneInOneRequest(t *testing.T) {
	const other = "sk-OTHER"
	for _, c := range []struct {
		name   string
		header http.Header
		secret string
		err    error
	}{
		{"bearer", http.Header{"Authorization": {"Bearer sk-A"}}, "sk-A", nil},
		{"bearer in small letters, blanks around", http.Header{"Authorization": {" bearer   sk-A "}}, "sk-A", nil},
		{"x-api-key", http.Header{"X-Api-Key": {" sk-A "}}, "sk-A", nil},
		{"the other one empty", http.Header{"Authorization": {"Bearer "}, "X-Api-Key": {"sk-A"}}, "sk-A", nil},
		{"the other one empty, vice versa", http.Header{"Authorization": {"Bearer sk-A"}, "X-Api-Key": {""}}, "sk-A", nil},
		{"none", http.Header{}, "", errKeyMissing},
		{"empty", http.Header{"Authorization": {""}, "X-Api-Key": {" "}}, "", errKeyMissing},
		{"a password", http.Header{"Authorization": {"Basic YTpi"}}, "", errKeyMissing},
		{"without a scheme", http.Header{"Authorization": {"sk-A"}}, "", errKeyMissing},
		{"in the scheme", http.Header{"Authorization": {"Bearersk-A"}}, "", errKeyMissing},
		{"both", http.Header{"Authorization": {"Bearer sk-A"}, "X-Api-Key": {other}}, "", errKeysMany},
		{"both, equal", http.Header{"Authorization": {"Bearer sk-A"}, "X-Api-Key": {"sk-A"}}, "", errKeysMany},
		{"bearer twice", http.Header{"Authorization": {"Bearer sk-A", "Bearer " + other}}, "", errKeysMany},
		{"x-api-key twice", http.Header{"X-Api-Key": {"sk-A", other}}, "", errKeysMany},
		{"a password beside it", http.Header{"Authorization": {"Basic YTpi"}, "X-Api-Key": {"sk-A"}}, "", errKeysMany},
		{"two in one", http.Header{"Authorization": {"Bearer sk-A, Bearer " + other}}, "sk-A, Bearer " + other, nil}, // known to nobody
	} {
		t.Run(c.name, func(t *testing.T) {
			secret, err := credential(c.header)
			if secret != c.secret || err != c.err {
				t.Errorf("got %q %v, want %q %v", secret, err, c.secret, c.err)
			}
		})
	}
}

func TestKeys_GuardEveryRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, secret := keyFor(t)
		r := newRig(t, rigOptions{site: SiteConfig{Keys: known, Pass: []string{"/api/new-thing"}, Manage: true}}, goldenNode(t, 0.01))
		for _, c := range []struct{ method, path, body, refused string }{
			{"GET", "/", "", `{"error":"`},
			{"HEAD", "/", "", ""},
			{"GET", "/api/version", "", `{"error":"`},
			{"GET", "/api/tags", "", `{"error":"`},
			{"GET", "/api/ps", "", `{"error":"`},
			{"POST", "/api/show", `{"model":"tiny"}`, `{"error":"`},
			{"POST", "/api/chat", chatBody, `{"error":"`},
			{"POST", "/api/generate", `{"model":"tiny","keep_alive":0}`, `{"error":"`},
			{"POST", "/api/embed", `{"model":"tinyembed","input":"x"}`, `{"error":"`},
			{"POST", "/api/new-thing", "{}", `{"error":"`},
			{"DELETE", "/api/delete", `{"model":"x"}`, `{"error":"`},
			{"GET", "/v1/models", "", `{"error":{"message":"`},
			{"GET", "/v1/models/tiny", "", `{"error":{"message":"`},
			{"POST", "/v1/chat/completions", openAIBody, `{"error":{"message":"`},
			{"POST", "/v1/messages", `{"model":"tiny","max_tokens":1,"messages":[{"role":"user","content":"x"}]}`, `{"type":"error","error":{"type":"authentication_error","message":"`},
		} {
			for name, header := range map[string]http.Header{
				"none": {}, "unknown": {"Authorization": {"Bearer sk-CANARY"}}, "unknown x": {"X-Api-Key": {"sk-CANARY"}}, "basic": {"Authorization": {"Basic YTpi"}},
				"cut": {"X-Api-Key": {secret[:len(secret)-1]}},
			} {
				code, answer, h := r.with(c.method, c.path, c.body, header)
				if code != http.StatusUnauthorized || h.Get("WWW-Authenticate") != "Bearer" || !strings.HasPrefix(answer, c.refused) {
					t.Errorf("%s %s with %s: %d %s %q, want 401 in the dialect", c.method, c.path, name, code, answer, h)
				}
				if strings.Contains(answer, "CANARY") || strings.Contains(answer, "alice") {
					t.Errorf("%s %s: the answer tells %s", c.method, c.path, answer)
				}
			}
			if code, answer, _ := r.with(c.method, c.path, c.body, http.Header{"Authorization": {"Bearer " + secret}, "X-Api-Key": {secret}}); code != http.StatusBadRequest {
				t.Errorf("%s %s with two: %d %s, want 400", c.method, c.path, code, answer)
			}
			for _, header := range []http.Header{{"Authorization": {"Bearer " + secret}}, {"X-Api-Key": {secret}}} {
				if code, answer, _ := r.with(c.method, c.path, c.body, header); code == http.StatusUnauthorized || code == http.StatusBadRequest {
					t.Errorf("%s %s with a key: %d %s", c.method, c.path, code, answer)
				}
			}
		}
		synctest.Wait()
		r.idle()
	})
}

// OpenAI's clients read the code; a node has no words for it.
func TestKeys_RefusalIsWhatOpenAIClientsExpect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, _ := keyFor(t)
		r := newRig(t, rigOptions{site: SiteConfig{Keys: known}}, goldenNode(t, 0.01))
		_, answer, _ := r.with("GET", "/v1/models", "", http.Header{})
		if !strings.HasSuffix(answer, `,"type":"invalid_request_error","param":null,"code":"invalid_api_key"}}`) {
			t.Errorf("got %s", answer)
		}
	})
}

func TestKeys_PreflightNeedsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, _ := keyFor(t)
		r := newRig(t, rigOptions{site: SiteConfig{Keys: known}}, goldenNode(t, 0.01))
		code, _, h := r.with("OPTIONS", "/v1/chat/completions", "", http.Header{
			"Origin": {"http://localhost:3000"}, "Access-Control-Request-Method": {"POST"}, "Access-Control-Request-Headers": {"authorization"},
		})
		if code != http.StatusNoContent || h.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%d %v, want 204 and what is allowed", code, h)
		}
		code, _, h = r.with("GET", "/v1/models", "", http.Header{"Origin": {"http://localhost:3000"}})
		if code != http.StatusUnauthorized || h.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("%d %v, want 401 that a page can read", code, h)
		}
	})
}

// A tenants step keeps whose calls came by.
type tenants struct {
	call.Answerer
	mu   sync.Mutex
	seen []string
}

func (s *tenants) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	s.mu.Lock()
	s.seen = append(s.seen, c.Tenant)
	s.mu.Unlock()
	return s.Answerer.Answer(ctx, c)
}

func TestKeys_NameIsTheTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, secret := keyFor(t)
		r := newRig(t, rigOptions{site: SiteConfig{Keys: known}}, goldenNode(t, 0.01))
		step := &tenants{Answerer: r.settings.steps}
		r.settings.steps = step
		r.with("POST", "/api/chat", chatBody, http.Header{"X-Api-Key": {secret}})
		if len(step.seen) != 1 || step.seen[0] != "alice" {
			t.Errorf("tenants %q, want alice", step.seen)
		}
		open := newRig(t, rigOptions{}, goldenNode(t, 0.01))
		step = &tenants{Answerer: open.settings.steps}
		open.settings.steps = step
		open.with("POST", "/api/chat", chatBody, http.Header{"X-Api-Key": {secret}})
		if len(step.seen) != 1 || step.seen[0] != "" {
			t.Errorf("tenants %q of a site without keys, want nobody", step.seen)
		}
	})
}

func TestKeys_ReachNeitherNodesNorLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, secret := keyFor(t)
		var mu sync.Mutex
		var leaked []string
		node := goldenNode(t, 0.01)
		watch := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			var all bytes.Buffer
			body, _ := io.ReadAll(q.Body)
			q.Header.Write(&all)
			all.WriteString(q.URL.String())
			all.Write(body)
			if strings.Contains(all.String(), secret) || q.Header.Get("Authorization")+q.Header.Get("X-Api-Key") != "" {
				mu.Lock()
				leaked = append(leaked, q.Method+" "+q.URL.Path)
				mu.Unlock()
			}
			if q.URL.Path == "/api/embed" {
				panic(http.ErrAbortHandler) // a fault is logged
			}
			q.Body = io.NopCloser(bytes.NewReader(body))
			node.ServeHTTP(w, q)
		})
		var log bytes.Buffer
		r := newRig(t, rigOptions{site: SiteConfig{Keys: known, Pass: []string{"/api/new-thing"}}}, watch)
		r.engine.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		for _, header := range []http.Header{{"Authorization": {"Bearer " + secret}}, {"X-Api-Key": {secret}}, {"Authorization": {"Bearer " + secret}, "X-Api-Key": {secret}}} {
			r.with("POST", "/api/chat", chatBody, header.Clone())
			r.with("POST", "/api/embed", `{"model":"tinyembed","input":"x"}`, header.Clone())
			r.with("POST", "/api/new-thing", "{}", header.Clone())
		}
		synctest.Wait()
		if len(leaked) > 0 {
			t.Errorf("nodes got a key with %q", leaked)
		}
		if strings.Contains(log.String(), secret) || log.Len() == 0 {
			t.Errorf("the log: %s", log.String())
		}
	})
}
