package fleet

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// judgeEvery is the least time between two comparisons of the nodes for a model.
	judgeEvery = time.Second
	// loadSamples is how many cold loads tell the usual time of one: they are rare.
	loadSamples = 3
	// mostModels is how many models' speeds are kept before those that nobody lists are dropped.
	mostModels = 1024
	// leastWeight keeps a share for the slowest node, in which it can show that it is better.
	leastWeight = 0.01
)

// What is too little to be noticed: added to both sides of a comparison.
const (
	firstGrain = 50 * time.Millisecond
	frameGrain = time.Millisecond
)

// speeds are how fast nodes have answered, by model.
type speeds struct {
	mu     sync.Mutex // guards what follows
	models map[string]*paces
}

type paces struct {
	nodes  map[*Node]*pace
	judged time.Time
}

// A pace is how fast one node answers for one model.
type pace struct {
	first average // until the first frame, the model being loaded as asked
	load  average // until the first frame else
	frame average // from frame to frame
	slow  bool
}

// An average is moving: of the last few samples, in nanoseconds.
type average struct {
	n                int
	mean, dev, worst float64
}

func (a *average) add(d time.Duration) {
	x := float64(d)
	if a.n++; a.n == 1 {
		a.mean, a.dev, a.worst = x, x/2, x
		return
	}
	off := x - a.mean
	// It forgives faster than it blames: a node that is itself again is soon used again.
	part := 0.25
	if off < 0 {
		part = 0.5
	}
	a.dev += 0.25 * (math.Abs(off) - a.dev)
	a.mean += part * off
	a.worst = max(x, a.worst-(a.worst-a.mean)/16)
}

// bound is what hardly any sample exceeds.
func (a *average) bound() time.Duration {
	return time.Duration(max(a.mean+4*a.dev, a.worst))
}

// FirstByte tells how long a node usually takes at most until the first frame for a model:
// loaded as asked (resident), or with a load before it. ok is false while too few answers are
// known to say so. It knows nothing of the prompt, whose evaluation is part of it: a caller
// that makes a limit of it leaves room for a longer one.
func (f *Fleet) FirstByte(n *Node, model string, resident bool) (expected time.Duration, ok bool) {
	need := f.opts.Load().SlowSamples
	s := &f.speeds
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.models[model]
	if m == nil || m.nodes[n] == nil {
		return 0, false
	}
	a := &m.nodes[n].first
	if !resident {
		a, need = &m.nodes[n].load, loadSamples
	}
	if a.n < need {
		return 0, false
	}
	return a.bound(), true
}

// Begun tells of an answer with Model, Resident and FirstFrame that its first frame has come,
// so that a node that has become slow is known before its answers have ended. The Report of
// its end has Told set.
func (f *Fleet) Begun(n *Node, r Outcome) {
	r.Told, r.Frames = false, 0
	f.learn(n, r)
}

// learn takes over how fast an answer came, and compares the nodes now and then.
func (f *Fleet) learn(n *Node, r Outcome) {
	if r.Model == "" || r.FirstFrame <= 0 {
		return
	}
	o := f.opts.Load()
	s := &f.speeds
	s.mu.Lock()
	if n.life != nil && n.life.Err() != nil { // it has left: forgetNodes drops what came before that
		s.mu.Unlock()
		return
	}
	m := s.models[r.Model]
	if m == nil {
		if len(s.models) >= mostModels {
			f.forgetModelsLocked()
		}
		m = &paces{nodes: make(map[*Node]*pace), judged: time.Now()}
		s.models[r.Model] = m
	}
	p := m.nodes[n]
	if p == nil {
		p = &pace{}
		m.nodes[n] = p
	}
	switch {
	case r.Told:
	case r.Resident:
		p.first.add(r.FirstFrame)
	default:
		p.load.add(r.FirstFrame)
	}
	if r.Frames > 1 && r.Took > r.FirstFrame {
		p.frame.add((r.Took - r.FirstFrame) / time.Duration(r.Frames-1))
	}
	var judged map[*Node]float64
	if now := time.Now(); now.Sub(m.judged) >= judgeEvery {
		m.judged = now
		judged = m.judge(o)
	}
	s.mu.Unlock()
	changed := false
	for n, weight := range judged {
		if n.weigh(r.Model, weight) {
			changed = true
			f.logSpeed(n, r.Model, weight)
		}
	}
	if changed {
		f.publish()
	}
}

// judge compares the nodes: each gets a weight, 1 unless it is slow.
func (m *paces) judge(o *Options) map[*Node]float64 {
	weights := make(map[*Node]float64, len(m.nodes))
	for n, p := range m.nodes {
		ratio := max(
			m.ratio(n, o, firstGrain, func(p *pace) *average { return &p.first }),
			m.ratio(n, o, frameGrain, func(p *pace) *average { return &p.frame }))
		// Once slow it must be clearly better to be no longer so.
		p.slow = ratio > o.SlowFactor || p.slow && ratio > o.SlowFactor*2/3
		weights[n] = 1
		if p.slow {
			// Whole factors: a new snapshot for each change in the second digit helps nobody.
			weights[n] = max(leastWeight, 1/max(1, math.Round(ratio)))
		}
	}
	return weights
}

// ratio is how many times slower n is than the median of the others; 0 if it cannot be told.
func (m *paces) ratio(n *Node, o *Options, grain time.Duration, of func(*pace) *average) float64 {
	own := of(m.nodes[n])
	if own.n < o.SlowSamples {
		return 0
	}
	var others []float64
	for other, p := range m.nodes {
		if a := of(p); other != n && a.n >= o.SlowSamples {
			others = append(others, a.mean)
		}
	}
	if len(others) == 0 {
		return 0
	}
	slices.Sort(others)
	// The lower of two in the middle: in a fleet of three the one fast node is the measure.
	median := others[(len(others)-1)/2]
	return (own.mean + float64(grain)) / (median + float64(grain))
}

// weigh sets the weight of a node for a model and tells whether it is another one.
func (n *Node) weigh(model string, weight float64) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	was, ok := n.facts.Load().weights[model]
	if !ok {
		was = 1
	}
	if was == weight {
		return false
	}
	n.setLocked(func(x *facts) {
		x.weights = maps.Clone(x.weights)
		switch {
		case weight == 1:
			delete(x.weights, model)
		case x.weights == nil:
			x.weights = map[string]float64{model: weight}
		default:
			x.weights[model] = weight
		}
	})
	return true
}

func (f *Fleet) logSpeed(n *Node, model string, weight float64) {
	f.log.LogAttrs(context.Background(), slog.LevelInfo, "node weight changed",
		slog.String("node", n.Name()), slog.String("model", model), slog.Float64("weight", weight))
}

// forgetNodes drops what is known of the speed of nodes that are gone.
func (s *speeds) forgetNodes(gone []*Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.models {
		for _, n := range gone {
			delete(m.nodes, n)
		}
	}
}

// forgetModelsLocked drops the models that nobody lists any more.
func (f *Fleet) forgetModelsLocked() {
	listed := f.Snapshot().Models
	for key := range f.speeds.models {
		if listed[key] == nil {
			delete(f.speeds.models, key)
		}
	}
}
