package cache

import (
	"net/http"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// The classes of answers.
const (
	classEmbedding     = "embedding"
	classDeterministic = "deterministic"
	classSampled       = "sampled"
)

// Classes are all there are, for metrics.
var Classes = [...]string{classEmbedding, classDeterministic, classSampled, classAdaptive}

// deterministicTTL is of answers that no rule names. One is as good as another, but what a user
// sees is the same for so long.
const deterministicTTL = 24 * time.Hour

// Facts are what rules can ask about a call.
type Facts struct {
	Model     string        // normalised short name, see wire.ModelName.Short
	Operation string        // word of wire.Operation
	Embedding bool          // the operation is embed
	Prompt    func() string // what the user wrote last; asked only if a rule wants it, at most once. nil: nothing
	Header    http.Header

	Deterministic bool // temperature 0 or a seed; of an embedding it does not count
	Tagged        bool // it has tags

	// These cost a look at the messages: asked only if a rule wants them. nil: no.
	SingleTurn func() bool // a question without a conversation before it
	Tools      func() bool // the request has tools

	ClientTTL *time.Duration // what the client wishes, within what the site allows; see ClientTTL
}

// class is what the answer is one of. An embedding is not sampled, and nothing makes it the same
// each time but the model: it is neither deterministic nor sampled.
func (f *Facts) class() string {
	switch {
	case f.Embedding:
		return classEmbedding
	case f.Deterministic:
		return classDeterministic
	}
	return classSampled
}

// Judge says whether and for how long the answer to a call is kept. The first rule whose conditions
// hold decides, the site's before those of all. A call that no rule is about is kept as if there
// were no rules: embeddings until they are evicted, deterministic answers 24 h, sampled ones not at
// all. A client's TTL takes the place of all that, except where a rule says off. Min and Max bound
// what is neither 0 nor for ever.
func (o *Options) Judge(site Rules, f *Facts) call.Verdict {
	v := call.Verdict{Class: f.class()}
	t := trial{Facts: f, class: v.Class}
	switch r := t.first(site, o.Rules); {
	case r == nil:
		builtIn(&v)
	case r.TTL == 0:
		v.Rule, v.Why = r.Text, "rule"
		return v
	default:
		v.TTL, v.Rule, v.ToolCalls = r.TTL, r.Text, r.Tools
		if r.Adaptive != nil {
			f.adapt(&v, r.Adaptive)
		}
	}
	if f.ClientTTL != nil {
		v.TTL, v.Rule, v.Why, v.Adaptive = *f.ClientTTL, "client", "", nil
		if v.TTL == 0 {
			v.Why = "client"
		}
	}
	if v.TTL != 0 && v.TTL != call.Forever {
		v.TTL = min(max(v.TTL, o.Min), o.longest())
	}
	return v
}

// builtIn is the verdict on what no rule is about.
func builtIn(v *call.Verdict) {
	switch v.Class {
	case classEmbedding:
		v.TTL, v.Rule = call.Forever, "built-in: embed"
	case classDeterministic:
		v.TTL, v.Rule = deterministicTTL, "built-in: deterministic"
	default:
		v.Rule, v.Why = "built-in: sampled", "sampled"
	}
}

func (o *Options) longest() time.Duration {
	if o.Max == 0 {
		return DefaultMax
	}
	return o.Max
}

// MidnightAfter is when the date changes next.
func MidnightAfter(now time.Time) time.Time {
	y, m, d := now.Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, now.Location())
}

// Life is for how long an answer of that verdict lives: its TTL without up to Jitter of it, by rnd,
// a random number in [0,1). For ever stays so.
func (o *Options) Life(v call.Verdict, rnd float64) time.Duration {
	return o.jittered(v.TTL, rnd)
}

func (o *Options) jittered(life time.Duration, rnd float64) time.Duration {
	jitter := o.Jitter
	if jitter == 0 {
		jitter = DefaultJitter
	}
	if life <= 0 || life == call.Forever || jitter < 0 {
		return life
	}
	return max(1, life-time.Duration(jitter*rnd*float64(life)))
}

// A trial is a call that rules are tried on.
type trial struct {
	*Facts
	class  string
	prompt string
	asked  bool // the prompt is known
}

// first gives the first rule whose conditions all hold, nil if there is none.
func (t *trial) first(lists ...Rules) *Rule {
	for _, rules := range lists {
		for i := range rules {
			if t.holds(&rules[i]) {
				return &rules[i]
			}
		}
	}
	return nil
}

// holds tells whether all conditions of a rule hold. What must be looked for comes last.
func (t *trial) holds(r *Rule) bool {
	return (!r.Deterministic || t.class == classDeterministic) &&
		(!r.Sampled || t.class == classSampled) &&
		(len(r.Operations) == 0 || slices.Contains(r.Operations, t.Operation)) &&
		(len(r.Models) == 0 || slices.ContainsFunc(r.Models, t.isModel)) &&
		t.hasHeaders(r.Headers) &&
		(!r.SingleTurn || t.SingleTurn != nil && t.SingleTurn()) &&
		(!r.Tools || t.Tools != nil && t.Tools()) &&
		(len(r.Prompts) == 0 || slices.ContainsFunc(r.Prompts, t.isPrompt))
}

func (t *trial) isModel(glob string) bool { return MatchModel(glob, t.Model) }

func (t *trial) isPrompt(glob string) bool {
	if !t.asked && t.Prompt != nil {
		t.prompt = t.Prompt()
	}
	t.asked = true
	return matchGlob(glob, t.prompt)
}

func (t *trial) hasHeaders(conditions []HeaderCondition) bool {
	for _, c := range conditions {
		if !slices.ContainsFunc(t.Header.Values(c.Name), func(v string) bool { return matchGlob(c.Glob, v) }) {
			return false
		}
	}
	return true
}
