package telemetry

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMetrics_TellWhatTheCacheDoesAndSaves(t *testing.T) {
	m := New(func() gateway.State {
		s := state()
		s.Cache = cache.Stats{On: true, Entries: 3, Bytes: 4096, Limit: 1 << 20, Redis: "down"}
		return s
	})
	r := prometheus.NewPedanticRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	for _, c := range []call.CacheResult{
		{},
		{Status: call.Miss},
		{Status: call.Bypass, Detail: "sampled"},
		{Status: call.Hit, Backend: cache.Memory, Saved: wire.Totals{PromptTokens: 10, OutputTokens: 20, Prompt: time.Second, Eval: 2 * time.Second, Load: time.Hour}},
		{Status: call.Stale, Backend: cache.Memory, Saved: wire.Totals{OutputTokens: 5, Total: 4 * time.Second}}, // of a dialect that tells no more
	} {
		m.Began("chat")
		m.Ended(&gateway.Record{Endpoint: "chat", Model: "tiny:latest", Outcome: gateway.OK, Cache: c})
	}
	m.CacheCorrupt(cache.Redis)
	m.CacheEvicted(cache.Memory, "size")
	const want = `
# HELP caddy_ollama_cache_backend_up Whether a store of the cache that is configured can be used.
# TYPE caddy_ollama_cache_backend_up gauge
caddy_ollama_cache_backend_up{backend="memory"} 1
caddy_ollama_cache_backend_up{backend="redis"} 0
# HELP caddy_ollama_cache_bypass_total Requests that were not to be cached, by why.
# TYPE caddy_ollama_cache_bypass_total counter
caddy_ollama_cache_bypass_total{reason="sampled"} 1
# HELP caddy_ollama_cache_bytes Memory that stored answers take.
# TYPE caddy_ollama_cache_bytes gauge
caddy_ollama_cache_bytes{backend="memory"} 4096
# HELP caddy_ollama_cache_corrupt_total Stored answers that were not sound: deleted, and not given to anybody.
# TYPE caddy_ollama_cache_corrupt_total counter
caddy_ollama_cache_corrupt_total{backend="memory"} 0
caddy_ollama_cache_corrupt_total{backend="redis"} 1
# HELP caddy_ollama_cache_evictions_total Answers that were dropped from a store of the cache, by why.
# TYPE caddy_ollama_cache_evictions_total counter
caddy_ollama_cache_evictions_total{backend="memory",reason="size"} 1
# HELP caddy_ollama_cache_requests_total Inference requests by what the cache did for them, and the store that had the answer.
# TYPE caddy_ollama_cache_requests_total counter
caddy_ollama_cache_requests_total{backend="",result="bypass"} 1
caddy_ollama_cache_requests_total{backend="",result="miss"} 1
caddy_ollama_cache_requests_total{backend="memory",result="hit"} 1
caddy_ollama_cache_requests_total{backend="memory",result="stale"} 1
caddy_ollama_cache_requests_total{backend="redis",result="hit"} 0
caddy_ollama_cache_requests_total{backend="redis",result="stale"} 0
# HELP caddy_ollama_node_seconds_saved_total Time that nodes spent on answers which were given again: prompt evaluation and generation, without loads.
# TYPE caddy_ollama_node_seconds_saved_total counter
caddy_ollama_node_seconds_saved_total{model="tiny:latest"} 7
# HELP caddy_ollama_tokens_saved_total Tokens of answers, and of the prompts they were generated from, that were not generated or read again.
# TYPE caddy_ollama_tokens_saved_total counter
caddy_ollama_tokens_saved_total{model="tiny:latest",type="input"} 10
caddy_ollama_tokens_saved_total{model="tiny:latest",type="output"} 25
`
	names := []string{"backend_up", "bypass_total", "bytes", "corrupt_total", "evictions_total", "requests_total"}
	for i, name := range names {
		names[i] = "caddy_ollama_cache_" + name
	}
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), append(names, "caddy_ollama_node_seconds_saved_total", "caddy_ollama_tokens_saved_total")...); err != nil {
		t.Error(err)
	}
}

func TestMetrics_TellWhatBecameOfTexts(t *testing.T) {
	m := New(state)
	r := prometheus.NewPedanticRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	m.Gathered("embed:latest", 3, 20*time.Millisecond)
	m.Began("embed")
	m.Ended(&gateway.Record{Endpoint: "embed", Model: "embed:latest", Outcome: gateway.OK, Cache: call.CacheResult{
		Status: call.Miss, Detail: "partial", Saved: wire.Totals{PromptTokens: 14, Total: time.Second},
		Texts: call.Texts{Items: 11, Found: 5, Joined: 2, Sent: 3},
	}})
	const want = `
# HELP caddy_ollama_embedding_texts_total Different texts of embedding requests that were answered text by text, by what became of them.
# TYPE caddy_ollama_embedding_texts_total counter
caddy_ollama_embedding_texts_total{result="found"} 5
caddy_ollama_embedding_texts_total{result="joined"} 2
caddy_ollama_embedding_texts_total{result="sent"} 3
# HELP caddy_ollama_tokens_saved_total Tokens of answers, and of the prompts they were generated from, that were not generated or read again.
# TYPE caddy_ollama_tokens_saved_total counter
caddy_ollama_tokens_saved_total{model="embed:latest",type="input"} 14
caddy_ollama_tokens_saved_total{model="embed:latest",type="output"} 0
# HELP caddy_ollama_node_seconds_saved_total Time that nodes spent on answers which were given again: prompt evaluation and generation, without loads.
# TYPE caddy_ollama_node_seconds_saved_total counter
caddy_ollama_node_seconds_saved_total{model="embed:latest"} 1
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "caddy_ollama_embedding_texts_total", "caddy_ollama_tokens_saved_total", "caddy_ollama_node_seconds_saved_total"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"batch_size", "batch_wait_seconds"} {
		if n, err := testutil.GatherAndCount(r, "caddy_ollama_"+name); n != 1 || err != nil {
			t.Errorf("%s: %d series, %v", name, n, err)
		}
	}
}
