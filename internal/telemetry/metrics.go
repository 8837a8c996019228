// Package telemetry counts what the gateway does, for Prometheus.
//
// Its collectors live as long as the process and are registered into the registry of each
// configuration anew, so that a reload resets nothing. Label values come from bounded sets:
// words of the code, names of configured nodes, and names of models that the fleet has, of
// which only so many are told apart. No text of a request ever is a label.
package telemetry

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

const (
	namespace = "caddy_ollama"

	// modelLimit is how many models are told apart; further ones are "other". A fleet that
	// serves more would make more series than a dashboard can show.
	modelLimit = 200
)

// Metrics are the collectors of one engine. They are safe for concurrent use.
type Metrics struct {
	requests   *prometheus.CounterVec
	inFlight   *prometheus.GaugeVec
	tries      *prometheus.CounterVec
	loads      *prometheus.CounterVec
	choices    *prometheus.CounterVec
	overflow   *prometheus.CounterVec
	panics     prometheus.Counter
	caching    caching
	collectors []prometheus.Collector

	mu     sync.Mutex // guards what follows
	models map[string]struct{}
}

// New makes the collectors. state is asked at each scrape.
func New(state func() gateway.State) *Metrics {
	m := &Metrics{
		models: make(map[string]struct{}),
		requests: counter("requests_total",
			"Requests by their one outcome. A stream that broke off after its first byte is truncated, although its status was 200.",
			"endpoint", "model", "outcome"),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "requests_in_flight", Help: "Requests being handled now.",
		}, []string{"endpoint"}),
		tries: counter("node_requests_total",
			"Tries of inference requests at a node by their result. One request may make several.", "node", "result"),
		loads: counter("model_loads_total",
			"Models that the gateway had loaded on a node, by why and by the result.", "node", "reason", "result"),
		choices: counter("route_choices_total", "Choices of a node for a try, by why it was chosen.", "reason"),
		overflow: counter("label_overflow_total",
			"Observations counted under \"other\" because a label had too many values already.", "label"),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "panics_total", Help: "Panics while a request was answered: each is a fault of the gateway.",
		}),
	}
	// What is known from the start is zero, not absent: a rate over it must not have gaps.
	for _, e := range gateway.Endpoints {
		m.inFlight.WithLabelValues(e)
		for _, o := range gateway.Outcomes {
			m.requests.WithLabelValues(e, "", string(o))
		}
	}
	for _, reason := range schedule.Choices {
		m.choices.WithLabelValues(reason)
	}
	m.overflow.WithLabelValues("model")
	m.caching = newCaching()
	m.collectors = append([]prometheus.Collector{m.requests, m.inFlight, m.tries, m.loads, m.choices, m.overflow, m.panics, &gauges{state}}, m.caching.collectors()...)
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

// Register has the collectors served by a registry, which may have them already.
func (m *Metrics) Register(r prometheus.Registerer) error {
	for _, c := range m.collectors {
		var known prometheus.AlreadyRegisteredError
		if err := r.Register(c); err != nil && !errors.As(err, &known) {
			return err
		}
	}
	return nil
}

// Chosen implements gateway.Observer.
func (m *Metrics) Chosen(reason string) { m.choices.WithLabelValues(reason).Inc() }

// Loaded implements gateway.Observer.
func (m *Metrics) Loaded(node, reason, result string, _ time.Duration) {
	m.loads.WithLabelValues(node, reason, result).Inc()
}

// Began implements gateway.Observer.
func (m *Metrics) Began(endpoint string) { m.inFlight.WithLabelValues(endpoint).Inc() }

// Ended implements gateway.Observer.
func (m *Metrics) Ended(r *gateway.Record) {
	m.inFlight.WithLabelValues(r.Endpoint).Dec()
	model := m.model(r.Model)
	m.requests.WithLabelValues(r.Endpoint, model, string(r.Outcome)).Inc()
	m.caching.ended(r, model)
}

// Panicked implements gateway.Observer.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Tried implements gateway.Observer.
func (m *Metrics) Tried(node, result string, _ time.Duration) {
	m.tries.WithLabelValues(node, result).Inc()
}

// model bounds the values of the label.
func (m *Metrics) model(name string) string {
	if name == "" {
		return ""
	}
	m.mu.Lock()
	_, known := m.models[name]
	room := len(m.models) < modelLimit
	if !known && room {
		m.models[name] = struct{}{}
	}
	m.mu.Unlock()
	if known || room {
		return name
	}
	m.overflow.WithLabelValues("model").Inc()
	return "other"
}
