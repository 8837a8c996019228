package fleet

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// How long a model that a node lists and does not find stays out of its inventory while the
// node goes on listing the very same row: twice as long each time it is not found again soon
// after. The first time may have been a moment's trouble, such as a pull that replaced it.
const (
	missingFirst = time.Second
	missingMost  = time.Minute
)

// An inventory is the models on a node's disk. It is never changed.
type inventory struct {
	rows     []*row // in the node's order
	byKey    map[string]*row
	byDigest map[string]*row // one of those that have it
}

// A row is one model of /api/tags.
type row struct {
	key, short string
	name       string // as the node spells it
	cloud      bool
	digest     string
	modified   time.Time
	raw        string // the row itself
}

// A missed is a row that a node listed without having the model.
type missed struct {
	raw   string
	until time.Time
	span  time.Duration // of the last time
}

func newInventory(rows []*row) *inventory {
	v := &inventory{rows: rows, byKey: make(map[string]*row, len(rows)), byDigest: make(map[string]*row, len(rows))}
	for _, r := range rows {
		v.byKey[r.key] = r
		if r.digest != "" {
			v.byDigest[r.digest] = r
		}
	}
	return v
}

// parseTags reads an answer of /api/tags. Rows without a name that Ollama knows as one are
// left out; of two rows of one name the first counts. What is no such answer is errNotOllama.
func parseTags(body []byte) (*inventory, error) {
	raw, err := rowsOf(body)
	if err != nil {
		return nil, err
	}
	rows := make([]*row, 0, len(raw))
	seen := make(map[string]bool, len(raw))
	for _, b := range raw {
		var v struct {
			Name     string `json:"name"`
			Model    string `json:"model"`
			Digest   string `json:"digest"`
			Modified string `json:"modified_at"`
		}
		if json.Unmarshal(b, &v) != nil {
			continue
		}
		spelt := v.Name
		if spelt == "" {
			spelt = v.Model
		}
		name, err := wire.ParseModelName(spelt)
		if err != nil || seen[name.Key()] {
			continue
		}
		seen[name.Key()] = true
		r := &row{
			key: name.Key(), short: name.Short(), name: spelt, cloud: name.Cloud(),
			digest: bareDigest(v.Digest), raw: string(b),
		}
		r.modified, _ = time.Parse(time.RFC3339, v.Modified) // a row without a time is the oldest
		rows = append(rows, r)
	}
	return newInventory(rows), nil
}

// rowsOf takes the rows of {"models":[...]} as they are. null is no rows.
func rowsOf(body []byte) ([]json.RawMessage, error) {
	var v struct {
		Models *json.RawMessage `json:"models"`
	}
	var rows []json.RawMessage
	if json.Unmarshal(body, &v) != nil {
		return nil, errNotOllama
	}
	if v.Models == nil {
		// null reads as absent; an object that says nothing of models is no such answer.
		var keys map[string]json.RawMessage
		if json.Unmarshal(body, &keys) != nil || keys["models"] == nil {
			return nil, errNotOllama
		}
		return nil, nil
	}
	if json.Unmarshal(*v.Models, &rows) != nil {
		return nil, errNotOllama
	}
	return rows, nil
}

func bareDigest(s string) string { return strings.TrimPrefix(s, "sha256:") }

// listed takes over what a node lists, less what it lists in vain. It tells whether that is
// another inventory than before; the order of rows alone is none, nodes vary it.
func (n *Node) listed(v *inventory) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.missing) > 0 {
		v = n.withoutMissingLocked(v)
	}
	if sameInventory(n.facts.Load().tags, v) {
		return false
	}
	n.setLocked(func(x *facts) { x.tags = v })
	return true
}

func (n *Node) withoutMissingLocked(v *inventory) *inventory {
	rows := make([]*row, 0, len(v.rows))
	for _, r := range v.rows {
		switch m := n.missing[r.key]; {
		case m.raw != r.raw, time.Since(m.until) > missingMost:
			delete(n.missing, r.key)
		case time.Now().Before(m.until):
			continue
		}
		rows = append(rows, r)
	}
	for key := range n.missing {
		if v.byKey[key] == nil {
			delete(n.missing, key) // it no longer claims to have it
		}
	}
	return newInventory(rows)
}

// lacks takes a model out of the inventory and tells whether it was in it.
func (n *Node) lacks(key string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.facts.Load().tags
	r := v.byKey[key]
	if r == nil {
		return false
	}
	m := missed{raw: r.raw, span: missingFirst}
	if before := n.missing[key]; before.raw == r.raw && time.Since(before.until) <= missingMost {
		m.span = min(2*before.span, missingMost)
	}
	m.until = time.Now().Add(m.span)
	n.missing[key] = m
	rows := make([]*row, 0, len(v.rows))
	for _, other := range v.rows {
		if other != r {
			rows = append(rows, other)
		}
	}
	n.setLocked(func(x *facts) { x.tags = newInventory(rows) })
	return true
}

func sameInventory(a, b *inventory) bool {
	if len(a.rows) != len(b.rows) {
		return false
	}
	for _, r := range a.rows {
		if other := b.byKey[r.key]; other == nil || other.raw != r.raw {
			return false
		}
	}
	return true
}
