package wire

import (
	"bytes"
	"slices"
)

// A member is one of a free object.
type member struct {
	key   []byte
	value span
}

// anything is the schema of what has none.
var anything = &schema{kind: kindAny}

// schema is that of a field of the request.
func (c *teller) schema(name string) *schema {
	return c.source.top.fields[c.source.top.exact[name]].schema
}

// isBlank tells whether a field is absent, null, an empty text or an empty list, which are one
// thing for a node.
func (c *teller) isBlank(s span) bool {
	raw := c.body[s.from:s.to]
	return s.to == 0 || raw[0] == 'n' || len(raw) == 2 && raw[0] == '"' || isEmptyList(raw)
}

// tell tells the value at c.at, which s describes, and steps behind it.
func (c *teller) tell(s *schema, levels int) {
	switch b := c.body[c.at]; {
	case b == '"' && s.kind == kindBytes:
		c.addMedia(c.skipString())
	case b == '"':
		c.tellString()
	case b != '[' && b != '{':
		from := c.at
		c.skipScalar()
		c.addScalar(c.body[from:c.at])
	case levels == 0 || s.kind == kindFree || s.kind == kindOrdered:
		c.tellVerbatim()
	case b == '[':
		c.end('[', itemOpen)
		for ok := c.enter(']'); ok; ok = c.next(']') {
			c.tell(s.member(), levels-1)
		}
		c.end(']', itemClose)
	default:
		c.end('{', itemOpen)
		c.tellObject(s, levels)
		c.end('}', itemClose)
	}
}

// member is the schema of what is inside.
func (s *schema) member() *schema {
	if s.elem == nil {
		return anything
	}
	return s.elem
}

// tellString tells the string at c.at. An image in an address is one.
func (c *teller) tellString() {
	if text := c.skipString(); bytes.HasPrefix(text, []byte("data:")) {
		c.addMedia(text)
	} else {
		c.addText(text)
	}
}

// tellParts tells a value that may be a text or a list of parts: one part of text is the text.
func (c *teller) tellParts(s *schema, levels int) {
	if c.body[c.at] != '[' {
		c.tell(s, levels)
		return
	}
	for ok := c.enter(']'); ok; ok = c.next(']') {
		from := c.at
		if text := partText(c.body[from:]); text != nil {
			c.addText(text)
			c.at = from
			c.skip()
			continue
		}
		c.tell(s.member(), levels-1)
	}
}

// partText is the inside of the text of the part that a body begins with, nil if it is none of
// text.
func partText(body []byte) []byte {
	if body[0] != '{' {
		return nil
	}
	kind := pick(body, "type", folds)
	if !hasWord(kind, "text") && !hasWord(kind, "input_text") && !hasWord(kind, "output_text") {
		return nil
	}
	if text := pick(body, "text", folds); text != nil && text[0] == '"' {
		return text[1 : len(text)-1]
	}
	return nil
}

// tellObject tells what the object at c.at has.
func (c *teller) tellObject(s *schema, levels int) {
	if s.kind == kindUnion {
		if variant := s.variantOf(c.body[c.at:]); variant != nil {
			s = variant
		}
	}
	if s.kind == kindStruct {
		c.tellFields(s, levels)
		return
	}
	c.tellFree(s, levels)
}

// variantOf is the schema of the object that a body begins with, nil if its type is not known.
func (s *schema) variantOf(body []byte) *schema {
	kind := pick(body, "type", folds)
	if !hasText(kind) {
		return s.variants["message"]
	}
	return s.variants[string(appendText(nil, kind[1:len(kind)-1]))]
}

