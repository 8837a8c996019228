package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// An oracle is a way to the nodes that knows how they are made: speeds, slots, what is loaded
// and what each slot remembers. It holds the queue and gives each request to the node where it
// costs least. It is no opponent but a look at what can be had: good, not optimal.
type oracle struct {
	pipes []*simnode.Pipe
	setup []simnode.Options

	mu      sync.Mutex        // guards what follows
	loaded  [][]*oracleRunner // of each node, those being loaded too, the longest unused first
	waiting []*errand         // in order
}

type oracleRunner struct {
	model   string
	ready   time.Time // when its load ends
	running int
	prompts []string // what its idle slots and the cache behind them remember, the oldest first
}

// An errand is a request that waits for a node.
type errand struct {
	model, prompt string
	node          chan int // buffered
}

func newOracle(pipes []*simnode.Pipe, setup []simnode.Options, warm []string) *oracle {
	o := &oracle{pipes: pipes, setup: setup, loaded: make([][]*oracleRunner, len(setup))}
	for i := range o.loaded {
		for _, model := range warm {
			o.loaded[i] = append(o.loaded[i], &oracleRunner{model: model})
		}
	}
	return o
}

func (o *oracle) RoundTrip(q *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return nil, err
	}
	q.Body = io.NopCloser(bytes.NewReader(body))
	var asked workload.Chat
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, err
	}
	e := &errand{model: asked.Model, node: make(chan int, 1)}
	for _, m := range asked.Messages {
		e.prompt += m.Role + m.Content
	}
	o.mu.Lock()
	o.waiting = append(o.waiting, e)
	o.dispatchLocked()
	o.mu.Unlock()
	node := <-e.node
	return sent(o.pipes[node], q, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		r := o.runner(node, e.model)
		r.running--
		r.prompts = append(r.prompts, e.prompt)
		o.dispatchLocked()
	})
}

func (o *oracle) runner(node int, model string) *oracleRunner {
	for _, r := range o.loaded[node] {
		if r.model == model {
			return r
		}
	}
	return nil
}

func (o *oracle) spec(node int, model string) simnode.Model {
	models := o.setup[node].Models
	return models[slices.IndexFunc(models, func(m simnode.Model) bool { return m.Name == model })]
}

func (o *oracle) room(node int) int { return max(o.setup[node].MaxLoaded, 1) }

// dispatchLocked gives what waits to nodes, in order; who waits for a certain node holds up
// nobody.
func (o *oracle) dispatchLocked() {
	o.waiting = slices.DeleteFunc(o.waiting, func(e *errand) bool {
		best, least, now := 0, time.Duration(0), false
		for node := range o.setup {
			if cost, free := o.costLocked(node, e); node == 0 || cost < least {
				best, least, now = node, cost, free
			}
		}
		if now {
			o.takeLocked(best, e)
			e.node <- best
		}
		return now
	})
}

const (
	slotGain     = 0.22 // how much each further answer adds to a runner's speed, as simnode has it
	crowding     = 0.15 // of an answer: what an answer costs those beside it
	bytesOfToken = 5.5  // of the words in traces
)

// costLocked is how long a request is expected to take on a node, and whether a slot is free.
func (o *oracle) costLocked(node int, e *errand) (cost time.Duration, free bool) {
	setup, spec, loaded := o.setup[node], o.spec(node, e.model), o.loaded[node]
	scaled := func(seconds float64) time.Duration {
		return time.Duration(seconds * max(setup.Scale, 1) * float64(time.Second))
	}
	answer := float64(spec.ShortestAnswer+spec.LongestAnswer) / 2 / spec.DecodeRate
	r := o.runner(node, e.model)
	if r == nil {
		r = &oracleRunner{}
		cost += scaled(spec.LoadTime.Seconds())
		for _, other := range loaded { // a node loads one model at a time
			cost += max(0, time.Until(other.ready))
		}
		if len(loaded) >= o.room(node) { // the model that goes will be wanted again
			cost += scaled(spec.LoadTime.Seconds())
			if !slices.ContainsFunc(loaded, func(r *oracleRunner) bool { return r.running == 0 }) {
				cost += scaled(answer)
			}
		}
	}
	cost += max(0, time.Until(r.ready))
	known := 0
	for _, p := range r.prompts {
		known = max(known, commonBytes(p, e.prompt))
	}
	fresh := float64(len(e.prompt)-known) / bytesOfToken
	crowd := float64(r.running)
	slow := (crowd + 1) / (1 + slotGain*crowd)
	cost += scaled(fresh/spec.PromptRate*slow + answer*(1+crowding*crowd))
	if slots := max(setup.Slots, 1); r.running >= slots {
		return cost + scaled(slow*answer)/time.Duration(slots), false
	}
	return cost, true
}

// takeLocked keeps the books of a node as the node itself does.
func (o *oracle) takeLocked(node int, e *errand) {
	r := o.runner(node, e.model)
	loaded := slices.DeleteFunc(o.loaded[node], func(other *oracleRunner) bool { return other == r })
	if r == nil {
		r = &oracleRunner{model: e.model, ready: time.Now()}
		for _, other := range loaded {
			if other.ready.After(r.ready) {
				r.ready = other.ready
			}
		}
		r.ready = r.ready.Add(o.spec(node, e.model).LoadTime)
		if len(loaded) >= o.room(node) {
			gone := max(0, slices.IndexFunc(loaded, func(r *oracleRunner) bool { return r.running == 0 }))
			loaded = slices.Delete(loaded, gone, gone+1)
		}
	}
	o.loaded[node] = append(loaded, r)
	r.running++
	if len(r.prompts) > max(o.setup[node].Slots, 1)-r.running { // its slot forgets what it had
		best := 0
		for i, p := range r.prompts {
			if commonBytes(p, e.prompt) > commonBytes(r.prompts[best], e.prompt) {
				best = i
			}
		}
		r.prompts = slices.Delete(r.prompts, best, best+1)
	}
}

func commonBytes(a, b string) int {
	if strings.HasPrefix(b, a) {
		return len(a)
	}
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
