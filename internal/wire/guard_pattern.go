package wire

import (
	"bytes"
	"strconv"
)

const (
	// countLimit is MAX_REPETITION_THRESHOLD of llama.cpp: a grammar that repeats anything more
	// often is refused, and the runner does not survive that.
	countLimit = 2000
	// patternLimit is the length of the longest pattern, in bytes. It may be repeated as a
	// whole.
	patternLimit = 4 << 10
	// groupLimit is how deep the groups of a pattern may be nested: 50,000 overflow a node's
	// stack.
	groupLimit = 32
)

// isTranslatable tells whether a node can make a grammar of a pattern, which is a regular
// expression of few forms. It believes that a group, a class or what is to be repeated is
// there, and the whole server crashes or hangs where it is not, as in "(?:a)", "*" or "]".
// Escapes that it does not know, as \d, make a grammar that crashes the runner.
func isTranslatable(pattern []byte) bool {
	if len(pattern) < 2 || pattern[0] != '^' || pattern[len(pattern)-1] != '$' {
		return true // a node refuses it in order
	}
	if len(pattern) > patternLimit {
		return false
	}
	p := pattern[1 : len(pattern)-1]
	groups, item := 0, false // item: there is something to repeat
	for len(p) > 0 {
		n := 1
		switch c := p[0]; c {
		case '(':
			if groups++; groups > groupLimit {
				return false
			}
			item = false
		case ')':
			if groups--; groups < 0 {
				return false
			}
			item = true
		case '|':
			item = false
		case '*', '+', '?':
			if !item {
				return false
			}
		case '{':
			if n = repetition(p); n == 0 || !item {
				return false
			}
		case '[':
			n = class(p)
			item = true
		case '\\':
			n = escape(p, `^$.[]()|{}*+?\"trn`)
			item = true
		case ']', '}':
			return false
		default:
			if c < ' ' {
				return false
			}
			item = true
		}
		if n == 0 {
			return false
		}
		p = p[n:]
	}
	return groups == 0
}

// repetition gives the length of {n}, {n,}, {,m} or {n,m}, 0 if it is none that a node
// survives.
func repetition(p []byte) int {
	end := bytes.IndexByte(p, '}')
	if end < 0 {
		return 0
	}
	from, to, ranged := bytes.Cut(p[1:end], []byte(","))
	least, ok := count(from)
	if !ok && (len(from) > 0 || !ranged) {
		return 0
	}
	if most, ok := count(to); ranged && len(to) > 0 && (!ok || most < least) {
		return 0
	}
	return end + 1
}

// count reads a number of repetitions.
func count(digits []byte) (n int, ok bool) {
	if len(digits) == 0 || len(digits) > 4 || digits[0] == '+' || digits[0] == '-' {
		return 0, false
	}
	n, err := strconv.Atoi(string(digits))
	return n, err == nil && n <= countLimit
}

// class gives the length of a class such as [a-z], 0 if it is none.
func class(p []byte) int {
	at := 1
	if at < len(p) && p[at] == '^' {
		at++
	}
	for first := at; at < len(p); {
		switch c := p[at]; {
		case c == ']' && at == first, c < ' ':
			return 0
		case c == ']':
			return at + 1
		case c == '\\':
			n := escape(p[at:], `[]\"trn`)
			if n == 0 {
				return 0
			}
			at += n
		default:
			at++
		}
	}
	return 0
}

// escape gives the length of an escape of one of some characters or of hexadecimal digits, 0
// for others.
func escape(p []byte, known string) int {
	if len(p) < 2 {
		return 0
	}
	digits := 0
	switch c := p[1]; c {
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		if bytes.IndexByte([]byte(known), c) < 0 {
			return 0
		}
	}
	if len(p) < 2+digits {
		return 0
	}
	if digits > 0 {
		// The code of no character, 0, would end the grammar.
		if n, err := strconv.ParseUint(string(p[2:2+digits]), 16, 32); err != nil || n == 0 {
			return 0
		}
	}
	return 2 + digits
}
