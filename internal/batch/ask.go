package batch

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An ask is a call that wants vectors. It belongs to the goroutine that answers the call, but
// for what it says.
type ask struct {
	*Step
	call      *call.Call
	embedding *wire.Embedding
	kin       kin
	began     time.Time

	parts  []part // different texts, in the order in which they come first
	places []int  // the part of each text of the request
	asked  int    // parts that were asked for
	result call.Texts
	saved  wire.Totals // what the parts had cost that others have asked for
	keep   call.Keep   // of what is sent for it; nil: nothing is kept

	follows *call.Upstream // of the first gathered call that it joined
	led     []*gathered    // that it began; guarded by Step.mu
}

// A part is one text of an ask.
type part struct {
	text     wire.Text
	question call.Question
	found    *call.Vector // what was known
	item     *item        // in flight; written under Step.mu
}

func (s *Step) newAsk(c *call.Call) *ask {
	e := c.Vectors
	texts := e.Texts()
	a := &ask{
		Step: s, call: c, embedding: e, kin: kinOf(c, e), began: time.Now(),
		parts: make([]part, 0, len(texts)), places: make([]int, len(texts)),
	}
	a.result.Items = len(texts)
	keys := newKeyer(c.Caching)
	var known map[call.Key]int
	if len(texts) > 1 {
		known = make(map[call.Key]int, len(texts))
	}
	for i, text := range texts {
		q := keys.question(e.Canonical(text))
		at, again := known[q.Key]
		if !again {
			at = len(a.parts)
			a.parts = append(a.parts, part{text: text, question: q})
			if known != nil {
				known[q.Key] = at
			}
		}
		a.places[i] = at
	}
	return a
}

// lookUp finds what is known.
func (a *ask) lookUp(ctx context.Context) {
	if a.items == nil {
		return
	}
	questions := make([]call.Question, len(a.parts))
	for i := range a.parts {
		questions[i] = a.parts[i].question
	}
	var known []*call.Vector
	known, a.keep = a.items.Lookup(ctx, a.call, questions)
	for i, v := range known {
		if v != nil {
			a.parts[i].found = v
			a.result.Found++
		}
	}
}

