package coalesce

import (
	"context"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

// A step answers calls from flights.
type step struct {
	*Flights
	opts Options
	next call.Answerer
}

// Step makes the step that has equal calls share what next answers. What runs is shared with the
// steps of other configurations.
func (t *Flights) Step(o Options, next call.Answerer) call.Answerer {
	return &step{Flights: t, opts: o.withDefaults(), next: next}
}

// Answer implements call.Answerer. Its errors are those of the next step, a *PanicError, and
// the causes of ctx and of the engine's context.
func (s *step) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	if c.Joining == nil || c.IdleOnly { // who has an idle slot or none does not have others wait for it
		return s.next.Answer(ctx, c)
	}
	// Who asks again does so under its own key: no number of failures of others keeps it waiting.
	for native := c.Joining.Native; ; native = nil {
		for _, over := range [...]context.Context{ctx, s.Context} {
			if over.Err() != nil {
				return nil, context.Cause(over)
			}
		}
		in, flying := s.enter(c, native, s.opts.MaxFollowers)
		if in.leads {
			s.Jobs.Go(func() { s.fly(flying, in.flight, s.next) }) // ends with the first frame, the last who waits, or Context
		}
		r, again, err := s.wait(ctx, in, c)
		if again {
			continue
		}
		if !in.leads {
			c.Cached.Joined(in.lead.Upstream) // also if there was no answer: that is where it waited
		}
		return r, err
	}
}

// wait waits for the first frame of a flight, and gives a reader. again tells that the flight has
// nothing for the call.
func (s *step) wait(ctx context.Context, in seat, c *call.Call) (r *recording.Reader, again bool, err error) {
	if in.late {
		r = s.fork(in.flight)
		return r, r == nil, nil
	}
	select {
	case <-in.begun:
		return s.take(in, c)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-s.Context.Done(): // a step that is stuck is not waited for
		err = context.Cause(s.Context)
	}
	s.leave(in)
	return nil, false, err
}
