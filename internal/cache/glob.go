package cache

import (
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// matchGlob tells whether a glob is the whole of a text, in any case: * is any text, with line
// breaks and slashes, ? is one character. Nothing else in it is special. It never goes back
// further than to the last *, so that no text makes it slow: a prompt is a stranger's.
func matchGlob(glob, text string) bool {
	g, t := 0, 0
	star, from := -1, 0 // behind the last *, and what of the text was left to it
	for t < len(text) {
		if g < len(glob) {
			c, n := runeAt(glob, g)
			if c == '*' {
				if g += n; g == len(glob) {
					return true
				}
				star, from = g, t
				continue
			}
			r, m := runeAt(text, t)
			if c == '?' || sameLetter(c, r) {
				g, t = g+n, t+m
				continue
			}
		}
		if star < 0 {
			return false
		}
		// The last * takes one character more, and all up to where what follows it could begin.
		_, n := runeAt(text, from)
		from = possible(glob[star:], text, from+n)
		g, t = star, from
	}
	for g < len(glob) && glob[g] == '*' {
		g++
	}
	return g == len(glob)
}

// possible gives the first place from i on that may be where rest begins. It is a short cut
// through long texts: where rest begins with an ASCII character, only that or a character beyond
// ASCII can be it.
func possible(rest, text string, i int) int {
	c := rest[0]
	if c == '*' || c == '?' || c >= utf8.RuneSelf {
		return i
	}
	c = lower(c)
	for i < len(text) && lower(text[i]) != c && text[i] < utf8.RuneSelf {
		i++
	}
	return i
}

// runeAt is utf8.DecodeRuneInString with the common case first.
func runeAt(s string, i int) (rune, int) {
	if c := s[i]; c < utf8.RuneSelf {
		return rune(c), 1
	}
	return utf8.DecodeRuneInString(s[i:])
}

// sameLetter compares in any case, as strings.EqualFold does.
func sameLetter(a, b rune) bool {
	if a == b {
		return true
	}
	if a < utf8.RuneSelf && b < utf8.RuneSelf {
		return lower(byte(a)) == lower(byte(b))
	}
	for r := unicode.SimpleFold(a); r != a; r = unicode.SimpleFold(r) {
		if r == b {
			return true
		}
	}
	return false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// globCovers tells whether a matches all that b matches. It may miss that, and is never wrong:
// it reads b as a text, in which a's * may stand for b's.
func globCovers(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	// A ? of a must not stand for a * of b.
	return !(strings.Contains(a, "?") && strings.Contains(b, "*")) && matchGlob(a, b)
}

// onlyStars tells whether a glob matches everything.
func onlyStars(glob string) bool { return glob != "" && strings.Trim(glob, "*") == "" }

// MatchModel tells whether a glob of path.Match is a model, by its normalised short name. A glob
// without a tag means every tag, as in a site's list of models.
func MatchModel(glob, short string) bool {
	glob = strings.ToLower(glob)
	if ok, _ := path.Match(glob, short); ok {
		return true
	}
	bare, tagged := cutTag(short)
	ok, _ := path.Match(glob, bare)
	return tagged && ok
}

// cutTag takes the tag off a model's name, or off a glob of names.
func cutTag(name string) (bare string, tagged bool) {
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], true
	}
	return name, false
}

// modelCovers is globCovers for globs of models.
func modelCovers(a, b string) bool {
	a, b = strings.ToLower(a), strings.ToLower(b)
	switch {
	case a == b:
		return true
	case strings.ContainsAny(a+b, `[\`) || strings.Contains(a, "?") && strings.Contains(b, "*"):
		return false
	}
	return MatchModel(a, b)
}
