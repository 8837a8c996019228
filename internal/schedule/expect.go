package schedule

import (
	"math"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// What is assumed while nothing has been measured. Only how they relate to each other matters.
const (
	promptUnknown = 500 // tokens a second
	decodeUnknown = 30
	outputUnknown = 200 // tokens of an answer
	bytesPerToken = 4
)

// speedPart is what the newest measurement counts.
const speedPart = 0.2

// A Speed is how fast a node works on a model, were the call alone there; 0: not known.
type Speed struct {
	Prompt, Decode float64 // tokens a second
}

// Served tells that the call was answered to its end, and what the answer said of itself. first
// is the time to the first frame and took that to the end. It comes before Release.
func (g *Grant) Served(t wire.Totals, first, took time.Duration) {
	g.served, g.totals, g.first, g.took = true, t, first, took
}

// learnLocked takes over what an answer has shown of speeds and lengths.
func (q *Queue) learnLocked(b *book, g *Grant) {
	model := g.use.key.model
	q.serviceTimes[model] = moving(q.serviceTimes[model], time.Since(g.began))
	t := &g.totals
	if t.OutputTokens > 0 {
		q.outputs[model] = blend(q.outputs[model], float64(t.OutputTokens))
	}
	s := b.speeds[model]
	// Calls beside it made it slower; as many as at the beginning and now, in the middle.
	crowd := slowdown((float64(g.beside) + float64(b.inFlight)) / 2)
	switch eval := t.Eval; {
	case t.OutputTokens > 1 && eval > 0:
		s.Decode = blend(s.Decode, float64(t.OutputTokens)/eval.Seconds()*crowd)
	case t.OutputTokens > 1 && g.took > g.first: // a dialect that tells no durations
		s.Decode = blend(s.Decode, float64(t.OutputTokens)/(g.took-g.first).Seconds()*crowd)
	}
	// What the node had in its cache it has not read: that says nothing of its speed.
	if t.Prompt > 0 && t.PromptTokens > 0 && g.known*10 <= g.bytes {
		s.Prompt = blend(s.Prompt, float64(t.PromptTokens)/t.Prompt.Seconds()*crowd)
	}
	if s != (Speed{}) {
		b.speeds[model] = s
	}
}

func blend(mean, x float64) float64 {
	if mean == 0 {
		return x
	}
	return mean + speedPart*(x-mean)
}

// slowdown is how many times longer a call takes beside others, n calls in all: a node shares
// what it can compute, but does better with several at once.
func slowdown(n float64) float64 { return math.Pow(max(1, n), 0.6) }

// expectLocked estimates how long a call would take on a node that has a free slot: to read what
// the node does not remember of the prompt, and to answer.
func (q *Queue) expectLocked(c *Candidate, key runnerKey, turns []wire.Turn) {
	s := q.speedLocked(c.Node, key.model, c.weight())
	bytes := 0
	if len(turns) > 0 {
		bytes = turns[len(turns)-1].Bytes
		if b := q.books[c.Node]; b != nil {
			c.Known = b.known[key.model].match(turns)
		}
	}
	output := q.outputs[key.model]
	if output == 0 {
		output = outputUnknown
	}
	c.Expected = (float64(bytes-c.Known)/bytesPerToken/s.Prompt + output/s.Decode) * slowdown(float64(c.InFlight+1))
}

// speedLocked is the speed of a node for a model: measured, else that of the other nodes by its
// weight, else assumed.
func (q *Queue) speedLocked(n *fleet.Node, model string, weight float64) Speed {
	var s Speed
	if b := q.books[n]; b != nil {
		s = b.speeds[model]
	}
	if s.Prompt > 0 && s.Decode > 0 {
		return s
	}
	var sum Speed
	var prompts, decodes float64
	for _, b := range q.books {
		if o := b.speeds[model]; o.Prompt > 0 {
			sum.Prompt += o.Prompt
			prompts++
		}
		if o := b.speeds[model]; o.Decode > 0 {
			sum.Decode += o.Decode
			decodes++
		}
	}
	if s.Prompt == 0 {
		if s.Prompt = promptUnknown * weight; prompts > 0 {
			s.Prompt = sum.Prompt / prompts * weight
		}
	}
	if s.Decode == 0 {
		if s.Decode = decodeUnknown * weight; decodes > 0 {
			s.Decode = sum.Decode / decodes * weight
		}
	}
	return s
}

// Speeds are those measured on a node, by the key of the model. The map is the caller's.
func (q *Queue) Speeds(n *fleet.Node) map[string]Speed {
	q.mu.Lock()
	defer q.mu.Unlock()
	speeds := make(map[string]Speed)
	if b := q.books[n]; b != nil {
		for model, s := range b.speeds {
			speeds[model] = s
		}
	}
	return speeds
}

// mostKnown is how many steps of conversations are remembered for a runner: some hundred
// conversations. A node's own cache forgets sooner.
const mostKnown = 8192

// known are the conversations that a runner has worked on: the hashes of their steps.
type known struct {
	steps map[uint64]uint64 // by hash: when it was seen last
	now   uint64
}

// match is how many bytes of a prompt the runner has worked on before, from its beginning.
func (k *known) match(turns []wire.Turn) int {
	if k == nil {
		return 0
	}
	// Steps are remembered together with all before them.
	low, high := 0, len(turns)
	for low < high {
		middle := (low + high) / 2
		if _, ok := k.steps[turns[middle].Hash]; ok {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return 0
	}
	return turns[low-1].Bytes
}

// add remembers a conversation.
func (k *known) add(turns []wire.Turn) {
	k.now++
	for _, t := range turns {
		k.steps[t.Hash] = k.now
	}
	if len(k.steps) <= mostKnown {
		return
	}
	// The older half goes: rarely, and so all at once.
	oldest := k.now
	for _, seen := range k.steps {
		oldest = min(oldest, seen)
	}
	for hash, seen := range k.steps {
		if seen <= oldest+(k.now-oldest)/2 {
			delete(k.steps, hash)
		}
	}
}

// rememberLocked notes what a runner will have worked on.
func (b *book) rememberLocked(model string, turns []wire.Turn) {
	k := b.known[model]
	if k == nil {
		k = &known{steps: make(map[uint64]uint64)}
		b.known[model] = k
	}
	k.add(turns)
}

// forgetRunnersLocked drops what runners remembered that are gone.
func (b *book) forgetRunnersLocked(v *fleet.NodeView) {
	for model := range b.known {
		listed := slices.ContainsFunc(v.Runners, func(r fleet.Runner) bool { return r.Key == model })
		if !listed && !b.busy(model) {
			delete(b.known, model)
		}
	}
}
