package cache

import (
	"math"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

const (
	// mostSeen bounds the refreshes that count: beyond it half of them are forgotten, so that an
	// answer which begins to change more often, or ceases to, is noticed within as many refreshes.
	mostSeen = 32

	// mostGrowth is how much longer than the TTL before it a TTL is at most. Without it one equal
	// refresh in a long time gives the longest TTL there is (algorithms.md section 1).
	mostGrowth = 2

	// The prior is half a change in one refresh more than there were: what was never seen to change
	// is not taken to be eternal.
	priorSeen, priorChanged = 1, 0.5

	// An answer whose TTL is within doubtfulFloor times the shortest one, and which all the same
	// differed in doubtfulShare of at least doubtfulSeen refreshes, does not change: it is noise,
	// or faster than any TTL that is allowed. A change rate that is real falls with the TTL.
	doubtfulFloor = 2
	doubtfulShare = 0.2
	doubtfulSeen  = 8
)

// What came of a refresh, for metrics.
const (
	RefreshEqual    = "equal"
	RefreshChanged  = "changed"
	RefreshDoubtful = "doubtful" // it differs as noise does, see doubtfulShare
)

// Refreshed lists them.
var Refreshed = [...]string{RefreshEqual, RefreshChanged, RefreshDoubtful}

// A Past is what was seen of the answers to one question so far. It is never changed.
type Past struct {
	Seen    uint32        // refreshes whose answer was compared with the one before, mostSeen at most
	Changed uint32        // of those, how many differed
	Watched time.Duration // from answer to answer, over all of Seen

	Said   uint64 // digest of what the answer said
	Source uint64 // version of what it was made from; 0: not told

	// Keep is for how long after its time the answer is kept to be compared with the next one.
	Keep time.Duration
}

// add is the past with one more refresh, which came so long after the one before.
func (p Past) add(changed bool, after time.Duration) Past {
	if p.Seen >= mostSeen {
		p.Seen /= 2
		p.Changed /= 2
		p.Watched /= 2
	}
	p.Seen++
	if changed {
		p.Changed++
	}
	p.Watched += max(after, 0)
	return p
}

// rate estimates how often the answer changes, per second, after Cho and Garcia-Molina, "Estimating
// frequency of change": of several changes between two refreshes only one is seen, and the logarithm
// makes up for the others. 0: nothing is known.
func (p *Past) rate() float64 {
	if p.Seen == 0 || p.Watched <= 0 {
		return 0
	}
	n := float64(p.Seen)
	unchanged := 1 - (float64(p.Changed)+priorChanged)/(n+priorSeen)
	return -math.Log(unchanged) * n / p.Watched.Seconds()
}

// life is the TTL that the past suggests after one of before. Of an answer with the rate r that is
// asked for all the time, about r*TTL/2 of what is given is stale.
func (p *Past) life(a *call.Adaptive, before time.Duration) time.Duration {
	rate := p.rate()
	if rate == 0 {
		return min(max(a.First, a.Min), a.Max)
	}
	life := min(2*a.Target/rate, mostGrowth*before.Seconds(), a.Max.Seconds())
	return max(a.Min, time.Duration(life*float64(time.Second)))
}
