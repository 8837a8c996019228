package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// Items are the vectors of embeddings, one for each text. They are judged as answers are, but for
// their time: one that is over is made anew, whatever may be stale.
type Items struct {
	*Cache
	opts Options
}

// Items gives what keeps vectors under the options.
func (c *Cache) Items(o *Options) *Items { return &Items{Cache: c, opts: o.withDefaults()} }

// Lookup implements batch.Items.
func (s *Items) Lookup(ctx context.Context, c *call.Call, qs []call.Question) ([]*call.Vector, call.Keep) {
	w, t := c.Caching, s.now.Load()
	known := make([]*call.Vector, len(qs))
	switch {
	case t == nil:
		return known, nil
	case w.Verdict.TTL == 0:
		c.Cached.Set(call.CacheResult{Status: call.Bypass, Detail: w.Verdict.Why})
		return known, nil
	}
	l := look{Items: s, tiers: t, call: c, qs: qs, known: known}
	l.inMemory()
	l.inShared(ctx)
	c.Cached.Set(l.result())
	if l.hits == len(qs) || w.Control.NoStore {
		return known, nil
	}
	return known, l.keeper().keep
}

// A look is for what is known of the texts of a call.
type look struct {
	*Items
	*tiers
	call  *call.Call
	qs    []call.Question
	known []*call.Vector

	hits       int
	over       bool // there were some whose time was over
	fromShared bool // the second tier had some
	seen       call.CacheResult
}

func (l *look) inMemory() {
	for i := range l.qs {
		l.arrivals.settle(l.qs[i].Key)
		l.take(i, l.memory.get(l.qs[i].Key), Memory)
	}
}

// inShared looks for the rest in the second tier, and brings what it finds there into memory.
func (l *look) inShared(ctx context.Context) {
	if l.tiers.shared == nil || l.hits == len(l.qs) || l.call.Caching.Control.NoCache || !l.purges.current() {
		return
	}
	missing, keys := make([]int, 0, len(l.qs)), make([]call.Key, 0, len(l.qs))
	for i := range l.qs {
		if l.known[i] == nil {
			missing, keys = append(missing, i), append(keys, l.qs[i].Key)
		}
	}
	for i, e := range l.tiers.shared.getAll(ctx, keys) {
		if l.take(missing[i], e, Redis) {
			l.memory.put(e)
			l.fromShared = true
		}
	}
}

// take has an entry, which may be nil, answer a question if it may.
func (l *look) take(i int, e *Entry, backend string) bool {
	w := l.call.Caching
	f := l.tiers.found(e, w, &l.qs[i])
	if !f.usable(w.Control) {
		l.over = l.over || f != nil
		return false
	}
	a, err := e.Answer(l.qs[i].Text)
	if err != nil {
		if !errors.Is(err, ErrOther) { // else another text has this key, which is as good as none
			l.memory.delete(e.Meta.Key)
			l.Watch.CacheCorrupt(backend)
		}
		return false
	}
	m := &e.Meta
	l.known[i] = &call.Vector{Text: a.Object, Tokens: m.Totals.PromptTokens, Took: m.Totals.Total, Shared: m.Shared}
	if l.hits++; l.hits == 1 {
		l.seen.TTL, l.seen.Rule = f.left, m.Rule
	}
	l.seen.Age, l.seen.TTL = max(l.seen.Age, f.age), min(l.seen.TTL, f.left)
	l.seen.Saved.PromptTokens += m.Totals.PromptTokens
	l.seen.Saved.Total += m.Totals.Total
	return true
}

// result is what to tell of it: a hit if nothing is missing. Of several the oldest counts.
func (l *look) result() call.CacheResult {
	r := l.seen
	switch {
	case l.hits == len(l.qs):
		r.Status, r.Backend = call.Hit, Memory
		if l.fromShared {
			r.Backend = Redis
		}
		if r.TTL <= 0 {
			r.Status, r.Detail = call.Stale, staleWished
		}
	case l.call.Caching.Control.OnlyIfCached:
		r = call.CacheResult{Detail: "only-if-cached"}
	default:
		r = call.CacheResult{Status: call.Miss, Detail: "partial", Saved: l.seen.Saved}
		if l.hits == 0 {
			var f *found
			if l.over {
				f = &found{}
			}
			r.Detail = missed(l.call.Caching.Control, f)
		}
	}
	return r
}

// A keeper keeps vectors for a call.
type keeper struct {
	*Items
	*tiers
	call  *call.Call
	meta  Meta                  // of all of them
	marks map[call.Key][]uint64 // of those that were missing; nil: nothing was ever purged
}

// keeper notes what was purged so far, before a node is asked: what is purged from now on is not to
// be kept.
func (l *look) keeper() *keeper {
	w, r := l.call.Caching, l.call.Request
	k := &keeper{Items: l.Items, tiers: l.tiers, call: l.call, meta: Meta{
		Route: r.Route.Path, Model: r.Model.Key(), Identity: w.Identity, Version: w.Version, Tenant: w.Tenant, Tags: w.Tags,
		Rule: w.Verdict.Rule, Class: w.Verdict.Class,
	}}
	k.meta.Marks = make([]uint64, ownScopes+len(w.Tags))
	if !l.purges.any.Load() {
		return k
	}
	k.marks = make(map[call.Key][]uint64, len(l.qs)-l.hits)
	m := k.meta
	for i := range l.qs {
		if l.known[i] == nil {
			m.Key = l.qs[i].Key
			k.marks[m.Key] = l.tiers.marks(&m)
		}
	}
	return k
}

// keep implements call.Keep. The vectors are copied before it returns or kept as long as their
// answer is, but encoded later: who asks for one meanwhile does it first.
func (k *keeper) keep(qs []call.Question, vs []*call.Vector, from *call.Upstream) {
	w := k.call.Caching
	node, _ := from.Route()
	m := k.meta
	m.Stored, m.TTL = time.Now(), k.opts.Life(w.Verdict, rand.Float64())
	if !w.Until.IsZero() {
		m.TTL = min(m.TTL, time.Until(w.Until))
	}
	if m.TTL <= 0 || k.VersionAt(node) != w.Version {
		return
	}
	k.call.Cached.SetStored()
	keys := make([]call.Key, len(qs))
	for i := range qs {
		keys[i] = qs[i].Key
	}
	k.arrivals.bring(&arrival{keys: keys, store: func() {
		var kept []*Entry
		for i, q := range qs {
			m.Key, m.Totals, m.Shared = q.Key, vs[i].Totals(), vs[i].Shared
			if k.marks != nil {
				m.Marks = k.marks[q.Key]
			}
			e := NewEntry(m, Answer{Question: q.Text, Object: vs[i].Text})
			if !k.tiers.valid(&m) || !k.memory.put(e) {
				continue
			}
			k.Watch.CacheStored(w.Verdict.Class, m.TTL)
			kept = append(kept, e)
		}
		if k.tiers.shared != nil && len(kept) > 0 {
			k.shareAll(kept)
		}
	}}, k.Jobs) // ends when they are stored
}

// shareAll sends vectors to the second tier. What does not get there is in memory all the same.
func (k *keeper) shareAll(entries []*Entry) {
	if k.sending.Add(1) > sendings {
		k.sending.Add(-1)
		return
	}
	k.Jobs.Go(func() { // ends with the budget of a few operations
		defer k.sending.Add(-1)
		_ = k.tiers.shared.putAll(k.Context, entries, entries[0].Meta.TTL) // its trouble is counted there
	})
}
