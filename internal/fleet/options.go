package fleet

import (
	"cmp"
	"net"
	"time"
)

// Options say how nodes are polled, judged and found. The zero value works.
type Options struct {
	// Interval is the time between version checks of a node, jittered by a tenth. While its
	// state is about to change, or nothing answers there, it is checked every second, if that
	// is sooner. Default: 5s.
	Interval time.Duration
	// Timeout is how long one poll may take. Default: 2s.
	Timeout time.Duration
	// Passes is how many checks in a row bring a down node up. The first check of a new node
	// counts alone. Default: 2.
	Passes int
	// Fails is how many failed checks in a row take it down; a refused connection does at
	// once. Default: 3.
	Fails int
	// PsInterval is the time between looks at a node's runners. Default: 2s.
	PsInterval time.Duration
	// TagsInterval is the time between looks at a node's models. Default: 30s.
	TagsInterval time.Duration

	// EjectAfter is how many faults of a node's calls in a row eject it. Default: 5.
	// Negative: no node is ejected.
	EjectAfter int
	// EjectBase is how long the first ejection lasts; the n-th lasts n times that, up to a
	// tenth less by chance. Default: 30s.
	EjectBase time.Duration
	// EjectCap is the longest ejection. Default: 5m.
	EjectCap time.Duration
	// Forget is the healthy time after which one ejection and one fall of a node are
	// forgotten. Default: 5m.
	Forget time.Duration
	// SlowStart is how long the share of a node grows that has recovered, from one call to all
	// its slots. Default: 30s. Negative: it has all at once.
	SlowStart time.Duration
	// FaultLoad is how long the last faults of a node count as calls in flight, so that it
	// does not look idle because it fails fast. Default: 5s.
	FaultLoad time.Duration

	// SlowFactor is how many times slower than the median of the others a node must answer
	// for a model to be given fewer calls. Default: 3.
	SlowFactor float64
	// SlowSamples is how many answers of a node for a model are needed to say so, and to tell
	// its usual time to the first frame. Default: 8.
	SlowSamples int

	// Discover finds further nodes by name. Default: none.
	Discover []Discovery
	// Resolver answers the lookups of Discover. Default: net.DefaultResolver.
	Resolver Resolver
}

func (o Options) withDefaults() Options {
	o.Interval = cmp.Or(max(o.Interval, 0), 5*time.Second)
	o.Timeout = cmp.Or(max(o.Timeout, 0), 2*time.Second)
	o.Passes = cmp.Or(max(o.Passes, 0), 2)
	o.Fails = cmp.Or(max(o.Fails, 0), 3)
	o.PsInterval = cmp.Or(max(o.PsInterval, 0), 2*time.Second)
	o.TagsInterval = cmp.Or(max(o.TagsInterval, 0), 30*time.Second)
	o.EjectAfter = cmp.Or(o.EjectAfter, 5)
	o.EjectBase = cmp.Or(max(o.EjectBase, 0), 30*time.Second)
	o.EjectCap = max(cmp.Or(max(o.EjectCap, 0), 5*time.Minute), o.EjectBase)
	o.Forget = cmp.Or(max(o.Forget, 0), 5*time.Minute)
	o.SlowStart = cmp.Or(o.SlowStart, 30*time.Second)
	o.FaultLoad = cmp.Or(max(o.FaultLoad, 0), 5*time.Second)
	o.SlowFactor = cmp.Or(max(o.SlowFactor, 0), 3)
	o.SlowSamples = cmp.Or(max(o.SlowSamples, 0), 8)
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	return o
}