// tellFields tells an object that a node decodes into a struct, in the order of the struct, without
// what the node does not know.
func (c *teller) tellFields(s *schema, levels int) {
	first := len(c.spans)
	c.spans = append(c.spans, make([]span, len(s.fields))...)
	for ok := c.enter('}'); ok; ok = c.next('}') {
		key, _ := c.key()
		i, known := s.exact[string(key)]
		if !known {
			c.fold = appendFolded(c.fold[:0], key)
			i, known = s.folded[string(c.fold)]
		}
		from := c.at
		c.skip()
		if known {
			c.spans[first+i] = span{from, c.at}
		}
	}
	end := c.at
	for i := range s.fields {
		span := c.spans[first+i]
		if c.isBlank(span) {
			continue
		}
		c.addKey(i)
		c.at = span.from
		c.tellNamed(s.fields[i].name, s.fields[i].schema, levels-1)
	}
	c.spans = c.spans[:first]
	c.at = end
}

// tellNamed tells the value at c.at of a key.
func (c *teller) tellNamed(name string, s *schema, levels int) {
	switch {
	case name == "data" && c.body[c.at] == '"':
		c.addMedia(c.skipString())
	case (name == "content" || name == "output") && levels > 0:
		c.tellParts(s, levels)
	default:
		c.tell(s, levels)
	}
}

// tellFree tells an object of any keys, in their order. A mark for a cache says nothing to a node,
// and clients move it from message to message.
func (c *teller) tellFree(s *schema, levels int) {
	from, first := c.at, len(c.members)
	defer func() {
		clear(c.members[first:]) // or the bodies would live on here
		c.members = c.members[:first]
	}()
	for ok := c.enter('}'); ok; ok = c.next('}') {
		at := c.at
		key, to := c.key()
		if spelt := c.body[at+1 : to-1]; len(spelt) == len(key) {
			key = spelt // nothing was escaped or replaced
		} else {
			key = bytes.Clone(key)
		}
		if s.look != nil {
			key = c.canonical(s.look, key)
		}
		at = c.at
		c.skip()
		switch {
		case string(key) == "cache_control":
		case len(c.members)-first == orderKeys:
			c.at = from
			c.tellVerbatim()
			return
		default:
			c.members = append(c.members, member{key, span{at, c.at}})
		}
	}
	end := c.at
	members := c.members[first:]
	slices.SortFunc(members, func(a, b member) int { return bytes.Compare(a.key, b.key) })
	for _, m := range members {
		c.add(m.key, itemKey)
		c.bytes += len(m.key)
		c.at = m.value.from
		c.tellNamed(string(m.key), s.member(), levels-1)
	}
	c.at = end
}

// canonical is the name of a field of s for whatever folds to it, and any other key as it is.
func (c *teller) canonical(s *schema, key []byte) []byte {
	c.fold = appendFolded(c.fold[:0], key)
	if i, known := s.folded[string(c.fold)]; known && s.fields[i].name != string(key) {
		return []byte(s.fields[i].name)
	}
	return key
}

// tellVerbatim tells the value at c.at with its keys in the order in which they came. They
// are folded, since some are those of structs.
func (c *teller) tellVerbatim() {
	for depth := 0; ; {
		switch b := c.body[c.at]; b {
		case '[', '{':
			depth++
			c.end(int(b), itemOpen)
			c.at++
		case ']', '}':
			depth--
			c.end(int(b), itemClose)
			c.at++
		case ' ', '\t', '\n', '\r', ',', ':':
			c.at++
			continue
		case '"':
			from := c.at
			text := c.skipString()
			if c.space(); c.at == len(c.body) || c.body[c.at] != ':' {
				c.at = from
				c.tellString()
				break
			}
			c.text = appendText(c.text[:0], text)
			c.fold = appendFolded(c.fold[:0], c.text)
			c.add(c.fold, itemKey)
			c.bytes += len(c.fold)
		default:
			from := c.at
			c.skipScalar()
			c.addScalar(c.body[from:c.at])
		}
		if depth == 0 {
			return
		}
	}
}

// indexEscape is how many bytes come before the first escape.
func indexEscape(s []byte) int {
	if i := bytes.IndexByte(s, '\\'); i >= 0 {
		return i
	}
	return len(s)
}
