package simnode

import (
	"slices"
	"strings"
	"sync"
)

// Token ids. The first 256 are the bytes, so every text can be spelled; then come the markers; then words.
const (
	tokenBOS = 256 // stands before every prompt and has no text
	tokenEnd = 257 // ends an embedded input
)

var markers = []string{"", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<think>", "</think>"}

// A vocabulary maps between text and token ids. It is immutable.
type vocabulary struct {
	ids     map[string]int
	texts   []string
	lengths map[[2]byte][]int // of the tokens of two bytes and more that begin with these, the longest first
}

// vocab is the one vocabulary of all simulated models.
var vocab = sync.OnceValue(func() *vocabulary {
	v := &vocabulary{ids: make(map[string]int), lengths: make(map[[2]byte][]int)}
	for i := range 256 {
		v.add(string([]byte{byte(i)}))
	}
	for _, m := range markers {
		v.add(m)
	}
	for _, list := range [][]string{
		nouns, adjectives, verbs, peopleVerbs, people, prepositions, adverbs, openers, links, common,
	} {
		for _, w := range list {
			v.add(" " + w)
			v.add(w)
			v.add(" " + capital(w))
			v.add(capital(w))
		}
	}
	return v
})

func (v *vocabulary) add(text string) {
	if _, ok := v.ids[text]; ok {
		return
	}
	v.ids[text] = len(v.texts)
	v.texts = append(v.texts, text)
	if len(text) < 2 {
		return
	}
	begin := [2]byte{text[0], text[1]}
	lengths := v.lengths[begin]
	at, known := slices.BinarySearchFunc(lengths, len(text), func(a, b int) int { return b - a })
	if !known {
		v.lengths[begin] = slices.Insert(lengths, at, len(text))
	}
}

// encode spells s in tokens, the longest first. It is the inverse of decode.
func (v *vocabulary) encode(s string) []int {
	out := make([]int, 0, len(s)/3+1)
	for len(s) > 0 {
		n := 1
		if len(s) > 1 {
			n = v.longest(s)
		}
		out = append(out, v.ids[s[:n]])
		s = s[n:]
	}
	return out
}

// longest is the length of the longest token that s, of two bytes or more, begins with.
func (v *vocabulary) longest(s string) int {
	for _, n := range v.lengths[[2]byte{s[0], s[1]}] {
		if n > len(s) {
			continue
		}
		if _, ok := v.ids[s[:n]]; ok {
			return n
		}
	}
	return 1
}

// decode returns the text of the tokens, and false when one is not in the vocabulary.
func (v *vocabulary) decode(ids []int) (string, bool) {
	var b strings.Builder
	for _, id := range ids {
		if id < 0 || id >= len(v.texts) {
			return "", false
		}
		b.WriteString(v.texts[id])
	}
	return b.String(), true
}

// pieces cuts s into the texts of its tokens.
func (v *vocabulary) pieces(s string) []string {
	ids := v.encode(s)
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = v.texts[id]
	}
	return out
}

func capital(w string) string {
	if w == "" {
		return w
	}
	return strings.ToUpper(w[:1]) + w[1:]
}
