package batch

import (
	"math"
	"time"
)

// How many texts of different requests travel together. A node makes vectors one after another, so
// each text makes the others of its call wait, and each call costs something beside its texts: a
// way there and back, and whatever a node does once a call. Of q texts that wait for one slot, calls
// of sqrt(q*r) give the lowest mean time, where a call costs as much as r texts. More wait, larger
// calls: so a node that is behind catches up.
const (
	// ratioUnknown is r while nothing has been measured.
	ratioUnknown = 1
	// ratioLeast and ratioMost bound what is believed of a measurement. What the calls cost elsewhere,
	// at the gateway and on the way, is not in it.
	ratioLeast, ratioMost = 1. / 4, 64
	// costsLimit bounds the models of which it is remembered.
	costsLimit = 256
)

// A cost is what calls of a model take, as a line over the number of their texts: a least-squares
// fit that forgets.
type cost struct{ w, n, t, nn, nt float64 }

// learn takes in that a call of n texts took so long.
func (c *cost) learn(n int, took time.Duration) {
	const keeps = 0.95
	x, y := float64(n), took.Seconds()
	c.w, c.n, c.t, c.nn, c.nt = c.w*keeps+1, c.n*keeps+x, c.t*keeps+y, c.nn*keeps+x*x, c.nt*keeps+x*y
}

// ratio is how many texts a call costs beside its own.
func (c *cost) ratio() float64 {
	if c == nil || c.w < 3 {
		return ratioUnknown
	}
	n, t := c.n/c.w, c.t/c.w
	spread := c.nn/c.w - n*n
	if spread < 0.25 {
		return ratioUnknown
	}
	each := (c.nt/c.w - n*t) / spread
	if each <= 0 { // more texts take no longer
		return ratioMost
	}
	return min(max((t-each*n)/each, ratioLeast), ratioMost)
}

// togetherLocked is how many texts of different requests one call may have when more come.
func (a *ask) togetherLocked(more int) int {
	most := a.mostItems()
	if a.opts.Window > 0 { // who asks for a window asks for what it collects
		return most
	}
	r := a.costs[a.kin.identity].ratio()
	return min(most, int(math.Ceil(math.Sqrt(float64(a.waiting[a.kin]+more)*r))))
}

// learnLocked takes in what a call of a model took.
func (s *Step) learnLocked(identity string, n int, took time.Duration) {
	c := s.costs[identity]
	if c == nil {
		if len(s.costs) >= costsLimit {
			clear(s.costs)
		}
		c = new(cost)
		s.costs[identity] = c
	}
	c.learn(n, took)
}
