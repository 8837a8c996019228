package attempt

import (
	"context"
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/tracing"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Direct asks one node without a grant, for requests that take no slot: details of a model,
// unloading. ctx bounds it, and p is the trace that it belongs to. Its errors are a *call.StatusError or a *Fault.
func (s *Step) Direct(ctx context.Context, n *fleet.Node, r *wire.Request, p *tracing.Parent) (contentType string, body []byte, err error) {
	resp, err := s.post(ctx, n, r.Route, r.Body, p, tracing.Span{})
	if err != nil {
		return "", nil, faultOf(err, true)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", nil, refusal(resp)
	}
	if body, err = readObject(resp); err != nil {
		return "", nil, faultOf(err, true)
	}
	return resp.Header.Get("Content-Type"), body, nil
}
