package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// An embedRig is a gateway that gathers embeddings, before nodes whose calls for vectors are noted.
type embedRig struct {
	*cacheRig

	mu    sync.Mutex // guards what follows
	calls [][]string // the texts of each
	wait  time.Duration
}

func (r *embedRig) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// noting has a node's calls for vectors noted.
func (r *embedRig) noting(node http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, "embed") {
			body, _ := io.ReadAll(q.Body)
			var asked struct{ Input any }
			json.Unmarshal(body, &asked)
			var texts []string
			switch in := asked.Input.(type) {
			case string:
				texts = []string{in}
			case []any:
				for _, text := range in {
					texts = append(texts, fmt.Sprint(text))
				}
			}
			if len(texts) > 0 { // else it is a load
				r.mu.Lock()
				r.calls = append(r.calls, texts)
				wait := r.wait
				r.mu.Unlock()
				time.Sleep(wait) // what a call costs beside its texts
			}
			q.Body = io.NopCloser(bytes.NewReader(body))
		}
		node.ServeHTTP(w, q)
	})
}

// sent gives what nodes were asked since the last time.
func (r *embedRig) sent() [][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.calls = nil }()
	return r.calls
}

// newEmbedRig makes one before n nodes; an embedding model has one slot at each. Vectors take scale
// times what they take in life. o nil: without a cache.
func newEmbedRig(t *testing.T, n int, scale float64, o *cache.Options, e Embed, opts rigOptions) *embedRig {
	t.Helper()
	if o != nil {
		o.Jitter = -1
	}
	opts.config.Cache, opts.config.Embed = o, &e
	r := &embedRig{}
	var nodes []http.Handler
	for range n {
		nodes = append(nodes, r.noting(goldenNode(t, scale)))
	}
	r.cacheRig = &cacheRig{rig: newRig(t, opts, nodes...)}
	r.known("tinyembed:latest")
	for i := range n {
		r.direct(i, "/api/embed", `{"model":"tinyembed","input":[],"keep_alive":-1}`)
	}
	time.Sleep(10 * time.Second) // all see it loaded
	r.sent()
	return r
}

func embedBody(texts ...string) string {
	list, _ := json.Marshal(texts)
	return `{"model":"tinyembed","input":` + string(list) + `}`
}

// vectors are those of a native answer, and its count of tokens.
func vectors(t *testing.T, answer string) (all []string, tokens int) {
	t.Helper()
	var said struct {
		Embeddings []json.RawMessage
		Tokens     int `json:"prompt_eval_count"`
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil {
		t.Fatalf("%.200s: %v", answer, err)
	}
	for _, v := range said.Embeddings {
		all = append(all, string(v))
	}
	return all, said.Tokens
}

func numberedTexts(word string, n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%s %d", word, i)
	}
	return all
}

func TestEmbed_OfTenTextsOfWhichSevenWereSeenThreeAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 1, 0.01, &cache.Options{}, Embed{}, rigOptions{})
		ten := numberedTexts("text", 10)
		_, alone, _ := r.say("/api/embed", embedBody(ten...))
		want, tokens := vectors(t, alone)
		r.engine.Purge(t.Context(), cache.Target{All: true})
		for _, i := range []int{9, 0, 4, 5, 2, 7, 8} {
			r.say("/api/embed", embedBody(ten[i]))
		}
		time.Sleep(time.Second)
		r.sent()
		code, answer, h := r.say("/api/embed", embedBody(ten...))
		got, gotTokens := vectors(t, answer)
		if code != 200 || !slices.Equal(got, want) || gotTokens != tokens {
			t.Errorf("%d\ngot  %s of %d tokens\nwant %s of %d", code, got, gotTokens, want, tokens)
		}
		if sent := fmt.Sprint(r.sent()); sent != "[[text 1 text 3 text 6]]" {
			t.Errorf("sent %s, want the three that were not seen", sent)
		}
		if h.Get("Cache-Status") != "caddy-ollama; fwd=partial; stored" {
			t.Errorf("Cache-Status: %q", h.Get("Cache-Status"))
		}
		time.Sleep(time.Second)
		code, answer, h = r.say("/api/embed", embedBody(ten...))
		if got, _ := vectors(t, answer); code != 200 || !slices.Equal(got, want) || len(r.sent()) != 0 || !strings.Contains(h.Get("Cache-Status"), "; hit") {
			t.Errorf("then all are stored: %d, %q", code, h.Get("Cache-Status"))
		}
	})
}

