package simnode

import (
	"slices"
	"strings"
	"time"
)

// A lie is what a list of models says beside the truth.
type lie struct {
	added  []*installed
	hidden []string // name.key
}

// newLie reads names of models to add, and behind a minus of those to hide. What is no name is left out.
func newLie(names []string) lie {
	var l lie
	for _, asked := range names {
		asked, hide := strings.CutPrefix(asked, "-")
		name, err := parseName(asked)
		switch {
		case err != nil:
		case hide:
			l.hidden = append(l.hidden, name.key())
		default:
			m, _ := present(Model{Name: asked}.withDefaults(time.Now()), name)
			l.added = append(l.added, m)
		}
	}
	return l
}

func (l lie) hides(n name) bool { return slices.Contains(l.hidden, n.key()) }
