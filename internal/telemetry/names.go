package telemetry

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// modelLimit is how many models are told apart; further ones are "other". A fleet that
	// serves more would make more series than a dashboard can show.
	modelLimit = 200
	// nodeLimit is how many nodes are told apart, those among them that left a while ago.
	nodeLimit = 200

	other = "other"
)

// A names bounds the values of a label: the first so many are told apart. It is safe for
// concurrent use.
type names struct {
	limit    int
	overflow prometheus.Counter

	mu    sync.RWMutex // guards what follows
	known map[string]struct{}
}

func newNames(limit int, overflow prometheus.Counter) *names {
	return &names{limit: limit, overflow: overflow, known: make(map[string]struct{})}
}

// of is the label of an observation. "" stays what it is.
func (n *names) of(name string) string {
	if name == "" || n.take(name) {
		return name
	}
	n.overflow.Inc()
	return other
}

// take tells whether a name is told apart.
func (n *names) take(name string) bool {
	n.mu.RLock()
	_, known := n.known[name]
	full := len(n.known) >= n.limit
	n.mu.RUnlock()
	if known || full {
		return known
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known = n.known[name]; !known && len(n.known) < n.limit {
		n.known[name] = struct{}{}
		known = true
	}
	return known
}

// forget gives the place of a name to another one.
func (n *names) forget(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.known, name)
}
