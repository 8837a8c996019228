package wire

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
)

// How a node makes a grammar of a schema, with json-schema-to-grammar.cpp of llama.cpp, in its
// own process. It recurses in native code, which overflows the stack of the whole server; it
// cuts a grammar that does not fit into a buffer; and the runner does not survive a grammar
// that is cut or otherwise wrong. The numbers in the tests were measured with that code.
const (
	// schemaDepth is how deep arrays and objects may be nested, two for each level of
	// properties. Names of rules grow with each level, so that real grammars end before.
	schemaDepth = 128
	// nameSpan is how long a key or a reference may be: some ten thousand odd characters in a
	// row overflow the stack of a regular expression.
	nameSpan = 1 << 10
	// referredDepth is how deep all that is referred to may be nested together: each may stand
	// within the one before.
	referredDepth = 1024
	// referredWork bounds the search for what is referred to, in bytes walked over.
	referredWork = 16 << 20
	// partsLimit is how many objects there may be once those of allOf are in their places. So
	// many rules never fit into the largest buffer.
	partsLimit = 20_000
	// typesLimit is how many types there are.
	typesLimit = 7
	// boundDigits: from this on, a bound on one side only makes {17,15} of its digits, which
	// counts down to the end of memory.
	boundDigits = 1e15
)

// A schemaGuard walks over one schema.
type schemaGuard struct {
	reading
	depth   int
	message string          // what is wrong; the first counts
	refs    map[string]bool // as they are spelt
	defs    map[string]definition
}

// A definition is one of those at the top, by its reference: "#/$defs/name".
type definition struct {
	at   int
	size int64 // bytes of grammar
}

func newSchemaGuard(schema []byte) *schemaGuard {
	return &schemaGuard{reading: reading{body: schema}, refs: map[string]bool{}, defs: map[string]definition{}}
}

// deadlySchema tells what in a schema a node does not survive, "" if nothing is known to. The
// schema has been judged: keys are unique.
func deadlySchema(schema []byte) string {
	g := newSchemaGuard(schema)
	size := g.value(0).size
	if g.message == "" && len(g.refs) > 0 {
		for ref := range g.refs {
			size += g.defs[ref].size
		}
		g.references()
	}
	if g.message == "" && size > int64(grammarLimit(len(schema))) {
		g.wrong("it is too large: a node makes rules of it whose names hold the whole path to each property; use shorter names, fewer levels, or references to $defs")
	}
	if g.message == "" {
		return ""
	}
	return "a node would crash at the JSON schema of the answer: " + g.message
}

// grammarLimit is the size of the buffer that a node has for the grammar of a schema.
func grammarLimit(schema int) int { return max(32<<10, min(1<<20, 4*schema)) }

// wrong notes what is wrong.
func (g *schemaGuard) wrong(message string) {
	if g.message == "" {
		g.message = message
	}
}

// A rule is what a node makes of a part of a schema: so many bytes of grammar, at least.
type rule struct {
	size  int64
	named bool // it has a rule of its own, under the name of its path
}

// The fixed parts of rules, in bytes.
const (
	keyRule    = 29 // of a property: its own rule, and the place where it stands in the object
	objectRule = 29
	restRule   = 44 // of a property that may be left out: the rule of those that follow it
	plainRule  = 6  // the name of a rule such as string
)

// value walks over the value at g.at. path is the length of the name of its rule.
func (g *schemaGuard) value(path int) rule {
	var all rule
	switch g.body[g.at] {
	case '{':
		if g.depth == schemaDepth {
			g.wrong(fmt.Sprintf("it is nested deeper than %d levels", schemaDepth/2))
			g.skip()
			return all
		}
		g.depth++
		all = g.object(path)
		g.depth--
	case '[':
		if g.depth == schemaDepth {
			g.wrong(fmt.Sprintf("it is nested deeper than %d levels", schemaDepth/2))
			g.skip()
			return all
		}
		g.depth++
		for ok := g.enter(']'); ok; ok = g.next(']') {
			all.size += g.value(path + 2).size
		}
		g.depth--
	default:
		g.skipScalar()
	}
	return all
}

