package wire

import (
	"bytes"
	"slices"
	"sync"
)

// canonicalVersion begins each canonical form. Whoever changes the form changes the number, so
// that nothing stored under the old form is found under the new one.
const canonicalVersion = "caddy-ollama request 1\n"

// Canonical is everything in a request that can change its answer, in one spelling: two
// requests have the same bytes only if a node reads the same from both. The model is not in
// it, since a name does not tell what answers; neither are the version of Ollama and who asks.
// It is nil for a request that asks for no text or vectors.
//
// What makes no difference (algorithms 2):
//   - at the top, model, name, stream, stream_options, user, metadata and keep_alive, in any
//     case, and among the native options those that say where a model is placed;
//   - the order of fields that a node decodes into a struct, and that of the options and of
//     what the node does not know, up to manyKeys in an object;
//   - how numbers are spelt in such fields and in the options, compared as exact decimals: a
//     seed of 19 digits is not rounded;
//   - escapes, white space between values, and what a node reads as U+FFFD;
//   - null for a field: a node leaves the field as it is. Options without a member are none.
//
// All else does, what a node does not know included. An empty text or list is not an absent
// one. Inside format, schemas, tools, arguments, parts of a content and unknown fields the
// order of keys and the text of numbers count (design 4: the order of properties changes
// answers). Images and sounds are there by their SHA-256, so that the form stays small; texts
// are there in full.
//
// The form is a version, the path and a sequence of items, each a tag and what its tag says
// how long it is; so it can be taken apart in one way only, and different requests differ. It
// is that of what is sent on: where ParseAdjusted changed num_ctx, it has the new one.
//
// It is worked out anew by each call, for about what it costs to parse the body, or less. The
// caller may keep and change it.
func (r *Request) Canonical() []byte {
	if r.source == nil {
		return nil
	}
	// The form is about as long as the body, images apart. Half a MiB is more than any usual
	// text, and less than what an image costs to read.
	const most = 512 << 10
	body := r.source.body
	c := canons.Get().(*canon)
	defer c.release()
	c.reading = reading{body: body, at: r.source.from, clean: r.source.clean, text: c.text, fold: c.fold}
	c.out = append(slices.Grow(c.out[:0], min(len(body)+len(body)/8+256, most)), canonicalVersion...)
	c.putPlain(tagText, r.Route.Path)
	c.request(r)
	if cap(c.out) > canonBytes && cap(c.out) <= 2*len(c.out) {
		return c.out // it is too large for release to keep
	}
	return bytes.Clone(c.out)
}

// canons are what it takes to write a form, so that only the form is made anew.
var canons = sync.Pool{New: func() any {
	return &canon{out: make([]byte, 0, 4<<10), spans: make([]span, 0, 64), members: make([]member, 0, 16)} // enough for most requests
}}

const (
	// A canon that has become larger is not kept: bytes of a form, and keys.
	canonBytes = 64 << 10
	canonKeys  = 1 << 10
)

func (c *canon) release() {
	if cap(c.out)+cap(c.text)+cap(c.fold) > canonBytes || cap(c.spans)+cap(c.members) > canonKeys {
		return
	}
	c.reading = reading{text: c.text[:0], fold: c.fold[:0]}
	c.spans, c.members, c.without, c.digest = c.spans[:0], c.members[:0], "", digester{}
	canons.Put(c)
}

// unsaid are the fields of a request that change nothing in its answer, as they fold.
var unsaid = map[string]bool{
	"MODEL": true, "NAME": true, "STREAM": true, "STREAM_OPTIONS": true, "USER": true, "METADATA": true, "KEEP_ALIVE": true,
}

// isPlacement tells of an option, as a node spells it, whether it says where and how fast a model
// runs.
func isPlacement(option string) bool {
	switch option {
	case "num_gpu", "main_gpu", "num_thread", "num_batch", "use_mmap":
		return true
	}
	return false
}

// A canon writes the canonical form of a judged body.
type canon struct {
	reading
	out []byte

	without string // a field of the request that is passed over, folded; see Embedding

	spans   []span   // of the fields of the structs that are being told, innermost last
	members []member // the same of what they do not know
	digest  digester
}

// What an object is, as far as it matters to which of its members are told.
type place uint8

