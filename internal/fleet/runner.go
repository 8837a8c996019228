package fleet

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// leastContext is what Ollama makes of a smaller num_ctx.
const leastContext = 4

// A Runner is a model loaded on a node.
type Runner struct {
	Key, Digest   string             // of the model it was loaded as; Digest is "" while unknown
	Options       wire.RunnerOptions // what we sent, if Exact
	Exact         bool               // we loaded it
	ContextLength int                // tokens per slot; 0 while unknown
	ExpiresAt     time.Time          // when it goes if nobody calls; zero while unknown
	Size, VRAM    int64              // bytes in memory, and of these on GPUs; 0 while unknown

	short string // of its name
	row   string // of /api/ps, "" while it was not listed yet
}

// Matches tells whether a call runs on r without a reload. requested is what the request
// itself sets, effective that over the model's parameters. An Exact runner is compared with
// effective as a node compares (ollama-api 9). A found one is known by its context alone: it
// matches calls that set nothing but a num_ctx equal to it, as does the model's own num_ctx.
func (r Runner) Matches(requested, effective wire.RunnerOptions) bool {
	requested, effective = plain(requested), plain(effective)
	if r.Exact {
		loaded := plain(r.Options)
		if !effective.NumGPU.Set {
			loaded.NumGPU = wire.OptionalInt{} // the default never forces a reload
		}
		return effective == loaded
	}
	requested.NumCtx = wire.OptionalInt{}
	return requested == wire.RunnerOptions{} &&
		(!effective.NumCtx.Set || effective.NumCtx.Value == r.ContextLength)
}

// plain takes out what means the same as an absent option, and raises num_ctx as a node does.
func plain(o wire.RunnerOptions) wire.RunnerOptions {
	if o.NumGPU.Value < 0 {
		o.NumGPU = wire.OptionalInt{}
	}
	if o.MainGPU.Value == 0 {
		o.MainGPU = wire.OptionalInt{}
	}
	if o.NumThread.Value == 0 {
		o.NumThread = wire.OptionalInt{}
	}
	if o.NumCtx.Set {
		o.NumCtx.Value = max(o.NumCtx.Value, leastContext)
	}
	return o
}

// parsePs reads an answer of /api/ps, with the same leniency as parseTags.
func parsePs(body []byte) ([]Runner, error) {
	raw, err := rowsOf(body)
	if err != nil {
		return nil, err
	}
	runners := make([]Runner, 0, len(raw))
	for _, b := range raw {
		var v struct {
			Name    string `json:"name"`
			Model   string `json:"model"`
			Digest  string `json:"digest"`
			Size    int64  `json:"size"`
			VRAM    int64  `json:"size_vram"`
			Context int    `json:"context_length"`
			Expires string `json:"expires_at"`
		}
		if json.Unmarshal(b, &v) != nil {
			continue
		}
		if v.Name == "" {
			v.Name = v.Model
		}
		name, err := wire.ParseModelName(v.Name)
		if err != nil {
			continue
		}
		r := Runner{
			Key: name.Key(), Digest: bareDigest(v.Digest), ContextLength: v.Context,
			Size: v.Size, VRAM: v.VRAM, short: name.Short(), row: string(b),
		}
		r.ExpiresAt, _ = time.Parse(time.RFC3339, v.Expires) // without a time it expires first
		runners = append(runners, r)
	}
	return runners, nil
}

// running takes over what a ps that began at begun has shown, and tells whether the runners
// are others than before. What traffic has told since then is newer than the answer.
func (n *Node) running(shown []Runner, begun time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	runners := make([]Runner, 0, len(shown))
	for _, r := range shown {
		if at, ok := n.unloaded[r.Key]; ok && at >= begun {
			continue
		}
		runners = append(runners, n.exactLocked(r, begun))
	}
	for key, l := range n.loaded {
		if slices.ContainsFunc(runners, func(r Runner) bool { return isOf(r, key, l.digest) }) {
			continue
		}
		if l.at < begun {
			delete(n.loaded, key) // it was unloaded or evicted
			continue
		}
		runners = append(runners, l.runner(key))
	}
	for key, at := range n.unloaded {
		if at < begun {
			delete(n.unloaded, key)
		}
	}
	if sameRunners(n.facts.Load().runners, runners) {
		return false
	}
	n.setLocked(func(x *facts) { x.runners = runners })
	return true
}

