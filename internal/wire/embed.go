package wire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
)

// An Embedding is an embedding request taken apart into the texts it asks vectors of. It is
// immutable and safe for concurrent use.
type Embedding struct {
	request *Request
	input   span   // the value of the field that has the texts, in the body that came
	single  bool   // the field takes one text and no list
	texts   []Text // in their order
	before  []byte // of a canonical form, up to where the texts stand
	behind  []byte // of a canonical form, from behind the texts on
}

// A Text is one of an Embedding.
type Text struct {
	JSON []byte // as it was judged, in quotes; not to be changed
	Size int    // of the text itself, in bytes
}

// Embedding takes a request apart. ok is false where that cannot be done, or where it has more
// than most texts: such a request goes to a node as it is. That is no embedding, or one without
// a text: absent, null, [], and on the native routes "", to which a node answers without a
// vector.
func (r *Request) Embedding(most int) (e *Embedding, ok bool) {
	if r.source == nil || r.Route.Operation != Embed || r.Task != Answer {
		return nil, false
	}
	e = &Embedding{request: r}
	field := "input"
	if _, list := r.source.top.exact[field]; !list {
		field, e.single = "prompt", true
	}
	value := r.source.raw(field)
	e.input = r.source.span(field)
	switch {
	case value == nil:
		return nil, false
	case value[0] == '"':
		if len(value) == len(`""`) && r.Route.Dialect == Ollama {
			return nil, false
		}
		e.texts = []Text{r.textOf(value)}
	case value[0] != '[':
		return nil, false
	default:
		for text := range elements(value) {
			if text[0] != '"' || len(e.texts) == most {
				return nil, false
			}
			e.texts = append(e.texts, r.textOf(text))
		}
	}
	if len(e.texts) == 0 || len(e.texts) > most {
		return nil, false
	}
	e.tell(strings.ToUpper(field))
	return e, true
}

// textOf takes a string as it was judged.
func (r *Request) textOf(text []byte) Text {
	if !r.source.clean {
		text = assemble(text, 0, len(text), nil, false).Bytes()
	}
	inside := text[1 : len(text)-1]
	size := len(inside)
	for at := bytes.IndexByte(inside, '\\'); at >= 0; at = bytes.IndexByte(inside, '\\') {
		c, length := escaped(inside[at:])
		size += len(string(c)) - length
		inside = inside[at+length:]
	}
	return Text{JSON: text, Size: size}
}

// tell makes the canonical form without the field that has the texts. They stand first in it: no
// route has a field before them that is told.
func (e *Embedding) tell(field string) {
	r := e.request
	c := canon{reading: reading{body: r.source.body, at: r.source.from, clean: r.source.clean}, without: field}
	c.out = append(make([]byte, 0, 256), canonicalVersion...)
	c.putPlain(tagText, r.Route.Path)
	before := len(c.out)
	c.request(r)
	e.before, e.behind = c.out[:before:before], c.out[before:]
}

// Texts are what vectors are wanted of, in their order. The caller must not change them.
func (e *Embedding) Texts() []Text { return e.texts }

// Single tells that a request of this route has one text, so that no others can be sent with it.
func (e *Embedding) Single() bool { return e.single }

// Canonical is the canonical form of the request as if it asked for one of its texts only, in a
// list of one where the route takes lists: see Request.Canonical. So one text has one form, in
// whichever list it stands.
func (e *Embedding) Canonical(text Text) []byte {
	field := "input"
	if e.single {
		field = "prompt"
	}
	c := canon{reading: reading{clean: true}}
	c.out = make([]byte, 0, len(e.before)+len(e.behind)+text.Size+len(field)+16)
	c.out = append(c.out, e.before...)
	c.putPlain(tagKey, field)
	if !e.single {
		c.out = append(c.out, tagArray)
	}
	if inside := text.JSON[1 : len(text.JSON)-1]; len(inside) == text.Size {
		c.putBytes(tagText, inside)
	} else {
		c.out = binary.AppendUvarint(append(c.out, tagText), uint64(text.Size))
		c.out = appendText(c.out, inside)
	}
	if !e.single {
		c.out = append(c.out, tagEnd)
	}
	return append(c.out, e.behind...)
}

// Others is the canonical form of all that the request says beyond its texts. Two requests that
// have the same of one model, with the same keep_alive and the same runner options, may be sent
// as one.
func (e *Embedding) Others() string { return string(e.before) + string(e.behind) }

// Body is the judged body with other texts, which have been judged, too: one if the request is
// Single, else at least one.
func (e *Embedding) Body(texts [][]byte) Body {
	s := e.request.source
	var value strings.Builder
	size := 2
	for _, text := range texts {
		size += len(text) + 1
	}
	value.Grow(size)
	if !e.single {
		value.WriteByte('[')
	}
	for i, text := range texts {
		if i > 0 {
			value.WriteByte(',')
		}
		value.Write(text)
	}
	if !e.single {
		value.WriteByte(']')
	}
	patches := append(slices.Clone(s.patches), patch{e.input.from, e.input.to, value.String()})
	slices.SortStableFunc(patches, func(a, b patch) int { return cmp.Compare(a.from, b.from) })
	return assemble(s.body, s.from, s.at, patches, s.clean)
}
