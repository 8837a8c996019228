package caddymodule

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
)

// An option reads one option whose word d stands on, with what follows it.
type option func(d *caddyfile.Dispenser) error

// A grammar is the options of one block, in the order in which messages list them.
type grammar struct {
	name    string // of the block, for messages
	kind    string // what its words are, for messages. Default: option
	options []word
	// elsewhere has words that stand in another block, and where that is.
	elsewhere places
}

// A word is an option by its name.
type word struct {
	name  string
	read  option
	often bool // may stand more than once
}

// block reads the block that d stands before, if there is one. A word the block does not know,
// and one that stands twice, is an error at the word. It gives the number of different words.
func (g grammar) block(d *caddyfile.Dispenser) (int, error) {
	return g.rest(d, make(map[string]int))
}

// rest is block where some words were seen before it, by their line.
func (g grammar) rest(d *caddyfile.Dispenser, seen map[string]int) (int, error) {
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := g.option(d, seen); err != nil {
			return 0, err
		}
	}
	return len(seen), nil
}

// names lists the words of the block.
func (g grammar) names() []string {
	names := make([]string, len(g.options))
	for i, w := range g.options {
		names[i] = w.name
	}
	return names
}

func (g grammar) option(d *caddyfile.Dispenser, seen map[string]int) error {
	name := d.Val()
	for _, w := range g.options {
		if w.name != name {
			continue
		}
		if line, twice := seen[name]; twice && !w.often {
			return d.Errf("%s: %s is set in line %d already; leave one out", g.name, name, line)
		}
		seen[name] = d.Line()
		return w.read(d)
	}
	kind := g.kind
	if kind == "" {
		kind = "option"
	}
	if where, ok := g.elsewhere[name]; ok {
		return d.Errf("unrecognized %s %s %q here; write it into %s", g.name, kind, name, where)
	}
	return d.Errf("unrecognized %s %s %q; %s", g.name, kind, name, insteadOf(name, g.names()))
}

// insteadOf says what to write instead of a word: the one that was probably meant, or all
// there are.
func insteadOf(name string, words []string) string {
	nearest, least := "", 3 // more than two slips, or one in three letters, are another word
	for _, w := range words {
		if n := distance(name, w); n < least && n*3 <= len(w) {
			nearest, least = w, n
		}
	}
	if nearest != "" {
		return fmt.Sprintf("did you mean %q?", nearest)
	}
	return "use " + oneOf(words)
}

// oneOf lists words as in "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// distance counts the bytes to insert, delete, replace or swap with their neighbours to make
// a of b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// places say of words where they stand.
type places map[string]string

func wordsAt(where string, words ...string) places {
	at := make(places, len(words))
	for _, w := range words {
		at[w] = where
	}
	return at
}

// and adds further places.
func (p places) and(more places) places {
	maps.Copy(p, more)
	return p
}

// behind reads an option whose value stands behind a word that says what it is.
func behind(keyword, example string, read option) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if !d.NextArg() || d.Val() != keyword {
			return d.Errf("%s is written as in: %s %s %s", name, name, keyword, example)
		}
		return read(d)
	}
}

// ofNode are words that one might look for outside of a node's block.
var ofNode = wordsAt("the block of a node", "preload")

// value reads the one argument of an option; d stands on it afterwards, or on the word if the
// argument is missing.
func value(d *caddyfile.Dispenser, example string) (string, error) {
	name := d.Val()
	if !d.NextArg() {
		return "", d.Errf("%s needs a value, as in: %s %s", name, name, example)
	}
	v := d.Val()
	if d.NextArg() {
		return "", d.Errf("%s takes one value; leave out %q", name, d.Val())
	}
	return v, nil
}

// alone ends an option that takes no argument, or no further one.
func alone(d *caddyfile.Dispenser) error {
	name := d.Val()
	if d.NextArg() {
		return d.Errf("unexpected %q after %s; leave it out", d.Val(), name)
	}
	return nil
}

// duration reads a time longer than nothing.
func duration(into *caddy.Duration, example string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		v, err := value(d, example)
		if err != nil {
			return err
		}
		t, err := caddy.ParseDuration(v)
		if err != nil {
			return d.Errf("%s: %q is not a duration; write it as in %s", name, v, example)
		}
		if t <= 0 {
			return d.Errf("%s must be longer than 0, not %s", name, v)
		}
		*into = caddy.Duration(t)
		return nil
	}
}

// durationOrOff reads a time, or off for 0.
func durationOrOff(into *caddy.Duration, example string) option {
	read := duration(into, example)
	return func(d *caddyfile.Dispenser) error {
		at := *d
		if at.NextArg() && at.Val() == "off" {
			d.NextArg()
			return alone(d)
		}
		return read(d)
	}
}

// count reads a whole number between least and most.
func count(into *int, least, most int, example string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		v, err := value(d, example)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(v)
		switch {
		case err == nil && n < least && most == maxCount:
			return d.Errf("%s must be at least %d, not %s", name, least, v)
		case errors.Is(err, strconv.ErrRange) || err == nil && (n < least || n > most):
			return d.Errf("%s must be between %d and %d, not %s", name, least, most, v)
		case err != nil:
			return d.Errf("%s: %q is not a whole number; write it as in %s", name, v, example)
		}
		*into = n
		return nil
	}
}

// size reads a number of bytes, at least 1.
func size(into *int64, example string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		v, err := value(d, example)
		if err != nil {
			return err
		}
		n, err := humanize.ParseBytes(v)
		switch {
		case err != nil:
			return d.Errf("%s: %q is not a size; write it as in %s", name, v, example)
		case n == 0:
			return d.Errf("%s must be at least 1 byte", name)
		case n > math.MaxInt64:
			return d.Errf("%s: %s is more than there can be", name, v)
		}
		*into = int64(n)
		return nil
	}
}

// choice reads one of a few words.
func choice(into *string, words ...string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		v, err := value(d, words[0])
		if err != nil {
			return err
		}
		for _, w := range words {
			if v == w {
				*into = v
				return nil
			}
		}
		return d.Errf("unrecognized %s %q; %s", name, v, insteadOf(v, words))
	}
}

// mark reads a word that says all by itself.
func mark(into *bool) option {
	return func(d *caddyfile.Dispenser) error {
		*into = true
		return alone(d)
	}
}

// text reads any value that is not empty.
func text(into *string, example string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		v, err := value(d, example)
		if err != nil {
			return err
		}
		if v == "" {
			return d.Errf("%s must not be empty", name)
		}
		*into = v
		return nil
	}
}

// hasPlaceholder tells whether a value is known only when the configuration is loaded.
func hasPlaceholder(v string) bool { return strings.Contains(v, "{") }

// maxCount bounds numbers of things to what an int has on every machine.
const maxCount = math.MaxInt32
