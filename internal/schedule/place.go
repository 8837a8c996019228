package schedule

import (
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// trialWait is how long the call that tries a node is waited for by others that have nowhere
// else to go: it may have to load a model, or meet nobody who answers.
const trialWait = 10 * time.Second

// holdAfter is how long a call waits for a place where its model can be loaded before a node is
// kept free of others for it.
const holdAfter = 5 * time.Second

// late tells whether a call has waited for that long.
func (w *waiter) late() bool { return w != nil && time.Since(w.came) >= holdAfter }

// inNeed is how many times longer than a load the wait must be for a further copy to be tried where
// it may cost another model its place.
const inNeed = 4

// Why a node was chosen.
const (
	ChoiceOnly   = "only"   // no other could serve the call
	ChoiceLoaded = "loaded" // it has the model loaded, others do not
	ChoiceLoad   = "load"   // the model was loaded there for it
	ChoicePrefix = "prefix" // it knows the beginning of the conversation
	ChoiceSpread = "spread" // of several it is the soonest to answer
	ChoiceTrial  = "trial"  // it is half open or ejected, and tried
)

// Choices lists them.
var Choices = [...]string{ChoiceOnly, ChoiceLoaded, ChoiceLoad, ChoicePrefix, ChoiceSpread, ChoiceTrial}

// Reasons lists why a model is loaded.
var Reasons = [...]string{ReasonFirst, ReasonWait, ReasonSpread, ReasonPreload}

// A hold keeps a node for a call that came before.
type hold struct {
	model string // only calls for it are kept away, which would keep it from being reloaded
	all   bool   // all are
}

// keeps tells whether a call may not go to the node.
func (h *hold) keeps(model string) bool { return h != nil && (h.all || h.model == model) }

// A survey is what the nodes that could serve a call can do for it now.
type survey struct {
	free     []Candidate
	cold     []int     // places in the snapshot of the nodes where it could be loaded
	possible int       // nodes that could serve it now or later
	resident int       // of these have it loaded as asked
	loading  int       // or are loading it
	inFlight int       // calls on those that have it loaded
	slots    int       // of those that have it loaded or are loading it
	trial    Candidate // a node that is half open; its Node is nil if there is none
	resort   Candidate // one that is ejected
	tried    bool      // one of either is being tried
	failed   int       // nodes that failed to load it a moment ago
	err      error     // of the last of them

	wait    *fleet.Node // where a reload would be possible soonest
	waitFor int
}

// placeLocked gives a call a slot if a node has one for it: (nil, nil) if it must wait,
// ErrNoNode (or ErrGone) if no node could ever serve it as things stand, the error of a load that
// failed. While nodes have not been asked yet, such as those that a reload brings, any of them may
// turn out to serve it: that ends with their first round. Only if no other node could serve it, one
// that is ejected is tried. A model that is nowhere is ordered to be loaded, and a further copy where
// that is worth it. held are the nodes that are kept for calls that came before; nil if nobody waits.
func (q *Queue) placeLocked(snap *fleet.Snapshot, ask *Ask, w *waiter, held map[*fleet.Node]*hold) (*Grant, error) {
	m := snap.Models[ask.Model]
	key := ask.runner()
	switch {
	case m != nil:
	case !snap.Asked:
		return nil, nil
	default:
		return nil, q.unknownLocked(key, w)
	}
	s := &q.survey
	*s = survey{free: s.free[:0], cold: s.cold[:0]}
	q.surveyLocked(s, snap, m, key, ask, w, held)
	switch {
	case s.failed >= failedMost && s.resident == 0:
		return nil, s.err
	case s.possible > 0:
	case s.resort.Node != nil:
		return q.tryLocked(s.resort, key), nil
	case s.tried, !snap.Asked:
		return nil, nil
	case s.err != nil:
		return nil, s.err
	default:
		return nil, ErrNoNode
	}
	// A node is tried by the next call, however near others have the model, or it might be left
	// out for ever; but not by one that has met a fault already, if it need not.
	if s.trial.Node != nil && (len(ask.Exclude) == 0 || len(s.free) == 0) {
		g := q.tryLocked(s.trial, key)
		g.Others = s.possible - 1
		return g, nil
	}
	if len(s.free) > 0 {
		g := q.chooseLocked(s, key, ask, w)
		if len(s.cold) > 0 && 2*s.inFlight >= s.slots && s.loading == 0 && !ask.IdleOnly {
			if place, _ := q.bestPlaceLocked(s, snap, m, w); place.view != nil && place.rank == placeRoom {
				q.orderLocked(&place, m, key, ask.KeepAlive, ReasonSpread)
			}
		}
		return g, nil
	}
	if !ask.IdleOnly {
		q.loadLocked(s, snap, m, key, ask, w, held)
	}
	return nil, nil
}

// bestPlaceLocked finds the best place to load a model; its view is nil if there is none now. drain
// is the node where room would be made soonest, were all others kept away.
func (q *Queue) bestPlaceLocked(s *survey, snap *fleet.Snapshot, m *fleet.Model, w *waiter) (best place, drain *fleet.Node) {
	drainFor := 0
	for _, i := range s.cold {
		v := &snap.Nodes[i]
		p, ok := q.placeOnLocked(snap, v, m, w.late())
		if ok && (best.view == nil || p.better(&best)) {
			best = p
		}
		if b := q.books[v.Node]; !ok && (drain == nil || b.inFlight < drainFor) {
			drain, drainFor = v.Node, b.inFlight
		}
	}
	return best, drain
}

// unknownLocked is the answer for a model that no node has (any more): nil while it is still
// being loaded somewhere, because the end of that says more; else ErrGone, or why it failed.
func (q *Queue) unknownLocked(key runnerKey, w *waiter) error {
	if w != nil {
		if c := q.clocks[key]; c != nil && c.running > 0 {
			return nil
		}
		for _, b := range q.books {
			if err := b.failedLocked(key, w); err != nil {
				return err
			}
		}
	}
	return ErrGone
}

// chooseLocked grants one of the free slots.
func (q *Queue) chooseLocked(s *survey, key runnerKey, ask *Ask, w *waiter) *Grant {
	known, most := 0, 0 // bytes: the least that a candidate knows, and the most
	for i := range s.free {
		c := &s.free[i]
		q.expectLocked(c, key, ask.Turns)
		if most = max(most, c.Known); i == 0 || c.Known < known {
			known = c.Known
		}
	}
	chosen := s.free[q.choose(s.free)]
	g := q.grantLocked(chosen, key)
	if n := len(ask.Turns); n > 0 {
		g.bytes = ask.Turns[n-1].Bytes
		q.books[g.Node].rememberLocked(key.model, ask.Turns)
	}
	g.Others = s.possible - 1
	switch {
	case len(s.free) > 1 && chosen.Known == most && most > known:
		g.Reason = ChoicePrefix
	case g.Others == 0:
		g.Reason = ChoiceOnly
	case w != nil && q.clocks[key].elapsed(g.began) > w.loads:
		g.Reason = ChoiceLoad
	case s.resident == 1:
		g.Reason = ChoiceLoaded
	default:
		g.Reason = ChoiceSpread
	}
	return g
}

// loadLocked decides whether the model of a call that has to wait is loaded, and where.
func (q *Queue) loadLocked(s *survey, snap *fleet.Snapshot, m *fleet.Model, key runnerKey, ask *Ask, w *waiter, held map[*fleet.Node]*hold) {
	if s.resident+s.loading > 0 {
		// While none is resident it is not known whether it can be loaded at all.
		wait, load := q.waitLocked(s, key), q.loadTimeLocked(key.model)
		if s.resident == 0 || len(s.cold) == 0 || wait <= load {
			return
		}
		// Not in the last place of another model, and where nobody knows only in need.
		worst := placeCopy
		if wait > inNeed*load {
			worst = placeUnknown
		}
		if place, _ := q.bestPlaceLocked(s, snap, m, w); place.view != nil && place.rank <= worst {
			q.orderLocked(&place, m, key, ask.KeepAlive, ReasonWait)
		}
		return
	}
	place, drain := q.bestPlaceLocked(s, snap, m, w)
	switch {
	case place.view != nil:
		q.orderLocked(&place, m, key, ask.KeepAlive, ReasonFirst)
	case held == nil:
	case s.wait != nil:
		held[s.wait] = &hold{model: ask.Model}
	case drain != nil && w.late():
		held[drain] = &hold{all: true}
	}
}

// waitLocked is how long the last of those that wait for a runner will wait.
func (q *Queue) waitLocked(s *survey, key runnerKey) time.Duration {
	took := q.serviceTimes[key.model]
	if took == 0 {
		took = serviceUnknown
	}
	return took * time.Duration(max(1, q.waitingLocked(key))) / time.Duration(max(1, s.slots))
}

func (q *Queue) loadTimeLocked(model string) time.Duration {
	if took := q.loadTimes[model]; took > 0 {
		return took
	}
	return loadUnknown
}

// surveyLocked looks at each node that has the model.
func (q *Queue) surveyLocked(s *survey, snap *fleet.Snapshot, m *fleet.Model, key runnerKey, ask *Ask, w *waiter, held map[*fleet.Node]*hold) {
	holders := m.Nodes // in the order of the snapshot
	for i := range snap.Nodes {
		v := &snap.Nodes[i]
		if len(holders) == 0 {
			return
		}
		if holders[0] != v.Node {
			continue
		}
		if holders = holders[1:]; slices.Contains(ask.Exclude, v.Node.Name()) {
			continue
		}
		if !v.Usable() && !v.LastResort {
			continue
		}
		if v.Trial() {
			if g := q.trialLocked(v.Node); g != nil {
				s.tried = s.tried || time.Since(g.began) < trialWait
				continue
			}
		}
		c, isFree, busy := q.candidateLocked(v, m, key, ask)
		switch {
		case v.LastResort:
			if isFree {
				s.resort = c
			}
		case v.Trial():
			s.possible++
			if isFree {
				s.trial = c
			}
		case c.Residency == Resident:
			s.possible++
			s.resident++
			s.inFlight += c.Running
			s.slots += c.Slots
			if isFree && !held[v.Node].keeps(ask.Model) {
				s.free = append(s.free, c)
			}
		default:
			q.surveyColdLocked(s, i, v, key, ask, w, c, isFree, busy, held[v.Node])
		}
	}
}

// surveyColdLocked looks at a node where the model is not loaded as asked.
func (q *Queue) surveyColdLocked(s *survey, i int, v *fleet.NodeView, key runnerKey, ask *Ask,
	w *waiter, c Candidate, isFree bool, busy int, kept *hold,
) {
	b := q.books[v.Node]
	failed := b.failedLocked(key, w)
	if failed != nil && !isPlain(failed) {
		s.failed++
		s.err = failed
		return
	}
	s.possible++
	switch {
	case b != nil && b.order != nil:
		if b.order.key == key {
			s.loading++
			s.slots += c.Slots
		}
	case busy > 0: // its answers must end before
		if kept == nil && (s.wait == nil || busy < s.waitFor) {
			s.wait, s.waitFor = v.Node, busy
		}
	case q.loader == nil, ask.Plain, isPlain(failed):
		if isFree && !kept.keeps(ask.Model) {
			s.free = append(s.free, c)
		}
	case b != nil && b.loading != nil, v.Full, kept.keeps(ask.Model):
	default:
		s.cold = append(s.cold, i)
	}
}

// candidateLocked judges one node that has the model: whether a slot is free. busy counts the
// answers that must end before the model can be loaded there with other options: a node
// would let such a request wait for them and block all loads behind it (ollama-api 9).
func (q *Queue) candidateLocked(v *fleet.NodeView, m *fleet.Model, key runnerKey, ask *Ask) (c Candidate, isFree bool, busy int) {
	slots := v.Node.Slots()
	if ask.Embedding {
		slots = 1
	}
	c = Candidate{Node: v.Node, Residency: Cold, InFlight: v.Load, Slots: slots, Weight: v.Weight(m.Key)}
	if r, ok := v.Runner(m); ok {
		c.Residency = Reload
		if r.Matches(ask.Requested, ask.Effective.Over(m.Parameters)) {
			c.Residency = Resident
		}
	}
	b := q.books[v.Node]
	switch {
	case v.Full:
		return c, false, 0
	case b == nil:
		return c, true, 0
	case b.order != nil && slices.Contains(b.order.Evict, m.Key):
		c.Residency = Cold // it is on its way out
	}
	c.InFlight += b.inFlight
	if limit, ok := v.Limit(); ok && b.inFlight >= limit {
		return c, false, 0
	}
	own := b.runners[key]
	for k, u := range b.runners {
		if k.model != key.model {
			continue
		}
		c.Running += u.inFlight
		if u != own {
			busy += u.inFlight
		}
	}
	if own != nil && own.inFlight >= slots || c.Residency == Resident && c.Running >= slots {
		return c, false, 0
	}
	loading := b.loading != nil && b.loading != own && (c.Residency != Resident || b.loading.key.model == key.model)
	if loading || b.order != nil && b.order.key != key && (c.Residency != Resident || b.order.key.model == key.model) {
		return c, false, 0 // it loads something else, or just this model otherwise
	}
	if c.Residency == Resident {
		return c, true, 0
	}
	return c, busy == 0, busy
}
