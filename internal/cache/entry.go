package cache

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Meta is what is known of a stored answer without opening it. It is never changed.
type Meta struct {
	Key      call.Key
	Route    string // path that was recorded, as in wire.Route
	Model    string // key of the model's name at the call that stored it, see wire.ModelName
	Identity string
	Version  string // of Ollama that the key is for
	Tenant   string // scope
	Tags     []string
	Marks    []uint64 // versions of its scopes when it was made, see purges

	Stored time.Time     // when the answer was complete
	TTL    time.Duration // call.Forever: until it is evicted
	Rule   string        // that gave the TTL, as it is written
	Class  string        // of call.Verdict
	Totals wire.Totals   // what it cost to generate
	Shared bool          // Totals are those of a vector that was made with others: its tokens were apportioned
	Past   *Past         // of the answers before it; nil: its rule is not adaptive
}

// An Answer is what was stored: frames, or one object instead.
type Answer struct {
	Question []byte // of the call: compared on a hit
	Frames   []recording.Frame

	ContentType string
	Object      []byte
}
