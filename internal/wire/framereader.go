package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// A frameReader walks through the JSON of a frame field by field and copies nothing. Its first
// error sticks: from then on it finds no fields and no elements, and close tells. Values are
// slices of what it was opened with.
//
// A key that is there twice is an error, since clients differ in which one they take. Invalid
// UTF-8 is none, since they agree on U+FFFD.
type frameReader struct {
	src []byte
	buf bytes.Buffer
	dec *jsontext.Decoder // between open and close
	err error
}

// decoders are shared by all answers: what one has grown to know keys twice is worth keeping,
// but not for each stream.
var decoders = sync.Pool{New: func() any { return new(jsontext.Decoder) }}

// anyKind stands for whatever kind of value there is.
const anyKind jsontext.Kind = 0

var errTrailing = errors.New("text after the value")

// open begins with the object that src is.
func (r *frameReader) open(src []byte) {
	r.src, r.err = src, nil
	r.buf = *bytes.NewBuffer(src) // the decoder reads a Buffer in place
	r.dec = decoders.Get().(*jsontext.Decoder)
	r.dec.Reset(&r.buf, jsontext.AllowInvalidUTF8(true))
	r.enter('{')
}

// close tells the first error, or that something follows the object.
func (r *frameReader) close() error {
	if r.err == nil {
		if _, err := r.dec.ReadToken(); err == nil {
			r.err = errTrailing
		} else if err != io.EOF {
			r.err = err
		}
	}
	r.buf, r.src = bytes.Buffer{}, nil
	r.dec.Reset(&r.buf) // neither of them holds the frame
	decoders.Put(r.dec)
	r.dec = nil
	return r.err
}

// fields appends the fields of the object that src is to l.
func (r *frameReader) fields(src []byte, l fieldList) (fieldList, error) {
	r.open(src)
	for name := r.field(); name != nil; name = r.field() {
		l = append(l, rawField{name, r.value(anyKind)})
	}
	return l, r.close()
}

// enter steps into an object or an array.
func (r *frameReader) enter(kind jsontext.Kind) {
	if r.wants(kind) {
		_, r.err = r.dec.ReadToken()
	}
}

// field steps to the next field of the object and gives its name in quotes, nil behind the
// last one.
func (r *frameReader) field() []byte {
	if r.err != nil {
		return nil
	}
	if r.dec.PeekKind() == '}' {
		_, r.err = r.dec.ReadToken()
		return nil
	}
	return r.value(anyKind)
}

// more tells whether the array has another element, and steps behind its end if not.
func (r *frameReader) more() bool {
	if r.err != nil {
		return false
	}
	if r.dec.PeekKind() == ']' {
		_, r.err = r.dec.ReadToken()
		return false
	}
	return true
}

// peek gives the kind of the next value: its first character, '0' for numbers.
func (r *frameReader) peek() jsontext.Kind {
	if r.err != nil {
		return anyKind
	}
	return r.dec.PeekKind()
}

// value reads the next value, which must be of that kind, as it is spelt.
func (r *frameReader) value(kind jsontext.Kind) []byte {
	if !r.wants(kind) {
		return nil
	}
	v, err := r.dec.ReadValue()
	if err != nil {
		r.err = err
		return nil
	}
	end := r.offset()
	return r.src[end-len(v) : end]
}

// skip passes a value of that kind.
func (r *frameReader) skip(kind jsontext.Kind) {
	if r.wants(kind) {
		r.err = r.dec.SkipValue()
	}
}

// flag reads a boolean.
func (r *frameReader) flag() bool {
	switch r.peek() {
	case 't':
		r.skip('t')
		return true
	default:
		r.skip('f')
		return false
	}
}

// count reads a number as a count: whole, not negative, cut to what fits.
func (r *frameReader) count() int64 {
	v := r.value('0')
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return max(n, 0)
	}
	f, err := strconv.ParseFloat(string(v), 64)
	if err != nil || f < 0 {
		return 0
	}
	return int64(min(f, math.MaxInt64/2)) // MaxInt64 is no float64
}

// wants tells whether the next value is of that kind; if not, that is the error.
func (r *frameReader) wants(kind jsontext.Kind) bool {
	if r.err != nil {
		return false
	}
	if kind == anyKind {
		return true
	}
	if got := r.dec.PeekKind(); got != kind && got != anyKind {
		r.fail(fmt.Errorf("%v where %v is due", got, kind))
		return false
	}
	return true // a syntax error shows when the value is read
}

// offset is where the last value, or opening bracket, ends.
func (r *frameReader) offset() int { return int(r.dec.InputOffset()) }

// fail makes err the first error, if there is none yet.
func (r *frameReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// validJSON tells whether b is one whole JSON value.
func validJSON(b []byte) bool {
	return jsontext.Value(b).IsValid(jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// textOf decodes a string; a value of another kind is "".
func textOf(v []byte) string {
	text, _ := jsontext.AppendUnquote(nil, v) // what is wrong in it is U+FFFD in text
	return string(text)
}

// isEmpty tells whether a value says nothing: null, or without text, elements or fields.
func isEmpty(v []byte) bool {
	switch string(v) {
	case "", "null", `""`, "[]", "{}":
		return true
	}
	return false
}

// eventData gives the data of an SSE event. One line of data, which is all that a node writes,
// is not copied.
func eventData(event []byte) ([]byte, error) {
	var data []byte
	lines := 0
	for line := range bytes.Lines(event) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		value, ok := bytes.CutPrefix(line, []byte("data"))
		if !ok || len(value) > 0 && value[0] != ':' {
			continue
		}
		value = bytes.TrimPrefix(bytes.TrimPrefix(value, []byte(":")), []byte(" "))
		switch lines++; lines {
		case 1:
			data = value
		default:
			data = append(append(data[:len(data):len(data)], '\n'), value...)
		}
	}
	if lines == 0 {
		return nil, errors.New("an event without data")
	}
	return data, nil
}
