package telemetry

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// caching counts what the cache does and saves.
type caching struct {
	requests     *prometheus.CounterVec
	bypasses     *prometheus.CounterVec
	evictions    *prometheus.CounterVec
	corrupt      *prometheus.CounterVec
	operations   *prometheus.HistogramVec
	ttl          *prometheus.HistogramVec
	savedTokens  *prometheus.CounterVec
	savedSeconds *prometheus.CounterVec
	refreshes    *prometheus.CounterVec
	coalesced    *prometheus.CounterVec
	texts        *prometheus.CounterVec
	batchSize    *prometheus.HistogramVec
	batchWait    *prometheus.HistogramVec

	// What each miss counts, found beforehand.
	missed    prometheus.Counter
	outOfRoom prometheus.Counter
	kept      map[string]prometheus.Observer // by class
}

// A TTL is between a few seconds and for ever, which is in the last bucket.
var ttlBuckets = []float64{10, 30, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 24 * 3600, 3 * 24 * 3600, 7 * 24 * 3600, 30 * 24 * 3600}

// An operation of the second tier has 50 ms.
var operationBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1}

func newCaching() caching {
	c := caching{
		requests: counter("cache_requests_total",
			"Inference requests by what the cache did for them, and the store that had the answer.", "result", "backend"),
		bypasses:  counter("cache_bypass_total", "Requests that were not to be cached, by why.", "reason"),
		evictions: counter("cache_evictions_total", "Answers that were dropped from a store of the cache, by why.", "backend", "reason"),
		corrupt: counter("cache_corrupt_total",
			"Stored answers that were not sound: deleted, and not given to anybody.", "backend"),
		operations: histogram("cache_operation_duration_seconds", "Time that operations of a store took, failed ones too.",
			operationBuckets, "backend", "op"),
		ttl: histogram("cache_ttl_seconds", "TTL that stored answers were given, by the class of the request.", ttlBuckets, "class"),
		savedTokens: counter("tokens_saved_total",
			"Tokens of answers, and of the prompts they were generated from, that were not generated or read again.", "model", "type"),
		savedSeconds: counter("node_seconds_saved_total",
			"Time that nodes spent on answers which were given again: prompt evaluation and generation, without loads.", "model"),
	}
	c.refreshes = counter("cache_adaptive_refreshes_total",
		"Answers of adaptive rules that were compared with the one before, by result. Many doubtful ones say that answers differ for no reason.", "result")
	for _, result := range cache.Refreshed {
		c.refreshes.WithLabelValues(result)
	}
	c.coalesced = counter("coalesced_requests_total", "Requests that heard the answer of another one while it was generated.", "endpoint")
	c.texts = counter("embedding_texts_total",
		"Different texts of embedding requests that were answered text by text, by what became of them.", "result")
	c.batchSize = histogram("batch_size", "Texts in one call to a node for embeddings.", []float64{1, 2, 4, 8, 16, 32, 64, 128, 256}, "model")
	c.batchWait = histogram("batch_wait_seconds", "Time that the first text of such a call waited for others and for a slot.",
		[]float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}, "model")
	for e := range gateway.Answering {
		c.coalesced.WithLabelValues(e)
	}
	for _, result := range [...]string{"found", "joined", "sent"} {
		c.texts.WithLabelValues(result)
	}
	for _, backend := range cache.Backends {
		c.requests.WithLabelValues(string(call.Hit), backend)
		c.requests.WithLabelValues(string(call.Stale), backend)
		c.corrupt.WithLabelValues(backend)
	}
	c.missed = c.requests.WithLabelValues(string(call.Miss), "")
	c.requests.WithLabelValues(string(call.Bypass), "")
	c.outOfRoom = c.evictions.WithLabelValues(cache.Memory, "size")
	c.kept = make(map[string]prometheus.Observer)
	for _, class := range cache.Classes {
		c.kept[class] = c.ttl.WithLabelValues(class)
	}
	return c
}

func (c *caching) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		c.requests, c.bypasses, c.evictions, c.corrupt, c.operations, c.ttl, c.savedTokens, c.savedSeconds, c.coalesced, c.refreshes,
		c.texts, c.batchSize, c.batchWait,
	}
}

// born has what is saved of a model begin at zero.
func (c *caching) born(model string) {
	c.savedTokens.WithLabelValues(model, "input")
	c.savedTokens.WithLabelValues(model, "output")
	c.savedSeconds.WithLabelValues(model)
}

// ended counts what the cache did for a request.
func (c *caching) ended(r *gateway.Record, model string) {
	if r.Coalesced {
		c.coalesced.WithLabelValues(r.Endpoint).Inc()
	}
	if saved := r.Cache.Saved; saved != (wire.Totals{}) {
		c.savedTokens.WithLabelValues(model, "input").Add(float64(saved.PromptTokens))
		c.savedTokens.WithLabelValues(model, "output").Add(float64(saved.OutputTokens))
		c.savedSeconds.WithLabelValues(model).Add(cost(saved).Seconds())
	}
	if t := r.Cache.Texts; t.Items > 0 {
		c.texts.WithLabelValues("found").Add(float64(t.Found))
		c.texts.WithLabelValues("joined").Add(float64(t.Joined))
		c.texts.WithLabelValues("sent").Add(float64(t.Sent))
	}
	switch r.Cache.Status {
	case "":
		return
	case call.Miss:
		c.missed.Inc()
		return
	case call.Bypass:
		c.bypasses.WithLabelValues(r.Cache.Detail).Inc()
	}
	c.requests.WithLabelValues(string(r.Cache.Status), r.Cache.Backend).Inc()
}

// cost is the time that a node spent on an answer. Not all dialects tell; then it is what the
// answer took, without waiting.
func cost(t wire.Totals) time.Duration {
	if told := t.Prompt + t.Eval; told > 0 {
		return told
	}
	return t.Total
}

// Gathered implements gateway.Observer.
func (m *Metrics) Gathered(model string, texts int, waited time.Duration) {
	model = m.models.of(model)
	m.caching.batchSize.WithLabelValues(model).Observe(float64(texts))
	m.caching.batchWait.WithLabelValues(model).Observe(waited.Seconds())
}

// CacheOperated implements cache.Watcher.
func (m *Metrics) CacheOperated(backend, op string, took time.Duration) {
	m.caching.operations.WithLabelValues(backend, op).Observe(took.Seconds())
}

// CacheEvicted implements cache.Watcher.
func (m *Metrics) CacheEvicted(backend, reason string) {
	if backend == cache.Memory && reason == "size" {
		m.caching.outOfRoom.Inc() // by each miss, once memory is full
		return
	}
	m.caching.evictions.WithLabelValues(backend, reason).Inc()
}

// CacheCorrupt implements cache.Watcher.
func (m *Metrics) CacheCorrupt(backend string) { m.caching.corrupt.WithLabelValues(backend).Inc() }

// CacheStored implements cache.Watcher.
func (m *Metrics) CacheStored(class string, ttl time.Duration) {
	m.caching.kept[class].Observe(ttl.Seconds())
}

// CacheRefreshed implements cache.Watcher.
func (m *Metrics) CacheRefreshed(result string) { m.caching.refreshes.WithLabelValues(result).Inc() }
