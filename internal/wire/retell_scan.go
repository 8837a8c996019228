package wire

import "bytes"

// A scanner walks over JSON that has been found valid, several times faster than a reader that
// checks it. What is not valid makes it broken or is passed over, but never moves it past the
// end of src.
type scanner struct {
	src    []byte
	at     int // what is before it has been read
	depth  int // brackets that have been entered and not left
	broken bool
}

// peek gives the first byte of what comes next, white space and commas left out; 0 at the end.
func (s *scanner) peek() byte {
	for ; s.at < len(s.src) && !s.broken; s.at++ {
		switch c := s.src[s.at]; c {
		case ' ', '\t', '\n', '\r', ',', ':':
		default:
			return c
		}
	}
	return 0
}

// enter steps into a bracket.
func (s *scanner) enter(bracket byte) {
	if s.peek() != bracket {
		s.broken = true
		return
	}
	s.at++
	s.depth++
}

// more tells whether the innermost bracket has another element, and steps out of it if not.
func (s *scanner) more(bracket byte) bool {
	switch s.peek() {
	case 0:
		s.broken = true
		return false
	case bracket:
		s.at++
		s.depth--
		return false
	}
	return !s.broken
}

// name reads the name of a field, in quotes, and goes on to the field's value.
func (s *scanner) name() []byte {
	if s.peek() != '"' {
		s.broken = true
		return nil
	}
	from := s.at
	s.text()
	name := s.src[from:s.at]
	s.peek()
	return name
}

// skip passes a value.
func (s *scanner) skip() {
	switch s.peek() {
	case '"':
		s.text()
	case '{', '[':
		s.brackets()
	case '}', ']', 0:
		s.broken = true
	default:
		for s.at < len(s.src) {
			switch s.src[s.at] {
			case ',', '}', ']', ' ', '\t', '\n', '\r':
				return
			}
			s.at++
		}
	}
}

// comma gives the offset behind the comma that comes next, or at if none does.
func (s *scanner) comma() int {
	for i := s.at; i < len(s.src); i++ {
		switch s.src[i] {
		case ' ', '\t', '\n', '\r':
		case ',':
			return i + 1
		default:
			return s.at
		}
	}
	return s.at
}

// text passes a string.
func (s *scanner) text() {
	for i := s.at + 1; ; {
		n := bytes.IndexByte(s.src[i:], '"')
		if n < 0 {
			s.at, s.broken = len(s.src), true
			return
		}
		end := i + n
		escapes := 0
		for end-escapes > s.at+1 && s.src[end-escapes-1] == '\\' {
			escapes++
		}
		i = end + 1
		if escapes%2 == 0 {
			s.at = i
			return
		}
	}
}

// brackets passes an object or a list.
func (s *scanner) brackets() {
	for depth := 0; s.at < len(s.src); {
		switch s.src[s.at] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			if s.text(); s.broken {
				return
			}
			continue
		}
		s.at++
		if depth == 0 {
			return
		}
	}
	s.broken = true
}

// isText tells whether what was passed since from is a string.
func (s *scanner) isText(from int) bool { return !s.broken && s.at > from+1 && s.src[from] == '"' }
