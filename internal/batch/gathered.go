package batch

import (
	"context"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// An item is a text in flight.
type item struct {
	question call.Question
	text     wire.Text
	by       *ask          // that asked for it first
	done     chan struct{} // closed when what follows it is there

	// Written before done is closed, and never after.

	vector *call.Vector // nil: err says why, or the answer is of another shape
	from   *answer
	err    error

	// Step.mu guards what follows.

	in      *gathered
	only    *ask // the one that wants it; nil: several have
	waiters int
	over    bool
}

// A gathered call carries the texts of one ask or several.
type gathered struct {
	step      *Step
	kin       kin
	began     time.Time
	call      *call.Call
	lead      *ask // that began it
	embedding *wire.Embedding
	ctx       context.Context
	cancel    context.CancelCauseFunc
	closed    chan struct{} // it takes no more texts

	// Step.mu guards what follows.

	items   []*item // not changed once it is sealed
	bytes   int     // of their texts
	waiters int     // items that are waited for
	shut    bool    // closed is closed
	sealed  bool    // what is sent is known
	ended   bool    // it has landed, or nobody waits for it
}

// enterLocked has the parts of an ask join what is in flight, and gathers the others. It gives
// the calls that were begun.
func (a *ask) enterLocked(due []part) (fresh []*gathered) {
	w := a.call.Caching
	alone := w.Control.NoCache || a.call.Joining != nil && a.call.Joining.Alone
	missing := make([]*part, 0, len(due))
	for i := range due {
		p := &due[i]
		if p.found != nil {
			continue
		}
		it := a.flying[p.question.Key]
		if it == nil || alone || !it.in.sealed && a.call.Class < it.in.call.Class { // it would wait behind its rank
			missing = append(missing, p)
			continue
		}
		if it.waiters++; it.waiters == 1 {
			it.in.waiters++
		}
		it.only, p.item = nil, it
		a.result.Joined++
		if a.follows == nil {
			a.follows = it.in.call.Upstream
		}
	}
	a.result.Sent += len(missing)
	return a.gatherLocked(missing)
}

// gatherLocked puts texts into the call of their kin that is open, and into new ones.
func (a *ask) gatherLocked(missing []*part) (fresh []*gathered) {
	most := a.mostItems()
	g, room := a.open[a.kin], 0
	if n := a.togetherLocked(len(missing)); g != nil && n < most && len(g.items)+len(missing) > n {
		g.shutLocked()
		g = nil
	}
	if g != nil {
		room = most - len(g.items)
	}
	even := most
	if more := len(missing) - room; more > most { // calls of one size, so that none takes much longer than the others
		calls := (more + most - 1) / most
		even = (more + calls - 1) / calls
	}
	here := most // how many texts the call at hand may have
	for _, p := range missing {
		if g != nil && (len(g.items) >= here || g.bytes+p.text.Size > a.opts.MaxBytes) {
			g.shutLocked()
			g = nil
		}
		if g == nil {
			g, here = a.begin(a.call, a.embedding), even
			a.open[a.kin] = g
			fresh = append(fresh, g)
			a.led = append(a.led, g)
		}
		it := &item{question: p.question, text: p.text, by: a, done: make(chan struct{}), in: g, only: a, waiters: 1}
		p.item = it
		a.flying[it.question.Key] = it
		g.items = append(g.items, it)
		g.bytes += it.text.Size
		g.waiters++
		a.waiting[a.kin]++
	}
	if g != nil && (len(g.items) >= most || g.bytes >= a.opts.MaxBytes) {
		g.shutLocked()
	}
	return fresh
}

// begin makes a call for texts of the ask's kin, as c asks for them.
func (a *ask) begin(c *call.Call, e *wire.Embedding) *gathered {
	lead := *c
	lead.Whole = true
	lead.Upstream = call.NewUpstream(a.opts.Retries) // it is not one client's: its tries are its own
	lead.Caching, lead.Joining, lead.Cached, lead.Vectors = nil, nil, nil, nil
	g := &gathered{step: a.Step, kin: a.kin, began: time.Now(), call: &lead, lead: a, embedding: e, closed: make(chan struct{})}
	lead.Seal = func() (wire.Body, int) { return a.seal(g) }
	g.ctx, g.cancel = context.WithCancelCause(a.Context)
	return g
}

// shutLocked has a call take no more texts.
func (g *gathered) shutLocked() {
	if g.shut {
		return
	}
	g.shut = true
	close(g.closed)
	if g.step.open[g.kin] == g {
		delete(g.step.open, g.kin)
	}
}

// sealLocked has a call be sent with what it has.
func (g *gathered) sealLocked() {
	g.shutLocked()
	if !g.sealed {
		g.sealed = true
		g.waitsLocked(-len(g.items))
	}
}

// waitsLocked counts the texts of a call that is not sealed.
func (g *gathered) waitsLocked(n int) {
	w := g.step.waiting
	if w[g.kin] += n; w[g.kin] == 0 {
		delete(w, g.kin)
	}
}

// seal closes a call and gives the body that is sent.
func (s *Step) seal(g *gathered) (wire.Body, int) {
	s.mu.Lock()
	g.sealLocked()
	items, own := g.items, g.ownLocked()
	s.mu.Unlock()
	if s.opts.Sent != nil {
		s.opts.Sent(g.call.Request.Model.Short(), len(items), time.Since(g.began))
	}
	if own {
		return g.call.Request.Body, len(items)
	}
	texts := make([][]byte, len(items))
	for i, it := range items {
		texts[i] = it.text.JSON
	}
	return g.embedding.Body(texts), len(items)
}

// ownLocked tells whether the texts of a call are those of the request that began it, so that it
// can be sent as it is.
func (g *gathered) ownLocked() bool {
	a := g.lead
	if len(a.parts) != len(a.places) || len(a.parts) != len(g.items) {
		return false
	}
	for i := range a.parts {
		if a.parts[i].item != g.items[i] {
			return false
		}
	}
	return true
}

// leaveLocked has one less wait for an item. It gives the call of it if nobody waits for that any
// more: who is given it ends it. A text that nobody wants is not sent with those of others.
func (f *Flights) leaveLocked(it *item) (ended *gathered) {
	it.waiters--
	if it.over || it.waiters > 0 {
		return nil
	}
	g := it.in
	if g.waiters--; g.waiters == 0 {
		g.sealLocked()
		g.ended = true
		for _, it := range g.items {
			f.landedLocked(it)
		}
		return g
	}
	if !g.sealed {
		f.landedLocked(it)
		for i := range g.items {
			if g.items[i] == it {
				g.items = append(g.items[:i:i], g.items[i+1:]...)
				break
			}
		}
		g.bytes -= it.text.Size
		g.waitsLocked(-1)
	}
	return nil
}

// landedLocked takes an item out of the table, unless a younger one has its place.
func (f *Flights) landedLocked(it *item) {
	it.over = true
	if f.flying[it.question.Key] == it {
		delete(f.flying, it.question.Key)
	}
}

// window waits until a call is to be handed on.
func (s *Step) window(g *gathered) error {
	if s.opts.Window <= 0 {
		return nil
	}
	timer := time.NewTimer(s.opts.Window)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-g.closed: // it is full, or nobody waits
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g.ended {
		return recording.ErrAbandoned
	}
	return nil
}

// send hands a call on and gives the object that answers it.
func (s *Step) send(g *gathered) (contentType string, object []byte, err error) {
	r, err := s.next.Answer(g.ctx, g.call)
	if err != nil {
		return "", nil, err
	}
	defer r.Close()
	contentType, object, ok := r.Object()
	if !ok {
		return "", nil, errVectors
	}
	return contentType, object, nil
}
