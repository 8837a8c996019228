package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

const (
	slowChat       = `{"model":"tinyslow","messages":[{"role":"user","content":"hello"}],"options":{"temperature":0,"top_p":1}}`
	slowChatOnce   = `{"model":"tinyslow","stream":false,"messages":[{"role":"user","content":"hello"}],"options":{"temperature":0,"top_p":1}}`
	slowOpenAI     = `{"model":"tinyslow","stream":true,"messages":[{"role":"user","content":"hello"}],"temperature":0}`
	slowOpenAIOnce = `{"model":"tinyslow","messages":[{"role":"user","content":"hello"}],"temperature":0}`
	slowSampled    = `{"model":"tinyslow","messages":[{"role":"user","content":"hello"}]}`
)

// newFlightRig is a gateway whose calls share answers, before one node of one slot whose answers
// take seconds. o nil: without a cache.
func newFlightRig(t *testing.T, o *cache.Options, c Coalesce) *cacheRig {
	t.Helper()
	if o != nil {
		o.Jitter = -1
	}
	node := goldenNode(t, 1)
	r := &cacheRig{rig: newRig(t, rigOptions{config: Config{Cache: o, Coalesce: &c}}, node), node: node}
	r.known("tinyslow:latest")
	r.say("/api/generate", `{"model":"tinyslow","keep_alive":-1}`)
	return r
}

// A listener hears an answer.
type listener struct {
	text   string
	header http.Header
	first  time.Duration // since the test's bubble began
	last   time.Duration
}

// hear sends a request after a while and hears its answer.
func (r *cacheRig) hear(ctx context.Context, heard *sync.WaitGroup, l *listener, begun time.Time, after time.Duration, path, body string) {
	heard.Go(func() { // ends with the answer, or ctx
		time.Sleep(after)
		resp, err := r.post(ctx, path, body)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		l.header = resp.Header
		lines := bufio.NewReader(resp.Body)
		line, _ := lines.ReadString('\n')
		l.first = time.Since(begun)
		rest, _ := io.ReadAll(lines)
		l.last = time.Since(begun)
		l.text = line + string(rest)
	})
}

func TestCoalesce_FiftyEqualCallsOfAllShapesAreOneGeneration(t *testing.T) {
	for name, o := range map[string]*cache.Options{"with a cache": {}, "without": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newFlightRig(t, o, Coalesce{})
				begun := time.Now()
				var heard sync.WaitGroup
				all := make([]listener, 50)
				shapes := [...][2]string{{"/api/chat", slowChat}, {"/api/chat", slowChatOnce}, {"/v1/chat/completions", slowOpenAI}, {"/v1/chat/completions", slowOpenAIOnce}}
				n := r.costs(func() {
					for i := range all {
						shape := shapes[i%len(shapes)]
						r.hear(t.Context(), &heard, &all[i], begun, time.Duration(i)*2*time.Millisecond, shape[0], shape[1])
					}
					heard.Wait()
				})
				if n != 1 {
					t.Errorf("%d answers generated, want 1", n)
				}
				collapsed := 0
				for i := range all {
					if text(t, all[i].text) != text(t, all[0].text) || all[i].text == "" {
						t.Errorf("client %d heard %q, the first %q", i, all[i].text, all[0].text)
					}
					if strings.Contains(all[i].header.Get("Cache-Status"), "collapsed") {
						collapsed++
					}
					if i%len(shapes) != 0 {
						continue
					}
					came := time.Duration(i) * 2 * time.Millisecond // it may have been said before
					if all[i].first > max(all[0].first, came)+5*time.Millisecond || all[i].last > all[0].last+5*time.Millisecond {
						t.Errorf("client %d heard from %v to %v, the first from %v to %v", i, all[i].first, all[i].last, all[0].first, all[0].last)
					}
				}
				if collapsed != 49 {
					t.Errorf("%d say that they followed, want 49", collapsed)
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

func TestCoalesce_WhoJoinsInTheMiddleHearsWhatWasSaidAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFlightRig(t, nil, Coalesce{})
		begun := time.Now()
		var heard sync.WaitGroup
		var first, late, other listener
		r.hear(t.Context(), &heard, &first, begun, 0, "/api/chat", slowChat)
		r.hear(t.Context(), &heard, &late, begun, time.Second, "/api/chat", slowChat)
		r.hear(t.Context(), &heard, &other, begun, time.Second, "/v1/chat/completions", slowOpenAI)
		heard.Wait()
		for _, l := range []listener{late, other} {
			if l.first > time.Second+10*time.Millisecond || text(t, l.text) != text(t, first.text) {
				t.Errorf("heard from %v on %q, the first %q", l.first, l.text, first.text)
			}
			if d := l.last - first.last; d > 10*time.Millisecond || d < -10*time.Millisecond {
				t.Errorf("its last word came %v after the first one's", d)
			}
		}
		bare := newRig(t, rigOptions{warm: true}, goldenNode(t, 1))
		bare.ask("/api/generate", `{"model":"tinyslow","keep_alive":-1}`)
		want := bare.replay("/v1/chat/completions", slowOpenAI)
		if text(t, string(want.Body)) != text(t, other.text) || golden.Compare(want, golden.Response{}, golden.Options{}) == nil {
			t.Errorf("it heard %q, without coalescing %q", other.text, want.Body)
		}
	})
}

