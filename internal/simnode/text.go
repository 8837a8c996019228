package simnode

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A voice makes up what a model says. Equal seeds say equal things.
type voice struct{ *rand.Rand }

// voiceOf returns the voice of one answer. At temperature 0, or with a seed, it is a function of the weights, the
// prompt and the options that a real sampler would look at, but not of how many tokens are asked for: a shorter
// answer is the beginning of the longer one.
func voiceOf(weights, prompt string, o api.Options) voice {
	if o.Temperature > 0 && o.Seed < 0 {
		return voice{rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))} // text, not secrets
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00%g %g %g %d\x00", weights, len(prompt), prompt,
		o.RepeatPenalty, o.PresencePenalty, o.FrequencyPenalty, o.RepeatLastN)
	if o.Temperature > 0 {
		fmt.Fprintf(h, "%d %g %d %g %g %g", o.Seed, o.Temperature, o.TopK, o.TopP, o.MinP, o.TypicalP)
	}
	sum := h.Sum(nil)
	return voice{rand.New(rand.NewPCG(binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])))}
}

func (v voice) pick(list []string) string { return list[v.IntN(len(list))] }

// prose returns sentences of at least the given number of tokens, token by token. Every token but the first and the
// punctuation begins with a space.
func (v voice) prose(tokens int) []string {
	var out []string
	for len(out) < tokens {
		out = append(out, v.sentence()...)
	}
	out[0] = strings.TrimPrefix(out[0], " ")
	return out
}

// sentence returns the tokens of one sentence.
func (v voice) sentence() []string {
	var s []string
	add := func(list ...string) { s = append(s, list...) }
	thing := func(article string) {
		add(article)
		if v.IntN(3) > 0 {
			add(v.pick(adjectives))
		}
		add(v.pick(nouns))
	}
	switch v.IntN(6) {
	case 0:
		thing("the")
		add(v.pick(verbs), v.pick(prepositions))
		thing("the")
	case 1:
		add(v.pick(openers))
		thing("the")
		add(v.pick(verbs), v.pick(adverbs))
	case 2:
		add("there", "is", "a", v.pick(adjectives), v.pick(nouns), v.pick(prepositions))
		thing("the")
	case 3:
		add("when")
		thing("the")
		add(v.pick(verbs), ",")
		thing("the")
		add(v.pick(verbs), "too")
	case 4:
		add(v.pick(people), v.pick(peopleVerbs), "a", v.pick(adjectives), v.pick(nouns), v.pick(links))
		thing("the")
		add(v.pick(verbs))
	default:
		thing("the")
		add(v.pick(verbs), v.pick(links))
		add("the", v.pick(nouns), v.pick(verbs), v.pick(adverbs))
	}
	s[0] = capital(s[0])
	for i, w := range s {
		if w != "," {
			s[i] = " " + w
		}
	}
	return append(s, ".")
}

// length is how many tokens the answer has if nothing cuts it.
func (v voice) length(m *installed) int {
	return m.ShortestAnswer + v.IntN(m.LongestAnswer-m.ShortestAnswer+1)
}

// aside returns a short thought between the tags of a thinking model.
func (v voice) aside() []string {
	out := append([]string{" <think>"}, v.prose(6)...)
	out[1] = " " + out[1]
	return append(out, " </think>")
}

// word returns a value for a string argument of that name.
func (v voice) word(name string) string {
	switch name = strings.ToLower(name); {
	case strings.Contains(name, "city"), strings.Contains(name, "location"), strings.Contains(name, "place"):
		return v.pick([]string{"Paris", "Lisbon", "Oslo", "Prague", "Dublin"})
	case strings.Contains(name, "date"), strings.Contains(name, "day"):
		return "2026-0" + strconv.Itoa(1+v.IntN(9)) + "-1" + strconv.Itoa(v.IntN(10))
	}
	return v.pick(adjectives) + " " + v.pick(nouns)
}
