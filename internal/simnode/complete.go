package simnode

import (
	"context"
	"math"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// An ask is one prompt on its way to a slot.
type ask struct {
	prompt   string
	toil     time.Duration // what rendering it takes beforehand
	opts     api.Options
	format   *format
	tools    api.Tools // the model shall call one
	thinks   bool      // the model begins with a thought
	truncate bool      // cut a prompt that does not fit, else it is an error
	shift    bool      // forget old tokens when the context is full, else the answer ends

	logprobs bool
	top      int
}

// An utterance is what one record of an answer says: a token, or several where a stop sequence might have begun.
type utterance struct {
	text  string
	probs []logprob
}

// A logprob tells how sure the model was of a token.
type logprob struct {
	Token       string    `json:"token"`
	Logprob     float64   `json:"logprob"`
	Bytes       []int     `json:"bytes"`
	TopLogprobs []logprob `json:"top_logprobs,omitempty"`
}

// An outcome is how an answer ended.
type outcome struct {
	reason                   string // "stop" or "length"
	promptTokens, evalTokens int
	promptTime, evalTime     time.Duration
}

var errInputTooLong = &statusError{http.StatusBadRequest, "the input length exceeds the context length"}

// complete waits for a slot of r and lets the model speak. say gets each utterance when it is there; the wait for the
// slot, the prompt and each token take their simulated time, and all of it ends when ctx does.
func (n *Node) complete(ctx context.Context, r *runner, a ask, say func(utterance)) (out outcome, err error) {
	tokens := append([]int{tokenBOS}, vocab().encode(a.prompt)...)
	spoken := false
	ctx, done := r.within(ctx)
	defer done()
	defer func() { err = fate(err, spoken) }()
	s, _, err := r.slot(ctx, tokens)
	if err != nil {
		return out, err
	}
	known := s.cache // what the slot will have in its cache afterwards
	defer func() { r.giveBack(s, known) }()

	if len(tokens) > r.context {
		if !a.truncate {
			return outcome{}, errInputTooLong
		}
		keep := min(max(a.opts.NumKeep, 0), r.context)
		tokens = append(tokens[:keep:keep], tokens[len(tokens)-r.context+keep:]...)
	}
	out = outcome{promptTokens: len(tokens)}
	began := time.Now()
	fresh := max(1, len(tokens)-commonPrefix(known, tokens)) // the last token is read in any case
	n.read(len(tokens), fresh)
	if err := pass(ctx, n.scaled(ctx, r.model.FirstToken+perToken(r.model.PromptRate, fresh, r.slowdown()))); err != nil {
		n.cancelled(r, err)
		return out, err
	}
	out.promptTime = max(1, time.Since(began))
	known = tokens
	doom := doomOf(ctx, a)
	if doom.comes(0) {
		return out, r.crash(doom.words)
	}

	var text strings.Builder
	began = time.Now()
	out.reason, out.evalTokens, err = n.speak(ctx, r, a, len(tokens), doom, func(u utterance) {
		text.WriteString(u.text)
		spoken = true
		say(u)
	})
	known = append(tokens[:len(tokens):len(tokens)], vocab().encode(text.String())...)
	if out.evalTokens > 1 {
		out.evalTime = max(1, time.Since(began))
	}
	n.cancelled(r, err)
	return out, err
}

// read counts a prompt of so many tokens, of which so many were not in the cache.
func (n *Node) read(tokens, fresh int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stats.PromptTokens += tokens
	n.stats.PrefixTokens += tokens - fresh
}

// cancelled counts an answer that was cut because its client went away.
func (n *Node) cancelled(r *runner, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.clientLeftLocked(err) {
		r.countsLocked().Cancelled++
	}
}

func perToken(rate float64, tokens int, factor float64) time.Duration {
	return time.Duration(float64(tokens) * factor / rate * float64(time.Second))
}

// speak produces the tokens of an answer. The first is there when the prompt has been read; the end of the text is a
// token of its own and counts.
func (n *Node) speak(ctx context.Context, r *runner, a ask, prompt int, doom doom, say func(utterance)) (reason string, count int, err error) {
	v := voiceOf(r.model.Weights, a.prompt, a.opts)
	limit := a.opts.NumPredict
	if most := 10 * r.context; limit < 0 || limit > most {
		limit = most
	} else if limit == 0 {
		limit = math.MaxInt
	}
	var held utterance
	release := func() {
		if held.text != "" {
			say(held)
		}
		held = utterance{}
	}
	for _, piece := range a.speech(v, r.model) {
		if count > 0 {
			if doom.comes(count) {
				return "", count, r.crash(doom.words)
			}
			if err := pass(ctx, n.scaled(ctx, perToken(r.model.DecodeRate, 1, r.slowdown()))); err != nil {
				return "", count, err
			}
		}
		count++
		held.text += piece
		if a.logprobs {
			held.probs = append(held.probs, v.surety(piece, a.top))
		}
		if cut, ok := firstStop(held.text, a.opts.Stop); ok {
			held.text = held.text[:cut]
			release()
			return "stop", count, r.survives(doom)
		}
		if count >= limit || !a.shift && prompt+count > r.context {
			release()
			return "length", count, r.survives(doom)
		}
		if !mayBeginStop(held.text, a.opts.Stop) && wholeRunes(held.text) {
			release()
		}
	}
	release()
	if err := pass(ctx, n.scaled(ctx, perToken(r.model.DecodeRate, 1, r.slowdown()))); err != nil {
		return "", count, err
	}
	return "stop", count + 1, r.survives(doom)
}

// speech is everything the model would say, in tokens.
func (a ask) speech(v voice, m *installed) []string {
	var out []string
	if a.thinks {
		out = v.aside()
	}
	switch {
	case a.format != nil:
		return append(out, vocab().pieces(a.format.fill(v))...)
	case len(a.tools) > 0:
		call := m.Call
		if call == "" {
			call = callOf(v, a.tools)
		}
		return append(append(out, " "), vocab().pieces(call)...)
	}
	prose := v.prose(v.length(m))
	if len(out) > 0 {
		prose[0] = " " + prose[0]
	}
	return append(out, prose...)
}

// surety makes up how likely a token was, and the runners-up.
func (v voice) surety(token string, top int) logprob {
	one := func(token string, p float64) logprob {
		b := make([]int, len(token))
		for i := range len(token) {
			b[i] = int(token[i])
		}
		return logprob{Token: token, Logprob: p, Bytes: b}
	}
	p := -float64(float32(v.Float64() / 4))
	out := one(token, p)
	for i := range top {
		if i > 0 {
			token = " " + v.pick(nouns)
			p -= float64(float32(1 + 3*v.Float64()))
		}
		out.TopLogprobs = append(out.TopLogprobs, one(token, p))
	}
	return out
}

// firstStop returns where the first stop sequence begins.
func firstStop(text string, stops []string) (cut int, ok bool) {
	cut = len(text)
	for _, stop := range stops {
		if i := strings.Index(text, stop); i >= 0 {
			cut, ok = min(cut, i), true
		}
	}
	return cut, ok
}

// mayBeginStop reports whether the text ends with the beginning of a stop sequence.
func mayBeginStop(text string, stops []string) bool {
	for _, stop := range stops {
		if overlap(text, stop) > 0 {
			return true
		}
	}
	return false
}

// wholeRunes reports whether the text does not end within a character.
func wholeRunes(text string) bool {
	for i := 1; i <= min(len(text), utf8.UTFMax-1); i++ {
		if b := text[len(text)-i]; utf8.RuneStart(b) {
			return utf8.FullRuneInString(text[len(text)-i:])
		}
	}
	return true
}
