package schedule

import (
	"math"

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
	InFlight  int // granted calls of the node, whatever their model, and its last failures
	Running   int // of these, on this model's runner
	Slots     int // of this model's runner
	// Expected is how long the call would take there, in seconds; 0: not estimated. Known is how
	// many bytes of its prompt the node remembers.
	Expected float64
	Known    int
	// Weight is how much of a full node it is for this model: 1, less where it is slow. 0 means 1.
	Weight float64
}

func (c *Candidate) weight() float64 {
	if c.Weight == 0 {
		return 1
	}
	return c.Weight
}

// A Choice picks one of at least one candidate by its place. It must be pure but for chance.
type Choice func([]Candidate) int

// probeOneIn is how rarely a slow node is tried though another one is the better choice.
const probeOneIn = 64

// LeastLoaded takes a node where the model is loaded as asked before one where it is loaded
// otherwise, and that before one where it is on disk; then the one where the call is expected to
// end first; then the one that has the fewest calls per slot once it has this one, a slow node counting as a part of a slot by its weight; then
// chance decides. So a node of weight 1/20 is taken when the others have 20 times its calls.
// One call in 64 goes to an idle slow node all the same: otherwise nobody would see that it
// is fast again. random gives a number below n.
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
		if slow := idleSlow(candidates, candidates[best].Residency); slow >= 0 && slow != best && random(probeOneIn) == 0 {
			return slow
		}
		return best
	}
}

// idleSlow finds a slow node without calls that has the model as near as the best one; -1 if
// there is none.
func idleSlow(candidates []Candidate, r Residency) int {
	for i := range candidates {
		if c := &candidates[i]; c.InFlight == 0 && c.Residency == r && c.weight() < 1 {
			return i
		}
	}
	return -1
}

// even is the part by which two estimates must differ to mean anything.
const even = 0.05

// compare is -1 if a is the better choice, 1 if b is, 0 if they are equal.
func compare(a, b *Candidate) int {
	if a.Residency != b.Residency {
		if a.Residency < b.Residency {
			return -1
		}
		return 1
	}
	if a.Expected > 0 && b.Expected > 0 && math.Abs(a.Expected-b.Expected) > even*min(a.Expected, b.Expected) {
		if a.Expected < b.Expected {
			return -1
		}
		return 1
	}
	// (InFlight+1)/(Slots*weight) of both, without dividing.
	x := float64((a.InFlight+1)*b.Slots) * b.weight()
	y := float64((b.InFlight+1)*a.Slots) * a.weight()
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}
