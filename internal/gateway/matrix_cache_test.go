package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

// These tests need a real Redis, and so real time.

const aSecret = "a secret of a deployment, as long as it should be"

// A twin is one of two gateways that share a Redis, before a node of its own.
type twin struct {
	*cacheRig
	node    *plainNode
	corrupt *counts
}

// counts is an observer of the cache.
type counts struct {
	unobserved
	mu      sync.Mutex
	corrupt int
	ops     map[string]int // operations of Redis
}

func (c *counts) CacheOperated(_, op string, _ time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ops == nil {
		c.ops = make(map[string]int)
	}
	c.ops[op]++
}

func (c *counts) operations(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops[op]
}

func (c *counts) CacheCorrupt(string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corrupt++
}

func (c *counts) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.corrupt
}

func newTwin(t *testing.T, url, secret string, o cache.Options) *twin {
	t.Helper()
	tw := &twin{node: newPlainNode("hi"), corrupt: new(counts)}
	o.Redis, o.Secret = url, secret
	tw.cacheRig = newPlainRigWith(t, o, rigOptions{observer: tw.corrupt, site: SiteConfig{Tags: "X-Tags"}}, tw.node)
	return tw
}

// newFlyingTwin is one whose equal requests share a generation.
func newFlyingTwin(t *testing.T, url string) *twin {
	t.Helper()
	tw := &twin{node: newPlainNode("hi"), corrupt: new(counts)}
	tw.node.takes = 30 * time.Millisecond
	o := cache.Options{Redis: url, Secret: aSecret}
	tw.cacheRig = newPlainRigWith(t, o, rigOptions{
		observer: tw.corrupt, site: SiteConfig{Tags: "X-Tags"}, config: Config{Coalesce: &Coalesce{}}, slots: 4,
	}, tw.node)
	return tw
}

// asks sends a prompt of its own and gives what became of it at the cache.
func (tw *twin) asks(prompt string, headers ...string) string {
	tw.Helper()
	code, answer, h := tw.say("/api/generate", strings.Replace(plainAsk, "hello", prompt, 1), append(headers, "X-Tags: a-tag")...)
	if code != 200 || text(tw.T, answer) != "hi" {
		tw.Fatalf("%d %s", code, answer)
	}
	return h.Get("Cache-Status")
}