const (
	inStruct  place = iota
	inRequest       // unsaid is passed over
	inOptions       // placement is passed over
)

// manyKeys is how many members of no struct are put in order. More count in the order in which
// they came, so that the work stays linear in the body; no client has so many.
const manyKeys = 1 << 10

// noFields is the schema of an object of which a node knows no key beforehand.
var noFields = &schema{}

// request tells the object that a request is.
func (c *canon) request(q *Request) {
	s, from := q.source.top, c.at
	if q.source.beyond || c.without != "" {
		c.gather(s, inRequest)
	} else {
		c.spans = append(c.spans, q.source.values...) // as they were judged
	}
	for i := range s.fields {
		f := &s.fields[i]
		switch {
		case f.unsaid:
		case f.name == "options" && q.Options != nil:
			if !c.has(0, i, f) || &q.Options[0] != &c.body[c.at] { // they were changed
				c.changedOptions(q.Options)
			} else {
				c.options()
			}
		case !c.has(0, i, f):
		case f.name == "tools":
			c.putPlain(tagKey, f.name)
			c.ordered(f.schema)
		default:
			c.putPlain(tagKey, f.name)
			c.value(f.schema, f.media)
		}
	}
	c.rest(s, inRequest, from, 0, manner{})
}

// changedOptions tells what was left of the options that were judged.
func (c *canon) changedOptions(object []byte) {
	outer := c.reading
	c.reading = reading{body: object, clean: true, text: c.text, fold: c.fold}
	c.options()
	outer.text, outer.fold = c.text, c.fold
	c.reading = outer
}

// options tells the options at c.at.
func (c *canon) options() {
	from, first := c.at, len(c.members)
	if c.gather(noFields, inOptions); len(c.members) > first {
		c.putPlain(tagKey, "options")
		c.out = append(c.out, tagObject)
		c.rest(noFields, inOptions, from, first, manner{decimals: true})
		c.out = append(c.out, tagEnd)
	}
}

// fields tells the object at c.at, which a node decodes into a struct: the fields in the
// struct's order, then what the node does not know in the order of the keys. How a node that
// knows it would read it is not known either.
func (c *canon) fields(s *schema) {
	from, spans, members := c.at, len(c.spans), len(c.members)
	c.out = append(c.out, tagObject)
	c.gather(s, inStruct)
	end := c.at
	for i := range s.fields {
		if f := &s.fields[i]; c.has(spans, i, f) {
			c.putPlain(tagKey, f.name)
			c.value(f.schema, f.media)
		}
	}
	c.rest(s, inStruct, from, members, manner{})
	c.out = append(c.out, tagEnd)
	c.spans, c.at = c.spans[:spans], end
}

// gather finds the fields of the object at c.at, and the members that it has beyond them: all,
// or one more than manyKeys. It steps behind the object.
func (c *canon) gather(s *schema, in place) {
	spans, members := len(c.spans), len(c.members)
	c.spans = append(c.spans, make([]span, len(s.fields))...)
	next := 0 // the field that is likely, as most clients write them in order
	for ok := c.enter('}'); ok; ok = c.next('}') {
		at := c.at
		key, to := c.key()
		i, known := next, next < len(s.fields) && string(key) == s.fields[next].name
		if !known {
			i, known = c.find(s, key)
		}
		next = i + 1
		from := c.at
		c.skip()
		switch {
		case c.passes(key, in):
		case known:
			c.spans[spans+i] = span{from, c.at}
		case len(c.members)-members <= manyKeys:
			c.members = append(c.members, member{c.keep(key, at, to), span{from, c.at}})
		}
	}
}

// rest tells the members from first on, which gather found in the object at from, and forgets
// them.
func (c *canon) rest(s *schema, in place, from, first int, how manner) {
	members := c.members[first:]
	c.members = c.members[:first]
	defer clear(members) // or the bodies would live on here
	if len(members) <= manyKeys {
		slices.SortFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
		for _, m := range members {
			c.putBytes(tagKey, m.key)
			c.at = m.value.from
			c.tokens(how)
		}
		return
	}
	c.at = from
	for ok := c.enter('}'); ok; ok = c.next('}') {
		key, _ := c.key()
		if _, known := c.find(s, key); known || c.passes(key, in) {
			c.skip()
			continue
		}
		c.putBytes(tagKey, key)
		c.tokens(how)
	}
}