// wait asks for what is not known and waits for it. What comes first in the request decides
// which error is told.
func (a *ask) wait(ctx context.Context) error {
	for i := range a.parts {
		a.askAhead(i)
		p := &a.parts[i]
		if p.found != nil {
			continue
		}
		select {
		case <-p.item.done:
			if p.item.err != nil {
				return p.item.err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-a.Context.Done(): // a step that is stuck is not waited for
			return context.Cause(a.Context)
		}
	}
	return nil
}

// askAhead asks for the parts that are due when it is the turn of part i: all of them, unless
// there are more than one request may have waiting.
func (a *ask) askAhead(i int) {
	ahead := mostAhead * a.mostItems()
	if a.asked == len(a.parts) || a.asked-i > ahead/2 {
		return
	}
	to := min(len(a.parts), i+ahead)
	due := a.parts[a.asked:to]
	a.asked = to
	a.mu.Lock()
	fresh := a.enterLocked(due)
	a.mu.Unlock()
	for _, g := range fresh {
		a.Jobs.Go(func() { a.fly(g) }) // ends with the answer, the last who waits, or Context
	}
}

// mostItems is how many texts a call of the ask's kin may have.
func (a *ask) mostItems() int {
	if a.embedding.Single() {
		return 1
	}
	return a.opts.MaxItems
}

// leave gives up what is still waited for. The last one to leave ends a gathered call.
func (a *ask) leave() {
	var ended []*gathered
	a.mu.Lock()
	for i := range a.parts {
		if it := a.parts[i].item; it != nil {
			if g := a.leaveLocked(it); g != nil {
				ended = append(ended, g)
			}
		}
	}
	a.mu.Unlock()
	for _, g := range ended {
		g.cancel(recording.ErrAbandoned)
	}
}

// settle writes down where the texts have been: with the call's own Upstream what was sent for
// it, else whose answer it followed.
func (a *ask) settle() {
	a.mu.Lock()
	led := a.led
	a.mu.Unlock()
	if len(led) == 0 {
		if a.follows != nil {
			a.call.Cached.Joined(a.follows)
		}
		return
	}
	queued, first := time.Duration(0), time.Duration(0)
	for _, g := range led {
		u := g.call.Upstream
		queued = max(queued, u.QueueTime()) // they waited side by side
		for _, t := range u.Tries() {
			a.call.Upstream.Tried(t)
		}
		if node, reason := u.Route(); node != "" {
			a.call.Upstream.Granted(node, reason)
		}
		_, took := u.Timing()
		first = max(first, took)
	}
	a.call.Upstream.Answered(first)
	a.call.Upstream.Queued(queued)
}

// answer puts the answer together. All parts are there.
func (a *ask) answer() (recording.Whole, error) {
	a.result.Shared = a.shared()
	a.account()
	if one := a.only(); one != nil {
		return recording.Whole{ContentType: one.contentType, Object: one.object, For: a.call.Request}, nil
	}
	var e wire.Embedded
	var one *answer
	answers := 0
	for i := range a.parts {
		it := a.parts[i].item
		if it == nil {
			continue
		}
		if it.vector == nil {
			return recording.Whole{}, fmt.Errorf("%w: %w", wire.ErrFrame, errVectors)
		}
		if it.from != one {
			one = it.from
			answers++
		}
		e.Load = max(e.Load, it.from.Load)
	}
	if answers == 1 && a.result.Found == 0 {
		e.Total = one.Total // as the node says
	} else {
		e.Total = max(1, time.Since(a.began))
	}
	e.Load = max(1, e.Load) // a node always says it, and leaves out what is 0
	e.Vectors = make([][]byte, len(a.places))
	for i, at := range a.places {
		v := a.parts[at].vector()
		e.Vectors[i] = v.Text
		e.Tokens += v.Tokens
	}
	contentType, object := e.Answer(a.call.Request.Route, a.call.Request.Model.Spelling)
	return recording.Whole{ContentType: contentType, Object: object, For: a.call.Request}, nil
}

// account tells what the texts cost: for those that were sent for it to the call's own Upstream.
func (a *ask) account() {
	var own wire.Totals
	for i := range a.parts {
		p := &a.parts[i]
		if p.found != nil || p.item.vector == nil {
			continue // the cache has told, or nobody can
		}
		to := &a.saved
		if p.item.by == a {
			to = &own
		}
		cost := p.item.vector.Totals()
		to.PromptTokens += cost.PromptTokens
		to.Total += cost.Total
	}
	a.call.Upstream.Told(own)
}

func (p *part) vector() *call.Vector {
	if p.found != nil {
		return p.found
	}
	return p.item.vector
}

// only gives the answer of a node that is, as it stands, the answer to the request; nil if there
// is none.
func (a *ask) only() *answer {
	first := a.parts[0].item
	if first == nil || len(a.parts) != len(a.places) || len(first.from.items) != len(a.parts) ||
		first.from.spelling != a.call.Request.Model.Spelling {
		return nil
	}
	for i := range a.parts {
		if a.parts[i].item != first.from.items[i] {
			return nil
		}
	}
	return first.from
}

// shared tells whether the sum of the tokens has parts that were apportioned: where not all
// texts of a gathered call are in the request, each once.
func (a *ask) shared() bool {
	var times []int
	if len(a.parts) != len(a.places) {
		times = make([]int, len(a.parts))
		for _, at := range a.places {
			times[at]++
		}
	}
	var of map[*answer]int
	for i := range a.parts {
		p := &a.parts[i]
		switch v := p.vector(); {
		case v == nil, !v.Shared:
		case p.found != nil, times != nil && times[i] != 1:
			return true
		default:
			if of == nil {
				of = make(map[*answer]int)
			}
			of[p.item.from]++
		}
	}
	for from, n := range of {
		if n != len(from.items) {
			return true
		}
	}
	return false
}
