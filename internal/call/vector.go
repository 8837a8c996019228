package call

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Vector is what a node made of a text. It is never changed.
type Vector struct {
	Text   []byte        // its JSON, as the node wrote it; a part of a longer answer, so who keeps it copies it
	Tokens int           // of the text
	Took   time.Duration // of a node, to make it: a share of the time of the answer it was a part of
	Shared bool          // Tokens was apportioned among the texts of one call
}

// Totals are what the vector cost.
func (v *Vector) Totals() wire.Totals { return wire.Totals{PromptTokens: v.Tokens, Total: v.Took} }

// A Keep keeps the vectors of questions for the call that asked first. from tells where they were
// made. It must be quick: those who wait for the vectors wait for it.
type Keep func(qs []Question, vs []*Vector, from *Upstream)

// Texts are what became of the texts of an embedding request that went their own ways.
type Texts struct {
	Items int // of the request; the others count equal ones once
	Found int // known before
	// Joined were in flight already, for another call; Sent were not.
	Joined, Sent int
	// Shared tells that the count of tokens has parts that were apportioned, since no node has told
	// what these texts cost by themselves.
	Shared bool
}

// Gathered notes what became of the texts, and what those that others had asked for had cost.
func (c *Cached) Gathered(t Texts, saved wire.Totals) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Texts = t
	c.Saved.PromptTokens += saved.PromptTokens
	c.Saved.Total += saved.Total
}
