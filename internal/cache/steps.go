package cache

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"net/http"
	"time"
	"unsafe"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Why an answer was given after its time, in Cache-Status.
const (
	staleWished      = "max-stale"
	staleRevalidated = "stale-while-revalidate"
	staleForError    = "stale-if-error"
)

// lookup is the first step: what is in memory is answered from there.
type lookup struct {
	*Cache
	opts Options
	next call.Answerer
}

// Lookup makes the step that answers from memory, and from stale answers what next cannot.
func (c *Cache) Lookup(o *Options, next call.Answerer) call.Answerer {
	return &lookup{Cache: c, opts: o.withDefaults(), next: next}
}

// Answer implements call.Answerer. Its errors are call.ErrNotCached and those of the next step.
func (l *lookup) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	w, t := c.Caching, l.now.Load()
	switch {
	case w == nil || t == nil:
		return l.next.Answer(ctx, c)
	case w.Verdict.TTL == 0:
		c.Cached.Set(call.CacheResult{Status: call.Bypass, Detail: w.Verdict.Why})
		if w.Control.OnlyIfCached {
			return nil, call.ErrNotCached
		}
		return l.next.Answer(ctx, c)
	}
	f := l.find(t, w)
	if f.usable(w.Control) {
		if r := l.replay(t, c, f, "", Memory); r != nil {
			if f.early(w, l.opts.StaleWhileRevalidate > 0) {
				l.refresh(t, c, l.next)
			}
			return r, nil
		}
	}
	if w.Control.OnlyIfCached {
		if f = l.findShared(ctx, t, w); f.usable(w.Control) {
			if r := l.replay(t, c, f, "", Redis); r != nil {
				return r, nil
			}
		}
		c.Cached.Set(call.CacheResult{Detail: "only-if-cached"})
		return nil, call.ErrNotCached
	}
	if f.stale(w.Control, l.opts.StaleWhileRevalidate) {
		if r := l.replay(t, c, f, staleRevalidated, Memory); r != nil {
			l.refresh(t, c, l.next)
			return r, nil
		}
	}
	c.Cached.Set(call.CacheResult{Status: call.Miss, Detail: missed(w.Control, f)})
	r, err := l.next.Answer(ctx, c)
	if err == nil || l.opts.StaleIfError == 0 || !l.Excusable(err) {
		return r, err
	}
	// The next step has brought into memory what the second tier has.
	if f = l.find(t, w); f.stale(w.Control, l.opts.StaleIfError) {
		if r := l.replay(t, c, f, staleForError, Memory); r != nil {
			return r, nil
		}
	}
	return nil, err
}

// missed says why there was no hit.
func missed(c call.Control, f *found) string {
	switch {
	case c.NoCache:
		return "request"
	case f != nil:
		return "stale"
	}
	return ""
}

// A found is a stored answer to a call, and how old it is. nil: there is none.
type found struct {
	entry    *Entry
	question *call.Question // that it answers
	age      time.Duration
	left     time.Duration // of its time; negative when that is over
}

// find looks into memory, under the call's own key and then under that of the equal native chat.
func (c *Cache) find(t *tiers, w *call.Caching) *found {
	c.arrivals.settle(w.Key)
	if f := t.found(t.memory.get(w.Key), w, &w.Question); f != nil || w.Native == nil {
		return f
	}
	c.arrivals.settle(w.Native.Key)
	return t.found(t.memory.get(w.Native.Key), w, w.Native)
}

// findShared looks into the second tier, where there is one that can be trusted to know what was
// purged.
func (c *Cache) findShared(ctx context.Context, t *tiers, w *call.Caching) *found {
	if t.shared == nil || !t.purges.current() {
		return nil
	}
	for _, q := range [...]*call.Question{&w.Question, w.Native} {
		if q == nil {
			continue
		}
		e, err := t.shared.get(ctx, q.Key)
		if err != nil {
			return nil // it has trouble: no time is spent on a second question
		}
		f := t.found(e, w, q)
		if f == nil {
			continue
		}
		if has := t.memory.get(q.Key); has == nil || has.Meta.Stored.Before(e.Meta.Stored) {
			t.memory.put(e)
		}
		return f
	}
	return nil
}

// found judges an entry, which may be nil. The rule in force now shortens its time, but does not
// prolong it.
func (t *tiers) found(e *Entry, w *call.Caching, q *call.Question) *found {
	if e == nil || !t.valid(&e.Meta) || e.Meta.Past.outdated(w.Verdict.Source) {
		return nil
	}
	now := time.Now()
	return &found{entry: e, question: q, age: e.Meta.age(now), left: e.Meta.left(now, w.Verdict.TTL)}
}

