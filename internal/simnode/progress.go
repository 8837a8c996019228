package simnode

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A progress writes the records of a pull, a push or a create. Unlike other answers those that are no stream have no
// charset.
type progress struct {
	records
	node   *Node
	latest step
}

// A step is one record.
type step struct {
	Status    string `json:"status"`
	Digest    string `json:"digest,omitempty"`
	Total     int64  `json:"total,omitempty"`
	Completed int64  `json:"completed,omitempty"`
}

func (n *Node) newProgress(w http.ResponseWriter, stream *bool) *progress {
	return &progress{records: records{w: w, streaming: streams(stream)}, node: n}
}

func (p *progress) tell(s step) {
	p.latest = s
	if p.streaming {
		p.record(s)
	}
}

func (p *progress) say(status string) { p.tell(step{Status: status}) }

// of tells how far a layer is.
func (p *progress) of(verb, digest string, completed, total int64) {
	p.tell(step{verb + " " + shortDigest(digest), digest, total, completed})
}

// shortDigest is the first 12 digits.
func shortDigest(digest string) string {
	if hex, ok := splitDigest(digest); ok {
		return hex[:12]
	}
	return digest
}

// end ends the answer, with an error if there was one.
func (p *progress) end(err error) {
	switch {
	case p.node.left(err):
	case err != nil && p.streaming:
		p.fail(err)
	case err != nil:
		status, text := failure(err)
		send(p.w, status, typeBareJSON, errorBody(text))
	case !p.streaming:
		b, err := json.Marshal(p.latest)
		if err != nil { // strings and numbers always marshal
			b = errorBody(err.Error())
		}
		send(p.w, http.StatusOK, typeBareJSON, b)
	}
}

// tick is how often a real server tells how far a layer is.
const tick = 60 * time.Millisecond

// watch tells how far a transfer is until it is over, and returns its error. An end that no record told is told.
func (p *progress) watch(ctx context.Context, verb, digest string, t *transfer) error {
	ticker := time.NewTicker(max(time.Microsecond, p.node.scaled(ctx, tick)))
	defer ticker.Stop()
	for {
		select {
		case <-t.done:
			if total := t.total.Load(); t.err == nil && (p.latest.Digest != digest || p.latest.Completed != total) {
				p.of(verb, digest, total, total)
			}
			return t.err
		case <-ticker.C:
			if t.known.Load() {
				p.of(verb, digest, t.completed.Load(), t.total.Load())
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (n *Node) pull(w http.ResponseWriter, r *http.Request) {
	var req api.PullRequest
	if !bind(w, r, &req) {
		return
	}
	asked := req.Model
	orString(&asked, req.Name)
	local, _ := splitSource(asked)
	name, err := parseName(local)
	if err != nil {
		sendError(w, http.StatusBadRequest, err.Error())
		return
	}
	p := n.newProgress(w, req.Stream)
	p.end(n.pullModel(r.Context(), name, req.Insecure, p))
}

func (n *Node) push(w http.ResponseWriter, r *http.Request) {
	var req api.PushRequest
	if !bind(w, r, &req) {
		return
	}
	asked := req.Model
	orString(&asked, req.Name)
	if asked == "" {
		sendError(w, http.StatusBadRequest, "model is required")
		return
	}
	p := n.newProgress(w, req.Stream)
	p.end(n.pushModel(r.Context(), asked, req.Insecure, p))
}
