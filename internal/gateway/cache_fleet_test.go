package gateway

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A plainNode is a node with one model, "m", whose content, version and trouble a test sets.
type plainNode struct {
	mu       sync.Mutex // guards what follows
	version  string
	digest   string
	template string
	says     string
	status   int // of answers, if not 200
	down     bool
	asked    int           // for answers
	takes    time.Duration // an answer
	pad      string        // what it says besides, to nobody's eyes
}

func newPlainNode(says string) *plainNode {
	return &plainNode{version: "0.24.0", digest: strings.Repeat("a", 64), says: says, template: "{{ .Prompt }}"}
}

func (n *plainNode) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

func (n *plainNode) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.asked
}

func (n *plainNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n.mu.Lock()
	version, digest, template, says, status, down, takes, pad := n.version, n.digest, n.template, n.says, n.status, n.down, n.takes, n.pad
	n.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	switch r.URL.Path {
	case "/api/version":
		fmt.Fprintf(w, `{"version":%q}`, version)
	case "/api/tags":
		fmt.Fprintf(w, `{"models":[{"name":"m:latest","model":"m:latest","modified_at":"2026-11-23T12:56:19Z","size":1,"digest":%q,"details":{}}]}`, digest)
	case "/api/ps":
		fmt.Fprintf(w, `{"models":[{"name":"m:latest","model":"m:latest","digest":%q,"size":1,"size_vram":1,"expires_at":"2226-11-23T12:56:19Z","context_length":2048,"details":{}}]}`, digest)
	case "/api/show":
		fmt.Fprintf(w, `{"modelfile":"FROM /blobs/sha256-%s","template":%q,"details":{},"model_info":{},"capabilities":["completion"],"modified_at":"2026-11-23T12:56:19Z"}`, digest, template)
	default:
		if !strings.Contains(string(body), `"prompt":"`) {
			fmt.Fprint(w, `{"model":"m","response":"","done":true,"done_reason":"load"}`)
			return
		}
		n.set(func() { n.asked++ })
		time.Sleep(takes)
		if status != 0 {
			w.WriteHeader(status)
			fmt.Fprint(w, map[bool]string{true: `{"error":"llama runner process has terminated"}`, false: `{"error":"invalid options"}`}[status >= 500])
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		fmt.Fprintf(w, `{"model":"m","created_at":"2026-11-23T12:56:19Z","response":%q,"pad":%q,"done":false}`+"\n", says, pad)
		fmt.Fprint(w, `{"model":"m","created_at":"2026-11-23T12:56:19Z","response":"","done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":5}`+"\n")
	}
}

const plainAsk = `{"model":"m","prompt":"hello","stream":false,"options":{"temperature":0}}`

// seldom is for tests that take hours: to poll every few seconds would take the most of them.
var seldom = fleet.Options{Interval: 20 * time.Second, PsInterval: 10 * time.Minute, TagsInterval: 10 * time.Minute}

// A plainRig is a gateway with a cache before plain nodes.
func newPlainRig(t *testing.T, o cache.Options, nodes ...*plainNode) *cacheRig {
	t.Helper()
	return newPlainRigWith(t, o, rigOptions{}, nodes...)
}

func newPlainRigWith(t *testing.T, o cache.Options, opts rigOptions, nodes ...*plainNode) *cacheRig {
	t.Helper()
	o.Jitter = -1
	handlers := make([]http.Handler, len(nodes))
	for i, n := range nodes {
		handlers[i] = n
	}
	o.Memory = cmp.Or(o.Memory, cacheMemory)
	opts.config.Cache = &o
	if opts.config.Health.TagsInterval == 0 {
		opts.config.Health = fleet.Options{TagsInterval: 2 * time.Second}
	}
	r := &cacheRig{rig: newRig(t, opts, handlers...)}
	r.known("m:latest")
	return r
}

func TestCache_AModelMadeAnewIsNeverAnsweredFromTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPlainNode("old")
		r := newPlainRig(t, cache.Options{}, n)
		r.say("/api/generate", plainAsk)
		if _, answer, _ := r.say("/api/generate", plainAsk); text(t, answer) != "old" || n.count() != 1 {
			t.Fatalf("%s after %d answers", answer, n.count())
		}
		n.set(func() { n.says, n.digest = "new", strings.Repeat("b", 64) })
		for shown := false; !shown; {
			time.Sleep(100 * time.Millisecond)
			shown = strings.Contains(r.tags(), strings.Repeat("b", 64))
			_, answer, _ := r.say("/api/generate", plainAsk)
			if shown && text(t, answer) != "new" {
				t.Fatalf("the change shows and the answer is %s", answer)
			}
		}
		time.Sleep(2 * time.Minute)
		if s := r.engine.Cache().Stats(); s.Entries > 1 {
			t.Errorf("%d answers are kept: the old one did not go", s.Entries)
		}
	})
}

