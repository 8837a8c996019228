package gateway

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A faulty node answers polls and loads like the node it wraps and inference as told.
type faulty struct {
	http.Handler
	mu    sync.Mutex
	infer http.HandlerFunc // nil: as the node does
	calls int
	gone  int // requests whose client went away while they were served
}

func (f *faulty) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	infers := inference(r)
	f.mu.Lock()
	infer := f.infer
	if infers {
		f.calls++
	}
	f.mu.Unlock()
	if !infers || infer == nil {
		f.Handler.ServeHTTP(w, r)
		return
	}
	io.Copy(io.Discard, r.Body)
	infer(w, r)
	if r.Context().Err() != nil {
		f.mu.Lock()
		f.gone++
		f.mu.Unlock()
	}
}

// inference tells whether a request wants an answer: neither a poll nor a load.
func inference(r *http.Request) bool {
	if r.Method != http.MethodPost || r.URL.Path == "/api/show" {
		return false
	}
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return !bytes.Contains(body, []byte(`"stream":false}`)) || bytes.Contains(body, []byte(`"messages"`)) || bytes.Contains(body, []byte(`"prompt"`))
}

func (f *faulty) count() (calls, gone int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls, f.gone
}

const (
	chatBody   = `{"model":"tiny","messages":[{"role":"user","content":"hi there"}],"options":{"temperature":0}}`
	singleBody = `{"model":"tiny","stream":false,"messages":[{"role":"user","content":"hi there"}],"options":{"temperature":0}}`
	openAIBody = `{"model":"tiny","stream":true,"temperature":0,"messages":[{"role":"user","content":"hi there"}]}`
)

func status(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.WriteHeader(code)
		io.WriteString(w, body)
	}
}

// frames writes records of a stream, then does what end does.
func frames(n int, end func(w http.ResponseWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		native := strings.HasPrefix(r.URL.Path, "/api/")
		w.Header().Set("Content-Type", map[bool]string{true: "application/x-ndjson", false: "text/event-stream"}[native])
		for range n {
			if native {
				io.WriteString(w, `{"model":"tiny","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":" half"},"done":false}`+"\n")
			} else {
				io.WriteString(w, `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"tiny","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" half"},"finish_reason":null}]}`+"\n\n")
			}
			http.NewResponseController(w).Flush()
		}
		end(w)
	}
}

func abort(http.ResponseWriter) { panic(http.ErrAbortHandler) }

// faultRig is a gateway before n0, which fails as told, and n1, which is well. The first call
// goes to n0.
func faultRig(t *testing.T, config Config, infer http.HandlerFunc) (r *rig, bad, good *faulty) {
	bad = &faulty{Handler: goldenNode(t, 0.01)}
	good = &faulty{Handler: goldenNode(t, 0.01)}
	r = newRig(t, rigOptions{config: config, warm: true}, bad, good)
	bad.mu.Lock()
	bad.infer, bad.calls = infer, 0
	bad.mu.Unlock()
	good.mu.Lock()
	good.calls = 0
	good.mu.Unlock()
	return r, bad, good
}

const tinyKey = "registry.ollama.ai/library/tiny:latest"

