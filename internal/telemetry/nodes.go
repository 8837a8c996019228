package telemetry

import (
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// paceLimit is how many (model, node) are told apart in time_per_output_token_seconds, whose
// children cost 19 series each; further models are "other" there.
const paceLimit = 110

// forgetAfter is how long the series of a node stay that has left: longer than what rates look back
// at, so that a node which comes back goes on where it was. Without an end, discovery would make more
// of them for ever.
const forgetAfter = time.Hour

// nodes counts and measures what nodes do, and what is generated there.
type nodes struct {
	names, models *names
	overflow      prometheus.Counter // of pace

	tries     *prometheus.CounterVec
	took      *prometheus.HistogramVec
	pace      *prometheus.HistogramVec
	tokens    *prometheus.CounterVec
	loads     *prometheus.CounterVec
	loadTook  *prometheus.HistogramVec
	moves     *prometheus.CounterVec
	checks    *prometheus.CounterVec
	checkTook *prometheus.HistogramVec
	retries   *prometheus.CounterVec
	stalled   *prometheus.CounterVec

	mu        sync.RWMutex // guards what follows
	known     map[string]*node
	generated map[string]*generated
	paces     map[paceKey]*series
	told      int // of paces that are told apart
}

// A node is the series of one.
type node struct {
	tries     [len(attempt.Outcomes)]prometheus.Counter
	took      prometheus.Observer
	loadTook  prometheus.Observer
	moves     [len(fleet.States)]prometheus.Counter
	checks    [len(fleet.CheckResults)]prometheus.Counter
	checkTook prometheus.Observer

	seen time.Time // when the fleet had it last; guarded by nodes.mu
}

type generated struct{ input, output prometheus.Counter }

type paceKey struct{ model, node string }

func newNodes(names, models *names, overflow prometheus.Counter) *nodes {
	n := &nodes{
		names: names, models: models, overflow: overflow,
		known: make(map[string]*node), generated: make(map[string]*generated), paces: make(map[paceKey]*series),
		tries: counter("node_requests_total",
			"Tries of inference requests at a node by their result. One request may make several.", "node", "result"),
		took: histogram("node_attempt_duration_seconds",
			"Time that tries at a node took, to the end of the answer or the failure; those that nobody waited for are left out.", requestBuckets, "node"),
		pace: histogram("time_per_output_token_seconds",
			"Time from the first frame of a complete answer to its end, by its tokens but the first.", tokenBuckets, "model", "node"),
		tokens: counter("tokens_total", "Tokens that nodes have read (input) and generated (output) for complete answers.", "model", "type"),
		loads: counter("model_loads_total",
			"Models that the gateway had loaded on a node, by why and by the result.", "node", "reason", "result"),
		loadTook: histogram("model_load_duration_seconds", "Time that loads of models by the gateway took.", loadBuckets, "node"),
		moves:    counter("node_state_changes_total", "Changes of a node into a state.", "node", "to"),
		checks:   counter("node_health_checks_total", "Health checks of a node by their result.", "node", "result"),
		checkTook: histogram("node_health_check_duration_seconds",
			"Time that health checks of a node took, failed ones too.", checkBuckets, "node"),
		retries: counter("retries_total",
			"Tries that made up for one that had failed, by how that had failed and what became of them.", "reason", "result"),
		stalled: counter("streams_stalled_total",
			"Answers that were cut because a node sent nothing more, or a client read nothing more.", "side"),
	}
	for _, reason := range attempt.Outcomes {
		if reason == attempt.OK || reason == attempt.Refused || reason == attempt.Canceled {
			continue // nothing to make up for
		}
		for _, result := range attempt.RetryResults {
			n.retries.WithLabelValues(string(reason), result)
		}
	}
	n.stalled.WithLabelValues("node")
	n.stalled.WithLabelValues("client")
	return n
}

func (n *nodes) collectors() []prometheus.Collector {
	return []prometheus.Collector{
		n.tries, n.took, n.pace, n.tokens, n.loads, n.loadTook, n.moves, n.checks, n.checkTook, n.retries, n.stalled,
	}
}

// Chosen implements attempt.Log.
func (m *Metrics) Chosen(reason string) { m.choices.WithLabelValues(reason).Inc() }

// Tried implements attempt.Log.
func (m *Metrics) Tried(e attempt.Ended) {
	n := m.nodes
	s := n.of(e.Node)
	if i := slices.Index(attempt.Outcomes[:], e.Outcome); i >= 0 {
		s.tries[i].Inc()
	}
	if e.Outcome != attempt.Canceled {
		s.took.Observe(e.Took.Seconds())
	}
	if e.Stalled {
		n.stalled.WithLabelValues("node").Inc()
	}
	if e.Totals.PromptTokens == 0 && e.Totals.OutputTokens == 0 {
		return
	}
	model := n.models.of(e.Model)
	g := n.generatedBy(model)
	g.input.Add(float64(e.Totals.PromptTokens))
	g.output.Add(float64(e.Totals.OutputTokens))
	if per, ok := e.TokenTime(); ok {
		n.paceOf(model, e.Node).Observe(per.Seconds())
	}
}

// Retried implements attempt.Log.
func (m *Metrics) Retried(reason attempt.Outcome, result string) {
	m.nodes.retries.WithLabelValues(string(reason), result).Inc()
}

// Loaded implements gateway.Observer.
func (m *Metrics) Loaded(node, reason, result string, took time.Duration) {
	n := m.nodes
	s := n.of(node)
	n.loads.WithLabelValues(n.names.of(node), reason, result).Inc()
	if result == string(attempt.OK) {
		s.loadTook.Observe(took.Seconds())
	}
}

// NodeMoved implements fleet.Observer.
func (m *Metrics) NodeMoved(node string, to fleet.State) {
	if i := slices.Index(fleet.States[:], to); i >= 0 {
		m.nodes.of(node).moves[i].Inc()
	}
}

// NodeChecked implements fleet.Observer.
func (m *Metrics) NodeChecked(node, result string, took time.Duration) {
	s := m.nodes.of(node)
	if i := slices.Index(fleet.CheckResults[:], result); i >= 0 {
		s.checks[i].Inc()
	}
	s.checkTook.Observe(took.Seconds())
	m.look() // not with a scrape alone: the first one may come after the first failure
}

// of gives the series of a node. All that can be counted of it is zero from then on.
func (n *nodes) of(name string) *node {
	name = n.names.of(name)
	n.mu.RLock()
	s := n.known[name]
	n.mu.RUnlock()
	if s != nil {
		return s
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if s = n.known[name]; s != nil {
		return s
	}
	s = &node{
		seen: time.Now(),
		took: n.took.WithLabelValues(name), loadTook: n.loadTook.WithLabelValues(name), checkTook: n.checkTook.WithLabelValues(name),
	}
	for i, o := range attempt.Outcomes {
		s.tries[i] = n.tries.WithLabelValues(name, string(o))
		for _, reason := range schedule.LoadReasons {
			n.loads.WithLabelValues(name, reason, string(o))
		}
	}
	for i, state := range fleet.States {
		s.moves[i] = n.moves.WithLabelValues(name, state.String())
	}
	for i, result := range fleet.CheckResults {
		s.checks[i] = n.checks.WithLabelValues(name, result)
	}
	n.known[name] = s
	return s
}

// generatedBy gives the series of a model's tokens.
func (n *nodes) generatedBy(model string) *generated {
	n.mu.RLock()
	g := n.generated[model]
	n.mu.RUnlock()
	if g != nil {
		return g
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if g = n.generated[model]; g == nil {
		g = &generated{n.tokens.WithLabelValues(model, "input"), n.tokens.WithLabelValues(model, "output")}
		n.generated[model] = g
	}
	return g
}

// paceOf gives the histogram of a model on a node.
func (n *nodes) paceOf(model, node string) prometheus.Observer {
	key := paceKey{model, n.names.of(node)}
	n.mu.RLock()
	s := n.paces[key]
	n.mu.RUnlock()
	if s == nil {
		s = n.newPace(key)
	}
	if s.folded {
		n.overflow.Inc()
	}
	return s.Observer
}

func (n *nodes) newPace(key paceKey) *series {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s := n.paces[key]; s != nil {
		return s
	}
	s, model := new(series), key.model
	if model != other {
		if n.told < paceLimit {
			n.told++
		} else {
			model, s.folded = other, true
		}
	}
	s.Observer = n.pace.WithLabelValues(model, key.node)
	n.paces[key] = s
	return s
}

// meet has all that can be counted of the nodes of now begin at zero, and forgets those that left
// long ago.
func (n *nodes) meet(now []gateway.NodeState, at time.Time) {
	for _, state := range now {
		if !n.names.take(state.Name) {
			continue
		}
		s := n.of(state.Name)
		n.mu.Lock()
		s.seen = at
		n.mu.Unlock()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, s := range n.known {
		if name == other || at.Sub(s.seen) < forgetAfter {
			continue
		}
		delete(n.known, name)
		n.names.forget(name)
		label := prometheus.Labels{"node": name}
		for _, vec := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
			n.tries, n.took, n.pace, n.loads, n.loadTook, n.moves, n.checks, n.checkTook,
		} {
			vec.DeletePartialMatch(label)
		}
		for key, s := range n.paces {
			if key.node != name {
				continue
			}
			delete(n.paces, key)
			if key.model != other && !s.folded {
				n.told--
			}
		}
	}
}
