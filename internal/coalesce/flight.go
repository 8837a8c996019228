package coalesce

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

// errNoAnswer is what is known of a step that ends its goroutine.
var errNoAnswer = errors.New("the next step ended without an answer")

// A PanicError is what all who wait are told when the next step panics.
type PanicError struct {
	Value any
	Stack []byte // where it was
}

// Error does not tell the value, which may hold what a client sent.
func (e *PanicError) Error() string { return fmt.Sprintf("panic in a flight: %T", e.Value) }

// Unwrap gives what was panicked with, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// A flight is one running upstream call, and those who wait for it.
type flight struct {
	lead   *call.Call
	cancel context.CancelCauseFunc // ends the wait for the first frame
	begun  chan struct{}           // closed by its goroutine when there is a first frame, or none will come

	// The mutex of Flights guards what follows.

	waiting   int               // for the first frame, or with it there for their reader
	followers int               // that wait or were given a reader, beside the leader
	clients   []string          // of calls that want several draws of one client to differ
	own       *recording.Reader // open until all who wait have theirs; forked for later ones, too
	err       error             // there is no answer
}

// newFlight makes a flight that its leader waits for. Its context is the engine's, so that it
// carries nothing of a client.
func newFlight(engine context.Context, c *call.Call) (*flight, context.Context) {
	ctx, cancel := context.WithCancelCause(engine)
	lead := *c
	lead.Whole = false // others may read it before its end
	f := &flight{lead: &lead, cancel: cancel, begun: make(chan struct{}), waiting: 1}
	f.hasClientLocked(c.Joining.Client) // nobody else knows it yet
	return f, ctx
}

// fly asks for the answer and tells those who wait. A panic ends here: it would end the process,
// which none of the clients could recover as it does what happens in their own goroutines; and
// it is told to them all instead of being panicked with in one of them.
func (t *Flights) fly(ctx context.Context, f *flight, next call.Answerer) {
	var r *recording.Reader
	err := errNoAnswer
	defer func() {
		if p := recover(); p != nil {
			r, err = nil, &PanicError{Value: p, Stack: debug.Stack()}
		}
		f.cancel(nil) // it ends a wait that is over
		t.begin(f, r, err)
	}()
	if r, err = next.Answer(ctx, f.lead); err == nil {
		// Before anybody has a reader. At once, if there is nothing left to wait for.
		r.AtEnd(func(recording.Whole, bool) { t.remove(f) })
	}
}

// followLocked has a call follow, if it may.
func (f *flight) followLocked(c *call.Call, most int) bool {
	waits := f.own == nil
	if f.followers >= most || waits && c.Class < f.lead.Class || // it may stand in the queue, behind the call's rank
		slices.Contains(f.clients, c.Joining.Client) {
		return false
	}
	f.followers++
	f.hasClientLocked(c.Joining.Client)
	if waits {
		f.waiting++
	}
	return true
}

// hasClientLocked notes that a call of that client is among those who hear the answer.
func (f *flight) hasClientLocked(client string) {
	if client != "" {
		f.clients = append(f.clients, client)
	}
}

// judge tells a call that has waited what the flight has for it: an answer, an error, or nothing,
// so that it is to ask again.
func (f *flight) judge(c *call.Call) (again bool, err error) {
	switch {
	case f.err == nil:
		return !f.suits(c), nil
	case f.sameRoute(c):
		return false, f.err
	}
	return true, nil // what a node said to one route fits nobody who asked on another
}

// suits tells whether a call that has waited can be told the answer. The second tier gives a single
// answer to who asks for one, and that is no use to others. Nobody else meets it: it has ended.
func (f *flight) suits(c *call.Call) bool {
	_, _, single := f.own.Single()
	return !single || !c.Request.Stream && f.sameRoute(c)
}

func (f *flight) sameRoute(c *call.Call) bool {
	return c.Request.Route.Path == f.lead.Request.Route.Path
}