// until polls for what becomes true soon.
func until(t *testing.T, what string, within time.Duration, is func() bool) {
	t.Helper()
	for begun := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > within {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// answersIn are the keys of answers in Redis.
func answersIn(s *redistest.Server) (keys []string) {
	return slices.DeleteFunc(s.Keys(), func(k string) bool { return !strings.HasPrefix(k, "caddy-ollama:1:a:") })
}

// shares has n answers in Redis, of which some are to the prompts, which were asked. A machine that
// is busy may not write one within its budget, and then it stays in memory: it is made anew.
func (tw *twin) shares(s *redistest.Server, n int, prompts ...string) {
	tw.Helper()
	until(tw.T, fmt.Sprint(n, " answers in Redis"), 10*time.Second, func() bool {
		for begun := time.Now(); time.Since(begun) < time.Second; time.Sleep(5 * time.Millisecond) {
			if len(answersIn(s)) >= n {
				return true
			}
		}
		for _, prompt := range prompts {
			tw.asks(prompt, "Cache-Control: no-cache")
		}
		return false
	})
}

func TestMatrix_WhatOneGatewayStoredTheOtherGives(t *testing.T) {
	s := redistest.Start(t)
	a, b := newTwin(t, s.URL(), aSecret, cache.Options{}), newTwin(t, s.URL(), aSecret, cache.Options{})
	stranger := newTwin(t, s.URL(), "another secret, and of another deployment", cache.Options{})
	a.asks("a prompt that nobody must see")
	a.shares(s, 1, "a prompt that nobody must see")
	until(t, "a hit at the other gateway", 5*time.Second, func() bool { return strings.Contains(b.asks("a prompt that nobody must see"), "; hit") })
	if stranger.asks("a prompt that nobody must see"); stranger.node.count() != 1 {
		t.Error("a gateway with another secret was given the answer")
	}
	for _, key := range s.Keys() {
		read := "GET"
		if s.Command("TYPE", key) == "hash" {
			read = "HGETALL"
		}
		said := key + fmt.Sprint(s.Command(read, key))
		for _, secret := range []string{"nobody must see", `"hi"`, "a-tag", "m:latest", "response"} {
			if strings.Contains(said, secret) {
				t.Errorf("%q can be read in Redis", secret)
			}
		}
	}

	if p := a.engine.Cache().Purge(t.Context(), cache.Target{Tag: "a-tag"}); p.Memory != 1 || p.Pending {
		t.Errorf("purged %+v", p)
	}
	begun, before := time.Now(), b.node.count()
	until(t, "the other gateway obeys a purge", time.Second, func() bool { b.asks("a prompt that nobody must see"); return b.node.count() > before })
	t.Logf("obeyed after %v", time.Since(begun))
}

func TestMatrix_RedisThatIsDownIsAMiss(t *testing.T) {
	s := redistest.Start(t)
	proxy := s.Proxy()
	proxy.Stop()
	a := newTwin(t, proxy.URL(), aSecret, cache.Options{}) // down at the start
	begun := time.Now()
	for i := range 20 {
		a.asks(fmt.Sprint("down ", i))
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("20 answers took %v", took)
	}
	until(t, "it is known to be down", 2*time.Second, func() bool { return a.engine.Cache().Stats().Redis == "down" })
	proxy.Start()
	until(t, "it is known to be up", 5*time.Second, func() bool { return a.engine.Cache().Stats().Redis == "up" })
	a.asks("up again")
	a.shares(s, 1, "up again")

	proxy.Stop() // in the middle
	for i := range 20 {
		a.asks(fmt.Sprint("gone ", i))
	}
	if got := a.asks("up again"); !strings.Contains(got, "; hit") {
		t.Errorf("what is in memory is not given: %s", got)
	}
}

func TestMatrix_ASlowRedisCostsItsBudgetAndThenNothing(t *testing.T) {
	s := redistest.Start(t)
	proxy := s.Proxy()
	a := newTwin(t, proxy.URL(), aSecret, cache.Options{})
	until(t, "the purges of others are known", 5*time.Second, func() bool { a.asks(fmt.Sprint(time.Now())); return len(answersIn(s)) > 0 })
	proxy.Delay(time.Second)
	var worst time.Duration
	for i := range 10 {
		begun := time.Now()
		a.asks(fmt.Sprint("slow ", i))
		worst = max(worst, time.Since(begun))
	}
	if worst > 200*time.Millisecond { // 50 ms, and what a loaded machine adds
		t.Errorf("an answer took %v", worst)
	}
	until(t, "no time is spent any more", 5*time.Second, func() bool { return a.engine.Cache().Stats().Redis == "down" })
}

// Row 27, with single flights.
func TestMatrix_AFlushUnderLoadCostsOneAnswerAQuestion(t *testing.T) {
	s := redistest.Start(t)
	tw := newFlyingTwin(t, s.URL())
	until(t, "Redis is up", 5*time.Second, func() bool { return tw.engine.Cache().Stats().Redis == "up" })
	const rounds, questions, clients = 5, 4, 40
	for round := range rounds {
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() { // ends with its answer
				code, answer, _ := tw.say("/api/generate", strings.Replace(plainAsk, "hello", fmt.Sprint("question ", round, i%questions), 1))
				if code != 200 || text(t, answer) != "hi" {
					t.Errorf("%d %s", code, answer)
				}
			})
		}
		s.Command("FLUSHALL")
		all.Wait()
	}
	if n := tw.node.count(); n != rounds*questions {
		t.Errorf("%d answers generated for %d questions", n, rounds*questions)
	}
}

