package gateway

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A witness keeps what an Observer is told.
type witness struct {
	unobserved
	mu      sync.Mutex // guards what follows
	begun   []string
	records []Record
	panics  int
	tries   int
	said    map[string]int // of waits, retries and nodes
	real    Counting       // nil: it is alone
}

// Counting is the observer that the process has. It lives in a package that imports this one, so
// that telemetry_test.go hands it in.
type Counting interface {
	Observer
	// Check compares what has been counted with what was told.
	Check(records []Record) error
}

// NewCounting makes one; nil: there is none.
var NewCounting func(state func() State) Counting

func (w *witness) say(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.said == nil {
		w.said = make(map[string]int)
	}
	w.said[fmt.Sprintf(format, args...)]++
}

// heard is how often something was told.
func (w *witness) heard(what string) int { w.mu.Lock(); defer w.mu.Unlock(); return w.said[what] }

func (w *witness) Waited(class call.Class, result string, took time.Duration) {
	w.say("%s call waited: %s", class, result)
	if w.real != nil {
		w.real.Waited(class, result, took)
	}
}

func (w *witness) Retried(reason attempt.Outcome, result string) {
	w.say("retry for %s: %s", reason, result)
	if w.real != nil {
		w.real.Retried(reason, result)
	}
}

func (w *witness) NodeMoved(node string, to fleet.State) {
	w.say("%s is %s", node, to)
	if w.real != nil {
		w.real.NodeMoved(node, to)
	}
}

func (w *witness) NodeChecked(node, result string, took time.Duration) {
	w.say("%s checked: %s", node, result)
	if w.real != nil {
		w.real.NodeChecked(node, result, took)
	}
}

func (w *witness) Streams(endpoint string) {
	if w.real != nil {
		w.real.Streams(endpoint)
	}
}

func (w *witness) Began(endpoint string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = append(w.begun, endpoint)
	if w.real != nil {
		w.real.Began(endpoint)
	}
}

func (w *witness) Ended(r *Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.records = append(w.records, *r)
	if w.real != nil {
		w.real.Ended(r)
	}
}
func (w *witness) Panicked() { w.mu.Lock(); defer w.mu.Unlock(); w.panics++ }

func (w *witness) Chosen(string) {}

func (w *witness) Loaded(string, string, string, time.Duration) {}
func (w *witness) Gathered(string, int, time.Duration)          {}

func (w *witness) Tried(e attempt.Ended) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tries++
	if w.said == nil {
		w.said = make(map[string]int)
	}
	w.said[fmt.Sprintf("%s stalled: %t", e.Node, e.Stalled)]++
	if w.real != nil {
		w.real.Tried(e)
	}
}

// last is the newest record.
func (w *witness) last(t *testing.T) Record {
	t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.records) == 0 {
		t.Fatal("no record")
	}
	return w.records[len(w.records)-1]
}