// age is how long ago an answer was complete. Clocks of replicas differ.
func (m *Meta) age(now time.Time) time.Duration { return max(0, now.Sub(m.Stored)) }

// left is what is left of the time of an answer, of which a rule may allow less.
func (m *Meta) left(now time.Time, most time.Duration) time.Duration {
	life := min(m.TTL, most)
	if life == call.Forever {
		return call.Forever
	}
	return life - m.age(now)
}

// usable tells whether an answer is fresh enough for a client, or one that it takes all the same.
func (f *found) usable(c call.Control) bool {
	if f == nil || c.NoCache || c.MaxAge != nil && f.age > *c.MaxAge {
		return false
	}
	if f.left > 0 {
		return c.MinFresh == nil || f.left >= *c.MinFresh
	}
	return c.MaxStale != nil && -f.left <= *c.MaxStale
}

// stale tells whether an answer whose time is over will do for so long.
func (f *found) stale(c call.Control, most time.Duration) bool {
	return f != nil && !c.NoCache && c.MinFresh == nil && (c.MaxAge == nil || f.age <= *c.MaxAge) && -f.left <= most && f.left <= 0
}

// replay gives a stored answer to a call, nil if it turns out not to be sound.
func (c *Cache) replay(t *tiers, k *call.Call, f *found, detail, backend string) *recording.Reader {
	m := &f.entry.Meta
	route := wire.Find(http.MethodPost, m.Route).Route
	whole, err := t.open(f, route, k)
	if err != nil {
		if !errors.Is(err, ErrOther) { // else another question has this key, which is as good as none
			t.memory.delete(m.Key)
			c.Watch.CacheCorrupt(backend)
		}
		return nil
	}
	result := call.CacheResult{
		Status: call.Hit, Detail: detail, Backend: backend, Age: f.age, TTL: f.left, Rule: m.Rule, Saved: m.Totals,
	}
	if f.left <= 0 {
		result.Status = call.Stale
		if detail == "" {
			result.Detail = staleWished
		}
	}
	m.Past.into(&result)
	k.Cached.Set(result)
	return recording.Replay(*route, whole)
}

// open gives what is stored in the shape that a call wants of it. One that others may follow wants
// frames.
func (t *tiers) open(f *found, route *wire.Route, k *call.Call) (recording.Whole, error) {
	if route == nil {
		return recording.Whole{}, ErrCorrupt
	}
	singly := k.Whole && k.Request.Route.Path == route.Path && route.Operation != wire.Embed
	if s := f.entry.single; singly && s != nil {
		if !bytes.Equal(s.question, f.question.Text) {
			return recording.Whole{}, ErrOther
		}
		return recording.Whole{ContentType: s.contentType, Single: s.body}, nil
	}
	a, err := f.entry.Answer(f.question.Text)
	if err != nil {
		return recording.Whole{}, err
	}
	e := f.entry.squeezed() // it is asked for again
	if !singly {
		if e != f.entry {
			t.memory.swap(f.entry, e)
		}
		return recording.Whole{Frames: a.Frames, ContentType: a.ContentType, Object: a.Object}, nil
	}
	contentType, body, err := wire.Fold(route.Dialect, route.Operation, a.data())
	if err != nil {
		return recording.Whole{}, ErrCorrupt
	}
	s := &single{question: f.question.Text, contentType: contentType, body: body}
	if s.size() <= singleLimit {
		ready := *e
		ready.single = s
		t.memory.swap(f.entry, &ready)
	}
	return recording.Whole{ContentType: contentType, Single: body}, nil
}

// singleLimit bounds the single answers that are kept beside the frames they are made of.
const singleLimit = 32 << 10

// A single is the single answer that the frames of an entry make, ready to be given.
type single struct {
	question    []byte
	contentType string
	body        []byte
}

// size is what it takes in memory, in bytes. nil takes nothing.
func (s *single) size() int {
	if s == nil {
		return 0
	}
	return int(unsafe.Sizeof(*s)) + cap(s.question) + len(s.contentType) + cap(s.body)
}

// data gives the frames of an answer.
func (a *Answer) data() iter.Seq[[]byte] { return dataOf(a.Frames) }

func dataOf(frames []recording.Frame) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, f := range frames {
			if !yield(f.Data) {
				return
			}
		}
	}
}
