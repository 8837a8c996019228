// Package telemetry counts what the gateway does, for Prometheus.
//
// Its collectors live as long as the process and are registered into the registry of each
// configuration anew, so that a reload resets nothing. Label values come from bounded sets:
// words of the code, names of configured nodes, and names of models that the fleet has, of
// which only so many are told apart. No text of a request ever is a label. What can be counted
// of a node or a model is zero once that is known, so that a rate does not miss the first time.
package telemetry

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

const namespace = "caddy_ollama"

// Metrics are the collectors of one engine. They are safe for concurrent use.
type Metrics struct {
	requests   *requests
	nodes      *nodes
	caching    caching
	choices    *prometheus.CounterVec
	overflow   *prometheus.CounterVec
	panics     prometheus.Counter
	managed    *prometheus.CounterVec
	waits      map[call.Class]map[string]prometheus.Observer // not changed
	models     *names
	collectors []prometheus.Collector

	state func() gateway.State
	met   atomic.Int64 // when the fleet was looked at last, in nanoseconds
}

// New makes the collectors. state is asked at each scrape.
func New(state func() gateway.State) *Metrics {
	m := &Metrics{
		caching: newCaching(), state: state,
		choices: counter("route_choices_total", "Choices of a node for a try, by why it was chosen.", "reason"),
		overflow: counter("label_overflow_total",
			"Observations counted under \"other\" because a label had too many values already.", "label"),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "panics_total", Help: "Panics while a request was answered: each is a fault of the gateway.",
		}),
		managed: counter("model_management_total", "Requests to change which models nodes have, by their one outcome.", "operation", "outcome"),
		waits:   make(map[call.Class]map[string]prometheus.Observer),
	}
	m.models = newNames(modelLimit, m.overflow.WithLabelValues("model"))
	latency := m.overflow.WithLabelValues("latency")
	m.requests = newRequests(latency)
	m.nodes = newNodes(newNames(nodeLimit, m.overflow.WithLabelValues("node")), m.models, latency)
	for _, reason := range schedule.Choices {
		m.choices.WithLabelValues(reason)
	}
	for _, operation := range gateway.Managing {
		for _, outcome := range gateway.Outcomes {
			m.managed.WithLabelValues(operation, string(outcome))
		}
	}
	waits := histogram("queue_wait_seconds", "Time that calls waited for a slot, loads of models among it, by how the wait ended.", waitBuckets, "class", "result")
	for _, class := range call.Classes {
		m.waits[class] = make(map[string]prometheus.Observer)
		for _, result := range schedule.WaitResults {
			m.waits[class][result] = waits.WithLabelValues(class.String(), result)
		}
	}
	m.collectors = []prometheus.Collector{m.choices, m.overflow, m.panics, m.managed, waits, buildInfo(), &gauges{m}}
	m.collectors = append(m.collectors, m.requests.collectors()...)
	m.collectors = append(m.collectors, m.nodes.collectors()...)
	m.collectors = append(m.collectors, m.caching.collectors()...)
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

// Managed implements gateway.Observer.
func (m *Metrics) Managed(operation string, outcome gateway.Outcome) {
	m.managed.WithLabelValues(operation, string(outcome)).Inc()
}

// Panicked implements gateway.Observer.
func (m *Metrics) Panicked() { m.panics.Inc() }

// Waited implements schedule.Observer.
func (m *Metrics) Waited(class call.Class, result string, took time.Duration) {
	if o := m.waits[class][result]; o != nil {
		o.Observe(took.Seconds())
	}
}
