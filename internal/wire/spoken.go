package wire

import (
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Spoken appends what a single answer says to whoever asked, so that two answers of one route which
// say the same give the same bytes: texts without the blanks at their ends and with one for several
// within, and the names and arguments of calls in canonical JSON. Thoughts, ids, times and counts
// are not in it. single is what Fold makes, or the object that there is; what is no such answer
// says nothing.
func Spoken(b, single []byte) []byte {
	s := speaking{said: b}
	s.reader.open(single)
	s.fields()
	if s.reader.close() != nil {
		return b
	}
	return s.said
}

// A speaking reads what an answer says. The dialects name things differently, but none of these
// names stands for two things.
type speaking struct {
	reader frameReader
	said   []byte
}

func (s *speaking) fields() {
	r := &s.reader
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"message"`, `"choices"`, `"output"`, `"tool_calls"`, `"function"`:
			s.within()
		case `"content"`: // a text, or blocks of it
			if r.peek() == '"' {
				s.text(r.value(anyKind))
			} else {
				s.within()
			}
		case `"response"`, `"text"`, `"refusal"`, `"name"`, `"image"`:
			s.text(r.value(anyKind))
		case `"arguments"`, `"input"`:
			s.arguments(r.value(anyKind))
		default:
			r.skip(anyKind)
		}
	}
}

// within reads objects, or one; of anything else nothing.
func (s *speaking) within() {
	r := &s.reader
	switch r.peek() {
	case '{':
		r.enter('{')
		s.fields()
	case '[':
		for r.enter('['); r.more(); {
			s.within()
		}
	default:
		r.skip(anyKind)
	}
}

// text takes a value that is a text, and says it with its blanks normalised.
func (s *speaking) text(v []byte) {
	if !isText(v) {
		return
	}
	n := len(s.said)
	for word := range strings.FieldsSeq(textOf(v)) {
		s.said = append(append(s.said, word...), ' ')
	}
	if len(s.said) > n { // an empty text says what none says
		s.said = append(s.said, 0)
	}
}

// arguments takes those of a call: an object, or in OpenAI's dialect the text of one.
func (s *speaking) arguments(v []byte) {
	arguments := jsontext.Value(v).Clone()
	if isText(v) {
		arguments = jsontext.Value(textOf(v))
	}
	if arguments.Canonicalize() != nil { // the model may have written anything
		s.text(v)
		return
	}
	s.said = append(append(s.said, arguments...), 0)
}