func TestEmbed_AtABusyNodeFewCallsCarryMany(t *testing.T) {
	run := func(e *Embed) (calls int, mean time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			r := newEmbedRig(t, 1, 1, nil, Embed{}, rigOptions{})
			r.set(func() { r.wait = 5 * time.Millisecond })
			config := r.settings.config
			config.Embed = e
			r.settings = NewSettings(r.engine, config)
			var clients sync.WaitGroup
			var mu sync.Mutex
			for i := range 100 {
				clients.Go(func() { // ends with its answer
					begun := time.Now()
					code, answer, h := r.say("/api/embed", embedBody(fmt.Sprint("text ", i)))
					if got, tokens := vectors(t, answer); code != 200 || len(got) != 1 || tokens == 0 {
						t.Errorf("%d %.200s", code, answer)
					}
					if h.Get("Cache-Status") != "" {
						t.Errorf("without a cache it says %q", h.Get("Cache-Status"))
					}
					mu.Lock()
					defer mu.Unlock()
					mean += time.Since(begun) / 100
				})
			}
			clients.Wait()
			calls = len(r.sent())
		})
		return calls, mean
	}
	many, alone := run(nil)
	few, gathered := run(&Embed{})
	t.Logf("%d calls, mean %v; one by one %d and %v: x%.2f", few, gathered, many, alone, float64(gathered)/float64(alone))
	if many != 100 || few > 25 || gathered >= alone {
		t.Errorf("gathered in %d calls with a mean of %v, one by one in %d with %v", few, gathered, many, alone)
	}
}

func TestEmbed_ALargeArrayIsSpreadOverNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 3, 1, nil, Embed{}, rigOptions{})
		texts := numberedTexts("text", 90)
		code, answer, h := r.say("/api/embed", embedBody(texts...))
		got, _ := vectors(t, answer)
		if code != 200 || len(got) != 90 || h.Get("X-Ollama-Usage") != "" {
			t.Errorf("%d with %d vectors, usage %q", code, len(got), h.Get("X-Ollama-Usage"))
		}
		for i := range r.nodes {
			_, alone := r.direct(i, "/api/embed", embedBody(texts[i*30:i*30+30]...))
			if want, _ := vectors(t, alone); !slices.Equal(got[i*30:i*30+30], want) {
				t.Errorf("the vectors from %d on are not those of their texts", i*30)
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if n := len(r.calls) - 3; n != 3 {
			t.Errorf("%d calls, want one for each node", n)
		}
	})
}

// Row 56.
func TestMatrix_ABadTextFailsItsOwnerAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 1, 1, &cache.Options{}, Embed{}, rigOptions{})
		ask := func(texts ...string) (int, string) {
			code, answer, _ := r.say("/api/embed", strings.Replace(embedBody(texts...), `"input"`, `"truncate":false,"input"`, 1))
			return code, answer
		}
		long := strings.Repeat("much too long ", 5000)
		_, told := r.direct(0, "/api/embed", strings.Replace(embedBody(long), `"input"`, `"truncate":false,"input"`, 1))
		var clients sync.WaitGroup
		clients.Go(func() { ask("the slot is taken") }) // each ends with its answer
		time.Sleep(time.Millisecond)
		for i := range 12 {
			clients.Go(func() {
				if i == 5 {
					if code, answer := ask(long); code != 400 || answer != told {
						t.Errorf("the owner was told %d %.200s, a node says %s", code, answer, told)
					}
					return
				}
				mine := numberedTexts(fmt.Sprint("client ", i), 3)
				code, answer := ask(mine...)
				_, alone := r.direct(0, "/api/embed", embedBody(mine...))
				want, _ := vectors(t, alone)
				if got, _ := vectors(t, answer); code != 200 || !slices.Equal(got, want) {
					t.Errorf("client %d was told %d %.200s", i, code, answer)
				}
			})
		}
		clients.Wait()
	})
}

