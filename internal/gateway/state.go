package gateway

import (
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A State is what is so at one moment, for who watches.
type State struct {
	Nodes      []NodeState
	States     []string       // the words that a node's state may be
	Waiting    map[string]int // calls in the queue by class
	QueueLimit int
	Cache      cache.Stats
	Flights    int // running answers that an equal call can join
}

// A NodeState is what a node does.
type NodeState struct {
	Name, State, Version string
	Usable               bool // it gets calls
	InFlight, Slots      int
	ReloadsSoon          int // models loaded again that had been in use there a moment before
}

// State tells what is so now.
func (e *Engine) State() State {
	snap := e.fleet.Snapshot()
	s := State{Waiting: make(map[string]int, len(call.Classes)), QueueLimit: e.queue.Limit(), Cache: e.cache.Stats(), Flights: e.flights.Running()}
	for _, state := range fleet.States {
		s.States = append(s.States, state.String())
	}
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		s.Nodes = append(s.Nodes, NodeState{
			Name: v.Node.Name(), State: v.State.String(), Version: v.Version, Usable: v.Usable(),
			InFlight: e.queue.InFlight(v.Node), Slots: v.Node.Slots(),
			ReloadsSoon: e.queue.Again(v.Node),
		})
	}
	for _, c := range call.Classes {
		s.Waiting[c.String()] = e.queue.Waiting(c)
	}
	return s
}

// Ready tells whether requests can be answered: not leaving, and a node is up.
func (e *Engine) Ready() bool {
	e.mu.Lock()
	leaving := e.closing || e.stopping
	e.mu.Unlock()
	if leaving {
		return false
	}
	snap := e.fleet.Snapshot()
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if v.Usable() || v.LastResort {
			return true
		}
	}
	return false
}
