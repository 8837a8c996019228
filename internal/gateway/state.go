package gateway

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A State is what is so at one moment, for who watches.
type State struct {
	Nodes      []NodeState
	Models     []ModelState   // that nodes have, by name
	States     []string       // the words that a node's state may be
	Waiting    map[string]int // calls in the queue by class
	QueueLimit int
	Cache      cache.Stats
	Flights    int  // running answers that an equal call can join
	Coalesce   bool // the configuration in force has it
	Batch      bool // it gathers embeddings
}

// A ModelState is a model that some node has.
type ModelState struct {
	Name      string // short
	Embedding bool   // it embeds and does nothing else
}

// A NodeModel is a model that a node can serve.
type NodeModel struct {
	Name   string // short
	Loaded bool
}

// A NodeState is what a node does.
type NodeState struct {
	Name, State, Version string
	Usable               bool // it gets calls
	InFlight, Slots      int
	ReloadsSoon          int         // models loaded again that had been in use there a moment before
	Models               []NodeModel // by name; none while it is down
	VRAM                 int64       // bytes on GPUs that loaded models take
}

// State tells what is so now.
func (e *Engine) State() State {
	snap := e.fleet.Snapshot()
	s := State{Waiting: make(map[string]int, len(call.Classes)), QueueLimit: e.queue.Limit(), Cache: e.cache.Stats(), Flights: e.flights.Running()}
	for _, state := range fleet.States {
		s.States = append(s.States, state.String())
	}
	models := make(map[*fleet.Node][]NodeModel, len(snap.Nodes))
	views := make(map[*fleet.Node]*fleet.NodeView, len(snap.Nodes))
	for i := range snap.Nodes {
		views[snap.Nodes[i].Node] = &snap.Nodes[i]
	}
	for _, m := range slices.SortedFunc(maps.Values(snap.Models), func(a, b *fleet.Model) int { return strings.Compare(a.Short, b.Short) }) {
		s.Models = append(s.Models, ModelState{m.Short, m.Embedding})
		for _, n := range m.Nodes {
			if v := views[n]; v != nil {
				_, loaded := v.Runner(m)
				models[n] = append(models[n], NodeModel{m.Short, loaded})
			}
		}
	}
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		var vram int64
		for _, r := range v.Runners {
			vram += r.VRAM
		}
		s.Nodes = append(s.Nodes, NodeState{
			Models: models[v.Node], VRAM: vram,
			Name: v.Node.Name(), State: v.State.String(), Version: v.Version, Usable: v.Usable(),
			InFlight: e.queue.InFlight(v.Node), Slots: v.Node.Slots(),
			ReloadsSoon: e.queue.Again(v.Node),
		})
	}
	e.mu.Lock()
	if n := len(e.attachments); n > 0 {
		config := &e.attachments[n-1].settings.config
		s.Coalesce, s.Batch = config.Coalesce != nil, config.Embed != nil
	}
	e.mu.Unlock()
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
