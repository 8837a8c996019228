package batch

import (
	"errors"
	"fmt"
	"math/bits"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

var (
	// errNoAnswer is what is known of a step that ends its goroutine.
	errNoAnswer = errors.New("the next step ended without an answer")
	errVectors  = errors.New("not one vector for each text")
)

// A PanicError is what all who wait are told when the next step panics.
type PanicError struct {
	Value any
	Stack []byte // where it was
}

// Error does not tell the value, which may hold what a client sent.
func (e *PanicError) Error() string { return fmt.Sprintf("panic in a gathered call: %T", e.Value) }

// Unwrap gives what was panicked with, if that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// An answer is what a node said to a gathered call.
type answer struct {
	wire.Embedded
	items       []*item // that it answers
	spelling    string  // of the model in it
	contentType string
	object      []byte
}

// fly sends a call and tells those who wait for its items. A panic ends here, as it does in the
// flights of texts: none of the clients could recover from it.
func (s *Step) fly(g *gathered) {
	var vectors []*call.Vector
	var from *answer
	err := errNoAnswer
	defer func() {
		if p := recover(); p != nil {
			vectors, err = nil, &PanicError{Value: p, Stack: debug.Stack()}
		}
		g.cancel(nil)
		s.land(g, from, vectors, err)
	}()
	if err = s.window(g); err != nil {
		return
	}
	err = errNoAnswer // what follows may not return
	contentType, object, failed := s.send(g)
	items, own := s.sent(g, failed == nil)
	if err = failed; err != nil {
		return
	}
	from = &answer{items: items, spelling: g.call.Request.Model.Spelling, contentType: contentType, object: object}
	from.Embedded, err = wire.Embeddings(g.call.Request.Route, object)
	if err == nil && len(from.Vectors) != len(items) {
		err = fmt.Errorf("%w: %w", wire.ErrFrame, errVectors)
	}
	if err != nil {
		if own {
			err = nil // whatever it is, it is what the node says to this very request
		}
		return
	}
	vectors = vectorsOf(&from.Embedded, items, g.call.Upstream.LastTook())
	s.store(g, items, vectors)
}

// sent gives the items of a call that was answered, which is learnt from, or refused.
func (s *Step) sent(g *gathered, answered bool) (items []*item, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if took := g.call.Upstream.LastTook(); answered && took > 0 {
		s.learnLocked(g.kin.identity, len(g.items), took)
	}
	g.sealLocked()
	return g.items, g.ownLocked()
}

// vectorsOf gives each item its vector and its part of the tokens and of the time.
func vectorsOf(e *wire.Embedded, items []*item, took time.Duration) []*call.Vector {
	weights := make([]int, len(items))
	for i, it := range items {
		weights[i] = it.text.Size
	}
	tokens := apportion(e.Tokens, weights)
	if e.Total > 0 {
		took = e.Total
	}
	times := apportion(int(max(0, took-e.Load)), weights)
	all := make([]call.Vector, len(items))
	vectors := make([]*call.Vector, len(items))
	for i := range items {
		all[i] = call.Vector{Text: e.Vectors[i], Tokens: tokens[i], Took: time.Duration(times[i]), Shared: len(items) > 1}
		vectors[i] = &all[i]
	}
	return vectors
}

// store has the cache keep what was said, before it can be waited for: who asks from then on
// finds it.
func (s *Step) store(g *gathered, items []*item, vectors []*call.Vector) {
	for from := 0; from < len(items); {
		by := items[from].by
		to := from + 1
		for to < len(items) && items[to].by == by {
			to++
		}
		if by.keep != nil {
			questions := make([]call.Question, 0, to-from)
			for _, it := range items[from:to] {
				questions = append(questions, it.question)
			}
			by.keep(questions, vectors[from:to], g.call.Upstream)
		}
		from = to
	}
}

// land tells those who wait what has come of a call, or sends what it had again.
func (s *Step) land(g *gathered, from *answer, vectors []*call.Vector, err error) {
	s.mu.Lock()
	g.sealLocked()
	if g.ended { // nobody waits
		s.mu.Unlock()
		return
	}
	g.ended = true
	legs := s.legsLocked(g, err)
	var landed []*item
	for i, it := range g.items {
		if it.in != g {
			continue // it goes on in a leg
		}
		s.landedLocked(it)
		it.from, it.err = from, err
		if vectors != nil {
			it.vector = vectors[i]
		}
		landed = append(landed, it)
	}
	s.mu.Unlock()
	for _, it := range landed {
		close(it.done)
	}
	for _, leg := range legs {
		s.Jobs.Go(func() { s.fly(leg) }) // ends with the answer, the last who waits, or Context
	}
}

// bisected is how many items a failed call must have to be cut into halves, and not at once into
// single ones: with one bad text among 32, 4 calls find what 32 would.
const bisected = 8

// legsLocked makes the calls in which the items of a failed one are sent again; none if that is
// the answer. Only what is waited for is sent again.
func (s *Step) legsLocked(g *gathered, err error) (legs []*gathered) {
	if err == nil || len(g.items) < 2 || !spoilt(err) || g.soleLocked(err) {
		return nil
	}
	wanted := make([]*item, 0, len(g.items))
	for _, it := range g.items {
		if it.waiters > 0 {
			wanted = append(wanted, it)
		}
	}
	size := 1
	if len(wanted) > bisected {
		size = (len(wanted) + 1) / 2
	}
	for items := range slices.Chunk(wanted, size) {
		leg := g.lead.begin(g.call, g.embedding)
		leg.shutLocked()
		leg.items, leg.waiters = items[:len(items):len(items)], len(items)
		for _, it := range items {
			it.in = leg
			leg.bytes += it.text.Size
		}
		leg.waitsLocked(len(items))
		g.lead.led = append(g.lead.led, leg)
		legs = append(legs, leg)
	}
	return legs
}

// spoilt tells of a failure whether one of several texts can be its cause.
func spoilt(err error) bool {
	var refused *call.StatusError
	if errors.As(err, &refused) {
		return refused.Code == http.StatusBadRequest || refused.Code == http.StatusInternalServerError
	}
	return errors.Is(err, wire.ErrFrame)
}

// soleLocked tells whether a node's refusal of a call is its refusal of a request: all of the
// texts are of one that nobody else wants.
func (g *gathered) soleLocked(err error) bool {
	if errors.Is(err, wire.ErrFrame) {
		return false
	}
	only := g.items[0].only
	return only != nil && !slices.ContainsFunc(g.items, func(it *item) bool { return it.only != only })
}

// apportion cuts a total into shares by weights, equal ones if there are none. The shares add up
// to the total: what is left over goes to the largest remainders, of equal ones to the first.
func apportion(total int, weights []int) []int {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	shares, rests := make([]int, len(weights)), make([]uint64, len(weights))
	order := make([]int, len(weights))
	left := total
	for i, w := range weights {
		of := uint64(sum)
		if sum == 0 {
			w, of = 1, uint64(len(weights))
		}
		hi, lo := bits.Mul64(uint64(total), uint64(w))
		share, rest := bits.Div64(hi, lo, of) // a share is at most the total, so it fits
		shares[i], rests[i], order[i] = int(share), rest, i
		left -= int(share)
	}
	if left > 0 {
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case rests[a] > rests[b]:
				return -1
			case rests[a] < rests[b]:
				return 1
			}
			return 0
		})
		for _, i := range order[:left] {
			shares[i]++
		}
	}
	return shares
}
