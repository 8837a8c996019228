package gateway

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A cacheRig is a gateway with a cache before one node.
type cacheRig struct {
	*rig
	node *simnode.Node
}

// cacheMemory is that of rigs where it does not matter, in bytes. Tests go through days, and each
// minute of them all places are visited that there are for answers.
const cacheMemory = 8 << 20

func newCacheRig(t *testing.T, o cache.Options, opts rigOptions) *cacheRig {
	t.Helper()
	o.Jitter, o.Memory = -1, cmp.Or(o.Memory, cacheMemory)
	opts.config.Cache, opts.warm = &o, true
	node := goldenNode(t, 0.01)
	r := &cacheRig{rig: newRig(t, opts, node), node: node}
	r.known("tiny:latest")
	return r
}

// known waits until it is known what a model's answers depend on.
func (r *cacheRig) known(model string) {
	r.Helper()
	for range 100 {
		for _, m := range r.engine.fleet.Snapshot().Models {
			if m.Short == model && m.Identity != "" {
				return
			}
		}
		time.Sleep(100 * time.Millisecond) // virtual
	}
	r.Fatalf("the identity of %s stays unknown", model)
}

// answers is how many the node has generated.
func (r *cacheRig) answers() (n int) {
	for _, m := range r.node.Stats().Models {
		n += m.Answers
	}
	return n
}

// costs runs f and tells how many answers the node had to generate for it.
func (r *cacheRig) costs(f func()) int {
	before := r.answers()
	f()
	return r.answers() - before
}

// say asks with headers, written "Name: value".
func (r *cacheRig) say(path, body string, headers ...string) (int, string, http.Header) {
	r.Helper()
	h := http.Header{"Content-Type": {"application/json"}}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return r.with(http.MethodPost, path, body, h)
}

// begin sends a request and returns when its answer has begun; end reads the rest.
func (r *cacheRig) begin(path, body string, headers ...string) (end func()) {
	r.Helper()
	q, err := http.NewRequestWithContext(r.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		q.Header.Add(name, value)
	}
	resp, err := r.front.RoundTrip(q)
	if err != nil {
		r.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		r.Fatal(err)
	}
	return func() {
		if _, err := io.Copy(io.Discard, lines); err != nil {
			r.Error(err)
		}
		resp.Body.Close()
	}
}

// cacheHeaders are those that tell of the cache, and those that differ with each request.
var cacheHeaders = []string{"X-Request-Id", "Retry-After", "Server-Timing", "Cache-Status", "Age", "X-Ollama-Usage"}

// replay sends a request over a bare connection.
func (r *rig) replay(path, body string) golden.Response {
	r.Helper()
	resp, err := golden.Replay(r.Context(), r.front.Dial, golden.Record{Request: golden.Request{
		Method: "POST", Path: path, Proto: "HTTP/1.1", Headers: [][2]string{{"Host", "localhost"}}, Body: []byte(body), HasBody: true,
	}})
	if err != nil {
		r.Fatal(err)
	}
	return resp
}

// text is what an answer says, in whichever shape.
func text(t *testing.T, answer string) string {
	t.Helper()
	var said strings.Builder
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "data: "))
		if line == "" || line == "[DONE]" || strings.HasPrefix(line, "event:") || strings.Contains(line, "message_start") {
			continue
		}
		var v struct {
			Response string
			Message  struct{ Content string }
			Choices  []struct{ Delta, Message struct{ Content string } }
			Delta    struct{ Text string }   // Anthropic
			Content  []struct{ Text string } // the same, whole
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		said.WriteString(v.Response + v.Message.Content + v.Delta.Text)
		for _, c := range v.Content {
			said.WriteString(c.Text)
		}
		for _, c := range v.Choices {
			said.WriteString(c.Delta.Content + c.Message.Content)
		}
	}
	return said.String()
}

const (
	coldChat     = `{"model":"tiny","messages":[{"role":"user","content":"hello"}],"options":{"temperature":0,"top_p":1}}`
	coldChatOnce = `{"model":"TINY:latest","stream":false,"messages":[{"role":"user","content":"hello"}],"options":{"top_p":1.0,"temperature":0.0}}`
	openAIChat   = `{"model":"tiny","messages":[{"role":"user","content":"hello"}],"temperature":0}`
	openAIStream = `{"model":"tiny","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hello"}],"temperature":0}`
)

