package schedule

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// An Observer is told of each wait for a slot, of those too that were none. It is called on the
// goroutine of who waited, outside any lock.
type Observer interface {
	Waited(class call.Class, result string, took time.Duration)
}

// How a wait may end.
const (
	Served   = "served"   // it was granted a slot
	TimedOut = "timeout"  // it took MaxWait
	Shed     = "shed"     // it was refused: the queue is full, or the process is leaving
	Canceled = "canceled" // who waited has left
	Failed   = "failed"   // no node could serve the call, or its model could not be loaded
)

// WaitResults lists them.
var WaitResults = [...]string{Served, TimedOut, Shed, Canceled, Failed}

// Observe has an observer told of each wait. It is for the time before there are any.
func (q *Queue) Observe(o Observer) { q.observer = o }

// Acquire waits for a slot. ctx ends the wait, with its cause, and frees the place at once.
// The caller must Release the grant.
func (q *Queue) Acquire(ctx context.Context, ask Ask) (*Grant, error) {
	if q.observer == nil || ask.IdleOnly { // nobody waits for what takes an idle slot or none
		return q.acquire(ctx, ask)
	}
	began := time.Now()
	g, err := q.acquire(ctx, ask)
	q.observer.Waited(ask.Class, waitResult(ctx, err), time.Since(began))
	return g, err
}

func waitResult(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return Served
	case errors.Is(err, ErrQueueFull), errors.Is(err, ErrStopping):
		return Shed
	case errors.Is(err, ErrWaitTooLong):
		return TimedOut
	case ctx.Err() != nil:
		return Canceled
	}
	return Failed
}