func TestCoalesce_LeaderLeavesAndTheOthersHearAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFlightRig(t, nil, Coalesce{})
		begun := time.Now()
		ctx, leave := context.WithCancel(t.Context())
		var heard sync.WaitGroup
		var leader, follower listener
		r.hear(ctx, &heard, &leader, begun, 0, "/api/chat", slowChat)
		r.hear(t.Context(), &heard, &follower, begun, 100*time.Millisecond, "/api/chat", slowChatOnce)
		time.Sleep(500 * time.Millisecond)
		leave()
		heard.Wait()
		if !strings.Contains(follower.text, `"done":true`) || r.node.Stats().Cancelled != 0 {
			t.Errorf("the follower heard %q, %d cancelled at the node", follower.text, r.node.Stats().Cancelled)
		}
	})
}

func TestCoalesce_AllLeaveAndTheNodeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFlightRig(t, nil, Coalesce{})
		begun := time.Now()
		ctx, leave := context.WithCancel(t.Context())
		var heard sync.WaitGroup
		for i := range 5 {
			r.hear(ctx, &heard, new(listener), begun, time.Duration(i)*10*time.Millisecond, "/api/chat", slowChat)
		}
		time.Sleep(500 * time.Millisecond)
		leave()
		heard.Wait()
		time.Sleep(time.Second)
		if n := r.node.Stats().Cancelled; n != 1 {
			t.Errorf("%d cancelled at the node within a second, want 1", n)
		}
		r.idle()
	})
}