func TestCache_OneRecordingAnswersEveryShape(t *testing.T) {
	for _, c := range []struct{ name, path, first, again, as string }{
		{"streamed after single", "/api/chat", coldChatOnce, coldChat, "/api/chat"},
		{"single after streamed", "/api/chat", coldChat, coldChatOnce, "/api/chat"},
		{"OpenAI after the equal native one", "/api/chat", coldChat, openAIChat, "/v1/chat/completions"},
		{"an OpenAI stream after a native single one", "/api/chat", coldChatOnce, openAIStream, "/v1/chat/completions"},
		{"an OpenAI stream after an OpenAI single one", "/v1/chat/completions", openAIChat, openAIStream, "/v1/chat/completions"},
		{
			"generate, by another name and order", "/api/generate",
			`{"model":"tiny","prompt":"hello","options":{"seed":7}}`, `{"options":{"seed":7.0},"stream":false,"keep_alive":"5m","prompt":"hello","model":"library/tiny"}`, "/api/generate",
		},
		{
			"Anthropic", "/v1/messages",
			`{"model":"tiny","max_tokens":9,"temperature":0,"messages":[{"role":"user","content":"hello"}]}`,
			`{"model":"tiny","stream":true,"metadata":{"user_id":"x"},"max_tokens":9,"temperature":0,"messages":[{"role":"user","content":"hello"}]}`, "/v1/messages",
		},
		{"embeddings", "/api/embed", `{"model":"tinyembed","input":"hello"}`, `{"input":"hello","model":"tinyembed:latest"}`, "/api/embed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCacheRig(t, cache.Options{}, rigOptions{})
				r.known("tinyembed:latest")
				code, first, h := r.say(c.path, c.first)
				if code != 200 || !strings.Contains(h.Get("Cache-Status"), "fwd=miss") {
					t.Fatalf("first: %d %s %q", code, first, h.Get("Cache-Status"))
				}
				var got golden.Response
				if n := r.costs(func() { got = r.replay(c.as, c.again) }); n != 0 {
					t.Fatalf("the node generated %d answers for it again", n)
				}
				status := ""
				for _, line := range got.Headers {
					if line[0] == "Cache-Status" {
						status = line[1]
					}
				}
				if !strings.HasPrefix(status, "caddy-ollama; hit") {
					t.Errorf("Cache-Status %q", status)
				}
				bare := newRig(t, rigOptions{warm: true}, goldenNode(t, 0.01))
				want := bare.replay(c.as, c.again)
				if diffs := golden.Compare(want, got, golden.Options{IgnoreHeaders: cacheHeaders}); len(diffs) > 0 {
					t.Errorf("otherwise than without a cache:\n  %s", strings.Join(diffs, "\n  "))
				}
				if want, got := text(t, string(want.Body)), text(t, string(got.Body)); got != want {
					t.Errorf("it says %q, without a cache %q", got, want)
				}
			})
		})
	}
}

func TestCache_RandomSeedIsNoSeed(t *testing.T) {
	for body, want := range map[string]int{
		`{"model":"tiny","prompt":"hello","options":{"seed":-1}}`:                    2,
		`{"model":"tiny","prompt":"hello","options":{"seed":0}}`:                     1,
		`{"model":"tiny","prompt":"hello","options":{"temperature":0}}`:              1,
		`{"model":"tiny","prompt":"hello","options":{"temperature":0.1}}`:            2,
		`{"model":"tiny","prompt":"hello","options":{"temperature":null,"top_k":1}}`: 2,
		`{"model":"tiny","prompt":"hello"}`:                                          2,
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newCacheRig(t, cache.Options{}, rigOptions{})
			if n := r.costs(func() { r.say("/api/generate", body); r.say("/api/generate", body) }); n != want {
				t.Errorf("%s asked twice: %d answers generated, want %d", body, n, want)
			}
		})
	}
}