// exactLocked adds the options to a runner of ps if we loaded it.
func (n *Node) exactLocked(r Runner, begun time.Duration) Runner {
	for key, l := range n.loaded {
		if !isOf(r, key, l.digest) {
			continue
		}
		if l.at < begun && !l.fits(r) {
			delete(n.loaded, key) // somebody else has loaded it anew
			continue
		}
		if l.at < begun && l.context == 0 {
			l.context = r.ContextLength
			n.loaded[key] = l
		}
		r.Exact, r.Options = true, l.options
		return r
	}
	return r
}

// fits tells whether a runner of ps can be the one that was loaded: of the same digest, with
// the context seen before, or else one that num_ctx may have been lowered to.
func (l loading) fits(r Runner) bool {
	switch {
	case l.digest != "" && r.Digest != "" && l.digest != r.Digest:
		return false
	case l.context != 0:
		return r.ContextLength == l.context
	}
	return !l.options.NumCtx.Set || r.ContextLength <= max(l.options.NumCtx.Value, leastContext)
}

// runner is what is known of one that ps has not shown yet.
func (l loading) runner(key string) Runner {
	r := Runner{Key: key, Digest: l.digest, Options: l.options, Exact: true}
	if l.options.NumCtx.Set {
		r.ContextLength = max(l.options.NumCtx.Value, leastContext)
	}
	return r
}

// isOf tells whether a runner is of a model: nodes key runners by file, so a copy uses the
// runner of its original and ps lists it under the name that loaded it.
func isOf(r Runner, key, digest string) bool {
	return r.Key == key || digest != "" && r.Digest == digest
}

// loads takes over that a call was answered with these options, and tells whether the runners
// are others than before.
func (n *Node) loads(key string, effective wire.RunnerOptions, at time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.facts.Load()
	if !now.state.Alive() {
		return false // what it has in memory is asked when it comes up
	}
	l := loading{options: effective, at: at}
	if r := now.tags.byKey[key]; r != nil {
		l.digest = r.digest
	}
	// One runner has one entry, whatever names it is called by.
	for other, old := range n.loaded {
		same := other == key || l.digest != "" && old.digest == l.digest
		if !same {
			continue
		}
		if old.options == effective && old.digest == l.digest {
			l.context = old.context
		}
		if other != key {
			delete(n.loaded, other)
		}
	}
	n.loaded[key] = l
	delete(n.unloaded, key)

	i := slices.IndexFunc(now.runners, func(r Runner) bool { return isOf(r, key, l.digest) })
	if i >= 0 && now.runners[i].Exact && now.runners[i].Options == effective {
		return false
	}
	runners := slices.Clone(now.runners)
	switch {
	case i < 0:
		runners = append(runners, l.runner(key))
	case Runner{ContextLength: runners[i].ContextLength}.Matches(wire.RunnerOptions{}, effective):
		// It may be the one that was there, which ps has described.
		runners[i].Exact, runners[i].Options = true, effective
	default:
		runners[i] = l.runner(key)
	}
	n.setLocked(func(x *facts) { x.runners = runners })
	return true
}

// unloads takes over that a model was unloaded, and tells whether a runner is gone by it.
func (n *Node) unloads(key string, at time.Duration) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.facts.Load()
	digest := ""
	if r := now.tags.byKey[key]; r != nil {
		digest = r.digest
	}
	n.unloaded[key] = at
	for other, l := range n.loaded {
		if other == key || digest != "" && l.digest == digest {
			delete(n.loaded, other)
		}
	}
	kept := make([]Runner, 0, len(now.runners))
	for _, r := range now.runners {
		if isOf(r, key, digest) {
			n.unloaded[r.Key] = at
			continue
		}
		kept = append(kept, r)
	}
	if len(kept) == len(now.runners) {
		return false
	}
	n.setLocked(func(x *facts) { x.runners = kept })
	return true
}
