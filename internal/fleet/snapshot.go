package fleet

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Snapshot is what is known of the fleet at one time. It is immutable and safe for
// concurrent use.
type Snapshot struct {
	Ready bool       // once every node has been asked, and ever after
	Asked bool       // every node has been asked; of those that a reload brings, nothing is known at first
	Nodes []NodeView // in configured order
	// Models are what the nodes can serve, by wire.ModelName.Key. One that only nodes hold
	// that are down is among them, with no Nodes.
	Models  map[string]*Model
	Version string // the lowest among the nodes that are alive, "" if none is

	inputs []input  // what the models are made of
	listed []*Model // those with Nodes, as /api/tags lists them
	mixed  bool     // not all nodes have one version
}

// A NodeView is what is known of a node.
type NodeView struct {
	Node    *Node
	State   State
	Reason  string    // why it is not up: a few words without secrets
	Since   time.Time // when the state began
	Version string    // that it answered last
	Models  int       // on its disk, when it was asked last
	Runners []Runner  // none while it is down

	Draining  bool      // by the operator, also while it is down
	Ejections int       // that are not forgotten
	Until     time.Time // when it is tried again, if Ejected; it may be sooner
	Share     float64   // of its slots that it may be given at once, in Probation; see Limit
	Load      int       // what its last failures count as calls in flight
	Full      bool      // it has refused a call for want of room a moment ago: it is given none
	// LastResort tells that the node is ejected for what its calls met: a call that no other node
	// can take may try it, one at a time, for it may be well again.
	LastResort bool
	// Weights are how much of a full node it is for models that it answers slowly: 0.1 is ten
	// times slower than the others. It must not be changed. See Weight.
	Weights map[string]float64
}

// Usable tells whether the node may be given calls: of one that is half open, the one call
// that tries it.
func (v *NodeView) Usable() bool {
	return v.State == Up || v.State == Probation || v.State == HalfOpen
}

// Trial tells whether the node may be given one call only, until that has been reported.
func (v *NodeView) Trial() bool { return v.State == HalfOpen || v.LastResort }

// Limit is how many calls a node in Probation may have at once, at least one; ok is false if
// only the slots of its runners limit it.
func (v *NodeView) Limit() (calls int, ok bool) {
	if v.State != Probation {
		return 0, false
	}
	return max(1, int(float64(v.Node.Slots())*v.Share)), true
}

// Weight is the node's part of a full node for a model: 1, less where it is slow.
func (v *NodeView) Weight(model string) float64 {
	if w, ok := v.Weights[model]; ok {
		return w
	}
	return 1
}

// A Model is what is meant by a name.
type Model struct {
	Key, Short string             // of wire.ModelName
	Identity   string             // what its answers depend on, "" while it is not known
	Digests    []string           // manifest digests of that identity among the nodes that are alive
	Parameters wire.RunnerOptions // runner options among the model's own parameters
	Sampling   wire.Sampling      // how its own parameters have it sampled
	Dated      bool               // its template prints the date
	Embedding  bool               // it embeds and does nothing else
	Nodes      []*Node            // nodes that are alive and hold it, in configured order; see NodeView.Usable
	Drift      []string           // nodes that are alive and hold something else under this name

	down []*Node // that hold it, if none does that is alive
	row  *row    // the newest of the identity
	show []byte  // the answer of /api/show, nil while it is not known
}

// Runner finds the runner of a model, by its digests, else by its name.
func (v *NodeView) Runner(m *Model) (Runner, bool) {
	i := slices.IndexFunc(v.Runners, func(r Runner) bool { return slices.Contains(m.Digests, r.Digest) })
	if i < 0 {
		i = slices.IndexFunc(v.Runners, func(r Runner) bool { return r.Key == m.Key })
	}
	if i < 0 {
		return Runner{}, false
	}
	r := v.Runners[i]
	// What was sent may be less than what it was loaded with: the model's own options were not
	// known yet.
	r.Options = r.Options.Over(m.Parameters)
	return r, true
}

// A build makes each snapshot out of the one before: models are merged anew only when what
// they are made of has changed, because runners change with every call.
type build struct {
	ready      bool
	inputs     []input
	generation uint64 // of the identities
	models     map[string]*Model
	listed     []*Model
}

// An input is what a node adds to the models.
type input struct {
	node *Node
	up   bool // State.Alive
	tags *inventory
}