// That purges of others are asked for now and then does not end what can be joined.
func TestMatrix_ALongAnswerIsJoinedWhateverRedisIsAskedMeanwhile(t *testing.T) {
	s := redistest.Start(t)
	tw := newFlyingTwin(t, s.URL())
	until(t, "Redis is up", 5*time.Second, func() bool { return tw.engine.Cache().Stats().Redis == "up" })
	tw.node.set(func() { tw.node.takes = 2 * time.Second })
	var all sync.WaitGroup
	ask := func() {
		all.Go(func() { // ends with its answer
			if code, answer, _ := tw.say("/api/generate", plainAsk); code != 200 || text(t, answer) != "hi" {
				t.Errorf("%d %s", code, answer)
			}
		})
	}
	ask()
	until(t, "it is being generated", 5*time.Second, func() bool { return tw.node.count() == 1 })
	before := tw.corrupt.operations("sync")
	until(t, "Redis is asked for purges", 5*time.Second, func() bool { return tw.corrupt.operations("sync") >= before+2 })
	ask()
	all.Wait()
	if n := tw.node.count(); n != 1 {
		t.Errorf("%d answers generated for one question", n)
	}
}

func TestMatrix_AFlushedRedisIsAMiss(t *testing.T) {
	s := redistest.Start(t)
	a, b := newTwin(t, s.URL(), aSecret, cache.Options{}), newTwin(t, s.URL(), aSecret, cache.Options{})
	a.asks("x")
	a.shares(s, 1, "x")
	a.engine.Cache().Purge(t.Context(), cache.Target{Tag: "another-tag"})
	s.Command("FLUSHALL")
	if got := b.asks("x"); !strings.Contains(got, "fwd=miss") {
		t.Errorf("%s after a flush", got)
	}
	if got := a.asks("x"); !strings.Contains(got, "; hit") {
		t.Errorf("%s: the memory was flushed, too", got)
	}
	b.shares(s, 1, "x")
}

func TestMatrix_AReadOnlyRedisIsReadOnly(t *testing.T) {
	s := redistest.Start(t)
	a, b := newTwin(t, s.URL(), aSecret, cache.Options{}), newTwin(t, s.URL(), aSecret, cache.Options{})
	a.asks("x")
	a.shares(s, 1, "x")
	s.Command("CONFIG", "SET", "replica-serve-stale-data", "yes")
	s.Command("REPLICAOF", "127.0.0.1", "1")
	until(t, "it is read", 3*time.Second, func() bool { return strings.Contains(b.asks("x"), "; hit") })
	b.asks("y") // cannot be written
	if got := b.asks("y"); !strings.Contains(got, "; hit") {
		t.Errorf("%s: not even in memory", got)
	}
	s.Command("REPLICAOF", "NO", "ONE")
	b.asks("z")
	b.shares(s, 2, "z")
}

func TestMatrix_JunkInRedisIsAMissAndDeleted(t *testing.T) {
	s := redistest.Start(t)
	a, b := newTwin(t, s.URL(), aSecret, cache.Options{}), newTwin(t, s.URL(), aSecret, cache.Options{})
	for _, prompt := range []string{"one", "two", "three"} {
		a.asks(prompt)
	}
	a.shares(s, 3, "one", "two", "three")
	keys := answersIn(s)
	s.Command("SET", keys[0], "junk")
	s.Command("SETRANGE", keys[1], "20", "x")
	s.Command("COPY", keys[0], keys[2], "REPLACE") // another key's
	until(t, "the purges of others are known", 5*time.Second, func() bool { b.asks(fmt.Sprint(time.Now())); return len(answersIn(s)) > 3 })
	for _, prompt := range []string{"one", "two", "three"} {
		if got := b.asks(prompt); !strings.Contains(got, "fwd=miss") {
			t.Errorf("%s: %s", prompt, got)
		}
	}
	if n := b.corrupt.count(); n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
}

func TestMatrix_AFullRedisRefusesQuietly(t *testing.T) {
	s := redistest.Start(t, "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
	a := newTwin(t, s.URL(), aSecret, cache.Options{})
	a.node.set(func() { a.node.pad = strings.Repeat("0123456789abcdef", 8<<10) })
	for i := range 12 {
		a.asks(fmt.Sprint("large ", i))
	}
	if got := a.asks("large 11"); !strings.Contains(got, "; hit") {
		t.Errorf("%s: not in memory", got)
	}
	if up := a.engine.Cache().Stats().Redis; up != "up" {
		t.Errorf("Redis is %s: a refusal was taken for an outage", up)
	}
	until(t, "a full Redis takes a purge", 5*time.Second, func() bool { return !a.engine.Cache().Purge(t.Context(), cache.Target{All: true}).Pending })
}
