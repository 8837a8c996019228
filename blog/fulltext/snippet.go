package fulltext

import (
	"strings"
	"unicode/utf8"
)

// A Fragment is a piece of a snippet: plain text that whoever shows it escapes.
type Fragment struct {
	Text  string
	Match bool // this is what was searched for
}

// Snippet shows the place of text where the query was found first, with what else it finds near it,
// about length characters in one line. It is the beginning of text if the query is not found there.
func (q Query) Snippet(text string, length int) []Fragment {
	type place struct{ from, to int }
	var places []place
	stop := len(text)
	segments(text, func(start, end int, unspaced bool) bool {
		if start >= stop {
			return false
		}
		found := func(from, to int) bool {
			if len(places) == 0 {
				stop = forward(text, from, length) // the rest is out of sight
			}
			places = append(places, place{from, to})
			return true
		}
		var folded string
		if !unspaced {
			folded = foldWord(text[start:end])
		}
		for _, p := range q.parts {
			if unspaced && p.run != nil {
				p.each(text, start, end, found)
			} else if !unspaced && p.matchesWord(folded) {
				return found(start, end)
			}
		}
		return true
	})

	begin := 0
	if len(places) > 0 {
		begin = wordStart(text, backward(text, places[0].from, length/4))
	}
	end := forward(text, begin, length)
	var fragments []Fragment
	add := func(piece string, match bool) {
		// Line breaks of a text are not those of a snippet.
		piece = strings.NewReplacer("\n", " ", "\t", " ", "\r", "").Replace(piece)
		if piece != "" {
			fragments = append(fragments, Fragment{Text: piece, Match: match})
		}
	}
	if begin > 0 {
		add("…", false)
	}
	at := begin
	for _, p := range places {
		if p.from < at || p.to > end {
			continue // parts of the query may overlap
		}
		add(text[at:p.from], false)
		add(text[p.from:p.to], true)
		at = p.to
	}
	add(text[at:end], false)
	if end < len(text) {
		add("…", false)
	}
	return fragments
}

func forward(text string, at, characters int) int {
	for ; characters > 0 && at < len(text); characters-- {
		_, size := utf8.DecodeRuneInString(text[at:])
		at += size
	}
	return at
}

func backward(text string, at, characters int) int {
	for ; characters > 0 && at > 0; characters-- {
		_, size := utf8.DecodeLastRuneInString(text[:at])
		at -= size
	}
	return at
}

// wordStart moves at behind the next space if there is one near, so that no word is cut.
func wordStart(text string, at int) int {
	if at == 0 {
		return 0
	}
	if i := strings.IndexAny(text[at:forward(text, at, 12)], " \n"); i >= 0 {
		return at + i + 1
	}
	return at
}
