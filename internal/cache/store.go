package cache

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// sendings bounds the answers on their way to the second tier; further ones stay in memory alone.
const sendings = 64

// store is the last step before a node is asked: what the second tier has is answered from
// there, and what a node answers is stored.
type store struct {
	*Cache
	opts Options
	next call.Answerer
}

// Store makes the step that looks into the second tier, and stores what next answers. It runs once
// a flight, whoever follows that.
func (c *Cache) Store(o *Options, next call.Answerer) call.Answerer {
	return &store{Cache: c, opts: o.withDefaults(), next: next}
}

// Answer implements call.Answerer. Its errors are those of the next step.
func (s *store) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	w, t := c.Caching, s.now.Load()
	if w == nil || t == nil || w.Verdict.TTL == 0 {
		return s.next.Answer(ctx, c)
	}
	k := s.keeping(t, c) // before a node is asked: what is purged from now on is not to be stored
	switch {
	case w.Control.NoCache:
		s.arrivals.settle(w.Key)
		if w.Verdict.Adaptive != nil && t.memory.get(w.Key) == nil {
			s.findShared(ctx, t, w) // what is there is not given, but compared
		}
	default:
		if c.Joining != nil { // an equal call may have been answered while it waited for that
			if f := s.find(t, w); f.usable(w.Control) {
				if r := s.replay(t, c, f, "", Memory); r != nil {
					return r, nil
				}
			}
		}
		if f := s.findShared(ctx, t, w); f.usable(w.Control) {
			if r := s.replay(t, c, f, "", Redis); r != nil {
				return r, nil
			}
		}
	}
	if w.Verdict.Adaptive != nil {
		k.compareWith(t.memory.get(w.Key)) // what the second tier had is there by now
	}
	r, err := s.next.Answer(ctx, c)
	if err == nil && !w.Control.NoStore {
		r.AtEnd(k.end)
	}
	return r, err
}

// A keeping is an answer on its way into the store.
type keeping struct {
	*store
	tiers  *tiers
	call   *call.Call // nil once nothing more is asked of it
	meta   Meta
	answer Answer // once it is complete
	before *Meta  // of the answer that this one is compared with; nil: there is none
	told   bool   // that one was purged because it has changed

	arrival arrival
	keys    [1]call.Key // of it
}

func (k *keeping) arrives() *arrival {
	k.keys[0] = k.meta.Key
	k.arrival.keys, k.arrival.store = k.keys[:], k.keep
	return &k.arrival
}

// keeping is what is known of an answer before there is one.
func (s *store) keeping(t *tiers, c *call.Call) *keeping {
	w, r := c.Caching, c.Request
	k := &keeping{store: s, tiers: t, call: c, meta: Meta{
		Key: w.Key, Route: r.Route.Path, Model: r.Model.Key(), Identity: w.Identity, Version: w.Version,
		Tenant: w.Tenant, Tags: w.Tags, Rule: w.Verdict.Rule, Class: w.Verdict.Class,
	}}
	k.meta.Marks = t.marks(&k.meta)
	return k
}

// end has a complete answer stored if it is one to be stored. Whoever is told the end of it waits
// until it returns, so what takes time is done later; who asks for it meanwhile does it first.
func (k *keeping) end(all recording.Whole, whole bool) {
	if !whole {
		return
	}
	c, w, m := k.call, k.call.Caching, &k.meta
	m.Stored, m.TTL = time.Now(), k.opts.Life(w.Verdict, rand.Float64())
	if !w.Until.IsZero() {
		m.TTL = min(m.TTL, time.Until(w.Until))
	}
	node, _ := c.Upstream.Route()
	if m.Totals = c.Upstream.Totals(); m.Totals.Total == 0 {
		m.Totals.Total = c.Upstream.LastTook() // its dialect does not tell
	}
	a := &k.answer
	*a = Answer{Question: w.Text, Frames: all.Frames, ContentType: all.ContentType, Object: all.Object}
	if m.TTL <= 0 || k.VersionAt(node) != w.Version || !worth(c, all) || a.Fits() != nil {
		return
	}
	if int64(a.room()) < k.opts.MaxEntry {
		c.Cached.SetStored() // else it must be compressed to know
	}
	switch {
	case a.room() > compressAtOnce:
		k.arrivals.bring(k.arrives(), k.Jobs) // ends when it is stored
	case k.tiers.shared != nil || w.Verdict.Adaptive != nil:
		k.keep() // other gateways want it, or its TTL is not known yet
	default:
		k.call = nil // it is not to be kept alive for so long, with all of its request
		k.arrivals.heap(k.arrives(), k.Jobs)
	}
}

// keep stores the answer.
func (k *keeping) keep() {
	class := k.meta.Class
	if k.call != nil && k.call.Caching.Verdict.Adaptive != nil {
		k.adapt()
		class = classAdaptive
	}
	e := NewEntry(k.meta, k.answer)
	if !k.tiers.valid(&k.meta) || !k.tiers.memory.put(e) {
		return
	}
	k.Watch.CacheStored(class, k.meta.TTL)
	if k.tiers.shared != nil {
		k.share(k.tiers, e)
	}
}

// share sends an answer to the second tier. What does not get there is in memory all the same.
func (s *store) share(t *tiers, e *Entry) {
	if s.sending.Add(1) > sendings {
		s.sending.Add(-1)
		return
	}
	keep := e.Meta.TTL
	if keep != call.Forever {
		keep += e.Meta.outlast(s.opts.stale())
	}
	s.Jobs.Go(func() { // ends with the budget of one operation
		defer s.sending.Add(-1)
		_ = t.shared.put(s.Context, e.squeezed(), keep) // its trouble is counted there
	})
}

// worth tells whether an answer is one that others may be given: whole, ended by itself, and
// saying something.
func worth(c *call.Call, all recording.Whole) bool {
	route := c.Request.Route
	var said wire.Said
	if all.Object != nil {
		said = wire.SaidBy(route, all.Object)
	} else {
		if !endedByItself(c.Upstream.Totals().DoneReason) {
			return false
		}
		var err error
		if said, err = wire.SaidIn(route, dataOf(all.Frames)); err != nil {
			return false
		}
	}
	return said.ToolCalls && c.Caching.Verdict.ToolCalls || said.Text && !said.ToolCalls
}

// endedByItself tells of a reason to end, in whichever dialect, whether the answer is all there
// was to say, or all that was asked for.
func endedByItself(reason string) bool {
	switch reason {
	case "stop", "length", // native and OpenAI
		"end_turn", "stop_sequence", "max_tokens", // Anthropic
		"completed", "incomplete", // responses
		"tool_calls", "tool_use": // what was said decides
		return true
	}
	return false
}
