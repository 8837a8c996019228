package schedule

import (
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// Residency is how near a node is to answering a call.
type Residency uint8

const (
	Resident Residency = iota // the model is loaded with the same runner options
	Reload                    // it is loaded with other ones
	Cold                      // it is only on disk
)

// A Candidate is a node that can serve a call and has a free slot for it.
type Candidate struct {
	Node      *fleet.Node
	Residency Residency
	InFlight  int // granted calls of the node, whatever their model
	Slots     int // of this model's runner
}

// A Choice picks one of at least one candidate by its place. It must be pure but for chance.
type Choice func([]Candidate) int

// LeastLoaded takes a node where the model is loaded as asked before one where it is loaded
// otherwise, and that before one where it is on disk; then the one with the fewest calls in
// flight per slot; then chance decides. random gives a number below n.
func LeastLoaded(random func(n int) int) Choice {
	return func(candidates []Candidate) int {
		best, ties := 0, 1
		for i := 1; i < len(candidates); i++ {
			switch compare(&candidates[i], &candidates[best]) {
			case -1:
				best, ties = i, 1
			case 0:
				ties++
				if random(ties) == 0 { // each of the equals with the same chance
					best = i
				}
			}
		}
		return best
	}
}

// compare is -1 if a is the better choice, 1 if b is, 0 if they are equal.
func compare(a, b *Candidate) int {
	if a.Residency != b.Residency {
		if a.Residency < b.Residency {
			return -1
		}
		return 1
	}
	// a.InFlight/a.Slots against b.InFlight/b.Slots without dividing.
	switch x, y := a.InFlight*b.Slots, b.InFlight*a.Slots; {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
