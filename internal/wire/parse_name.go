package wire

import (
	"bytes"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// appendText appends what a node reads from the inside of a valid JSON string: escapes
// resolved, each bad byte and each half of a surrogate pair replaced by U+FFFD.
func appendText(dst, s []byte) []byte {
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\\':
			r, size := escaped(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
		case c < utf8.RuneSelf:
			dst = append(dst, c)
			i++
		default:
			r, size := utf8.DecodeRune(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += size
		}
	}
	return dst
}

// escaped reads the escape at the start of s, or the pair of escapes that make one rune.
func escaped(s []byte) (r rune, size int) {
	switch c := s[1]; c {
	case 'u':
		r = hex4(s[2:])
		if !utf16.IsSurrogate(r) {
			return r, 6
		}
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if pair := utf16.DecodeRune(r, hex4(s[8:])); pair != unicode.ReplacementChar {
				return pair, 12
			}
		}
		return unicode.ReplacementChar, 6
	case 'b':
		return '\b', 2
	case 'f':
		return '\f', 2
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	default:
		return rune(c), 2 // quote, backslash, slash
	}
}

// hex4 reads four hexadecimal digits.
func hex4(s []byte) (r rune) {
	for _, c := range s[:4] {
		r <<= 4
		switch {
		case c <= '9':
			r |= rune(c - '0')
		default:
			r |= rune(c|0x20-'a') + 10
		}
	}
	return r
}

// appendFolded appends a key such that two keys come out equal if and only if encoding/json
// takes them for the same field: the smallest rune of each set that folds together, so that
// U+017F is an S and U+212A a K.
func appendFolded(dst, key []byte) []byte {
	for i := 0; i < len(key); {
		c := key[i]
		if c < utf8.RuneSelf {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			dst = append(dst, c)
			i++
			continue
		}
		r, size := utf8.DecodeRune(key[i:])
		for {
			next := unicode.SimpleFold(r)
			wrapped := next <= r
			if r = next; wrapped {
				break
			}
		}
		dst = utf8.AppendRune(dst, r)
		i += size
	}
	return dst
}

// isClean tells whether a node reads a valid JSON text without replacing anything by U+FFFD.
func isClean(text []byte) bool {
	if !utf8.Valid(text) {
		return false
	}
	// A backslash stands only in strings, so escapes can be found without reading JSON.
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return true
		}
		size := 2
		if text[i+1] == 'u' {
			if _, size = escaped(text[i:]); size == 6 && isHalf(text[i:]) {
				return false
			}
		}
		text = text[i+size:]
	}
}

// isHalf tells whether the \u escape at the start of s is one of a surrogate. Where it is the
// whole of what escaped read, its other half is missing.
func isHalf(s []byte) bool { return utf16.IsSurrogate(hex4(s[2:])) }
