package fulltext

import (
	"strings"
	"unicode/utf8"
)

// termsLimit bounds the terms of a Query; further ones are left out.
const termsLimit = 16

// A Query is what somebody searches for: texts that have all of its terms.
type Query struct {
	Terms []Term
	parts []part
}

// A Term is one that Terms made, or the beginning of one.
type Term struct {
	Text   string // letters, digits and marks only: needs no escaping inside quotes
	Prefix bool
}

// part is a word or a run as it was typed, folded.
type part struct {
	word   string
	prefix bool
	run    []string // characters; then word is empty
}

// ParseQuery reads what somebody typed. Words of three letters or more also find longer words that
// begin with them; shorter ones would find nearly everything. A Query without Terms finds nothing.
func ParseQuery(typed string) Query {
	var q Query
	seen := map[Term]bool{}
	add := func(t Term) {
		if !seen[t] && len(q.Terms) < termsLimit {
			seen[t] = true
			q.Terms = append(q.Terms, t)
		}
	}
	segments(typed, func(start, end int, unspaced bool) bool {
		if !unspaced {
			if word := foldWord(typed[start:end]); word != "" {
				prefix := utf8.RuneCountInString(word) >= 3
				add(Term{Text: word, Prefix: prefix})
				q.parts = append(q.parts, part{word: word, prefix: prefix})
			}
			return len(q.Terms) < termsLimit
		}
		run := characters(typed[start:end])
		if len(run) == 1 {
			add(Term{Text: run[0], Prefix: true})
		}
		for i := range len(run) - 1 {
			add(Term{Text: run[i] + run[i+1]})
		}
		if len(run) > 0 {
			q.parts = append(q.parts, part{run: run})
		}
		return len(q.Terms) < termsLimit
	})
	return q
}

// NeedsCheck reports whether a text can have all of the terms without being meant: the pairs of a
// longer run may stand apart in it. Found tells.
func (q Query) NeedsCheck() bool {
	for _, p := range q.parts {
		if len(p.run) > 2 {
			return true
		}
	}
	return false
}

// Found reports whether texts, as they were given to Terms, have the runs of the query whole.
func (q Query) Found(texts ...string) bool {
	for _, p := range q.parts {
		if len(p.run) > 2 && !foundRun(texts, p) {
			return false
		}
	}
	return true
}

func foundRun(texts []string, p part) bool {
	for _, text := range texts {
		found := false
		segments(text, func(start, end int, unspaced bool) bool {
			if unspaced {
				p.each(text, start, end, func(int, int) bool { found = true; return false })
			}
			return !found
		})
		if found {
			return true
		}
	}
	return false
}

// each calls yield with each place of the run in a segment of text, until it returns false.
func (p part) each(text string, start, end int, yield func(from, to int) bool) {
	segment := text[start:end]
	chars := characters(segment)
	offsets := make([]int, 0, len(chars)+1)
	for at := 0; at < len(segment); at = nextCharacter(segment, at) {
		offsets = append(offsets, at)
	}
	offsets = append(offsets, len(segment))
	if len(offsets) != len(chars)+1 {
		return // a character that folds to nothing: no place can be told
	}
	for i := 0; i+len(p.run) <= len(chars); i++ {
		if equal(chars[i:i+len(p.run)], p.run) {
			if !yield(start+offsets[i], start+offsets[i+len(p.run)]) {
				return
			}
			i += len(p.run) - 1
		}
	}
}

func equal(a, b []string) bool {
	for i := range b {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (p part) matchesWord(folded string) bool {
	return p.word != "" && (folded == p.word || p.prefix && strings.HasPrefix(folded, p.word))
}
