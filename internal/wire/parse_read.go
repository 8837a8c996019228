package wire

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
)

// A reading walks over one JSON value that is known to be valid and holds it against a
// schema. It allocates for patches and for keys that may be duplicates, not for values.
type reading struct {
	body  []byte
	from  int  // where the value begins
	at    int  // how far it is read; a value begins here, white space has been skipped
	clean bool // the body holds nothing that a node replaces
	top   *schema
	seed  maphash.Seed

	values  []span  // of the fields of top, null too
	beyond  bool    // there are members of top that are none of its fields
	patches []patch // in order
	marks   []mark  // keys of the objects that are being read, innermost last
	text    []byte  // scratch: a key
	fold    []byte  // scratch: a key, folded
	holding bool    // a wrong value has been met and is on its way out, see wrongValue
}

// A span is a part of the body. The zero span is none.
type span struct{ from, to int }

// A mark remembers a key by its hash, which is seeded anew for each body, and where it stands.
// Sixteen bytes a key make the cost of any number of keys a small multiple of the keys
// themselves. Among a million keys two that differ meet once in 30 million bodies.
type mark struct {
	hash uint64
	at   int
}

func newReading(body []byte, from int, clean bool, top *schema) *reading {
	return &reading{
		body: body, from: from, at: from, clean: clean, top: top,
		seed: maphash.MakeSeed(), values: make([]span, len(top.fields)),
	}
}

// value reads the value at r.at, which s describes, and steps behind it.
func (r *reading) value(s *schema) error {
	if !s.decodesItself {
		return r.plainValue(s)
	}
	holding := r.holding
	r.holding = false
	err := r.plainValue(s)
	r.holding = holding
	if w, ok := err.(*wrongValue); ok {
		w.stops = true
	}
	return err
}

func (r *reading) plainValue(s *schema) error {
	from := r.at
	c := r.body[from]
	if s.kind <= kindAny {
		return r.free(s.kind == kindAny)
	}
	if s.kind == kindUnion {
		return r.union(s)
	}
	if c == 'n' {
		if s.required != 0 {
			return r.wrong(from)
		}
		r.at += len("null")
		return nil
	}
	switch s.kind {
	case kindString:
		if c == '"' {
			r.skipString()
			return nil
		}
	case kindBool:
		if c == 't' || c == 'f' {
			r.skipScalar()
			return nil
		}
	case kindInt, kindUint8, kindFloat:
		if isNumber(c) {
			r.skipScalar()
			if s.fits(r.body[from:r.at]) {
				return nil
			}
		}
	case kindBytes:
		if c == '"' {
			if text := r.skipString(); isBase64(text) {
				return nil
			}
		} else if c == '[' {
			return r.list(s.elem)
		}
	case kindList:
		if c == '[' {
			return r.list(s.elem)
		}
	case kindStruct:
		if c == '{' {
			return r.fields(s)
		}
	case kindMap, kindOrdered:
		if c == '{' {
			return r.keys(s.elem, s.kind == kindOrdered)
		}
	case kindDuration:
		if c == '[' || c == '{' {
			// A node decodes it first, and may fail at that.
			if err := r.free(true); err != nil {
				return err
			}
			break
		}
		r.skipScalar()
		if _, ok := parseKeepAlive(r.body[from:r.at]); ok {
			return nil
		}
	case kindThink:
		if c == 't' || c == 'f' {
			r.skipScalar()
			return nil
		}
		if c == '"' {
			level := string(appendText(nil, r.skipString()))
			if slices.Contains(api.ThinkLevels[:], level) {
				return nil
			}
		}
	case kindTypes, kindTexts:
		switch c {
		case '"':
			r.skipString()
			return nil
		case '[':
			return r.list(s.elem)
		}
	}
	return r.wrong(from)
}

func (r *reading) list(elem *schema) error {
	if elem.kind == kindUnion {
		return r.unions(elem)
	}
	var first error
	for ok := r.enter(']'); ok; ok = r.next(']') {
		if err := r.value(elem); err != nil {
			if err = within(err, "[", "]"); !holds(&first, err) {
				return err
			}
		}
	}
	return first
}

