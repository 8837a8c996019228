package fleet

import (
	"errors"
	"fmt"
)

// ErrUnknownNode is returned for a name that no node has.
var ErrUnknownNode = errors.New("no node of that name")

// Drain takes a node out: it finishes the calls it has and gets no more until Resume. That
// goes by the name and outlives a reload, whatever changes of the node, but not the process.
// It ends an ejection: who takes a node out will look after it.
func (f *Fleet) Drain(name string) error {
	f.mu.Lock()
	nodes := namedNodes(f.nodes, name)
	if len(nodes) > 0 {
		f.drained[name] = true
	}
	f.mu.Unlock()
	if len(nodes) == 0 {
		return fmt.Errorf("drain %q: %w", name, ErrUnknownNode)
	}
	for _, n := range nodes {
		n.mu.Lock()
		h := &n.health
		h.draining = true
		if !h.ejection.at.IsZero() {
			n.recoverLocked(reasonEjected, true)
		}
		c := n.settleLocked(f.opts.Load())
		n.mu.Unlock()
		f.tell(c)
	}
	return nil
}

// Resume ends Drain. A node that was down or ejected meanwhile is on probation. It is no error
// to resume what is not drained, or what is gone.
func (f *Fleet) Resume(name string) error {
	f.mu.Lock()
	nodes, drained := namedNodes(f.nodes, name), f.drained[name]
	delete(f.drained, name)
	f.mu.Unlock()
	if len(nodes) == 0 && !drained {
		return fmt.Errorf("resume %q: %w", name, ErrUnknownNode)
	}
	for _, n := range nodes {
		n.mu.Lock()
		n.health.draining = false
		c := n.settleLocked(f.opts.Load())
		n.mu.Unlock()
		f.tell(c)
	}
	return nil
}

func namedNodes(nodes []*Node, name string) []*Node {
	var named []*Node
	for _, n := range nodes {
		if n.Name() == name {
			named = append(named, n)
		}
	}
	return named
}
