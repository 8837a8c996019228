package telemetry

import (
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// latencyLimit is how many (endpoint, model, cache) are told apart in each of the two histograms
// that have all three: each costs two dozen series. Thirty models, most of them asked in two or
// three ways, fit; further ones are "other" there, and nowhere else.
const latencyLimit = 100

// Where an answer came from: the label cache.
const (
	fromStore  = iota // a stored answer, fresh or stale
	fromOther         // that of another request, heard as it was generated
	fromNode          // a node was asked for it, whether or not there is a cache
	sourcesAll        // how many there are
)

var sources = [sourcesAll]string{fromStore: "hit", fromOther: "coalesced", fromNode: "miss"}

// Sources are the words of the label cache.
func Sources() []string { return sources[:] }

func sourceOf(r *gateway.Record) int {
	switch {
	case r.Coalesced:
		return fromOther
	case r.Cache.Status == call.Hit, r.Cache.Status == call.Stale:
		return fromStore
	}
	return fromNode
}

// requests counts and measures requests of clients. What an ending needs is looked up once by
// (endpoint, model), not label by label.
type requests struct {
	total    *prometheus.CounterVec
	inFlight *prometheus.GaugeVec
	duration latency
	first    latency
	overhead *prometheus.HistogramVec

	refused     map[gateway.Reason]prometheus.Counter // of all three metrics
	rejected    *prometheus.CounterVec
	bodies      *prometheus.CounterVec
	keys        *prometheus.CounterVec
	disconnects *prometheus.CounterVec

	overheads map[string]*[sourcesAll]prometheus.Observer // by endpoint; not changed
	running   map[string]*[2]prometheus.Gauge             // by endpoint: not streamed, streamed; not changed

	mu    sync.RWMutex // guards what follows
	pairs map[pairKey]*pair
}

// A pairKey names an endpoint and a model, as labels have them.
type pairKey struct{ endpoint, model string }

// A pair is the series of an endpoint and a model.
type pair struct {
	outcomes        [len(gateway.Outcomes)]prometheus.Counter
	duration, first [sourcesAll]atomic.Pointer[series]
}

// A latency is a histogram of (endpoint, model, cache) of which only so many are told apart.
type latency struct {
	*prometheus.HistogramVec
	overflow prometheus.Counter

	mu    sync.Mutex // guards what follows
	count int
}

func newRequests(overflow prometheus.Counter) *requests {
	r := &requests{
		pairs: make(map[pairKey]*pair),
		total: counter("requests_total",
			"Requests by their one outcome. A stream that broke off after its first byte is truncated, although its status was 200.",
			"endpoint", "model", "outcome"),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight", Help: "Requests being handled now.",
		}, []string{"endpoint", "stream"}),
		overhead: histogram("overhead_seconds",
			"What the gateway added to the time until the first byte: without the body's arrival, the queue and the wait for nodes.",
			overheadBuckets, "endpoint", "cache"),
		rejected:    counter("admission_rejected_total", "Requests for which there was no room, by what was full.", "reason"),
		bodies:      counter("request_body_rejected_total", "Requests whose body was not taken, by why.", "reason"),
		keys:        counter("auth_failures_total", "Requests that were not allowed, by why.", "reason"),
		disconnects: counter("client_disconnects_total", "Clients that left before their answer was complete, by where their request was.", "phase"),
		refused:     make(map[gateway.Reason]prometheus.Counter),
		overheads:   make(map[string]*[sourcesAll]prometheus.Observer),
		running:     make(map[string]*[2]prometheus.Gauge),
	}
	r.duration.HistogramVec = histogram("request_duration_seconds",
		"Time from the arrival of a request that was answered to the end of its answer, by where that came from.",
		requestBuckets, "endpoint", "model", "cache")
	r.first.HistogramVec = histogram("time_to_first_token_seconds",
		"Time from the arrival of a request for a stream to the first frame of its answer, by where that came from.",
		firstBuckets, "endpoint", "model", "cache")
	r.duration.overflow, r.first.overflow = overflow, overflow

	for _, e := range gateway.Endpoints {
		r.pairOf(e, "")
		running := [2]prometheus.Gauge{r.inFlight.WithLabelValues(e, "false")}
		if embeds, ok := gateway.Answering[e]; ok {
			if !embeds {
				running[1] = r.inFlight.WithLabelValues(e, "true")
			}
			var all [sourcesAll]prometheus.Observer
			for i, source := range sources {
				all[i] = r.overhead.WithLabelValues(e, source)
			}
			r.overheads[e] = &all
		}
		r.running[e] = &running
	}
	for _, list := range []struct {
		vec     *prometheus.CounterVec
		reasons []gateway.Reason
	}{{r.rejected, gateway.Rejections[:]}, {r.bodies, gateway.BodyFaults[:]}, {r.keys, gateway.AuthFailures[:]}} {
		for _, reason := range list.reasons {
			r.refused[reason] = list.vec.WithLabelValues(string(reason))
		}
	}
	for _, phase := range gateway.Phases {
		r.disconnects.WithLabelValues(string(phase))
	}
	return r
}