// passes tells whether the member of a key is passed over.
func (c *canon) passes(key []byte, in place) bool {
	switch in {
	case inRequest:
		c.fold = appendFolded(c.fold[:0], key)
		return unsaid[string(c.fold)] || c.without != "" && string(c.fold) == c.without
	case inOptions:
		return isPlacement(string(key))
	}
	return false
}

// find looks a key up as a node does.
func (c *canon) find(s *schema, key []byte) (i int, known bool) {
	if i, known = s.exact[string(key)]; !known && len(s.fields) > 0 {
		c.fold = appendFolded(c.fold[:0], key)
		i, known = s.folded[string(c.fold)]
	}
	return i, known
}

// keep makes a key that has just been read, and stands at from:to of the body, one that is
// good for as long as the body.
func (c *canon) keep(key []byte, from, to int) []byte {
	if spelt := c.body[from+1 : to-1]; bytes.Equal(spelt, key) {
		return spelt
	}
	return bytes.Clone(key)
}

// has tells whether there is a field, and steps to its value.
func (c *canon) has(spans, i int, f *field) bool {
	c.at = c.spans[spans+i].from
	return c.at > 0 && (c.body[c.at] != 'n' || !f.passesNull())
}

// passesNull tells whether null for a field is as good as none. It is for the types that Go
// decodes, and for those that a node has as pointers or takes for no format. Another type that
// decodes itself is handed the null, and makes of it what it likes.
func (f *field) passesNull() bool {
	switch f.schema.kind {
	case kindFree, kindThink, kindDuration:
		return true
	}
	return !f.schema.decodesItself && !f.later
}

// value tells the value at c.at, which s describes, and steps behind it. media says that a field
// that it is, or is in, has its texts told by their digests.
func (c *canon) value(s *schema, media bool) {
	b := c.body[c.at]
	switch {
	case s.kind == kindUnion && b == '{':
		c.fields(c.variantOf(s))
	case s.kind == kindStruct && b == '{':
		c.fields(s)
	case s.kind == kindBytes && b != 'n':
		c.putMedia()
	case (s.kind == kindList || s.kind == kindTexts) && b == '[':
		c.out = append(c.out, tagArray)
		for ok := c.enter(']'); ok; ok = c.next(']') {
			c.value(s.elem, media)
		}
		c.out = append(c.out, tagEnd)
	case b == '"' && media:
		c.putDigest(c.skipString())
	default:
		c.tokens(manner{
			decimals: s.kind == kindInt || s.kind == kindUint8 || s.kind == kindFloat,
			media:    s.kind == kindAny,
		})
	}
}

// variantOf is the schema of the object at c.at. Of one whose type is not known, only what a
// node reads first is.
func (c *canon) variantOf(s *schema) *schema {
	if variant := s.variantOf(c.body[c.at:]); variant != nil {
		return variant
	}
	return s.look
}

// ordered tells the value at c.at with all keys in the order in which they came, numbers as
// they are spelt and null where it stands. Keys that a node decodes into a struct are told by
// the struct's names.
func (c *canon) ordered(s *schema) {
	switch b := c.body[c.at]; {
	case b == '[' && (s.kind == kindList || s.kind == kindTypes):
		c.out = append(c.out, tagArray)
		for ok := c.enter(']'); ok; ok = c.next(']') {
			c.ordered(s.elem)
		}
		c.out = append(c.out, tagEnd)
	case b == '{' && (s.kind == kindStruct || s.kind == kindMap || s.kind == kindOrdered):
		c.out = append(c.out, tagObject)
		for ok := c.enter('}'); ok; ok = c.next('}') {
			key, _ := c.key()
			inner := s.elem
			if s.kind == kindStruct {
				inner = anything
				if i, known := c.find(s, key); known {
					c.putPlain(tagKey, s.fields[i].name)
					c.ordered(s.fields[i].schema)
					continue
				}
			}
			c.putBytes(tagKey, key)
			c.ordered(inner)
		}
		c.out = append(c.out, tagEnd)
	default:
		c.tokens(manner{})
	}
}