func TestEmbed_TenantsShareNeitherVectorsNorCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 1, 1, &cache.Options{}, Embed{}, rigOptions{})
		var clients sync.WaitGroup
		clients.Go(func() { r.say("/api/embed", embedBody("the slot is taken")) }) // each ends with its answer
		time.Sleep(time.Millisecond)
		for _, who := range []string{"A", "B"} {
			clients.Go(func() { r.say("/api/embed", embedBody("a text"), "Authorization: Bearer "+who) })
		}
		clients.Wait()
		if sent := fmt.Sprint(r.sent()); sent != "[[the slot is taken] [a text] [a text]]" {
			t.Errorf("sent %s", sent)
		}
		time.Sleep(time.Second)
		if _, _, h := r.say("/api/embed", embedBody("a text"), "Authorization: Bearer A"); !strings.Contains(h.Get("Cache-Status"), "; hit") {
			t.Errorf("A's own: %q", h.Get("Cache-Status"))
		}
		if _, _, h := r.say("/api/embed", embedBody("a text"), "Authorization: Bearer C"); !strings.Contains(h.Get("Cache-Status"), "fwd=miss") {
			t.Errorf("a stranger: %q", h.Get("Cache-Status"))
		}
	})
}

func TestEmbed_NobodyJoinsOrFindsWhatWasBegunBeforeAPurge(t *testing.T) {
	targets := map[string]func(*embedRig) cache.Target{
		"all":    func(*embedRig) cache.Target { return cache.Target{All: true} },
		"tenant": func(*embedRig) cache.Target { return cache.Target{Tenant: "shared"} },
		"tag":    func(*embedRig) cache.Target { return cache.Target{Tag: "docs"} },
	}
	for name, target := range targets {
		for _, before := range []bool{false, true} { // something was purged before, too
			t.Run(fmt.Sprint(name, before), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := newEmbedRig(t, 1, 1, &cache.Options{}, Embed{}, rigOptions{site: SiteConfig{Tags: "X-Tags", Tenant: TenantConfig{By: "shared"}}})
					if before {
						r.engine.Purge(t.Context(), cache.Target{Tag: "other"})
					}
					var clients sync.WaitGroup
					clients.Go(func() { r.say("/api/embed", embedBody("a text"), "X-Tags: docs") }) // ends with its answer
					time.Sleep(time.Millisecond)
					r.engine.Purge(t.Context(), target(r))
					clients.Go(func() { r.say("/api/embed", embedBody("a text"), "X-Tags: docs") })
					clients.Wait()
					if n := len(r.sent()); n != 2 {
						t.Errorf("%d calls, want one before the purge and one after it", n)
					}
					time.Sleep(time.Second)
					if _, _, h := r.say("/api/embed", embedBody("a text"), "X-Tags: docs"); !strings.Contains(h.Get("Cache-Status"), "; hit") {
						t.Errorf("what was made after it: %q", h.Get("Cache-Status"))
					}
				})
			})
		}
	}
}

func TestEmbed_AClientsWishesAreObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 1, 0.01, &cache.Options{}, Embed{}, rigOptions{})
		ask := func(control string, texts ...string) (int, string, int) {
			code, _, h := r.say("/api/embed", embedBody(texts...), "Cache-Control: "+control)
			time.Sleep(time.Second)
			return code, h.Get("Cache-Status"), len(r.sent())
		}
		for _, c := range []struct {
			control string
			texts   []string
			code    int
			status  string
			calls   int
		}{
			{"only-if-cached", []string{"a"}, 504, "caddy-ollama; detail=only-if-cached", 0},
			{"no-store", []string{"a"}, 200, "caddy-ollama; fwd=miss", 1},
			{"max-age=100", []string{"a"}, 200, "caddy-ollama; fwd=miss; stored", 1},
			{"only-if-cached", []string{"a"}, 200, "caddy-ollama; hit", 0},
			{"only-if-cached", []string{"a", "b"}, 504, "caddy-ollama; detail=only-if-cached", 0},
			{"no-cache", []string{"a"}, 200, "caddy-ollama; fwd=request; stored", 1},
			{"max-age=0", []string{"a"}, 200, "caddy-ollama; fwd=stale; stored", 1},
		} {
			if code, status, calls := ask(c.control, c.texts...); code != c.code || status != c.status || calls != c.calls {
				t.Errorf("%s %v: %d %q with %d calls, want %d %q with %d", c.control, c.texts, code, status, calls, c.code, c.status, c.calls)
			}
		}
	})
}

