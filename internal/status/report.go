package status

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Report is what the page and `top` show. Its JSON is what other programs read; fields are
// added, never changed. It has names of nodes and of models the fleet has, and no text, key,
// tenant or address.
type Report struct {
	At      time.Time `json:"at"`
	Since   time.Time `json:"since"` // when the process began to serve
	Ready   bool      `json:"ready"` // requests can be answered: a node is up, and the process is not leaving
	Nodes   []Node    `json:"nodes"`
	Queue   Queue     `json:"queue"`
	Cache   Cache     `json:"cache"`
	Saved   Saved     `json:"saved"`   // since then
	Minutes []Minute  `json:"minutes"` // the last ten, the oldest first; the last one ends now
	History Series    `json:"history"`
}

// A Node is what is known of one.
type Node struct {
	Name     string     `json:"name"`
	State    string     `json:"state"`            // up, probation, ejected, half_open, draining or down
	Reason   string     `json:"reason,omitempty"` // why it is not up, in a few words
	Since    time.Time  `json:"since"`            // when the state began
	Until    *time.Time `json:"until,omitempty"`  // when an ejected node is tried again
	Usable   bool       `json:"usable"`           // it may be given requests
	Version  string     `json:"version,omitempty"`
	Slots    int        `json:"slots"`     // answers at once for one model
	InFlight int        `json:"in_flight"` // requests of this gateway that hold a slot
	Models   int        `json:"models"`    // on its disk
	Runners  []Runner   `json:"runners"`   // loaded models
}

// A Runner is a model in a node's memory. What the node has not told yet is absent.
type Runner struct {
	Model         string  `json:"model"`
	ContextLength int     `json:"context_length,omitempty"` // tokens per slot
	Size          int64   `json:"size,omitempty"`           // bytes in memory
	SizeVRAM      int64   `json:"size_vram,omitempty"`      // of these on GPUs
	PromptRate    float64 `json:"prompt_tokens_per_second,omitempty"`
	DecodeRate    float64 `json:"decode_tokens_per_second,omitempty"`
}

// A Queue is where requests wait for a slot.
type Queue struct {
	Waiting map[string]int `json:"waiting"` // by class
	Limit   int            `json:"limit"`   // of all classes
}

// Length is how many wait.
func (q Queue) Length() int {
	n := 0
	for _, w := range q.Waiting {
		n += w
	}
	return n
}

// A Cache is how much is stored.
type Cache struct {
	On      bool   `json:"on"`
	Entries int    `json:"entries"` // in memory
	Bytes   int64  `json:"bytes"`
	Limit   int64  `json:"limit"`   // of Bytes
	Redis   string `json:"redis"`   // off, up or down
	Flights int    `json:"flights"` // running answers that an equal request can join
}

// Saved is what nodes did not have to do.
type Saved struct {
	Hits         int     `json:"hits"`          // answers from the cache, stale ones too
	Misses       int     `json:"misses"`        // requests whose answer was looked for and not found
	Coalesced    int     `json:"coalesced"`     // answers heard while they were generated for another request
	PromptTokens int     `json:"prompt_tokens"` // not read again
	OutputTokens int     `json:"output_tokens"` // not generated again
	NodeSeconds  float64 `json:"node_seconds"`  // that nodes would have spent on them
	TextsFound   int     `json:"texts_found"`   // of embeddings, in the cache
	TextsJoined  int     `json:"texts_joined"`  // of embeddings, asked for by another request at that moment
	TextsSent    int     `json:"texts_sent"`    // of embeddings, to nodes
}

// HitShare is the part of the answers looked for that was found, from 0 to 1.
func (s Saved) HitShare() float64 {
	if s.Hits == 0 {
		return 0
	}
	return float64(s.Hits) / float64(s.Hits+s.Misses)
}

func (s *Saved) add(r *gateway.Record) {
	switch {
	case found(r):
		s.Hits++
	case r.Cache.Status == call.Miss:
		s.Misses++
	}
	if r.Coalesced {
		s.Coalesced++
	}
	s.PromptTokens += r.Cache.Saved.PromptTokens
	s.OutputTokens += r.Cache.Saved.OutputTokens
	s.NodeSeconds += cost(r.Cache.Saved).Seconds()
	s.TextsFound += r.Cache.Texts.Found
	s.TextsJoined += r.Cache.Texts.Joined
	s.TextsSent += r.Cache.Texts.Sent
}

// cost is the time that a node spent on an answer. Not all dialects tell; then it is what the
// answer took, without waiting.
func cost(t wire.Totals) time.Duration {
	if told := t.Prompt + t.Eval; told > 0 {
		return told
	}
	return t.Total
}

// A Minute is what ended in it.
type Minute struct {
	Answered   int      `json:"answered"` // by nodes
	FromCache  int      `json:"from_cache"`
	Overloaded int      `json:"overloaded"`
	Failed     int      `json:"failed"`  // by a fault of nodes or of the gateway
	Clients    int      `json:"clients"` // wrong, not let in, or given up by the client
	Rate       float64  `json:"requests_per_second"`
	FirstP50   *float64 `json:"first_byte_p50"` // seconds, of streams that nodes generated; null: there were none
	FirstP95   *float64 `json:"first_byte_p95"`
	TokensRate float64  `json:"tokens_per_second"` // generated, of answers that have ended
	Waiting    int      `json:"waiting"`           // the longest the queue was
}

// Requests is how many ended.
func (m Minute) Requests() int {
	return m.Answered + m.FromCache + m.Overloaded + m.Failed + m.Clients
}

// A Series are ten minutes, a value for each step, the oldest first. Its lists have the names of a
// Minute's values. The step that is going on is not in it.
type Series struct {
	Step       float64    `json:"step"` // seconds
	End        time.Time  `json:"end"`  // of the last step
	Answered   []int      `json:"answered"`
	FromCache  []int      `json:"from_cache"`
	Overloaded []int      `json:"overloaded"`
	Failed     []int      `json:"failed"`
	Clients    []int      `json:"clients"`
	FirstP50   []*float64 `json:"first_byte_p50"`
	FirstP95   []*float64 `json:"first_byte_p95"`
	TokensRate []float64  `json:"tokens_per_second"`
	Waiting    []int      `json:"waiting"`
}
