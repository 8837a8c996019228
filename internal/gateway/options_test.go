package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An earwitness is a node that remembers what it was asked.
type earwitness struct {
	http.Handler
	mu     sync.Mutex // guards bodies
	bodies []string
}

func (n *earwitness) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if inference(r) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		n.mu.Lock()
		n.bodies = append(n.bodies, string(body))
		n.mu.Unlock()
	}
	n.Handler.ServeHTTP(w, r)
}

func (n *earwitness) asked() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return strings.Join(n.bodies, "\n")
}

func TestAdjust_NoNodeHearsWhatTheSiteDoesNotLetThrough(t *testing.T) {
	keep := wire.Adjust{WithoutNumCtx: true, WithoutKeepAlive: true}
	limit := wire.Adjust{MaxNumCtx: 1024, MaxKeepAlive: time.Hour}
	tests := []struct {
		name, path, body string
		adjust           wire.Adjust
		changed          string
		hears, not       string
	}{
		{"pass is the default", "/api/chat", `{"model":"tiny","messages":[{"content":"hi"}],"options":{"num_ctx":1500},"keep_alive":-1}`, wire.Adjust{}, "", `"num_ctx":1500`, "never"},
		{"keep and ignore", "/api/chat", `{"model":"tiny","messages":[{"content":"hi"}],"options":{"num_ctx":1500},"keep_alive":0}`, keep, "num_ctx, keep_alive", "hi", "num_ctx\n1500\nkeep_alive"},
		{"max", "/api/generate", `{"model":"tiny","prompt":"hi","stream":false,"options":{"num_ctx":1500},"keep_alive":-1}`, limit, "num_ctx=1024, keep_alive=3600", `"num_ctx":1024`, "1500\n-1"},
		{"a load, too", "/api/generate", `{"model":"tiny","keep_alive":-1}`, limit, "keep_alive=3600", `"keep_alive":3600`, "-1"},
		{"an embedding, too", "/api/embed", `{"model":"tinyembed","input":"hi","options":{"num_ctx":1500}}`, keep, "num_ctx", "hi", "1500"},
		{"OpenAI has neither", "/v1/chat/completions", `{"model":"tiny","messages":[{"role":"user","content":"hi"}]}`, keep, "", "hi", "num_ctx"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := &earwitness{Handler: goldenNode(t, 0.01)}
				r := newRig(t, rigOptions{site: SiteConfig{Adjust: test.adjust}}, node)
				code, answer, header := r.ask(test.path, test.body)
				if got := strings.Join(header.Values("X-Ollama-Changed"), "|"); code != 200 || got != test.changed {
					t.Errorf("%s: %d %s, changed %q, want %q", test.body, code, answer, got, test.changed)
				}
				asked := node.asked()
				if !strings.Contains(asked, test.hears) {
					t.Errorf("the node was asked %s, want %s", asked, test.hears)
				}
				for _, not := range strings.Split(test.not, "\n") {
					if strings.Contains(asked, not) {
						t.Errorf("the node was asked %s, want nothing of %s", asked, not)
					}
				}
				r.idle()
			})
		})
	}
}

func TestAdjust_AppsWithDifferentWindowsShareARunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := &earwitness{Handler: goldenNode(t, 0.01)}
		r := newRig(t, rigOptions{site: SiteConfig{Adjust: wire.Adjust{WithoutNumCtx: true}}}, node)
		for _, window := range []string{"1024", "2048", "1500", "1024"} {
			if code, answer, _ := r.ask("/api/chat", `{"model":"tiny","messages":[{"content":"hi"}],"options":{"num_ctx":`+window+`}}`); code != 200 {
				t.Fatalf("%d %s", code, answer)
			}
		}
		// The gateway loads a model by a call of its own, with an empty prompt.
		if loads := strings.Count(node.asked(), `"prompt":""`) + strings.Count(node.asked(), `"messages":[]`); loads > 1 {
			t.Errorf("loaded %d times, want once at most:\n%s", loads, node.asked())
		}
		if strings.Contains(node.asked(), "num_ctx") {
			t.Errorf("asked %s, want no window", node.asked())
		}
	})
}

func TestAdjust_AnIgnoredUnloadIsAnsweredAndNotDone(t *testing.T) {
	for _, test := range []struct {
		name    string
		site    SiteConfig
		code    int
		changed string
		done    bool
	}{
		{"ignored", SiteConfig{Adjust: wire.Adjust{WithoutKeepAlive: true}}, 200, "keep_alive", false},
		{"managers unload all the same", SiteConfig{Adjust: wire.Adjust{WithoutKeepAlive: true}, Manage: true}, 200, "", true},
		{"a limit lets no unload through", SiteConfig{Adjust: wire.Adjust{MaxKeepAlive: time.Hour}}, 403, "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				node := &earwitness{Handler: goldenNode(t, 0.01)}
				r := newRig(t, rigOptions{site: test.site}, node)
				code, answer, header := r.ask("/api/chat", `{"model":"TINY","keep_alive":0}`)
				if code != test.code || header.Get("X-Ollama-Changed") != test.changed {
					t.Errorf("%d, changed %q, want %d, %q", code, header.Get("X-Ollama-Changed"), test.code, test.changed)
				}
				said := strings.HasPrefix(answer, `{"model":"TINY","created_at":"`) && strings.HasSuffix(answer, `,"message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}`)
				if said != (test.code == 200) || said && header.Get("Content-Type") != nativeJSON {
					t.Errorf("got %s (%s)", answer, header.Get("Content-Type"))
				}
				if done := node.asked() != ""; done != test.done {
					t.Errorf("the node was asked %q, want anything: %v", node.asked(), test.done)
				}
				if code, _, _ := r.ask("/api/chat", `{"model":"nope","keep_alive":0}`); code != 404 && test.code == 200 {
					t.Errorf("an unknown model gets %d, want 404", code)
				}
				r.idle()
			})
		})
	}
}

func TestAdjust_TellsNothingOfARequestItRefuses(t *testing.T) {
	r := newRig(t, rigOptions{site: SiteConfig{Adjust: wire.Adjust{WithoutNumCtx: true}}}, goldenNode(t, 0.01))
	code, _, header := r.ask("/api/chat", `{"model":"tiny","model":"b","options":{"num_ctx":5}}`)
	if code != 400 || header.Get("X-Ollama-Changed") != "" {
		t.Errorf("%d, changed %q", code, header.Get("X-Ollama-Changed"))
	}
}

func TestNewSite_RefusesAdjustmentsThatContradict(t *testing.T) {
	for _, a := range []wire.Adjust{
		{WithoutNumCtx: true, MaxNumCtx: 5}, {WithoutKeepAlive: true, MaxKeepAlive: time.Second}, {MaxNumCtx: -1}, {MaxKeepAlive: -1},
	} {
		if _, err := NewSite(SiteConfig{Adjust: a}); err == nil {
			t.Errorf("%+v was taken", a)
		}
	}
}