func (r *requests) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		r.total, r.inFlight, r.duration.HistogramVec, r.first.HistogramVec, r.overhead, r.rejected, r.bodies, r.keys, r.disconnects,
	}
}

// Began implements gateway.Observer.
func (m *Metrics) Began(endpoint string) { m.requests.gauge(endpoint, false).Inc() }

// Streams implements gateway.Observer.
func (m *Metrics) Streams(endpoint string) {
	m.requests.gauge(endpoint, false).Dec()
	m.requests.gauge(endpoint, true).Inc()
}

// Ended implements gateway.Observer.
func (m *Metrics) Ended(r *gateway.Record) {
	model := m.models.of(r.Model)
	m.requests.ended(r, model)
	m.caching.ended(r, model)
	if r.Stalled {
		m.nodes.stalled.WithLabelValues("client").Inc()
	}
}

func (r *requests) gauge(endpoint string, stream bool) prometheus.Gauge {
	i := 0
	if stream {
		i = 1
	}
	if all := r.running[endpoint]; all != nil && all[i] != nil {
		return all[i]
	}
	return r.inFlight.WithLabelValues(endpoint, [2]string{"false", "true"}[i])
}

func (r *requests) ended(rec *gateway.Record, model string) {
	r.gauge(rec.Endpoint, rec.Stream).Dec()
	p := r.pairOf(rec.Endpoint, model)
	for i, o := range gateway.Outcomes {
		if o == rec.Outcome {
			p.outcomes[i].Inc()
			break
		}
	}
	if rec.Reason != "" {
		if c := r.refused[rec.Reason]; c != nil {
			c.Inc()
		}
	}
	if rec.Phase != "" {
		r.disconnects.WithLabelValues(string(rec.Phase)).Inc()
	}
	if rec.Model == "" || rec.FirstByte <= 0 {
		return
	}
	from := sourceOf(rec)
	if rec.Outcome == gateway.OK {
		r.duration.of(&p.duration[from], rec.Endpoint, model, sources[from]).observe(rec.Took, rec.TraceID)
	}
	if rec.Stream {
		r.first.of(&p.first[from], rec.Endpoint, model, sources[from]).observe(rec.FirstByte, rec.TraceID)
	}
	if added, ok := rec.Overhead(); ok {
		if all := r.overheads[rec.Endpoint]; all != nil {
			all[from].Observe(added.Seconds())
		}
	}
}

// pairOf gives the series of an endpoint and a model. All outcomes are there from the first
// request: that of the first failure is zero before.
func (r *requests) pairOf(endpoint, model string) *pair {
	key := pairKey{endpoint, model}
	r.mu.RLock()
	p := r.pairs[key]
	r.mu.RUnlock()
	if p != nil {
		return p
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p = r.pairs[key]; p != nil {
		return p
	}
	p = new(pair)
	for i, o := range gateway.Outcomes {
		p.outcomes[i] = r.total.WithLabelValues(endpoint, model, string(o))
	}
	r.pairs[key] = p
	return p
}

// of gives the child that an observation belongs to, and keeps it where it is found the next time.
func (l *latency) of(kept *atomic.Pointer[series], endpoint, model, source string) *series {
	s := kept.Load()
	if s == nil {
		s = l.make(kept, endpoint, model, source)
	}
	if s.folded {
		l.overflow.Inc()
	}
	return s
}

func (l *latency) make(kept *atomic.Pointer[series], endpoint, model, source string) *series {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := kept.Load(); s != nil {
		return s
	}
	s := new(series)
	if model != other { // whose are few
		if l.count < latencyLimit {
			l.count++
		} else {
			model, s.folded = other, true
		}
	}
	s.Observer = l.WithLabelValues(endpoint, model, source)
	kept.Store(s)
	return s
}