// fields reads an object that a node decodes into a struct. Two keys that fold together are
// refused even where neither is a field: another version of a node may know the field.
func (r *reading) fields(s *schema) error {
	var first, later error
	var seen uint64
	marks := len(r.marks)
	for ok := r.enter('}'); ok; ok = r.next('}') {
		from := r.at
		key, to := r.key()
		i, known := s.exact[string(key)]
		if !known {
			r.fold = appendFolded(r.fold[:0], key)
			i, known = s.folded[string(r.fold)]
		}
		if !known {
			r.marks = append(r.marks, mark{maphash.Bytes(r.seed, r.fold), from})
			r.beyond = r.beyond || s == r.top
			if err := r.free(false); err != nil {
				return err
			}
			continue
		}
		f := &s.fields[i]
		if seen&(1<<i) != 0 {
			return duplicateField(f.name)
		}
		seen |= 1 << i
		if spelt := r.body[from+1 : to-1]; string(spelt) != f.name {
			r.patches = append(r.patches, patch{from + 1, to - 1, f.name})
		}
		value := r.at
		switch err := r.field(s, f); {
		case err == nil:
		case f.later:
			if _, wrong := err.(*wrongValue); !wrong {
				return err
			}
			later = err
		case !holds(&first, err):
			return err
		}
		if s == r.top {
			r.values[i] = span{value, r.at}
		}
	}
	if at, twice := r.twice(marks); twice {
		return duplicateField(r.keyAt(at))
	}
	if first == nil && s.required&^seen != 0 {
		return &wrongValue{value: []byte("{}")}
	}
	if first == nil {
		return later
	}
	return first
}

// field reads the value of a field of s at r.at.
func (r *reading) field(s *schema, f *field) error {
	from, marks, holding := r.at, len(r.marks), r.holding
	err := r.value(f.schema)
	if err == nil {
		return nil
	}
	before := `{"` + f.name + `":`
	if s.word != "" {
		before = `{"type":"` + s.word + `","` + f.name + `":`
	}
	err = within(err, before, "}")
	if _, wrong := err.(*wrongValue); f.later && wrong {
		// Where the node fails has not been reached yet.
		r.holding = holding
		r.marks = r.marks[:marks]
		r.at = from
		r.skip()
	}
	return err
}

// keys reads an object whose keys are free and counted as they are spelt. ordered says that a
// node reads them with a parser that takes no bad UTF-8.
func (r *reading) keys(elem *schema, ordered bool) error {
	var first error
	marks := len(r.marks)
	for ok := r.enter('}'); ok; ok = r.next('}') {
		from := r.at
		key, to := r.key()
		r.marks = append(r.marks, mark{maphash.Bytes(r.seed, key), from})
		if spelt := r.body[from:to]; ordered && !r.clean && !isClean(spelt) {
			return &wrongValue{value: slices.Concat([]byte("{"), spelt, []byte(":null}"))}
		}
		if err := r.value(elem); err != nil {
			if err = within(err, `{"":`, "}"); ordered || !holds(&first, err) {
				return err
			}
		}
	}
	if at, twice := r.twice(marks); twice {
		return duplicateKey(r.keyAt(at))
	}
	return first
}

// free reads a value that a node does not look into. numbers says that it decodes the value
// all the same, so that numbers must fit.
func (r *reading) free(numbers bool) error {
	var first error
	from := r.at
	switch c := r.body[from]; {
	case c == '{':
		marks := len(r.marks)
		for ok := r.enter('}'); ok; ok = r.next('}') {
			at := r.at
			key, _ := r.key()
			r.marks = append(r.marks, mark{maphash.Bytes(r.seed, key), at})
			if err := r.free(numbers); err != nil && !holds(&first, err) {
				return err
			}
		}
		if at, twice := r.twice(marks); twice {
			return duplicateKey(r.keyAt(at))
		}
	case c == '[':
		for ok := r.enter(']'); ok; ok = r.next(']') {
			if err := r.free(numbers); err != nil && !holds(&first, err) {
				return err
			}
		}
	default:
		r.skipScalar()
		if numbers && isNumber(c) && !fitsFloat(r.body[from:r.at], 64) {
			return r.wrong(from)
		}
	}
	return first
}