func TestFault_BeforeTheFirstFrameIsNotTheClients(t *testing.T) {
	for name, infer := range map[string]http.HandlerFunc{
		"500":                   status(500, `{"error":"llama runner process has terminated: exit status 2"}`),
		"503 busy":              status(503, `{"error":"server busy, please try again.  maximum pending requests exceeded"}`),
		"404 of a listed model": status(404, `{"error":"model 'tiny' not found"}`),
		"307": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://elsewhere/", http.StatusTemporaryRedirect)
		},
		"403 without a body":      func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(403) },
		"a page of HTML":          func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "<html>") },
		"reset before headers":    func(w http.ResponseWriter, r *http.Request) { abort(w) },
		"reset after headers":     frames(0, func(w http.ResponseWriter) { http.NewResponseController(w).Flush(); abort(w) }),
		"end without a record":    frames(0, func(http.ResponseWriter) {}),
		"a bad line first":        frames(0, func(w http.ResponseWriter) { io.WriteString(w, "{oops\n\n") }),
		"an error record first":   frames(0, func(w http.ResponseWriter) { io.WriteString(w, `{"error":"unexpected EOF"}`+"\n") }),
		"no answer within limits": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, bad, good := faultRig(t, Config{Attempts: attempt.Options{FirstByteTimeout: time.Second}}, infer)
				code, answer, _ := r.ask("/api/chat", chatBody)
				if code != 200 || !strings.Contains(answer, `"done":true`) || strings.Contains(answer, "error") {
					t.Errorf("%d %s, want the whole answer of the other node", code, answer)
				}
				calls, _ := bad.count()
				other, _ := good.count()
				if calls != 1 || other != 1 {
					t.Errorf("asked %d and %d times, want each once", calls, other)
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

func TestFault_AfterTheFirstFrameEndsInTheErrorRecord(t *testing.T) {
	for name, end := range map[string]func(http.ResponseWriter){
		"reset":                abort,
		"end without done":     func(http.ResponseWriter) {},
		"a bad line":           func(w http.ResponseWriter) { io.WriteString(w, "data: {oops\n\n") },
		"stall":                func(w http.ResponseWriter) { http.NewResponseController(w).Flush(); time.Sleep(time.Hour) },
		"a line over 8 MB":     func(w http.ResponseWriter) { w.Write(bytes.Repeat([]byte("x"), 9<<20)) },
		"the node's own words": func(w http.ResponseWriter) { io.WriteString(w, `{"error":"the node's words"}`+"\n") },
	} {
		for path, body := range map[string]string{"/api/chat": chatBody, "/v1/chat/completions": openAIBody} {
			if name == "the node's own words" && path != "/api/chat" {
				continue // OpenAI's dialect of a node has no such record
			}
			t.Run(name+path, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r, _, good := faultRig(t, Config{Attempts: attempt.Options{StallTimeout: time.Minute}}, frames(2, end))
					code, answer, _ := r.ask(path, body)
					if code != 200 || strings.Count(answer, " half") != 2 {
						t.Errorf("%d %s, want what the node had said", code, answer)
					}
					record := answer[strings.LastIndex(strings.TrimRight(answer, "\n"), "\n")+1:]
					want := `{"error":"`
					if path != "/api/chat" {
						want = `data: {"error":{"message":"`
					}
					if !strings.HasPrefix(record, want) || strings.Contains(answer, "[DONE]") || strings.Contains(answer, "localhost") {
						t.Errorf("ends with %q, want an error record that begins %s and names no node", record, want)
					}
					if name == "the node's own words" && !strings.Contains(record, "the node's words") {
						t.Errorf("ends with %q, want the node's own words", record)
					}
					if other, _ := good.count(); other != 0 {
						t.Errorf("the other node was asked %d times after the stream had begun", other)
					}
					synctest.Wait()
					r.idle()
				})
			})
		}
	}
}

func TestFault_SingleAnswerThatBreaksOffIsAskedAgainElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, bad, good := faultRig(t, Config{}, frames(2, abort))
		code, answer, _ := r.ask("/api/chat", singleBody)
		if code != 200 || strings.Contains(answer, "half") || !strings.Contains(answer, `"done":true`) {
			t.Errorf("%d %s, want the answer of the other node alone", code, answer)
		}
		calls, _ := bad.count()
		other, _ := good.count()
		if calls != 1 || other != 1 {
			t.Errorf("asked %d and %d times, want each once", calls, other)
		}
	})
}

func TestFault_SingleAnswerThatBreaksOffOnTheOnlyNodeIsToldWhy(t *testing.T) {
	for name, c := range map[string]struct {
		end  func(http.ResponseWriter)
		code int
		want string
	}{
		"reset":                {abort, 502, `{"error":"the connection to the Ollama node was lost"}`},
		"the node's own words": {func(w http.ResponseWriter) { io.WriteString(w, `{"error":"unexpected EOF"}`+"\n") }, 500, `{"error":"unexpected EOF"}`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOptions{}, &faulty{Handler: goldenNode(t, 0.01), infer: frames(2, c.end)})
				code, answer, _ := r.ask("/api/chat", singleBody)
				if code != c.code || answer != c.want {
					t.Errorf("%d %s, want %d %s", code, answer, c.code, c.want)
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

func TestFault_WhatIsTheClientsIsPassedOnAndNotTriedAgain(t *testing.T) {
	for _, c := range []struct {
		code int
		body string
	}{
		{400, `{"error":"\"tiny\" does not support thinking"}`},
		{429, `{"error":"slow down"}`},
		{500, `{"error":"option \"temperature\" must be of type float32"}`},
		{500, `{"error":"invalid JSON schema in format"}`},
	} {
		t.Run(c.body, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _, good := faultRig(t, Config{}, status(c.code, c.body))
				code, answer, _ := r.ask("/api/chat", chatBody)
				if code != c.code || answer != c.body {
					t.Errorf("%d %s, want it as the node said", code, answer)
				}
				if other, _ := good.count(); other != 0 {
					t.Error("tried on another node")
				}
			})
		})
	}
}

func TestFault_RetriesThatMayHaveWorkedAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nodes []http.Handler
		var all []*faulty
		for range 5 {
			f := &faulty{Handler: goldenNode(t, 0.01), infer: status(500, `{"error":"llama runner process has terminated"}`)}
			all, nodes = append(all, f), append(nodes, f)
		}
		r := newRig(t, rigOptions{config: Config{Attempts: attempt.Options{Retries: 2}}}, nodes...)
		code, answer, _ := r.ask("/api/chat", chatBody)
		total := 0
		for _, f := range all {
			n, _ := f.count()
			total += n
		}
		if code != 500 || !strings.Contains(answer, "llama runner") || total != 3 {
			t.Errorf("%d %s after %d tries, want the node's 500 after 3", code, answer, total)
		}
	})
}

func TestFault_TriesWithoutWorkCostNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nodes []http.Handler
		for range 4 {
			nodes = append(nodes, &faulty{Handler: goldenNode(t, 0.01), infer: status(503, `{"error":"server busy"}`)})
		}
		nodes = append(nodes, goldenNode(t, 0.01))
		r := newRig(t, rigOptions{config: Config{Attempts: attempt.Options{Retries: -1}}}, nodes...)
		for range 5 {
			if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 {
				t.Fatalf("%d %s, want the one node that is not busy", code, answer)
			}
		}
	})
}

func TestFault_AllBusyIsToldWithRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := `{"error":"server busy, please try again.  maximum pending requests exceeded"}`
		r := newRig(t, rigOptions{}, &faulty{Handler: goldenNode(t, 0.01), infer: status(503, busy)})
		code, answer, header := r.ask("/api/chat", chatBody)
		if code != 503 || answer != busy || header.Get("Retry-After") == "" {
			t.Errorf("%d %s %v, want the node's 503 and Retry-After", code, answer, header)
		}
	})
}

// refusing is a transport whose node is gone when told so.
type refusing struct {
	http.RoundTripper
	mu   sync.Mutex
	gone bool
}

func (n *refusing) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mu.Lock()
	gone := n.gone
	n.mu.Unlock()
	if gone {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "x"}}
	}
	return n.RoundTripper.RoundTrip(r)
}

func TestFault_AllNodesGoneIsToldAtOnceInTheDialect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe := simnode.NewPipe(goldenNode(t, 0.01))
		t.Cleanup(pipe.Close)
		gone := &refusing{RoundTripper: pipe}
		r := newRig(t, rigOptions{config: Config{Nodes: []fleet.NodeConfig{{
			Name: "gone", URL: &url.URL{Scheme: "http", Host: "localhost"}, Transport: gone,
		}}}})
		gone.mu.Lock()
		gone.gone = true
		gone.mu.Unlock()
		began := time.Now()
		code, answer, header := r.ask("/v1/chat/completions", openAIBody)
		if took := time.Since(began); code != 503 || !strings.HasPrefix(answer, `{"error":{"message":`) || header.Get("Retry-After") == "" || took > 100*time.Millisecond {
			t.Errorf("%d %s %v after %v, want 503 with Retry-After at once", code, answer, header, took)
		}
		time.Sleep(time.Minute) // the polls have noticed
		if code, answer, _ := r.ask("/api/chat", chatBody); code != 503 || !strings.HasPrefix(answer, `{"error":"`) {
			t.Errorf("%d %s, want 503", code, answer)
		}
		if code, answer, _ := r.ask("/api/chat", strings.Replace(chatBody, "tiny", "nobody", 1)); code != 503 {
			t.Errorf("%d %s for a model that may exist on a node that is down, want 503", code, answer)
		}
	})
}
