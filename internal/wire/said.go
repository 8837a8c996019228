package wire

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// Said is what there is in an answer. The zero value is an empty one.
type Said struct {
	// Text: anything to read, see or compute with, thoughts included.
	Text bool
	// ToolCalls: the model calls a tool.
	ToolCalls bool
}

// SaidBy looks through the single answer of a route: what Fold makes, or the object that there
// is. Of what is no such answer it gives the zero Said.
func SaidBy(route Route, single []byte) Said {
	var s saying
	switch {
	case route.Operation == Embed:
		s.read(single, s.embeddings)
	case route.Dialect == Ollama:
		s.read(single, s.native)
	case route.Dialect == Anthropic:
		s.read(single, s.messages)
	case route.Operation == Responses:
		s.read(single, s.responses)
	case route.Dialect == OpenAI:
		s.read(single, s.choices)
	}
	return s.said
}

// A saying reads an answer.
type saying struct {
	reader frameReader
	said   Said
}

// read reads the fields of an answer, each by field. One that is not whole says nothing.
func (s *saying) read(single []byte, field func(name string)) {
	s.reader.open(single)
	for name := s.reader.field(); name != nil; name = s.reader.field() {
		field(string(name))
	}
	if s.reader.close() != nil {
		s.said = Said{}
	}
}

// object reads the next value: if it is an object its fields, each by field, else nothing.
func (s *saying) object(field func(name string)) {
	r := &s.reader
	if r.peek() != '{' {
		r.skip(anyKind)
		return
	}
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		field(string(name))
	}
}

// objects reads a list of them.
func (s *saying) objects(field func(name string)) {
	s.list(func() { s.object(field) })
}

// list reads the next value: if it is a list its elements, each by element, else nothing.
func (s *saying) list(element func()) {
	r := &s.reader
	if r.peek() != '[' {
		r.skip(anyKind)
		return
	}
	for r.enter('['); r.more(); {
		element()
	}
}

// text reads a value that is a text, if there is any.
func (s *saying) text() {
	if v := s.reader.value(anyKind); isText(v) && len(v) > len(`""`) {
		s.said.Text = true
	}
}

// some sets what is true if the next value is a list of something.
func (s *saying) some(what *bool) {
	s.list(func() {
		s.reader.skip(anyKind)
		*what = true
	})
}

// native reads a field of /api/generate and /api/chat.
func (s *saying) native(name string) {
	switch name {
	case `"message"`:
		s.object(s.native)
	case `"response"`, `"content"`, `"thinking"`, `"image"`:
		s.text()
	case `"images"`:
		s.some(&s.said.Text)
	case `"tool_calls"`:
		s.some(&s.said.ToolCalls)
	default:
		s.reader.skip(anyKind)
	}
}

// choices reads a field of /v1/chat/completions and /v1/completions.
func (s *saying) choices(name string) {
	switch name {
	case `"choices"`:
		s.objects(s.choices)
	case `"message"`:
		s.object(s.choices)
	case `"text"`, `"content"`, `"reasoning"`, `"refusal"`:
		s.text()
	case `"tool_calls"`:
		s.some(&s.said.ToolCalls)
	default:
		s.reader.skip(anyKind)
	}
}

// messages reads a field of /v1/messages. What a field of a block says does not hang on the
// block's type, except that a call is known by it.
func (s *saying) messages(name string) {
	if name != `"content"` {
		s.reader.skip(anyKind)
		return
	}
	s.objects(func(name string) {
		switch name {
		case `"text"`, `"thinking"`:
			s.text()
		case `"type"`:
			switch string(s.reader.value(anyKind)) {
			case `"tool_use"`, `"server_tool_use"`:
				s.said.ToolCalls = true
			}
		default:
			s.reader.skip(anyKind)
		}
	})
}

// responses reads a field of /v1/responses.
func (s *saying) responses(name string) {
	if name != `"output"` {
		s.reader.skip(anyKind)
		return
	}
	s.objects(func(name string) {
		switch name {
		case `"type"`:
			// function_call, web_search_call and their kind
			if v := s.reader.value(anyKind); isText(v) && bytes.HasSuffix(v, []byte(`_call"`)) {
				s.said.ToolCalls = true
			}
		case `"content"`, `"summary"`:
			s.objects(func(name string) {
				switch name {
				case `"text"`, `"refusal"`:
					s.text()
				default:
					s.reader.skip(anyKind)
				}
			})
		default:
			s.reader.skip(anyKind)
		}
	})
}

// embeddings reads a field of the routes that give vectors.
func (s *saying) embeddings(name string) {
	switch name {
	case `"embedding"`:
		s.vector()
	case `"embeddings"`:
		s.list(s.vector)
	case `"data"`:
		s.objects(s.embeddings)
	default:
		s.reader.skip(anyKind)
	}
}

// vector reads a vector: numbers, or base64 of them.
func (s *saying) vector() {
	switch v := s.reader.value(anyKind); jsontext.Value(v).Kind() {
	case '[':
		s.said.Text = s.said.Text || !isEmptyList(v)
	case '"':
		s.said.Text = s.said.Text || len(v) > len(`""`)
	}
}