// What must not be the answer to somebody else.
func TestCache_TenantsDoNotShare(t *testing.T) {
	k, secret := keyFor(t)
	const alice, bob, site = "Authorization: Bearer sk-ALICE", "Authorization: Bearer sk-BOB", "X-Site: other"
	for _, c := range []struct {
		name          string
		by            TenantConfig
		first, second []string
		shared        bool
	}{
		{"two credentials", TenantConfig{}, []string{alice}, []string{bob}, false},
		{"one credential", TenantConfig{}, []string{alice}, []string{alice}, true},
		{"one credential in two headers", TenantConfig{}, []string{alice}, []string{"X-Api-Key: sk-ALICE"}, false},
		{"a credential and none", TenantConfig{}, []string{alice}, nil, false},
		{"two cookies", TenantConfig{}, []string{"Cookie: s=1"}, []string{"Cookie: s=2"}, false},
		{"none and none", TenantConfig{}, nil, nil, true},
		{"nobody of two sites", TenantConfig{}, nil, []string{site}, false},
		{"one credential at two sites", TenantConfig{}, []string{alice}, []string{alice, site}, true},
		{"shared", TenantConfig{By: "shared"}, []string{alice}, []string{bob}, true},
		{"shared, at two sites", TenantConfig{By: "shared"}, nil, []string{bob, site}, true},
		{"two values of the header", TenantConfig{By: "header", Header: "X-Team"}, []string{"X-Team: a", alice}, []string{"X-Team: b", alice}, false},
		{"one value of the header", TenantConfig{By: "header", Header: "X-Team"}, []string{"X-Team: a", alice}, []string{"X-Team: a", bob}, true},
		{"without the header, at two sites", TenantConfig{By: "header", Header: "X-Team"}, nil, []string{site}, false},
		{"two users", TenantConfig{By: "user"}, []string{"X-Test-User: a"}, []string{"X-Test-User: b"}, false},
		{"one user", TenantConfig{By: "user"}, []string{"X-Test-User: a", alice}, []string{"X-Test-User: a", bob}, true},
		{"a header that claims to be a user", TenantConfig{By: "header", Header: "X-Team"}, []string{"X-Team: user:a"}, []string{"X-Test-User: a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				site := SiteConfig{Tenant: c.by}
				r := newCacheRig(t, cache.Options{}, rigOptions{site: site, other: &site})
				n := r.costs(func() { r.say("/api/chat", coldChat, c.first...); r.say("/api/chat", coldChat, c.second...) })
				if shared := n == 1; shared != c.shared {
					t.Errorf("%d answers generated, shared %v, want %v", n, shared, c.shared)
				}
			})
		})
	}
	t.Run("two keys of one owner", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newCacheRig(t, cache.Options{}, rigOptions{site: SiteConfig{Keys: k}, other: &SiteConfig{}})
			bearer := "Authorization: Bearer " + secret
			if n := r.costs(func() { r.say("/api/chat", coldChat, bearer); r.say("/api/chat", coldChat, "X-Api-Key: "+secret) }); n != 1 {
				t.Errorf("%d answers generated, want 1: the owner is the tenant", n)
			}
			if n := r.costs(func() { r.say("/api/chat", coldChat, bearer, "X-Site: other") }); n != 1 {
				t.Error("who only claims to have the key was given the owner's answer")
			}
		})
	})
}

func TestCache_NeverStored(t *testing.T) {
	generate := `{"model":"tiny","prompt":"hello","options":{"temperature":0}`
	for _, c := range []struct {
		name, path, body, detail string
		fault                    string // of the node, the first time
	}{
		{"with keep_alive 0", "/api/generate", generate + `,"keep_alive":0}`, "keep_alive", ""},
		{"a load", "/api/generate", `{"model":"tiny","options":{"temperature":0}}`, "command", ""},
		{"a rendering", "/api/generate", generate + `,"_debug_render_only":true}`, "command", ""},
		{"an answer that calls a tool", "/api/chat", `{"model":"tinytool","messages":[{"role":"user","content":"weather?"}],"options":{"temperature":0},"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]}`, "", ""},
		{"an empty answer", "/api/embed", `{"model":"tinyembed","input":[]}`, "", ""},
		{"an error", "/api/generate", generate + `,"format":"nonsense"}`, "", ""},
		{"an answer that broke off", "/api/generate", generate + `}`, "", "reset-after=3,first=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCacheRig(t, cache.Options{}, rigOptions{})
				for _, m := range []string{"tinyembed:latest", "tinytool:latest"} {
					r.known(m)
				}
				if c.fault != "" {
					f, err := simnode.ParseFault(c.fault)
					if err != nil {
						t.Fatal(err)
					}
					if err := r.node.SetFaults(f); err != nil {
						t.Fatal(err)
					}
				}
				r.say(c.path, c.body)
				synctest.Wait()
				_, _, h := r.say(c.path, c.body)
				if s := h.Get("Cache-Status"); strings.Contains(s, "; hit") || c.detail != "" && !strings.Contains(s, "detail="+c.detail) {
					t.Errorf("Cache-Status %q the second time", s)
				}
			})
		})
	}
}