// twice tells whether two keys of the object that is being left are equal, and where the
// later one stands. It forgets the keys.
func (r *reading) twice(first int) (at int, found bool) {
	marks := r.marks[first:]
	r.marks = r.marks[:first]
	if len(marks) < 2 {
		return 0, false
	}
	slices.SortFunc(marks, func(a, b mark) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.at, b.at))
	})
	for i := 1; i < len(marks); i++ {
		if marks[i].hash == marks[i-1].hash {
			return marks[i].at, true
		}
	}
	return 0, false
}

// key reads the key at r.at and steps to its value. to is behind its closing quote. The text
// is good until the next call.
func (r *reading) key() (text []byte, to int) {
	text = r.skipString()
	to = r.at
	r.space()
	r.at++ // the colon
	r.space()
	if bytes.IndexByte(text, '\\') >= 0 || !r.clean && !utf8.Valid(text) {
		r.text = appendText(r.text[:0], text)
		text = r.text
	}
	return text, to
}

// keyAt is the text of the key at a place.
func (r *reading) keyAt(at int) string {
	r.at = at
	return string(appendText(nil, r.skipString()))
}

// enter steps into an array or object, next to its next member. They stand on the member
// if there is one, else behind the end.
func (r *reading) enter(end byte) bool {
	r.at++
	r.space()
	if r.body[r.at] == end {
		r.at++
		return false
	}
	return true
}

func (r *reading) next(end byte) bool {
	r.space()
	c := r.body[r.at]
	r.at++
	if c == end {
		return false
	}
	r.space()
	return true
}

func (r *reading) space() {
	for r.at < len(r.body) {
		switch r.body[r.at] {
		case ' ', '\t', '\n', '\r':
			r.at++
		default:
			return
		}
	}
}

// skipString steps over the string at r.at and gives what stands between its quotes.
func (r *reading) skipString() []byte {
	from := r.at + 1
	at := from
	for {
		quote := at + bytes.IndexByte(r.body[at:], '"')
		// Escapes are looked for up to the quote only, and the quote again only when it was
		// one of them: the work is linear whatever the string holds.
		for at <= quote {
			escape := bytes.IndexByte(r.body[at:quote], '\\')
			if escape < 0 {
				r.at = quote + 1
				return r.body[from:quote]
			}
			at += escape + 2
		}
	}
}

// skip steps over the value at r.at without judging it.
func (r *reading) skip() {
	for depth := 0; ; {
		switch r.body[r.at] {
		case '[', '{':
			depth++
			r.at++
		case ']', '}':
			depth--
			r.at++
		case ' ', '\t', '\n', '\r', ',', ':':
			r.at++
			continue
		default:
			r.skipScalar()
		}
		if depth == 0 {
			return
		}
	}
}

// skipScalar steps over the value at r.at, which is no array or object.
func (r *reading) skipScalar() {
	if r.body[r.at] == '"' {
		r.skipString()
		return
	}
	for r.at < len(r.body) {
		switch r.body[r.at] {
		case ' ', '\t', '\n', '\r', ',', ']', '}':
			return
		}
		r.at++
	}
}

func isNumber(c byte) bool { return c == '-' || '0' <= c && c <= '9' }

// fits tells whether a JSON number is one of the schema's kind.
func (s *schema) fits(number []byte) bool {
	// The longest int64 has 20 characters, and JSON knows no leading zeros.
	const longest = 20
	switch s.kind {
	case kindFloat:
		return fitsFloat(number, s.bits)
	case kindUint8:
		if len(number) > longest {
			return false
		}
		_, err := strconv.ParseUint(string(number), 10, 8)
		return err == nil
	default:
		if len(number) > longest {
			return false
		}
		_, err := strconv.ParseInt(string(number), 10, s.bits)
		return err == nil
	}
}

// fitsFloat tells whether a JSON number is in the range of a float.
func fitsFloat(number []byte, bits int) bool {
	// No number of so few digits is beyond the range of float32, which ends at 3.4e38.
	if len(number) < 38 && bytes.IndexByte(number, 'e') < 0 && bytes.IndexByte(number, 'E') < 0 {
		return true
	}
	_, err := strconv.ParseFloat(string(number), bits)
	return err == nil
}
