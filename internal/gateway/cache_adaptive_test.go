package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A changingNode answers chats with a text that changes, now and then spelt with other blanks.
type changingNode struct {
	http.Handler
	period  atomic.Int64 // from change to change, in nanoseconds; 0: it stays
	took    time.Duration
	answers atomic.Int64
}

func (n *changingNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/chat" {
		n.Handler.ServeHTTP(w, r)
		return
	}
	io.Copy(io.Discard, r.Body)
	time.Sleep(n.took)
	truth := int64(0)
	if period := n.period.Load(); period > 0 {
		truth = time.Now().UnixNano() / period
	}
	blanks := strings.Repeat(" ", int(n.answers.Add(1)%3))
	w.Header().Set("Content-Type", "application/x-ndjson")
	fmt.Fprintf(w, `{"model":"tiny","created_at":"2026-11-24T10:00:00Z","message":{"role":"assistant","content":"It is %s%d."},"done":false}`+"\n", blanks, truth)
	fmt.Fprintf(w, `{"model":"tiny","created_at":"2026-11-24T10:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":%d,"eval_count":3,"eval_duration":1000}`+"\n", n.took)
}

const adaptiveBody = `{"model":"tiny","messages":[{"role":"user","content":"what is it now?"}],"options":{"temperature":0}}`

type adaptiveRig struct {
	*cacheRig
	changing *changingNode
	seen     *refreshObserver
}

type refreshObserver struct {
	unobserved
	equal, changed, doubtful atomic.Int64
}

func (o *refreshObserver) CacheRefreshed(result string) {
	switch result {
	case cache.RefreshEqual:
		o.equal.Add(1)
	case cache.RefreshChanged:
		o.changed.Add(1)
	case cache.RefreshDoubtful:
		o.doubtful.Add(1)
	}
}

func adaptiveOptions(a call.Adaptive) cache.Options {
	a.Target, a.First, a.Min, a.Max = 0.05, time.Minute, time.Minute, 6*time.Hour
	return cache.Options{Rules: cache.Rules{{TTL: time.Minute, Adaptive: &a}}, Jitter: -1}
}

func newAdaptiveRig(t *testing.T, o cache.Options, site SiteConfig) *adaptiveRig {
	t.Helper()
	site.Explain = true
	node := goldenNode(t, 0.01)
	r := &adaptiveRig{changing: &changingNode{Handler: node, took: time.Second}, seen: new(refreshObserver)}
	opts := rigOptions{site: site, warm: true, observer: r.seen}
	o.Memory = cacheMemory
	opts.config.Cache = &o
	opts.config.Health = fleet.Options{Interval: 10 * time.Minute, PsInterval: time.Hour, TagsInterval: time.Hour} // it takes days
	r.cacheRig = &cacheRig{rig: newRig(t, opts, r.changing), node: node}
	r.known("tiny:latest")
	return r
}

// asks asks again and again for so long, and gives the TTL and the reason that it was told last.
func (r *adaptiveRig) asks(every, long time.Duration, headers ...string) (ttl time.Duration, reason string, slow int) {
	r.Helper()
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(every) {
		began := time.Now()
		code, answer, h := r.say("/api/chat", adaptiveBody, headers...)
		if code != http.StatusOK {
			r.Fatalf("%d %s", code, answer)
		}
		if time.Since(began) >= r.changing.took {
			slow++
		}
		status := h.Get("Cache-Status")
		_, left, found := strings.Cut(status, "ttl=")
		if !found {
			continue
		}
		left, _, _ = strings.Cut(left, ";")
		seconds, _ := strconv.Atoi(left)
		age, _ := strconv.Atoi(h.Get("Age"))
		ttl = time.Duration(seconds+age) * time.Second
		_, reason, _ = strings.Cut(status, `detail="`)
		reason, _, _ = strings.Cut(reason, `"`)
	}
	return ttl, reason, slow
}