func (r *rig) tags() string {
	r.Helper()
	_, answer, _ := r.with(http.MethodGet, "/api/tags", "", http.Header{})
	return answer
}

// What a node answers after its model was replaced, and before that shows, is stored under the key
// of the old model: it must not outlive the discovery, for other nodes still have that model.
func TestCache_WhatAReplacedModelSaidIsForgottenWhenThatShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*plainNode{newPlainNode("old"), newPlainNode("old"), newPlainNode("old")}
		r := newPlainRig(t, cache.Options{}, nodes...)
		for _, n := range nodes {
			n.set(func() { n.says = "new" }) // of one of them, whichever is asked
		}
		if _, answer, _ := r.say("/api/generate", plainAsk); text(t, answer) != "new" {
			t.Fatal(answer)
		}
		for _, n := range nodes {
			replaced := n.count() > 0
			n.set(func() {
				n.says = "old"
				if replaced {
					n.says, n.digest = "new", strings.Repeat("b", 64)
				}
			})
		}
		time.Sleep(5 * time.Second) // it shows
		if _, answer, _ := r.say("/api/generate", plainAsk); text(t, answer) != "old" {
			t.Errorf("%s: what the replaced model said is given for the one that the fleet has", answer)
		}
	})
}

func TestCache_FleetDown(t *testing.T) {
	for _, c := range []struct {
		name  string
		stale time.Duration
		after time.Duration
		code  int
		want  string
	}{
		{"a fresh answer is given", 0, time.Minute, 200, "hit; ttl="},
		{"one whose time is over is not", 0, 2 * time.Hour, 503, "fwd="},
		{"but where it is wished", 3 * time.Hour, 2 * time.Hour, 200, "hit; ttl=-3600; detail=stale-if-error"},
		{"not for longer than that", time.Hour, 3 * time.Hour, 503, "fwd="},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newPlainNode("hi")
				r := newPlainRigWith(t, cache.Options{Rules: cache.Rules{{TTL: time.Hour}}, StaleIfError: c.stale}, rigOptions{config: Config{Health: seldom}}, n)
				r.say("/api/generate", plainAsk)
				n.set(func() { n.down = true })
				time.Sleep(c.after)
				begun := time.Now()
				code, answer, h := r.say("/api/generate", plainAsk)
				if code != c.code || !strings.Contains(h.Get("Cache-Status"), c.want) || time.Since(begun) > 100*time.Millisecond {
					t.Errorf("%d %s after %v, Cache-Status %q; want %d, %q at once", code, answer, time.Since(begun), h.Get("Cache-Status"), c.code, c.want)
				}
				if code == 200 && h.Get("Age") == "" {
					t.Error("no Age")
				}
			})
		})
	}
}

func TestCache_StaleIfErrorIsForFaultsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPlainNode("hi")
		r := newPlainRig(t, cache.Options{Rules: cache.Rules{{TTL: time.Minute}}, StaleIfError: time.Hour}, n)
		r.say("/api/generate", plainAsk)
		time.Sleep(2 * time.Minute)
		n.set(func() { n.status = 500 })
		if code, _, h := r.say("/api/generate", plainAsk); code != 200 || h.Get("Age") != "120" {
			t.Errorf("500 of the node: %d, Age %q", code, h.Get("Age"))
		}
		if code, _, _ := r.say("/api/generate", plainAsk, "Cache-Control: no-cache"); code != 500 {
			t.Errorf("no-cache: %d, want the node's word", code)
		}
		n.set(func() { n.status = 400 })
		time.Sleep(40 * time.Second) // it may have been ejected
		if code, _, h := r.say("/api/generate", plainAsk); code != 400 {
			t.Errorf("a refusal of the request: %d, Cache-Status %q, want 400", code, h.Get("Cache-Status"))
		}
	})
}

func TestCache_StaleWhileRevalidateMakesNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPlainNode("old")
		r := newPlainRig(t, cache.Options{Rules: cache.Rules{{TTL: time.Minute}}, StaleWhileRevalidate: time.Hour}, n)
		r.say("/api/generate", plainAsk)
		time.Sleep(2 * time.Minute)
		n.set(func() { n.says, n.takes = "new", 10*time.Second })
		begun := time.Now()
		for range 3 {
			_, answer, h := r.say("/api/generate", plainAsk)
			if text(t, answer) != "old" || !strings.Contains(h.Get("Cache-Status"), "detail=stale-while-revalidate") || time.Since(begun) > time.Second {
				t.Errorf("%s after %v, Cache-Status %q", answer, time.Since(begun), h.Get("Cache-Status"))
			}
		}
		time.Sleep(11 * time.Second)
		if _, answer, h := r.say("/api/generate", plainAsk); text(t, answer) != "new" || n.count() != 2 {
			t.Errorf("%s, Cache-Status %q after %d answers; want the new one from the store after 2", answer, h.Get("Cache-Status"), n.count())
		}

		// No idle slot, no refresh.
		time.Sleep(2 * time.Minute)
		asked := n.count()
		other := make(chan struct{})
		go func() { // ends with its answer
			defer close(other)
			r.say("/api/generate", `{"model":"m","prompt":"busy"}`)
		}()
		synctest.Wait()
		r.say("/api/generate", plainAsk)
		synctest.Wait()
		if got := n.count() - asked; got > 1 {
			t.Errorf("%d answers asked for beside the one that has the slot", got-1)
		}
		<-other
	})
}

func TestCache_AnswersOfAnOlderVersionAreNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		older, newer := newPlainNode("older"), newPlainNode("newer")
		newer.version = "0.25.0"
		r := newPlainRig(t, cache.Options{}, older, newer)
		for i := range 20 {
			_, answer, h := r.say("/api/generate", strings.Replace(plainAsk, "hello", fmt.Sprint("hello ", i%4), 1))
			if strings.Contains(h.Get("Cache-Status"), "; hit") && text(t, answer) != "newer" {
				t.Errorf("an answer of the older version was stored")
			}
		}
		if older.count() == 0 {
			t.Error("the older node was never asked, so this shows nothing")
		}
	})
}

func TestCache_TemplateWithTheDateIsOverAtMidnight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPlainNode("today")
		n.template = "{{ currentDate }} {{ .Prompt }}"
		r := newPlainRigWith(t, cache.Options{Rules: cache.Rules{{TTL: 300 * time.Hour}}}, rigOptions{config: Config{Health: seldom}}, n)
		r.say("/api/generate", plainAsk)
		_, _, h := r.say("/api/generate", plainAsk)
		var left int
		if _, err := fmt.Sscanf(h.Get("Cache-Status"), "caddy-ollama; hit; ttl=%d", &left); err != nil {
			t.Fatalf("Cache-Status %q", h.Get("Cache-Status"))
		}
		if end := time.Now().Add(time.Duration(left+1) * time.Second); end.Day() == time.Now().Day() && end.Add(time.Second).Day() == end.Day() || left > 24*3600 {
			t.Errorf("it ends at %v, want midnight", end)
		}
		time.Sleep(time.Duration(left-60) * time.Second)
		if r.say("/api/generate", plainAsk); n.count() != 1 {
			t.Error("it is not given any more a minute before midnight")
		}
		time.Sleep(61 * time.Second)
		if r.say("/api/generate", plainAsk); n.count() != 2 {
			t.Errorf("%d answers generated, want a new one on the new day", n.count())
		}
	})
}

func TestCache_ReloadKeepsWhatIsStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newPlainNode("hi")
		r := newPlainRig(t, cache.Options{}, n)
		r.say("/api/generate", plainAsk)
		config := r.settings.config
		options := *config.Cache
		options.Memory = 64 << 20
		config.Cache = &options
		next := NewSettings(r.engine, config)
		hold := next.Attach()
		r.hold.Detach()
		r.settings, r.hold = next, hold
		if _, _, h := r.say("/api/generate", plainAsk); !strings.Contains(h.Get("Cache-Status"), "; hit") {
			t.Errorf("Cache-Status %q after a reload", h.Get("Cache-Status"))
		}

		// A configuration without a cache that is taken back costs nothing; one that stays frees it.
		config.Cache = nil
		failed := NewSettings(r.engine, config).Attach()
		time.Sleep(30 * time.Second)
		failed.Detach()
		if _, _, h := r.say("/api/generate", plainAsk); !strings.Contains(h.Get("Cache-Status"), "; hit") {
			t.Errorf("Cache-Status %q after a failed reload", h.Get("Cache-Status"))
		}
		NewSettings(r.engine, config).Attach()
		time.Sleep(3 * time.Minute)
		if r.engine.Cache().Stats().On {
			t.Error("nobody wants a cache, and it keeps its memory")
		}
	})
}
