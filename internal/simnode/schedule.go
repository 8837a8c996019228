package simnode

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A lease is a runner booked for one request.
type lease struct {
	*runner
	opts  api.Options
	begun time.Time     // when the request came
	load  time.Duration // from then until the runner was ready
}

// errCapability is a model that cannot do what the route is for; each route has its own words for it.
var errCapability = errors.New("the model lacks the capability of the route")

// lease checks that the model can do what is wanted and books a runner for it. The first wanted capability is that of
// the route and fails with errCapability, the others name the model in full. The caller must release the lease.
func (n *Node) lease(ctx context.Context, begun time.Time, m *installed, wanted []string, options map[string]any, keepAlive *api.Duration) (*lease, error) {
	for i, capability := range wanted {
		if m.can(capability) && !troublesOf(ctx).fileGone {
			continue
		}
		if i == 0 {
			return nil, errCapability
		}
		return nil, &statusError{http.StatusBadRequest, m.name.full() + " does not support " + capability}
	}
	opts := api.DefaultOptions()
	if err := opts.Apply(m.Parameters); err != nil {
		return nil, err
	}
	if err := opts.Apply(options); err != nil {
		return nil, err
	}
	r, err := n.acquire(ctx, m, opts.Runner, keepAlive)
	if err != nil {
		return nil, err
	}
	return &lease{runner: r, opts: opts, begun: begun, load: max(1, time.Since(begun))}, nil
}

// failure is the status and the text an error is answered with.
func failure(err error) (status int, text string) {
	var known *statusError
	switch {
	case errors.As(err, &known):
		return known.status, known.text
	case errors.Is(err, errQueueFull):
		return http.StatusServiceUnavailable, err.Error()
	}
	return http.StatusInternalServerError, err.Error()
}

// sendFailure answers a native request with an error.
func sendFailure(w http.ResponseWriter, err error) {
	status, text := failure(err)
	sendError(w, status, text)
}

// left reports whether err only says that nobody waits for the answer any more, and counts it when that is so because
// the client left and not because the node died.
func (n *Node) left(err error) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clientLeftLocked(err) {
		n.stats.Cancelled++
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, errDied)
}

// clientLeftLocked tells a client that left from a connection that the node's own end cut.
func (n *Node) clientLeftLocked(err error) bool {
	return errors.Is(err, context.Canceled) && !n.down && !n.closed
}
