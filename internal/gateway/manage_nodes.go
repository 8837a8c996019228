package gateway

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// nodesHeader and nodesQuery name the nodes that a request to change models is for, separated by
// commas, where the site lets its clients choose.
const (
	nodesHeader = "X-Ollama-Nodes"
	nodesQuery  = "nodes"
)

// DefaultRegistry is where models come from if nothing is said: Ollama's own.
const DefaultRegistry = "registry.ollama.ai"

// A ManageConfig says how models are changed, where they may be. The zero value works.
type ManageConfig struct {
	To         []string // names of the nodes that are changed. Default: all
	ByClient   bool     // a request may name the nodes, of those of To, in X-Ollama-Nodes or ?nodes=
	RequireAll bool     // a pull or a create fails if it fails on one node. Default: if it fails on all
	Registries []string // hosts that models are pulled from and pushed to, with their ports. Default: DefaultRegistry
}

// A hostForm is a registry as it stands in the name of a model.
var hostForm = regexp.MustCompile(`^[a-z0-9_][a-z0-9_.-]*(:[0-9]{1,5})?$`)

// newManaging checks the wishes.
func newManaging(c ManageConfig) (managing, error) {
	m := managing{to: c.To, byClient: c.ByClient, requireAll: c.RequireAll}
	for _, to := range c.To {
		if to == "" || strings.ContainsAny(to, ", ") {
			return m, fmt.Errorf("manage: %q is not the name of a node", to)
		}
	}
	for _, host := range c.Registries {
		if host = strings.ToLower(host); !hostForm.MatchString(host) {
			return m, fmt.Errorf("manage: %q is not a registry; write its host as it stands in the names of models, as in hf.co or registry.example.com:5000", host)
		}
		m.registries = append(m.registries, host)
	}
	if len(m.registries) == 0 {
		m.registries = []string{DefaultRegistry}
	}
	return m, nil
}

// A managing is how a site's clients change models.
type managing struct {
	to         []string
	byClient   bool
	requireAll bool
	registries []string // in lower case
}

// takesModels are nodes that something new may be given to: one that is ejected or drained for a
// reason is left alone.
func takesModels(v *fleet.NodeView) bool { return v.Usable() }

// answers are nodes whose models the merged views show.
func answers(v *fleet.NodeView) bool { return v.State.Alive() }

// targets are the nodes that a request is for, of those that are fit, in configured order.
func (q *request) targets(fit func(*fleet.NodeView) bool) ([]*fleet.Node, error) {
	snap, err := q.inventory()
	if err != nil {
		return nil, err
	}
	snap = q.afterAsking(snap) // or a node that a reload has just brought would be passed over
	chosen, err := q.chosen(snap)
	if err != nil {
		return nil, err
	}
	var nodes []*fleet.Node
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if q.mayChange(v.Node.Name()) && (chosen == nil || slices.Contains(chosen, v.Node.Name())) && fit(v) {
			nodes = append(nodes, v.Node)
		}
	}
	if len(nodes) == 0 || chosen != nil && len(nodes) < len(chosen) {
		return nil, errNoneUp // the ones that a client names are all meant
	}
	return nodes, nil
}

// mayChange tells whether the site's clients change a node.
func (q *request) mayChange(node string) bool {
	to := q.site.management.to
	return len(to) == 0 || slices.Contains(to, node)
}

// chosen are the nodes that the client names, nil if it names none.
func (q *request) chosen(snap *fleet.Snapshot) ([]string, error) {
	values := slices.Concat(q.r.Header.Values(nodesHeader), q.r.URL.Query()[nodesQuery])
	if len(values) == 0 {
		return nil, nil
	}
	if !q.site.management.byClient {
		return nil, &forbidden{"choosing nodes is not allowed here; leave " + nodesHeader + " and ?" + nodesQuery + "= out"}
	}
	chosen := []string{}
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.TrimSpace(name)
			known := q.mayChange(name) && slices.ContainsFunc(snap.Nodes, func(v fleet.NodeView) bool { return v.Node.Name() == name })
			if !known {
				return nil, &wire.BadRequest{Status: http.StatusBadRequest, Message: fmt.Sprintf("no node is called %.64q here", name)}
			}
			if !slices.Contains(chosen, name) {
				chosen = append(chosen, name)
			}
		}
	}
	return chosen, nil
}

// holders are the nodes that are alive, are changed by the site's clients, and have something under
// a name. A name that nobody has listed is asked for once more.
func (q *request) holders(m wire.ModelName) ([]*fleet.Node, error) {
	if !q.site.allows(m.Short()) {
		return nil, notFound(q.route, m.Spelling)
	}
	nodes, err := q.targets(answers)
	if err != nil {
		return nil, err
	}
	have := held(q.engine.fleet.Snapshot(), m, nodes)
	if len(have) == 0 {
		q.engine.fleet.Lookup(q.ctx())
		have = held(q.engine.fleet.Snapshot(), m, nodes)
	}
	if len(have) == 0 {
		return nil, notFound(q.route, m.Spelling)
	}
	return have, nil
}

// held are those of the nodes that have something under a name.
func held(snap *fleet.Snapshot, m wire.ModelName, nodes []*fleet.Node) []*fleet.Node {
	holders := snap.Holders(m.Key())
	return slices.DeleteFunc(slices.Clone(nodes), func(n *fleet.Node) bool { return !slices.Contains(holders, n) })
}

// label is what clients are told a node is called. One that has no name of its own is called by its
// address, which they are not told: it is counted.
func (q *request) label(name string) string {
	snap := q.engine.fleet.Snapshot()
	i := slices.IndexFunc(snap.Nodes, func(v fleet.NodeView) bool { return v.Node.Name() == name })
	if i < 0 {
		return "a node that is gone"
	}
	if u := snap.Nodes[i].Node.URL(); strings.Contains(name, u.Hostname()) {
		return fmt.Sprintf("node %d", i+1)
	}
	return name
}
