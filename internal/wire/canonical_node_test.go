package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// A node is a JSON value that a test changes.
type node struct {
	kind  jsontext.Kind
	keys  []string // of an object, as they are read
	kids  []*node
	text  string // of a string, as it is read
	spelt string // of any other scalar
}

func readNode(t testing.TB, d *jsontext.Decoder) *node {
	token, err := d.ReadToken()
	if err != nil {
		t.Fatal(err)
	}
	n := &node{kind: token.Kind()}
	switch n.kind {
	case '{', '[':
		for d.PeekKind() != n.kind+2 {
			if n.kind == '{' {
				n.keys = append(n.keys, readNode(t, d).text)
			}
			n.kids = append(n.kids, readNode(t, d))
		}
		if _, err := d.ReadToken(); err != nil {
			t.Fatal(err)
		}
	case '"':
		n.text = token.String()
	default:
		n.spelt = token.String()
	}
	return n
}

// A speller writes JSON in one of its spellings. The zero value has the plainest.
type speller struct {
	text, space func(string) string // of strings, in quotes, and between tokens
}

func (s speller) write(b *strings.Builder, n *node) {
	switch n.kind {
	case '{', '[':
		b.WriteByte(byte(n.kind))
		for i, kid := range n.kids {
			if i > 0 {
				b.WriteString(s.between(","))
			}
			if n.kind == '{' {
				b.WriteString(s.quoted(n.keys[i]) + s.between(":"))
			}
			s.write(b, kid)
		}
		b.WriteByte(byte(n.kind + 2))
	case '"':
		b.WriteString(s.quoted(n.text))
	default:
		b.WriteString(n.spelt)
	}
}

func (s speller) quoted(text string) string {
	if s.text == nil {
		return string(quoted(text))
	}
	return s.text(text)
}

func (s speller) between(sign string) string {
	if s.space == nil {
		return sign
	}
	return s.space(sign)
}

func (s speller) body(n *node) []byte {
	var b strings.Builder
	s.write(&b, n)
	return []byte(b.String())
}

func treeOf(t testing.TB, body []byte) *node {
	return readNode(t, jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)))
}

// member gives a member of an object by its key, as a node finds it.
func (n *node) member(name string) *node {
	for i, key := range n.keys {
		if foldedKey(key) == foldedKey(name) {
			return n.kids[i]
		}
	}
	return nil
}

func foldedKey(key string) string { return string(appendFolded(nil, []byte(key))) }

// set gives an object a member, in its place if it is there. value is JSON.
func (n *node) set(t testing.TB, name, value string) {
	kid := treeOf(t, []byte(value))
	for i, key := range n.keys {
		if foldedKey(key) == foldedKey(name) {
			n.kids[i] = kid
			return
		}
	}
	n.keys, n.kids = append(n.keys, name), append(n.kids, kid)
}

func (n *node) shuffle(r *rand.Rand) {
	r.Shuffle(len(n.kids), func(i, j int) {
		n.keys[i], n.keys[j] = n.keys[j], n.keys[i]
		n.kids[i], n.kids[j] = n.kids[j], n.kids[i]
	})
}

// respell changes how the numbers in a value are spelt.
func (n *node) respell(r *rand.Rand) {
	for _, kid := range n.kids {
		kid.respell(r)
	}
	if n.kind != '0' || strings.ContainsAny(n.spelt, "eE") {
		return
	}
	whole := !strings.Contains(n.spelt, ".")
	switch r.IntN(4) {
	case 0:
		if whole {
			n.spelt += "."
		}
		n.spelt += "00"
	case 1:
		n.spelt += "E+00"
	case 2:
		if whole && n.spelt != "0" && n.spelt != "-0" {
			n.spelt += "00e-2"
		}
	case 3:
		if whole {
			n.spelt += ".0e0"
		}
	}
}

// A change is one to a place in a request, and how to take it back.
type change struct {
	what  string
	apply func() (undo func())
}

// changes are all that can be done to a value without knowing what it is.
func (n *node) changes() (all []change) {
	was := *n
	become := func(what string, now node) {
		all = append(all, change{what, func() func() { *n = now; return func() { *n = was } }})
	}
	scalar := func(spelt string) node { return node{kind: jsontext.Value(spelt).Kind(), spelt: spelt} }
	text := func(s string) node { return node{kind: '"', text: s} }
	without := func(i int) node {
		now := node{kind: n.kind, kids: slices.Delete(slices.Clone(n.kids), i, i+1)}
		if n.kind == '{' {
			now.keys = slices.Delete(slices.Clone(n.keys), i, i+1)
		}
		return now
	}
	switch n.kind {
	case '"':
		become("first letter", text(map[bool]string{true: "B", false: "A"}[strings.HasPrefix(n.text, "A")]+n.text[min(1, len(n.text)):]))
		become("a letter more", text(n.text+"x"))
		become("white space behind", text(n.text+" "))
		become("white space before", text("\n"+n.text))
		for _, now := range []string{strings.ToUpper(n.text), strings.ToLower(n.text), ""} {
			if now != n.text {
				become("another case, or nothing", text(now))
			}
		}
	case '0':
		now := n.spelt + "1"
		if n.spelt == "0" {
			now = "1"
		}
		become("another number", scalar(now))
	case 't', 'f':
		become("not", scalar(map[jsontext.Kind]string{'t': "false", 'f': "true"}[n.kind]))
	case 'n':
		for _, now := range []node{text(""), scalar("0"), scalar("false"), {kind: '['}, {kind: '{', keys: []string{"x"}, kids: []*node{{kind: '0', spelt: "1"}}}} {
			become("something", now)
		}
	case '[':
		for i := range n.kids {
			become("an element less", without(i))
		}
		for i := 1; i < len(n.kids); i++ {
			if a, b := n.kids[i-1], n.kids[i]; !bytes.Equal(speller{}.body(a), speller{}.body(b)) {
				now := node{kind: '[', kids: slices.Clone(n.kids)}
				now.kids[i-1], now.kids[i] = b, a
				become("two elements exchanged", now)
			}
		}
		if len(n.kids) > 0 {
			become("an element more", node{kind: '[', kids: append(slices.Clone(n.kids), n.kids[len(n.kids)-1])})
		}
		become("null more", node{kind: '[', kids: append(slices.Clone(n.kids), &node{kind: 'n', spelt: "null"})})
	case '{':
		for i := range n.kids {
			if n.kids[i].kind != 'n' {
				become("without "+n.keys[i], without(i))
			}
		}
		for _, value := range []string{"1", "null"} {
			new := scalar(value)
			become("an unknown field", node{kind: '{', keys: append(slices.Clone(n.keys), "Zzz"), kids: append(slices.Clone(n.kids), &new)})
		}
	}
	if n.kind != 'n' {
		become("null", scalar("null"))
	}
	return all
}

// walk visits a value and all in it, with the keys on the way there.
func (n *node) walk(path []string, f func(path []string, n *node)) {
	f(path, n)
	for i, kid := range n.kids {
		key := fmt.Sprint(i)
		if n.kind == '{' {
			key = n.keys[i]
		}
		kid.walk(append(slices.Clip(path), key), f)
	}
}