func TestCache_ClientSaysHowFresh(t *testing.T) {
	const age = 100 * time.Second
	for _, c := range []struct {
		control, want string // of Cache-Status
		code          int
		costs         int
		after         time.Duration // since it was stored
	}{
		{"", "hit; ttl=500", 200, 0, age},
		{"no-cache", "fwd=request", 200, 1, age},
		{"no-store", "hit", 200, 0, age},
		{"max-age=100", "hit", 200, 0, age},
		{"max-age=99", "fwd=stale", 200, 1, age},
		{"max-age=0", "fwd=stale", 200, 1, age},
		{"min-fresh=500", "hit", 200, 0, age},
		{"min-fresh=501", "fwd=stale", 200, 1, age},
		{"only-if-cached", "hit", 200, 0, age},
		{"only-if-cached, max-age=5", "", 504, 0, age},
		{"", "fwd=stale", 200, 1, 700 * time.Second},
		{"max-stale", "hit; ttl=-100; detail=max-stale", 200, 0, 700 * time.Second},
		{"max-stale=100", "hit", 200, 0, 700 * time.Second},
		{"max-stale=99", "fwd=stale", 200, 1, 700 * time.Second},
		{"only-if-cached", "", 504, 0, 700 * time.Second},
	} {
		t.Run(fmt.Sprintf("%s after %v", c.control, c.after), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// It is of use for a day after its time: else it would be swept away.
				r := newCacheRig(t, cache.Options{Rules: cache.Rules{{TTL: 600 * time.Second}}, StaleIfError: cache.StaleLimit}, rigOptions{})
				r.say("/v1/chat/completions", openAIChat)
				time.Sleep(c.after)
				var headers []string
				if c.control != "" {
					headers = append(headers, "Cache-Control: "+c.control)
				}
				var code int
				var answer string
				var h http.Header
				n := r.costs(func() { code, answer, h = r.say("/v1/chat/completions", openAIChat, headers...) })
				if code != c.code || n != c.costs || !strings.Contains(h.Get("Cache-Status"), c.want) {
					t.Errorf("%d, %d answers generated, Cache-Status %q; want %d, %d, %q", code, n, h.Get("Cache-Status"), c.code, c.costs, c.want)
				}
				if code == 504 && !strings.Contains(answer, `"error":{"message":`) {
					t.Errorf("504 not in the dialect: %s", answer)
				}
			})
		})
	}
}

func TestCache_NoStoreLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCacheRig(t, cache.Options{}, rigOptions{})
		if n := r.costs(func() { r.say("/api/chat", coldChat, "Cache-Control: no-store"); r.say("/api/chat", coldChat) }); n != 2 {
			t.Errorf("%d answers generated, want 2", n)
		}
		_, first, _ := r.say("/api/chat", coldChat)
		if n := r.costs(func() { r.say("/api/chat", coldChat, "Cache-Control: no-cache") }); n != 1 {
			t.Errorf("no-cache: %d answers generated, want 1", n)
		}
		if _, again, h := r.say("/api/chat", coldChat); text(t, again) != text(t, first) || h.Get("Age") != "0" {
			t.Errorf("what no-cache generated was not stored: age %s", h.Get("Age"))
		}
	})
}