// Row 55: the node breaks off, at each of its frames; each follower ends honestly, and nothing is
// stored.
func TestMatrix_AFlightThatBreaksOffEndsHonestlyForAll(t *testing.T) {
	var whole listener // what is said without a fault
	synctest.Test(t, func(t *testing.T) {
		r := newFlightRig(t, nil, Coalesce{})
		var heard sync.WaitGroup
		r.hear(t.Context(), &heard, &whole, time.Now(), 0, "/api/chat", slowChat)
		heard.Wait()
	})
	frames := strings.Count(whole.text, "\n")
	if frames < 10 {
		t.Fatalf("only %d frames", frames)
	}
	for at := 1; at < frames; at++ {
		synctest.Test(t, func(t *testing.T) {
			r := newFlightRig(t, &cache.Options{}, Coalesce{})
			f, err := simnode.ParseFault(fmt.Sprintf("reset-after=%d,first=1", at))
			if err != nil {
				t.Fatal(err)
			}
			if err := r.node.SetFaults(f); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			var heard sync.WaitGroup
			var native, single, openai, whole listener
			r.hear(t.Context(), &heard, &native, begun, 0, "/api/chat", slowChat)
			r.hear(t.Context(), &heard, &openai, begun, 2*time.Millisecond, "/v1/chat/completions", slowOpenAI)
			if at%2 == 0 { // else nobody asks again, and what was stored would be of the flight that broke
				r.hear(t.Context(), &heard, &single, begun, time.Millisecond, "/api/chat", slowChatOnce)
				r.hear(t.Context(), &heard, &whole, begun, 3*time.Millisecond, "/v1/chat/completions", slowOpenAIOnce)
			}
			heard.Wait()
			if !strings.Contains(native.text, `{"error":`) || strings.Contains(native.text, `"done":true`) {
				t.Errorf("%d: the native stream ended with %q", at, native.text[max(0, len(native.text)-200):])
			}
			if !strings.Contains(openai.text, `{"error":`) || strings.Contains(openai.text, "[DONE]") {
				t.Errorf("%d: OpenAI's stream ended with %q", at, openai.text[max(0, len(openai.text)-200):])
			}
			synctest.Wait()
			r.idle()
			if at%2 == 1 {
				if code, answer, _ := r.say("/api/chat", slowChat, "Cache-Control: only-if-cached"); code != 504 {
					t.Errorf("%d: something is stored: %d %.200s", at, code, answer)
				}
				return
			}
			for _, l := range []listener{single, whole} { // nothing was shown to them yet: asked again
				if strings.Contains(l.text, `"error"`) || text(t, l.text) == "" {
					t.Errorf("%d: a single answer: %q", at, l.text)
				}
			}
		})
	}
}

func TestCoalesce_SampledAnswersAreSharedOnlyByRuleAndNotWithOneself(t *testing.T) {
	for _, c := range []struct {
		name    string
		sampled bool
		body    string
		want    int
	}{
		{"sampled, without a rule", false, slowSampled, 3},
		{"deterministic", false, slowChat, 1},
		// Over the pipes of a test nobody has an address, so nobody is the same client.
		{"sampled, by rule", true, slowSampled, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newFlightRig(t, nil, Coalesce{Sampled: c.sampled})
				var heard sync.WaitGroup
				begun := time.Now()
				n := r.costs(func() {
					for i := range 3 {
						r.hear(t.Context(), &heard, new(listener), begun, time.Duration(i)*time.Millisecond, "/api/chat", c.body)
					}
					heard.Wait()
				})
				if n != c.want {
					t.Errorf("%d answers generated, want %d", n, c.want)
				}
			})
		})
	}
}

func TestCoalesce_TenantsDoNotFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFlightRig(t, nil, Coalesce{})
		n := r.costs(func() {
			var heard sync.WaitGroup
			for _, who := range []string{"Bearer A", "Bearer B"} {
				heard.Go(func() { r.say("/api/chat", slowChat, "Authorization: "+who) }) // ends with its answer
			}
			heard.Wait()
		})
		if n != 2 {
			t.Errorf("%d answers generated, want 2", n)
		}
	})
}

func TestCoalesce_NobodyFollowsWhatWasBegunBeforeAPurge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFlightRig(t, &cache.Options{}, Coalesce{})
		begun := time.Now()
		var heard sync.WaitGroup
		n := r.costs(func() {
			r.hear(t.Context(), &heard, new(listener), begun, 0, "/api/chat", slowChat)
			time.Sleep(500 * time.Millisecond)
			r.engine.Purge(t.Context(), cache.Target{All: true})
			r.hear(t.Context(), &heard, new(listener), begun, 0, "/api/chat", slowChat)
			heard.Wait()
		})
		if n != 2 {
			t.Errorf("%d answers generated, want 2", n)
		}
	})
}