// A bounds is the counting keywords of one object.
type bounds struct {
	minItems, maxItems, minLength, maxLength *float64
	minimum, maximum                         *float64
	integer                                  bool
}

// object walks over the object at g.at. Keywords are taken for such wherever they stand: a
// reference may make a schema of any part.
func (g *schemaGuard) object(path int) (own rule) {
	var b bounds
	var optional int64 // bytes that the properties cost if all may be left out
	properties, required, types := 0, 0, 0
	allOf := false
	for ok := g.enter('}'); ok; ok = g.next('}') {
		key, _ := g.key()
		if len(key) > nameSpan {
			g.wrong(fmt.Sprintf("a name in it is longer than %d bytes", nameSpan))
		}
		from, c := g.at, g.body[g.at]
		number := isNumber(c)
		switch word := string(key); {
		case word == "properties" && c == '{':
			own.named = true
			properties, optional = g.properties(path, &own)
		case (word == "$defs" || word == "definitions") && c == '{':
			g.definitions(word)
		case word == "required" && c == '[':
			for range elements(g.skipped()) {
				required++
			}
		case word == "type" && c == '[':
			types = g.types()
		case word == "type" && c == '"':
			b.integer = hasWord(g.skipped(), "integer")
		case word == "pattern" && c == '"':
			own.named = true
			if text := g.skipString(); !isTranslatable(appendText(nil, text)) {
				g.wrong("a pattern in it has a form that a node cannot translate; leave out (?...) and escapes such as \\d and \\/, give every *, +, ? and {n} something to repeat, at most 2000 times, and write \\] and \\} for brackets that stand alone")
			}
		case word == "$ref" && c == '"':
			g.refer()
		case number && g.bound(&b, word):
			own.named = true
		default:
			below := path
			switch word {
			case "anyOf", "oneOf", "allOf":
				allOf = allOf || word == "allOf"
				own.named = true
			case "items", "prefixItems", "additionalProperties":
				own.named = true
				below = path + len("-item")
			case "enum", "const":
				own.named = true
				g.value(0)
				own.size += int64(g.at - from)
				continue
			default:
				g.value(0) // a node leaves it out
				continue
			}
			part := g.value(below)
			own.size += part.size
			if part.named {
				own.size += int64(below)
			}
		}
	}
	g.check(&b)
	if allOf && types > 1 {
		g.wrong("it has several types and allOf in one place, which a node multiplies; write one type")
	}
	if spare := properties - required - 1; spare > 0 {
		own.size += optional * int64(spare) / int64(properties)
	}
	if own.named {
		own.size += int64(path) + objectRule
	}
	return own
}

// properties walks over the object of that name and adds the rules of its members to own.
func (g *schemaGuard) properties(path int, own *rule) (n int, optional int64) {
	if g.depth++; g.depth > schemaDepth {
		g.wrong(fmt.Sprintf("it is nested deeper than %d levels", schemaDepth/2))
		g.skip()
		g.depth--
		return 0, 0
	}
	for ok := g.enter('}'); ok; ok = g.next('}') {
		key, _ := g.key()
		if len(key) > nameSpan {
			g.wrong(fmt.Sprintf("a name in it is longer than %d bytes", nameSpan))
		}
		name := path + ruleSpan(key)
		if path > 0 {
			name++ // the dash
		}
		n++
		own.size += int64(2*(name+len("-kv")) + len(key) + keyRule)
		optional += int64(4*name + restRule)
		switch c := g.body[g.at]; {
		case isNumber(c) && isCount(key):
			// A reference to the properties themselves makes a keyword of it.
			g.wrong("a property in it is a number")
			g.skipScalar()
		default:
			if part := g.value(name); part.named {
				own.size += part.size + int64(name)
			} else {
				own.size += part.size + plainRule
			}
		}
	}
	g.depth--
	return n, optional
}

