package fleet

import (
	"cmp"
	"slices"
)

// Holders are the nodes that are alive and have something under a model's name, whatever it is, in
// configured order.
func (s *Snapshot) Holders(key string) []*Node {
	var nodes []*Node
	for _, in := range s.inputs {
		if in.up && in.tags.byKey[key] != nil {
			nodes = append(nodes, in.node)
		}
	}
	return nodes
}

// A Holding is what one node has under a name.
type Holding struct {
	Model    string // short name
	Node     string
	Alive    bool   // else it is what the node had when it was there last
	Digest   string // of the manifest, without "sha256:"; "" if the node tells none
	Identity string // what answers depend on, "" while it is not known
	Drift    bool   // it is not what is served under this name
	Cloud    bool   // a stub of a model of the hosted service
}

// Holdings are what all nodes have, by name, and under a name in configured order.
func (f *Fleet) Holdings() []Holding {
	s := f.Snapshot()
	var all []Holding
	f.models.mu.Lock()
	for _, in := range s.inputs {
		for _, r := range in.tags.rows {
			h := Holding{
				Model: r.short, Node: in.node.Name(), Alive: in.up, Digest: r.digest, Cloud: r.cloud,
				Identity: identityOf(f.models.known, r.digest),
			}
			if m := s.Models[r.key]; m != nil && m.Identity != "" && h.Identity != "" {
				h.Drift = h.Identity != m.Identity
			}
			all = append(all, h)
		}
	}
	f.models.mu.Unlock()
	slices.SortStableFunc(all, func(a, b Holding) int { return cmp.Compare(a.Model, b.Model) })
	return all
}
