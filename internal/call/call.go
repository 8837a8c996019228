// Package call has the Call, which is one request on its way, and the Answerer, the small
// interface that carries it from step to step. It knows nothing of nodes, stores or HTTP.
package call

import (
	"context"
	"fmt"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/tracing"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An Answerer gets the answer to a call. Answer returns when the first frame is there, or
// with an error (a node's refusal is a *StatusError, never a recording). ctx ends only the
// wait of who asks: a client, or a flight. The caller owns the Reader, which is already
// counted as a follower, and must Close it.
type Answerer interface {
	Answer(ctx context.Context, c *Call) (*recording.Reader, error)
}

// A Call is one request on its way. It is immutable after admit and safe for concurrent use;
// what happens to it upstream stands in Upstream.
type Call struct {
	Request *wire.Request // as judged

	// Identity is what the answers of the model depend on, "" while it is not known.
	Identity string
	// Runner holds the effective runner options: the request's over the model's own.
	Runner wire.RunnerOptions
	// Embedding tells that the model only embeds: it has one slot whatever a node's slots are.
	Embedding bool

	Class Class
	// Whole tells that nobody reads the answer before its end: Answer may return as late as that.
	Whole bool
	// IdleOnly tells that nobody waits for it: it is to have an idle slot, or none.
	IdleOnly bool
	// Patient tells that it waits for a slot as long as who asks does, and not only as long as others may.
	Patient bool
	// Tenant is the verified name of who asks, "" where nobody verified one.
	Tenant   string
	Upstream *Upstream
	// Trace is what the spans of the call hang on, nil: nobody traces it. A flight and a gathered call
	// have that of the call that began them.
	Trace *tracing.Parent
	// Seal is set of a gathered call, which may take more until it is granted a slot. It is called
	// once, at the first grant, and gives the body that is sent instead of Request.Body, and how many
	// texts it has.
	Seal func() (body wire.Body, texts int)
	// Vectors are the texts of an embedding that go their own ways, nil if the request goes as it is.
	Vectors *wire.Embedding

	Caching *Caching // nil: there is no cache
	Joining *Joining // nil: it goes its way alone
	Cached  *Cached  // not nil if one of these is not
}

// A Class is the rank of a call in the queue. The lower goes first, strictly.
type Class uint8

const (
	Interactive Class = iota // somebody waits for it
	Background               // an application works on its own
	Batch                    // whenever there is room
)

// Classes lists all classes, first served first.
var Classes = [...]Class{Interactive, Background, Batch}

// String is the word used in configuration, logs and metrics.
func (c Class) String() string { return [...]string{"interactive", "background", "batch"}[c] }

// ParseClass reads the word of configuration; "" is Interactive.
func ParseClass(s string) (Class, error) {
	if s == "" {
		return Interactive, nil
	}
	for _, c := range Classes {
		if s == c.String() {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown class %q; use interactive, background or batch", s)
}

// A StatusError is a refusal that a node answered before any frame, passed on as it came.
type StatusError struct {
	Code        int
	ContentType string
	Chunked     bool   // it came without a length, as from a route that had begun to stream
	Body        []byte // at most 1 MiB
}

// Error names the status only: the body is for the client, not for logs.
func (e *StatusError) Error() string { return fmt.Sprintf("node answered %d", e.Code) }
