package cache

import (
	"sync"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// mostRefreshes bounds the answers that are generated anew while the old one is still given.
const mostRefreshes = 16

// refreshes are the keys that are being refreshed.
type refreshes struct {
	mu      sync.Mutex
	running map[call.Key]struct{}
}

func (r *refreshes) begin(k call.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, runs := r.running[k]; runs || len(r.running) == mostRefreshes {
		return false
	}
	r.running[k] = struct{}{}
	return true
}

func (r *refreshes) end(k call.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, k)
}

// refresh generates the answer to a call anew, for who asks later: once at a time, and only if a
// slot is idle.
func (l *lookup) refresh(c *call.Call, next call.Answerer) {
	if !l.refreshes.begin(c.Caching.Key) {
		return
	}
	again, caching := *c, *c.Caching
	caching.Control = call.Control{NoCache: true}
	again.Class, again.IdleOnly, again.Whole = call.Batch, true, true
	again.Upstream, again.Caching, again.Cached = call.NewUpstream(0), &caching, new(call.Cached)
	l.Jobs.Go(func() { // ends with the try, or with Context
		defer l.refreshes.end(c.Caching.Key)
		if r, err := next.Answer(l.Context, &again); err == nil { // else the old answer is all there is
			r.Close() // nobody reads it; it is whole, so it is stored already
		}
	})
}