func TestCache_ClientTTLCountsWhereTheSiteSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newCacheRig(t, cache.Options{}, rigOptions{other: &SiteConfig{ClientTTL: time.Minute}})
		sampled := `{"model":"tiny","prompt":"hello"}`
		if n := r.costs(func() {
			r.say("/api/generate", sampled, "X-Cache-TTL: 30")
			r.say("/api/generate", sampled, "X-Cache-TTL: 30")
		}); n != 2 {
			t.Errorf("where it is not said: %d answers generated, want 2", n)
		}
		r.say("/api/generate", sampled, "X-Cache-TTL: 1h", "X-Site: other")
		_, _, h := r.say("/api/generate", sampled, "X-Cache-TTL: 1h", "X-Site: other")
		if s := h.Get("Cache-Status"); !strings.Contains(s, "hit; ttl=60") {
			t.Errorf("Cache-Status %q, want a minute left", s)
		}
	})
}

func TestCache_PurgeReachesWhatIsBeingGenerated(t *testing.T) {
	for name, target := range map[string]cache.Target{
		"tag": {Tag: "article-7"}, "model": {Model: "registry.ollama.ai/library/tiny:latest"}, "all": {All: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newCacheRig(t, cache.Options{}, rigOptions{site: SiteConfig{Tags: "X-Tags"}})
				const tags = "X-Tags: article-7, page-1"
				r.say("/api/chat", coldChat, tags)
				end := r.begin("/api/chat", strings.Replace(coldChat, "hello", "bye", 1), tags)
				if p := r.engine.Cache().Purge(t.Context(), target); p.Memory != 1 {
					t.Errorf("%d answers purged, want 1", p.Memory)
				}
				end()
				for _, said := range []string{"hello", "bye"} {
					body := strings.Replace(coldChat, "hello", said, 1)
					if n := r.costs(func() { r.say("/api/chat", body, tags) }); n == 0 {
						t.Errorf("%s: a purged answer was given", said)
					}
					if n := r.costs(func() { r.say("/api/chat", body, tags) }); n != 0 {
						t.Errorf("%s: what was generated after the purge was not stored", said)
					}
				}
			})
		})
	}
}

func TestCache_ToolCallsAreStoredOnlyIfTheRuleSaysSo(t *testing.T) {
	const ask = `{"model":"tinytool","messages":[{"role":"user","content":"weather?"}],"options":{"temperature":0},"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]}`
	for tools, want := range map[bool]int{true: 1, false: 2} {
		synctest.Test(t, func(t *testing.T) {
			r := newCacheRig(t, cache.Options{Rules: cache.Rules{{TTL: time.Hour, Tools: tools}}}, rigOptions{})
			r.known("tinytool:latest")
			var answer string
			n := r.costs(func() { r.say("/api/chat", ask); _, answer, _ = r.say("/api/chat", ask) })
			if !strings.Contains(answer, `"tool_calls"`) {
				t.Fatalf("no tool was called: %s", answer)
			}
			if n != want {
				t.Errorf("tools %v: %d answers generated, want %d", tools, n, want)
			}
		})
	}
}

func TestCache_RulesDecideBySiteFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		global := cache.Rules{{TTL: time.Minute, Prompts: []string{"*urgent*"}}, {TTL: time.Hour}}
		r := newCacheRig(t, cache.Options{Rules: global}, rigOptions{other: &SiteConfig{TTL: cache.Rules{{TTL: 2 * time.Hour, Headers: []cache.HeaderCondition{{Name: "X-Source", Glob: "blog"}}}}}})
		for _, c := range []struct {
			prompt  string
			headers []string
			want    string
		}{
			{"this is URGENT\nplease", nil, "ttl=60"},
			{"this is not", nil, "ttl=3600"},
			{"this is urgent for the blog", []string{"X-Site: other", "X-Source: blog"}, "ttl=7200"},
			{"this is urgent elsewhere", []string{"X-Site: other"}, "ttl=60"},
		} {
			body := `{"model":"tiny","prompt":` + fmt.Sprintf("%q", c.prompt) + `}`
			r.say("/api/generate", body, c.headers...)
			if _, _, h := r.say("/api/generate", body, c.headers...); !strings.Contains(h.Get("Cache-Status"), c.want) {
				t.Errorf("%q %v: Cache-Status %q, want %s", c.prompt, c.headers, h.Get("Cache-Status"), c.want)
			}
		}
	})
}