func TestEmbed_AllLeaveAndTheNodeIsNotAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 1, 1, nil, Embed{}, rigOptions{})
		var clients sync.WaitGroup
		clients.Go(func() { r.say("/api/embed", embedBody(numberedTexts("busy", 32)...)) }) // ends with its answer
		time.Sleep(time.Millisecond)
		ctx, leave := context.WithCancel(t.Context())
		for i := range 5 {
			clients.Go(func() { // ends with ctx
				if resp, err := r.post(ctx, "/api/embed", embedBody(fmt.Sprint("gone ", i))); err == nil {
					resp.Body.Close()
				}
			})
		}
		time.Sleep(time.Millisecond)
		leave()
		clients.Wait()
		time.Sleep(time.Second)
		if sent := r.sent(); len(sent) != 1 {
			t.Errorf("sent %v, want the call of who stayed", sent)
		}
		r.idle()
	})
}

func TestEmbed_ANodeThatFailsIsMadeUpForByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEmbedRig(t, 2, 1, nil, Embed{}, rigOptions{})
		r.nodes[0].Close()
		code, answer, _ := r.say("/api/embed", embedBody(numberedTexts("text", 64)...))
		if got, _ := vectors(t, answer); code != 200 || len(got) != 64 {
			t.Errorf("%d with %d vectors: %.200s", code, len(got), answer)
		}
	})
}

// What one gateway has made of texts the other finds in Redis, in one round trip.
func TestMatrix_VectorsOfOneGatewayAreFoundByTheOther(t *testing.T) {
	s := redistest.Start(t)
	twin := func() (*embedRig, *counts) {
		watch := new(counts)
		r := &embedRig{}
		o := cache.Options{Redis: s.URL(), Secret: aSecret, Jitter: -1}
		node := simnode.New(simnode.Options{Models: simnode.GoldenModels(), Scale: 0.001})
		t.Cleanup(node.Close)
		r.cacheRig = &cacheRig{rig: newRig(t, rigOptions{observer: watch, config: Config{Cache: &o, Embed: &Embed{}}}, r.noting(node))}
		r.known("tinyembed:latest")
		return r, watch
	}
	a, _ := twin()
	b, watch := twin()
	until(t, "both know Redis", 5*time.Second, func() bool {
		return a.engine.Cache().Stats().Redis == "up" && b.engine.Cache().Stats().Redis == "up"
	})
	texts := numberedTexts("nobody must see", 100)
	_, answer, _ := a.say("/api/embed", embedBody(texts...))
	want, _ := vectors(t, answer)
	until(t, "100 vectors in Redis", 5*time.Second, func() bool { return len(answersIn(s)) == 100 })
	for _, key := range answersIn(s) {
		if said := fmt.Sprint(s.Command("GET", key)); strings.Contains(said, "nobody must see") {
			t.Error("a text can be read in Redis")
		}
	}
	keys := answersIn(s)
	s.Command("SET", keys[7], "junk")
	s.Command("DEL", keys[8])
	s.Command("DEL", keys[9])
	s.Command("LPUSH", keys[9], "of another type")
	time.Sleep(1100 * time.Millisecond) // purges are known by then
	before := watch.operations("get")
	code, answer, h := b.say("/api/embed", embedBody(texts...))
	got, _ := vectors(t, answer)
	if code != 200 || !slices.Equal(got, want) || !strings.Contains(h.Get("Cache-Status"), "fwd=partial") {
		t.Errorf("%d %q", code, h.Get("Cache-Status"))
	}
	if sent := b.sent(); len(sent) != 1 || len(sent[0]) != 3 {
		t.Errorf("sent %v, want the two that were junk and the one that was gone", sent)
	}
	if n := watch.operations("get") - before; n != 1 {
		t.Errorf("%d round trips for 100 texts, want 1", n)
	}
	if n := watch.count(); n != 2 {
		t.Errorf("%d counted as corrupt, want 2", n)
	}
}
