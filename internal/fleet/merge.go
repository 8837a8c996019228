package fleet

import (
	"cmp"
	"slices"
)

// A holder is a node that lists a name, how, and what it means by it.
type holder struct {
	node     *Node
	row      *row
	identity string // "" while it is not known
}

// A variant is one identity under a name, "" for all those not known yet.
type variant struct {
	identity string
	holders  int
	newest   *row
}

// merge makes one model of what is listed under each name, by key, and lists those that can be
// served as /api/tags does: newest second first, else in the order of the nodes and of their
// rows.
func merge(inputs []input, known map[string]*shown) (models map[string]*Model, listed []*Model) {
	size := 0
	for _, in := range inputs {
		size = max(size, len(in.tags.rows))
	}
	models = make(map[string]*Model, size)
	listed = make([]*Model, 0, size)
	for _, h := range byName(inputs, true, size, known) {
		m := mergeName(*h, known)
		models[m.Key] = m
		listed = append(listed, m)
	}
	slices.SortStableFunc(listed, func(a, b *Model) int {
		return cmp.Compare(b.row.modified.Unix(), a.row.modified.Unix())
	})
	for _, h := range byName(inputs, false, 0, known) {
		if m := mergeName(*h, known); models[m.Key] == nil {
			m.Nodes, m.Drift, m.down = nil, nil, m.Nodes
			models[m.Key] = m
		}
	}
	return models, listed
}

// byName gathers who lists a name among the nodes that are alive, or those that are not.
func byName(inputs []input, up bool, size int, known map[string]*shown) (order []*[]holder) {
	held := make(map[string]*[]holder, size)
	order = make([]*[]holder, 0, size)
	for _, in := range inputs {
		if in.up != up {
			continue
		}
		for _, r := range in.tags.rows {
			h := held[r.key]
			if h == nil {
				h = new([]holder)
				held[r.key] = h
				order = append(order, h)
			}
			*h = append(*h, holder{in.node, r, identityOf(known, r.digest)})
		}
	}
	return order
}

// mergeName decides what a name means among the nodes that are alive and hold it. The identity on
// most nodes is the model, the newest of equals. Digests whose identity is not known yet are
// served like it while they could still turn the vote, and then the identity is not known
// either; else they wait to be known.
func mergeName(holders []holder, known map[string]*shown) *Model {
	variants := variantsOf(holders)
	var unknown *variant
	var vote []*variant
	for _, v := range variants {
		if v.identity == "" {
			unknown = v
		} else {
			vote = append(vote, v)
		}
	}
	slices.SortFunc(vote, func(a, b *variant) int {
		return cmp.Or(
			cmp.Compare(b.holders, a.holders),
			b.newest.modified.Compare(a.newest.modified),
			cmp.Compare(a.identity, b.identity))
	})

	first := holders[0].row
	m := &Model{Key: first.key, Short: first.short, Nodes: make([]*Node, 0, len(holders))}
	var drift []*variant
	switch {
	case unknown == nil:
		m.Identity = vote[0].identity
		m.row = vote[0].newest
		drift = vote[1:]
	case len(vote) == 0:
		m.row = unknown.newest
	default:
		m.row = vote[0].newest
		drift = vote[1:]
		second := 0
		if len(drift) > 0 {
			second = drift[0].holders
		}
		if vote[0].holders > second+unknown.holders {
			m.Identity = vote[0].identity
		}
	}
	for _, h := range holders {
		switch {
		case slices.ContainsFunc(drift, func(v *variant) bool { return v.identity == h.identity }):
			m.Drift = append(m.Drift, h.node.Name())
			continue
		case h.identity == "" && m.Identity != "":
			continue
		}
		m.Nodes = append(m.Nodes, h.node)
		if h.row.digest != "" && !slices.Contains(m.Digests, h.row.digest) {
			m.Digests = append(m.Digests, h.row.digest)
		}
	}
	// All digests of an identity are described alike but for where they run; the newest row
	// of one that is known speaks for them.
	m.describe(known[m.row.digest], m.row)
	return m
}

// describe takes over what /api/show has told.
func (m *Model) describe(s *shown, r *row) {
	if s == nil {
		return
	}
	m.Parameters, m.Sampling, m.Dated, m.Embedding = s.parameters, s.sampling, s.dated, s.embedding
	if s.key == r.key {
		m.show = s.body
	}
}

func variantsOf(holders []holder) []*variant {
	var variants []*variant
	for _, h := range holders {
		i := slices.IndexFunc(variants, func(v *variant) bool { return v.identity == h.identity })
		if i < 0 {
			i = len(variants)
			variants = append(variants, &variant{identity: h.identity, newest: h.row})
		}
		v := variants[i]
		v.holders++
		if h.row.modified.After(v.newest.modified) {
			v.newest = h.row
		}
	}
	return variants
}

func identityOf(known map[string]*shown, digest string) string {
	if s := known[digest]; s != nil {
		return s.identity
	}
	return ""
}