func TestRecord_EachRequestHasOneOutcome(t *testing.T) {
	const none = `{"model":"nope","messages":[{"role":"user","content":"x"}]}`
	for name, c := range map[string]struct {
		method, path, body string
		want               Outcome
		endpoint, model    string
	}{
		"a stream":        {"POST", "/api/chat", chatBody, OK, "chat", "tiny:latest"},
		"a single answer": {"POST", "/v1/chat/completions", `{"model":"TINY","messages":[{"role":"user","content":"x"}]}`, OK, "v1_chat_completions", "tiny:latest"},
		"vectors":         {"POST", "/v1/embeddings", `{"model":"tinyembed","input":"x"}`, OK, "v1_embeddings", "tinyembed:latest"},
		"a reading":       {"GET", "/api/tags", "", OK, "tags", ""},
		"an entry":        {"GET", "/v1/models/tiny", "", OK, "v1_models_name", ""},
		"bad JSON":        {"POST", "/api/chat", "{", ClientError, "chat", ""},
		"no such model":   {"POST", "/api/chat", none, ClientError, "chat", ""},
		"a node's no":     {"POST", "/api/chat", `{"model":"tinyembed","messages":[{"role":"user","content":"x"}]}`, ClientError, "chat", "tinyembed:latest"},
		"no such path":    {"GET", "/secret/path", "", ClientError, "other", ""},
		"a wrong method":  {"PUT", "/api/chat", "", ClientError, "other", ""},
		"management":      {"POST", "/api/pull", "{}", Unauthorized, "pull", ""},
		"the root":        {"HEAD", "/", "", OK, "root", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{}
				r := newRig(t, rigOptions{observer: w}, goldenNode(t, 0.01))
				q, _ := http.NewRequestWithContext(t.Context(), c.method, "http://localhost"+c.path, strings.NewReader(c.body))
				q.Header.Set("X-Request-Id", "mine-1")
				resp, err := r.front.RoundTrip(q)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				got := w.last(t)
				if got.Outcome != c.want || got.Endpoint != c.endpoint || got.Model != c.model || got.RequestID != "mine-1" || resp.Header.Get("X-Request-Id") != "mine-1" {
					t.Errorf("got %+v\nwant %s %s %q", got, c.want, c.endpoint, c.model)
				}
				if got.Status != resp.StatusCode || len(w.begun) != 1 || w.begun[0] != c.endpoint {
					t.Errorf("status %d, answered %d; begun %v", got.Status, resp.StatusCode, w.begun)
				}
				if c.want == OK && c.model != "" && (got.FirstByte == 0 || got.Took < got.FirstByte || len(got.Tries) != 1 || got.Totals.PromptTokens == 0 && c.endpoint != "v1_embeddings") {
					t.Errorf("an answer without its figures: %+v", got)
				}
				if !slices.Contains(Endpoints, got.Endpoint) {
					t.Errorf("%s is none of Endpoints", got.Endpoint)
				}
			})
		})
	}
}

func TestRecord_AClientThatLeavesIsNoFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{}
		r := newRig(t, rigOptions{observer: w}, goldenNode(t, 1))
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		resp, err := r.post(ctx, "/api/chat", `{"model":"tinyslow","messages":[{"role":"user","content":"the river"}]}`)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Read(make([]byte, 1))
		<-ctx.Done()
		resp.Body.Close()
		time.Sleep(time.Second)
		if got := w.last(t); got.Outcome != ClientCanceled {
			t.Errorf("%+v", got)
		}
		r.idle()
	})
}

// panicking is a step with a fault of its own.
type panicking struct{}

func (panicking) Answer(context.Context, *call.Call) (*recording.Reader, error) { panic("a fault") }

func TestServe_APanicIsAnErrorOfOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{}
		node := simnode.New(simnode.Options{Models: simnode.GoldenModels()})
		defer node.Close()
		r := newRig(t, rigOptions{observer: w}, node)
		r.settings.steps = panicking{}
		code, answer, _ := r.ask("/v1/messages", `{"model":"tiny","max_tokens":5,"messages":[{"role":"user","content":"x"}]}`)
		if code != 500 || !strings.HasPrefix(answer, `{"type":"error","error":{"type":"api_error"`) {
			t.Errorf("%d %s", code, answer)
		}
		if got := w.last(t); got.Outcome != InternalError || w.panics != 1 {
			t.Errorf("%+v, %d panics", got, w.panics)
		}
		r.settings.steps = r.settings.tries
		if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 {
			t.Errorf("%d %s after a panic", code, answer)
		}
		r.idle()
	})
}

func TestRequestID_OnlySoundOnesAreTakenOver(t *testing.T) {
	for _, id := range []string{"", "a b", "a\nb", "ü", strings.Repeat("x", 129), `"`} {
		if got := requestID(http.Header{"X-Request-Id": {id}}); got == id || got == "" {
			t.Errorf("%q became %q", id, got)
		}
	}
	if got := requestID(http.Header{"X-Request-Id": {"a", "b"}}); got == "a" || got == "b" {
		t.Error("one of two ids was taken")
	}
}
