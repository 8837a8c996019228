package caddymodule

import (
	"math"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A nodeStatus is one element of what GET /ollama/nodes answers: a list in the order of the
// configuration. Its JSON is what other programs read; fields are added, never changed.
type nodeStatus struct {
	Name     string         `json:"name"`
	URL      string         `json:"url"`               // scheme, host and port
	State    string         `json:"state"`             // up, probation, ejected, half_open, draining or down
	Reason   string         `json:"reason,omitempty"`  // why it is not up, in a few words
	Since    time.Time      `json:"since"`             // when the state began
	Until    *time.Time     `json:"until,omitempty"`   // when an ejected node is tried again
	Usable   bool           `json:"usable"`            // it may be given requests
	Version  string         `json:"version,omitempty"` // Ollama's, absent until the node has told it
	Slots    int            `json:"slots"`             // answers at once for one model
	InFlight int            `json:"in_flight"`         // requests of this gateway that hold a slot
	Models   int            `json:"models"`            // on its disk
	Runners  []runnerStatus `json:"runners"`           // loaded models, none while it is down
	Loads    []loadStatus   `json:"loads"`             // the last ones that the gateway ordered, the newest last
}

// A runnerStatus is a model in a node's memory. What the node has not told yet is absent.
type runnerStatus struct {
	Model         string         `json:"model"`
	ContextLength int            `json:"context_length,omitempty"` // tokens per slot
	Options       map[string]any `json:"options,omitzero"`         // it was loaded with; absent unless by this gateway
	ExpiresAt     *time.Time     `json:"expires_at,omitempty"`     // when it goes if nobody calls
	Size          int64          `json:"size,omitempty"`           // bytes in memory
	SizeVRAM      int64          `json:"size_vram,omitempty"`      // of these on GPUs

	// Measured on this node, as if each request were alone there; absent until then.
	PromptRate float64 `json:"prompt_tokens_per_second,omitempty"`
	DecodeRate float64 `json:"decode_tokens_per_second,omitempty"`
}

// A loadStatus is a load of a model that has ended.
type loadStatus struct {
	Model   string    `json:"model"`
	Reason  string    `json:"reason"`            // first, wait, spread or preload
	Evicted []string  `json:"evicted,omitempty"` // models that were unloaded for it
	At      time.Time `json:"at"`                // when it began
	Took    float64   `json:"took"`              // seconds
	Failed  bool      `json:"failed,omitempty"`
	Again   bool      `json:"again,omitempty"` // it had been in use there less than five minutes before
}

// books are what the queue knows of a node.
type books interface {
	InFlight(*fleet.Node) int
	Speeds(*fleet.Node) map[string]schedule.Speed
	Loads(*fleet.Node) []schedule.LoadRecord
}

// nodeStatuses words what is known of the fleet.
func nodeStatuses(snap *fleet.Snapshot, queue books) []nodeStatus {
	statuses := make([]nodeStatus, 0, len(snap.Nodes))
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		s := nodeStatus{
			Name: v.Node.Name(), URL: v.Node.URL().String(),
			State: v.State.String(), Reason: v.Reason, Since: v.Since, Version: v.Version, Usable: v.Usable(),
			Slots: v.Node.Slots(), InFlight: queue.InFlight(v.Node), Models: v.Models,
			Runners: runnerStatuses(v, queue.Speeds(v.Node)), Loads: loadStatuses(queue.Loads(v.Node)),
		}
		if v.State == fleet.Ejected {
			s.Until = &v.Until
		}
		statuses = append(statuses, s)
	}
	return statuses
}

func runnerStatuses(v *fleet.NodeView, speeds map[string]schedule.Speed) []runnerStatus {
	statuses := make([]runnerStatus, 0, len(v.Runners))
	for _, r := range v.Runners {
		speed := speeds[r.Key]
		s := runnerStatus{
			Model: shortName(r.Key), ContextLength: r.ContextLength, Size: r.Size, SizeVRAM: r.VRAM,
			PromptRate: tenths(speed.Prompt), DecodeRate: tenths(speed.Decode),
		}
		if r.Exact {
			s.Options = r.Options.Map()
		}
		if !r.ExpiresAt.IsZero() {
			s.ExpiresAt = &r.ExpiresAt
		}
		statuses = append(statuses, s)
	}
	return statuses
}

func loadStatuses(records []schedule.LoadRecord) []loadStatus {
	statuses := make([]loadStatus, 0, len(records))
	for _, r := range records {
		s := loadStatus{
			Model: shortName(r.Model), Reason: r.Reason, At: r.At, Took: r.Took.Seconds(), Failed: r.Failed, Again: r.Again,
		}
		for _, key := range r.Evicted {
			s.Evicted = append(s.Evicted, shortName(key))
		}
		statuses = append(statuses, s)
	}
	return statuses
}

// shortName is a model's name as people write it; the key, if it is none.
func shortName(key string) string {
	name, err := wire.ParseModelName(key)
	if err != nil {
		return key
	}
	return name.Short()
}

// tenths rounds a measurement to what it is worth.
func tenths(x float64) float64 { return math.Round(x*10) / 10 }
