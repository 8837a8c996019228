// Package fulltext decides which texts a search finds, in any script, and shows where.
//
// It makes the terms that a database indexes and asks for, so that every database finds the same.
// Words are folded: case, width and accents of Latin, Greek, Cyrillic, Hebrew and Arabic letters do
// not matter. Scripts that write no spaces between words (Chinese, Japanese, Thai, ...) are indexed
// as overlapping pairs of characters: a dictionary would be needed to do better, and three
// characters at a time, as databases offer it, would not find a Chinese word of two.
//
// fulltext knows nothing of databases, posts or HTML.
package fulltext

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	// termLimit is the longest term in bytes; longer words are indexed by their beginning. PostgreSQL
	// takes 2 KiB, but nobody types such a word.
	termLimit = 64
	// indexLimit bounds what Terms makes of one text, in bytes with 8 a term for bookkeeping. A tsvector of
	// PostgreSQL holds 1 MiB, and 1 MiB of text has fewer distinct terms unless it is made to have them.
	indexLimit = 768 << 10
)

// Terms lists the distinct terms of texts, those of the first text first. They consist of letters,
// digits and marks. What is beyond 768 KiB of distinct terms is left out.
func Terms(texts ...string) []string {
	var terms []string
	seen, size := map[string]bool{}, 0
	add := func(term string) {
		if term == "" || seen[term] || size+len(term)+8 > indexLimit {
			return
		}
		seen[term] = true
		size += len(term) + 8
		terms = append(terms, term)
	}
	for _, text := range texts {
		segments(text, func(start, end int, unspaced bool) bool {
			if !unspaced {
				add(foldWord(text[start:end]))
				return true
			}
			chars := characters(text[start:end])
			for i := range chars {
				// The last character alone has each one begin a term, so that one that is asked for alone is
				// found as a prefix.
				add(strings.Join(chars[i:min(i+2, len(chars))], ""))
			}
			return true
		})
	}
	return terms
}

// segments calls yield for each word of text, or run of characters of scripts without spaces, until
// it returns false.
func segments(text string, yield func(start, end int, unspaced bool) bool) {
	const (
		outside = iota
		word
		run
	)
	in, start := outside, 0
	for i, r := range text {
		now := outside
		switch {
		case in != outside && unicode.Is(unicode.M, r):
			now = in // a mark belongs to what it follows
		case isUnspaced(r):
			now = run
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Co, r):
			now = word
		}
		if now == in {
			continue
		}
		if in != outside && !yield(start, i, in == run) {
			return
		}
		in, start = now, i
	}
	if in != outside {
		yield(start, len(text), in == run)
	}
}

var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo, unicode.Yi,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan,
}

func isUnspaced(r rune) bool {
	if r < 0x0e00 { // Thai is the first
		return false
	}
	return r == 'ー' || unicode.IsLetter(r) && unicode.In(r, unspaced...)
}

// characters splits a run into folded characters, each with the marks that follow it.
func characters(text string) []string {
	var chars []string
	for start := 0; start < len(text); {
		end := nextCharacter(text, start)
		if c := norm.NFKC.String(text[start:end]); c != "" {
			chars = append(chars, c)
		}
		start = end
	}
	return chars
}

func nextCharacter(text string, start int) int {
	_, size := utf8.DecodeRuneInString(text[start:])
	end := start + size
	for end < len(text) {
		r, size := utf8.DecodeRuneInString(text[end:])
		if !unicode.Is(unicode.M, r) {
			break
		}
		end += size
	}
	return end
}

var accented = []*unicode.RangeTable{unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Hebrew, unicode.Arabic}

// foldWord makes words that are the same to a reader equal. It is empty if nothing searchable is left.
func foldWord(word string) string {
	if len(word) <= termLimit && isLowerASCII(word) {
		return word
	}
	var b strings.Builder
	var accents bool // what came last loses its accents
	for _, r := range norm.NFKD.String(word) {
		switch {
		case unicode.Is(unicode.M, r):
			if !accents {
				b.WriteRune(r)
			}
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Co, r):
			accents = unicode.In(r, accented...)
			b.WriteRune(unicode.ToLower(r))
		}
	}
	folded := norm.NFC.String(b.String())
	if len(folded) > termLimit {
		cut := termLimit
		for !utf8.RuneStart(folded[cut]) {
			cut--
		}
		folded = folded[:cut]
	}
	return folded
}

func isLowerASCII(word string) bool {
	for i := range len(word) {
		if c := word[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}
