package cache

import (
	"math"
	"math/rand/v2"
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

// beta is that of Vattani et al., "Optimal Probabilistic Cache Stampede Prevention": they prove 1
// best.
const beta = 1

// early tells whether a fresh answer is refreshed now, shortly before its time is over, so that
// nobody waits when it is. That is XFetch: the sooner the longer it takes to generate, and at
// random, so that gateways do not all begin at once. Each time it is asked for is one chance, so
// that what is asked for seldom hardly ever is. always: whatever the rule, not only under an
// adaptive one.
func (f *found) early(w *call.Caching, always bool) bool {
	if f.left <= 0 || f.left == call.Forever || !always && w.Verdict.Adaptive == nil {
		return false
	}
	took := f.entry.Meta.Totals.Total
	// The last quarter: an answer that takes longer than it lives would be refreshed all the time.
	// Beyond so many times what it takes there is no chance worth a logarithm.
	if f.left*3 > f.age || f.left > 20*took {
		return false
	}
	if f.question != &w.Question || w.Control.NoStore || w.Control.OnlyIfCached {
		return false
	}
	return float64(f.left) <= -beta*float64(took)*math.Log(1-rand.Float64())
}

// newer tells whether the second tier has a newer answer than memory, which it brings there.
func (l *lookup) newer(t *tiers, w *call.Caching) bool {
	before := t.memory.get(w.Key)
	if t.shared == nil || before == nil {
		return false
	}
	f := l.findShared(l.Context, t, w)
	return f != nil && f.left > 0 && f.question == &w.Question && f.entry.Meta.Stored.After(before.Meta.Stored)
}

// refresh generates the answer to a call anew, for who asks later: once at a time, and only if a
// slot is idle, and no other gateway has done it.
func (l *lookup) refresh(t *tiers, c *call.Call, next call.Answerer) {
	if !l.refreshes.begin(c.Caching.Key) {
		return
	}
	again, caching := *c, *c.Caching
	caching.Control = call.Control{NoCache: true}
	again.Class, again.IdleOnly, again.Whole = call.Batch, true, true
	again.Upstream, again.Caching, again.Cached = call.NewUpstream(0), &caching, new(call.Cached)
	l.Jobs.Go(func() { // ends with the try, or with Context
		defer l.refreshes.end(c.Caching.Key)
		if l.newer(t, c.Caching) {
			return
		}
		if r, err := next.Answer(l.Context, &again); err == nil { // else the old answer is all there is
			r.Close() // nobody reads it; it is whole, so it is stored already
		}
	})
}
