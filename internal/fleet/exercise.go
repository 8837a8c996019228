package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// exerciseLimit is what the answer to an exercise may weigh.
const exerciseLimit = 64 << 10

// exercises is how many must be passed in a row to end an ejection early.
const exercises = 2

// soonest is the least time that the n-th ejection lasts, however many exercises are passed:
// it doubles, so that a node that only its calls find out is tried ever more rarely.
func soonest(n int, d time.Duration) time.Duration {
	d = min(d, time.Second<<min(n-1, 20))
	return d - time.Duration(rand.Int64N(int64(d/10)+1))
}

// end is when the ejection is over as things stand.
func (e *ejection) end() time.Time {
	if e.passes >= exercises && e.soonest.Before(e.until) {
		return e.soonest
	}
	return e.until
}

// exercise has a node that was ejected for what its calls met asked to use a model it has
// loaded, about once a second while that lasts, beside its polls: those may hang meanwhile. Short
// ejections, and those that passed checks end, need none.
func (f *Fleet) exercise(n *Node) {
	n.mu.Lock()
	e := &n.health.ejection
	if n.life == nil || e.at.IsZero() || e.dials || e.brief || e.exercised {
		n.mu.Unlock()
		return
	}
	e.exercised = true
	at := e.at
	n.mu.Unlock()
	f.launch(func() { f.exerciseUntilOpen(n.life, n, at) }) // ends with the ejection, the node, or Close
}

// exerciseUntilOpen ends when the ejection that began at at does, or with ctx.
func (f *Fleet) exerciseUntilOpen(ctx context.Context, n *Node, at time.Time) {
	timer := time.NewTimer(jitter(soon / 2)) // it has failed a call just now
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		o := f.opts.Load()
		n.mu.Lock()
		e := &n.health.ejection
		on := e.at.Equal(at) && e.open.IsZero()
		model := e.model
		n.mu.Unlock()
		if !on {
			return
		}
		begun := time.Now()
		wait := jitter(min(soon, o.Interval))
		if n.facts.Load().state != Ejected {
			wait /= 2 // it is down, and asked soon after it has risen
		} else {
			passed := f.uses(ctx, n, model, min(soon, o.Timeout))
			if ctx.Err() != nil {
				return
			}
			f.exercised(n, at, passed, o)
			if passed {
				wait /= 2 // the sooner it is sure, the sooner it is used
			}
		}
		timer.Reset(max(0, wait-time.Since(begun)))
	}
}

// exercised counts an exercise.
func (f *Fleet) exercised(n *Node, at time.Time, passed bool, o *Options) {
	n.mu.Lock()
	e := &n.health.ejection
	if !e.at.Equal(at) || !e.open.IsZero() {
		n.mu.Unlock()
		return
	}
	if passed {
		e.passes++
		n.alive.Store(int64(f.since())) // polls that hung meanwhile do not count
	} else {
		e.passes = 0
	}
	c := n.settleLocked(o)
	n.mu.Unlock()
	f.tell(c)
}

// uses tells whether a node answers for a model that it has loaded, within timeout: the one
// that calls have failed for, if it can be. What is loaded is asked first, because nothing must
// be loaded by this.
func (f *Fleet) uses(ctx context.Context, n *Node, model string, timeout time.Duration) bool {
	if len(n.facts.Load().runners) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	begun := f.since()
	body, err := n.ask(ctx, timeout, http.MethodGet, "/api/ps", nil, psLimit)
	if err != nil {
		return false
	}
	shown, err := parsePs(body)
	if err != nil {
		return false
	}
	if n.running(shown, begun) {
		f.publish()
	}
	path, body := n.usage(f.Snapshot().Models, model)
	if path == "" {
		return false
	}
	body, err = n.ask(ctx, timeout, http.MethodPost, path, body, exerciseLimit)
	if err != nil {
		return false
	}
	var v struct {
		Done       bool              `json:"done"`
		Embeddings []json.RawMessage `json:"embeddings"`
	}
	return json.Unmarshal(body, &v) == nil && (v.Done || v.Embeddings != nil)
}

// usage is a request that a loaded runner answers without generating: it goes through the node's
// queue, has the runner looked after, and restarts its keep_alive. The path is "" if nothing
// is loaded that would certainly not be loaded anew by it.
func (n *Node) usage(models map[string]*Model, first string) (path string, body []byte) {
	x := n.facts.Load()
	runners := slices.Clone(x.runners)
	slices.SortStableFunc(runners, func(a, b Runner) int { return cmp.Compare(rank(a, first), rank(b, first)) })
	for _, r := range runners {
		m, row := models[r.Key], x.tags.byKey[r.Key]
		if m == nil || row == nil || row.digest != r.Digest {
			continue // another model has this name by now
		}
		var options wire.RunnerOptions // a found runner is called as the scheduler does
		if r.Exact {
			options = r.Options
		}
		if !r.Matches(options, options.Over(m.Parameters)) {
			continue
		}
		request := struct {
			Model   string         `json:"model"`
			Stream  *bool          `json:"stream,omitempty"`
			Input   *[]string      `json:"input,omitempty"`
			Options map[string]any `json:"options,omitempty"`
		}{Model: m.Short, Options: spelt(options)}
		if path = "/api/generate"; m.Embedding {
			path, request.Input = "/api/embed", &[]string{}
		} else {
			request.Stream = new(bool)
		}
		if body, err := json.Marshal(request); err == nil {
			return path, body
		}
	}
	return "", nil
}

// rank orders runners: the model that matters, then those whose options are known.
func rank(r Runner, first string) int {
	switch {
	case r.Key == first:
		return 0
	case r.Exact:
		return 1
	}
	return 2
}

// spelt are options as a request has them.
func spelt(o wire.RunnerOptions) map[string]any {
	all := make(map[string]any)
	for name, v := range map[string]wire.OptionalInt{
		"num_ctx": o.NumCtx, "num_batch": o.NumBatch, "num_gpu": o.NumGPU, "main_gpu": o.MainGPU, "num_thread": o.NumThread,
	} {
		if v.Set {
			all[name] = v.Value
		}
	}
	if o.UseMMap.Set {
		all["use_mmap"] = o.UseMMap.Value
	}
	return all
}