// definitions walks over schemas that count only if they are referred to.
func (g *schemaGuard) definitions(word string) {
	if g.depth++; g.depth > schemaDepth {
		g.wrong(fmt.Sprintf("it is nested deeper than %d levels", schemaDepth/2))
		g.skip()
		g.depth--
		return
	}
	for ok := g.enter('}'); ok; ok = g.next('}') {
		key, _ := g.key()
		name, at := string(key), g.at
		size := g.value(len("ref-defs-") + ruleSpan([]byte(name))).size
		if g.depth == 2 {
			g.defs["#/"+word+"/"+name] = definition{at, size}
		}
	}
	g.depth--
}

// skipped steps over the value at g.at and gives it.
func (g *schemaGuard) skipped() []byte {
	from := g.at
	g.skip()
	return g.body[from:g.at]
}

// ruleSpan is how long a key is in the name of a rule: other bytes than letters, digits and
// dashes become one dash where they stand together.
func ruleSpan(key []byte) (n int) {
	odd := false
	for _, c := range key {
		plain := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-'
		if plain || !odd {
			n++
		}
		odd = !plain
	}
	return n
}

// types reads a list of types. A node makes a copy of all there for each of them, and one that
// stands twice doubles what is below at every level.
func (g *schemaGuard) types() int {
	seen := make(map[string]bool)
	for t := range elements(g.skipped()) {
		if len(seen) == typesLimit || seen[string(t)] {
			g.wrong("a type in it is named more than once; name each type once")
			break
		}
		seen[string(t)] = true
	}
	return len(seen)
}

// isCount tells whether a keyword counts.
func isCount(key []byte) bool {
	for _, word := range [...]string{"minItems", "maxItems", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} {
		if string(key) == word {
			return true
		}
	}
	return false
}

// bound notes the number at g.at if the word is a keyword that takes one, and steps behind it.
func (g *schemaGuard) bound(b *bounds, word string) bool {
	var into **float64
	switch word {
	case "minItems":
		into = &b.minItems
	case "maxItems":
		into = &b.maxItems
	case "minLength":
		into = &b.minLength
	case "maxLength":
		into = &b.maxLength
	case "minimum", "exclusiveMinimum":
		into = &b.minimum
	case "maximum", "exclusiveMaximum":
		into = &b.maximum
	default:
		return false
	}
	from := g.at
	g.skipScalar()
	f, err := strconv.ParseFloat(string(g.body[from:g.at]), 64)
	if err != nil {
		f = math.Inf(1)
	}
	*into = &f
	return true
}

// check judges what counts in one object.
func (g *schemaGuard) check(b *bounds) {
	for _, pair := range [...]struct {
		least, most *float64
		what        string
	}{{b.minItems, b.maxItems, "minItems and maxItems"}, {b.minLength, b.maxLength, "minLength and maxLength"}} {
		for _, n := range [...]*float64{pair.least, pair.most} {
			if n != nil && !(*n >= 0 && *n <= countLimit) {
				g.wrong(fmt.Sprintf("%s must be between 0 and %d", pair.what, countLimit))
			}
		}
		if pair.least != nil && pair.most != nil && *pair.least > *pair.most {
			g.wrong(fmt.Sprintf("of %s the least is more than the most", pair.what))
		}
	}
	if !b.integer {
		return
	}
	if b.minimum != nil && b.maximum == nil && *b.minimum >= boundDigits || b.maximum != nil && b.minimum == nil && *b.maximum <= -boundDigits {
		g.wrong("an integer with a bound of 16 digits on one side needs one on the other side, too")
	}
}

// refer notes the reference at g.at.
func (g *schemaGuard) refer() {
	text := appendText(nil, g.skipString())
	if len(text) > nameSpan {
		g.wrong(fmt.Sprintf("a reference in it is longer than %d bytes", nameSpan))
		return
	}
	if bytes.HasPrefix(text, []byte("#/")) { // a node refuses others in order
		g.refs[string(text)] = true
	}
}
