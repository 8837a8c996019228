package wire

import (
	"fmt"
	"strconv"
	"strings"
)

// references judges where the references of a schema lead. A node makes one rule of what is
// referred to, but puts what allOf refers to into its place each time, and neither sees a
// circle there nor one that leads through nothing that is ever written.
func (g *schemaGuard) references() {
	deep, work := 0, 0
	targets := make(map[string]int, len(g.refs))
	for ref := range g.refs {
		at := g.defs[ref].at // never 0: a definition is within the schema
		if at == 0 {
			at = g.target(ref)
			work += len(g.body)
		}
		if targets[ref] = at; at >= 0 {
			deep += g.depthAt(at)
		}
		if deep > referredDepth || work > referredWork {
			break
		}
	}
	switch {
	case work > referredWork:
		g.wrong("it has too many references for its size to other places than definitions at its top; refer to $defs")
		return
	case deep > referredDepth:
		g.wrong(fmt.Sprintf("what it refers to is nested deeper than %d levels in all", referredDepth))
		return
	}
	w := &refWalk{body: g.body, targets: targets, placed: map[int]int64{}, passing: map[int]int8{}}
	w.count(0, false)
	for _, at := range targets {
		if at >= 0 {
			w.pass(at)
		}
	}
	switch {
	case w.circle:
		g.wrong("a reference in it leads back to itself without a property or an item in between, or through allOf; refer to recursive parts from properties or items, without allOf")
	case w.placed[0] > partsLimit:
		g.wrong(fmt.Sprintf("it has more than %d parts once those of allOf are in their places", partsLimit))
	}
}

// target finds what a reference means, -1 if it means nothing here.
func (g *schemaGuard) target(ref string) int {
	r := reading{body: g.body}
	r.space()
	for token := range strings.SplitSeq(ref[len("#/"):], "/") {
		found := false
		switch r.body[r.at] {
		case '{':
			for ok := r.enter('}'); ok; ok = r.next('}') {
				if key, _ := r.key(); string(key) == token {
					found = true
					break
				}
				r.skip()
			}
		case '[':
			i, err := strconv.Atoi(token)
			for ok := err == nil && r.enter(']'); ok; ok = r.next(']') {
				if i == 0 {
					found = true
					break
				}
				i--
				r.skip()
			}
		}
		if !found {
			return -1
		}
	}
	return r.at
}

// depthAt is how deep arrays and objects are nested at a place, at least 1.
func (g *schemaGuard) depthAt(at int) int {
	r := reading{body: g.body, at: at}
	depth, deepest := 0, 1
	for {
		switch r.body[r.at] {
		case '[', '{':
			depth++
			deepest = max(deepest, depth)
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
			return deepest
		}
	}
}

// A refWalk follows references.
type refWalk struct {
	body    []byte
	targets map[string]int
	circle  bool

	placed  map[int]int64 // parts by place, -1 while they are counted
	passing map[int]int8  // places from which references lead on: 1 on the way, 2 done
}

// count gives the number of objects in the value at a place. placed says that it is a part of
// allOf, so that what a reference in it means is counted in its place.
func (w *refWalk) count(at int, placed bool) int64 {
	if known, ok := w.placed[at]; ok {
		if known < 0 {
			w.circle = true
			return 0
		}
		return known
	}
	w.placed[at] = -1
	r := reading{body: w.body, at: at}
	n := w.counted(&r, placed)
	w.placed[at] = n
	return n
}

// counted is count for the value at r.at, behind which it steps.
func (w *refWalk) counted(r *reading, placed bool) (n int64) {
	switch r.body[r.at] {
	case '[':
		for ok := r.enter(']'); ok; ok = r.next(']') {
			n += w.counted(r, placed)
		}
	case '{':
		n = 1
		for ok := r.enter('}'); ok; ok = r.next('}') {
			key, _ := r.key()
			switch word := string(key); {
			case word == "$ref" && placed && r.body[r.at] == '"':
				if at, ok := w.targets[string(appendText(nil, r.skipString()))]; ok && at >= 0 {
					n += w.count(at, true)
				}
			case word == "allOf" && r.body[r.at] == '[':
				n += w.counted(r, true)
			case word == "anyOf" && placed:
				n += w.counted(r, true)
			default:
				n += w.counted(r, false)
			}
		}
	default:
		r.skipScalar()
	}
	return min(n, 1<<40)
}

// pass follows references that lead on from a place without anything written in between.
func (w *refWalk) pass(at int) {
	if w.passing[at] != 0 {
		w.circle = w.circle || w.passing[at] == 1
		return
	}
	w.passing[at] = 1
	r := reading{body: w.body, at: at}
	if r.body[at] == '{' {
		for ok := r.enter('}'); ok; ok = r.next('}') {
			key, _ := r.key()
			switch word, c := string(key), r.body[r.at]; {
			case word == "$ref" && c == '"':
				if at, ok := w.targets[string(appendText(nil, r.skipString()))]; ok && at >= 0 {
					w.pass(at)
				}
			case (word == "anyOf" || word == "oneOf" || word == "allOf") && c == '[':
				for ok := r.enter(']'); ok; ok = r.next(']') {
					w.pass(r.at)
					r.skip()
				}
			default:
				r.skip()
			}
		}
	}
	w.passing[at] = 2
}