func TestAdaptive_TTLFollowsTheAnswerUpAndDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAdaptiveRig(t, adaptiveOptions(call.Adaptive{SourceTags: false}), SiteConfig{})
		first, reason, _ := r.asks(10*time.Second, 50*time.Second)
		if first > time.Minute || reason != "adaptive 0/0" {
			t.Errorf("the first TTL is %s by %q, want a minute", first, reason)
		}
		still, reason, _ := r.asks(5*time.Minute, 30*time.Hour)
		if still < time.Hour || !strings.HasSuffix(reason, "/0") || !strings.HasPrefix(reason, "adaptive ") {
			t.Errorf("of an answer that never changes the TTL is %s by %q", still, reason)
		}
		r.changing.period.Store(int64(time.Hour))
		changing, reason, _ := r.asks(5*time.Minute, 36*time.Hour)
		if changing > still/3 {
			t.Errorf("of an answer that changes each hour the TTL is %s by %q", changing, reason)
		}
		r.changing.period.Store(0)
		again, reason, _ := r.asks(5*time.Minute, 36*time.Hour)
		if again < 2*changing {
			t.Errorf("when it has ceased to change the TTL is %s by %q", again, reason)
		}
		if r.seen.doubtful.Load() > 0 && r.seen.doubtful.Load()*10 > r.seen.changed.Load() {
			t.Errorf("%d changes are doubtful, %d are not", r.seen.doubtful.Load(), r.seen.changed.Load())
		}
		t.Logf("TTL %s at first, %s while nothing changed, %s with a change each hour, %s after that; %d answers generated", first, still, changing, again, r.changing.answers.Load())
	})
}

func TestAdaptive_HotAnswerKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAdaptiveRig(t, adaptiveOptions(call.Adaptive{}), SiteConfig{})
		_, _, _ = r.asks(time.Second, 5*time.Second)
		before := r.changing.answers.Load()
		_, _, slow := r.asks(50*time.Millisecond, 15*time.Minute)
		refreshed := int(r.changing.answers.Load() - before)
		if refreshed < 4 || slow > refreshed/4 {
			t.Errorf("of %d refreshes of a hot answer %d had a client wait", refreshed, slow)
		}
	})
}

func TestAdaptive_SourceVersionTellsOfChangesOfSampledAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAdaptiveRig(t, adaptiveOptions(call.Adaptive{SourceHeader: "X-Source-Version"}), SiteConfig{})
		body := strings.Replace(adaptiveBody, `,"options":{"temperature":0}`, "", 1)
		say := func(version string) (status string) {
			_, _, h := r.say("/api/chat", body, "X-Source-Version: "+version)
			time.Sleep(10 * time.Second)
			return h.Get("Cache-Status")
		}
		say("one")
		if s := say("one"); !strings.Contains(s, "; hit") {
			t.Errorf("the same version: %s", s)
		}
		if s := say("two"); !strings.Contains(s, "fwd=") {
			t.Errorf("another version: %s", s)
		}
		if s := say("two"); !strings.Contains(s, `; hit`) || !strings.Contains(s, `detail="adaptive 1/1"`) {
			t.Errorf("after it: %s", s)
		}
		// Each generation says something else, but the source is the same.
		r.changing.period.Store(1)
		time.Sleep(time.Minute)
		say("two")
		if s := say("two"); !strings.Contains(s, `detail="adaptive 2/1"`) {
			t.Errorf("an equal source: %s", s)
		}
	})
}

func TestAdaptive_PurgeByTagKeepsThePastAndNotTheText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newAdaptiveRig(t, adaptiveOptions(call.Adaptive{}), SiteConfig{Tags: "X-Cache-Tags"})
		_, before, _ := r.asks(time.Minute, 3*time.Hour, "X-Cache-Tags: prices")
		if n := r.engine.Purge(t.Context(), cache.Target{Tag: "prices"}).Memory; n != 1 {
			t.Fatalf("%d answers purged", n)
		}
		generated := r.changing.answers.Load()
		ttl, after, _ := r.asks(time.Second, 5*time.Second, "X-Cache-Tags: prices")
		if after != before || r.changing.answers.Load() != generated+1 || ttl <= time.Minute {
			t.Errorf("%q before the purge, %q after, TTL %s; %d generated", before, after, ttl, r.changing.answers.Load()-generated)
		}
		r.engine.Purge(t.Context(), cache.Target{All: true})
		if _, after, _ = r.asks(time.Second, 5*time.Second, "X-Cache-Tags: prices"); after != "adaptive 0/0" {
			t.Errorf("after a purge of all: %q", after)
		}
	})
}
