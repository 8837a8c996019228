package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// An Embedded is the answer to an embedding request, taken apart.
type Embedded struct {
	Vectors [][]byte // the JSON text of each, in the order of the texts; parts of the answer
	Tokens  int      // of all texts; 0 where the route does not tell
	// What a native answer tells of the time it took.
	Total, Load time.Duration
}

// Embeddings takes the answer of a route apart. It must be valid JSON: see IsObject. The error
// wraps ErrFrame: it is of another shape than a node's.
//
// What it has beyond the fields that are known is left out.
func Embeddings(route Route, object []byte) (Embedded, error) {
	e := embeddedReader{scanner: scanner{src: object}}
	e.object(func(name string) { e.field(route, name) })
	switch {
	case e.broken || e.peek() != 0:
		e.fail(errShape)
	case !e.found:
		e.fail(errors.New("no vectors"))
	}
	if e.err != nil {
		return Embedded{}, fmt.Errorf("%w: %w", ErrFrame, e.err)
	}
	return e.Embedded, nil
}

// An embeddedReader walks over an answer.
type embeddedReader struct {
	scanner
	Embedded
	found bool
	err   error
}

func (e *embeddedReader) fail(err error) {
	if e.err == nil {
		e.err = err
	}
	e.broken = true
}

// object reads an object, each field by field.
func (e *embeddedReader) object(field func(name string)) {
	for e.enter('{'); e.more('}'); {
		field(string(e.name()))
	}
}

// field reads a field of the answer of a route.
func (e *embeddedReader) field(route Route, name string) {
	switch {
	case name == `"embedding"` && route.Path == "/api/embeddings":
		e.once()
		e.vector()
	case name == `"embeddings"` && route.Path == "/api/embed":
		e.once()
		for e.enter('['); e.more(']'); {
			e.vector()
		}
	case name == `"data"` && route.Dialect == OpenAI:
		e.once()
		for e.enter('['); e.more(']'); {
			e.entry()
		}
	case name == `"usage"` && route.Dialect == OpenAI:
		e.object(func(name string) {
			if n := e.number(); name == `"prompt_tokens"` {
				e.Tokens = int(n)
			}
		})
	case route.Path != "/api/embed": // the others have no counts and times of this kind
		e.skip()
	case name == `"prompt_eval_count"`:
		e.Tokens = int(e.number())
	case name == `"total_duration"`:
		e.Total = time.Duration(e.number())
	case name == `"load_duration"`:
		e.Load = time.Duration(e.number())
	default:
		e.skip()
	}
}

// once is for the one field of an answer that has the vectors.
func (e *embeddedReader) once() {
	if e.found {
		e.fail(errors.New("vectors twice"))
	}
	e.found = true
}

// entry reads an element of OpenAI's data. Its index must say where it stands.
func (e *embeddedReader) entry() {
	at := len(e.Vectors)
	e.object(func(name string) {
		switch name {
		case `"embedding"`:
			e.vector()
		case `"index"`:
			if e.number() != int64(at) {
				e.fail(errors.New("vectors out of their order"))
			}
		default:
			e.skip()
		}
	})
	if len(e.Vectors) != at+1 {
		e.fail(errors.New("an entry without its vector"))
	}
}

// vector reads a vector: numbers, or base64 of them.
func (e *embeddedReader) vector() {
	c := e.peek()
	from := e.at
	e.skip()
	if c != '[' && c != '"' {
		e.fail(errShape)
	}
	e.Vectors = append(e.Vectors, e.src[from:e.at:e.at])
}

// number reads a whole number that is not negative; another value is 0.
func (e *embeddedReader) number() int64 {
	e.peek()
	from := e.at
	e.skip()
	n, err := strconv.ParseInt(string(e.src[from:e.at]), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// Answer puts an answer together as a node writes it on that route, with the model as the client
// spelt it. What is zero a native node leaves out. On /api/embeddings there must be one vector.
func (e *Embedded) Answer(route Route, model string) (contentType string, body []byte) {
	size := 256 + len(model)
	for _, v := range e.Vectors {
		size += len(v) + 64
	}
	b := make([]byte, 0, size)
	switch {
	case route.Dialect == OpenAI:
		return typeJSON, e.list(b, model)
	case route.Path == "/api/embeddings":
		return typeJSONCharset, append(append(append(b, `{"embedding":`...), e.Vectors[0]...), '}')
	}
	b = append(append(append(b, `{"model":`...), quoted(model)...), `,"embeddings":[`...)
	b = append(append(b, bytes.Join(e.Vectors, []byte(","))...), ']')
	for _, f := range [...]struct {
		name  string
		value int64
	}{{`,"total_duration":`, int64(e.Total)}, {`,"load_duration":`, int64(e.Load)}, {`,"prompt_eval_count":`, int64(e.Tokens)}} {
		if f.value != 0 {
			b = strconv.AppendInt(append(b, f.name...), f.value, 10)
		}
	}
	return typeJSONCharset, append(b, '}')
}

// list appends an answer of OpenAI's.
func (e *Embedded) list(b []byte, model string) []byte {
	b = append(b, `{"object":"list","data":[`...)
	for i, v := range e.Vectors {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, `{"object":"embedding","embedding":`...), v...)
		b = append(strconv.AppendInt(append(b, `,"index":`...), int64(i), 10), '}')
	}
	b = append(append(append(b, `],"model":`...), quoted(model)...), `,"usage":{"prompt_tokens":`...)
	b = strconv.AppendInt(b, int64(e.Tokens), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(e.Tokens), 10)
	return append(b, "}}\n"...)
}

// EmbeddedTokens is the count of tokens that an answer to an embedding request tells, without
// reading the vectors; 0 if it tells none.
func EmbeddedTokens(route Route, body []byte) int {
	name := []byte(`"prompt_eval_count":`)
	switch {
	case route.Operation != Embed:
		return 0
	case route.Dialect == OpenAI:
		name = []byte(`"prompt_tokens":`)
	}
	at := bytes.LastIndex(body, name) // it stands behind them
	if at < 0 {
		return 0
	}
	n := 0
	for _, c := range body[at+len(name):] {
		if c < '0' || c > '9' || n > 1<<40 {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}