// next makes a snapshot. relisted tells that the inventories are others than before, replaced has
// the identities that a node has now something else for.
func (b *build) next(nodes []*Node, configured bool, ids *identities) (s *Snapshot, relisted bool, replaced []string) {
	s = &Snapshot{Nodes: make([]NodeView, len(nodes))}
	inputs := make([]input, len(nodes))
	s.Asked = configured
	for i, n := range nodes {
		x := n.facts.Load()
		s.Nodes[i] = NodeView{
			Node: n, State: x.state, Reason: x.reason, Since: x.since, Version: x.version,
			Models: len(x.tags.rows), Runners: x.runners,
			Draining: x.draining, Ejections: x.ejections, Until: x.until, Share: x.share, Load: x.load, Full: x.full,
			Weights:    x.weights,
			LastResort: x.state == Ejected && !x.dials,
		}
		inputs[i] = input{n, x.state.Alive(), x.tags}
		s.Asked = s.Asked && x.checked
		if x.state.Alive() && (s.Version == "" || compareVersions(x.version, s.Version) < 0) {
			s.Version = x.version
		}
		s.mixed = s.mixed || x.version != s.Nodes[0].Version
	}
	b.ready = b.ready || s.Asked
	relisted = b.models == nil || !slices.Equal(inputs, b.inputs)

	ids.mu.Lock()
	if relisted {
		replaced = b.replaced(inputs, ids.known)
	}
	if relisted || ids.generation != b.generation {
		b.models, b.listed = merge(inputs, ids.known)
		b.inputs, b.generation = inputs, ids.generation
	}
	ids.mu.Unlock()
	s.Ready, s.Models, s.listed, s.inputs = b.ready, b.models, b.listed, b.inputs
	return s, relisted, replaced
}

// replaced gives the identities that nodes listed under a name for which they list another digest
// now. What such a node has answered since it was last asked may be of either.
func (b *build) replaced(inputs []input, known map[string]*shown) (identities []string) {
	before := make(map[*Node]*inventory, len(b.inputs))
	for _, in := range b.inputs {
		before[in.node] = in.tags
	}
	for _, in := range inputs {
		old := before[in.node]
		if old == nil || old == in.tags {
			continue
		}
		for key, r := range old.byKey {
			now, identity := in.tags.byKey[key], identityOf(known, r.digest)
			if now != nil && now.digest != r.digest && identity != "" {
				identities = append(identities, identity)
			}
		}
	}
	return identities
}

// VersionOf is the newest version of Ollama among the nodes that can serve a model, or hold it
// where none can.
func (s *Snapshot) VersionOf(m *Model) string {
	if len(s.Nodes) > 0 && !s.mixed {
		return s.Nodes[0].Version
	}
	nodes := m.Nodes
	if len(nodes) == 0 {
		nodes = m.down
	}
	newest := ""
	for i := range s.Nodes {
		if v := &s.Nodes[i]; (newest == "" || compareVersions(v.Version, newest) > 0) && slices.Contains(nodes, v.Node) {
			newest = v.Version
		}
	}
	return newest
}

// Identities are those of the models that some node has.
func (s *Snapshot) Identities() map[string]bool {
	all := make(map[string]bool, len(s.Models))
	for _, m := range s.Models {
		all[m.Identity] = true
	}
	return all
}

// VersionAt is the version of Ollama on a node, by its name; "" if there is no such node.
func (s *Snapshot) VersionAt(node string) string {
	for i := range s.Nodes {
		if s.Nodes[i].Node.Name() == node {
			return s.Nodes[i].Version
		}
	}
	return ""
}

// compareVersions orders versions by their numbers; a suffix like -rc1 comes before none, and
// what is no number counts as 0.
func compareVersions(a, b string) int {
	a, asuffix, _ := strings.Cut(strings.TrimPrefix(a, "v"), "-")
	b, bsuffix, _ := strings.Cut(strings.TrimPrefix(b, "v"), "-")
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		m, _ := strconv.Atoi(x)
		n, _ := strconv.Atoi(y)
		if m != n {
			return cmp.Compare(m, n)
		}
	}
	switch {
	case asuffix == "" && bsuffix != "":
		return 1
	case asuffix != "" && bsuffix == "":
		return -1
	}
	return strings.Compare(asuffix, bsuffix)
}
