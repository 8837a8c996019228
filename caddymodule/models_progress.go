package caddymodule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// changes are what is known of a change on each node, in the order in which the nodes were told of.
type changes struct{ nodes []*nodeChange }

// A nodeChange is how far a change is on one node.
type nodeChange struct {
	name    string
	status  string
	layers  map[string]layerSize
	share   float64 // of all layers; never smaller than it was
	over    bool
	failure string // why it failed, if it did

	told   string    // what a line was written for last
	toldAt time.Time // when that was
}

type layerSize struct{ total, completed int64 } // bytes

func (c *changes) node(name string) *nodeChange {
	for _, n := range c.nodes {
		if n.name == name {
			return n
		}
	}
	n := &nodeChange{name: name, layers: make(map[string]layerSize)}
	c.nodes = append(c.nodes, n)
	return n
}

// take notes what a line says.
func (c *changes) take(l modelUpdate) {
	if l.Done {
		for _, name := range l.Failed {
			n := c.node(name)
			n.failure = cmp.Or(n.failure, "no reason told")
		}
		for _, n := range c.nodes {
			n.over = true
		}
		return
	}
	n := c.node(l.Node)
	switch {
	case l.Error != "":
		n.failure, n.over = l.Error, true
	case l.Status == "success":
		n.over = true
	case l.Status != "":
		n.status = l.Status
	}
	if l.Digest != "" && l.Total > 0 && l.Total <= mostLayer {
		size := n.layers[l.Digest]
		n.layers[l.Digest] = layerSize{max(size.total, l.Total), max(size.completed, min(l.Completed, l.Total))}
		total, completed := n.bytes()
		n.share = max(n.share, float64(completed)/float64(total))
	}
}

// mostLayer is a PiB: what is said to be larger is no size, and sums stay sums.
const mostLayer = 1 << 50

// bytes adds up the layers that the node knows of so far.
func (n *nodeChange) bytes() (total, completed int64) {
	for _, l := range n.layers {
		total, completed = total+l.total, completed+l.completed
	}
	return total, completed
}

// failed names the nodes that failed.
func (c *changes) failed() (names []string) {
	for _, n := range c.nodes {
		if n.failure != "" {
			names = append(names, n.name)
		}
	}
	return names
}

// err says what failed, and nil if nothing did.
func (c *changes) err() error {
	failed := c.failed()
	switch {
	case len(c.nodes) == 0:
		return fmt.Errorf("no node was concerned; \"models\" shows which there are and what they have")
	case len(failed) > 0:
		return fmt.Errorf("%d of %d nodes failed: %s", len(failed), len(c.nodes), harmless(strings.Join(failed, ", ")))
	}
	return nil
}

// barWidth is how many characters a bar has.
const barWidth = 24

// lines are one for each node, none wider than the terminal. If it has too few for all, those
// stay whose nodes have failed or are not done, and the last line counts the others.
func (c *changes) lines(width, height int) []string {
	shown := slices.Clone(c.nodes)
	most := max(2, height-1) // the cursor stands on the line below them
	if len(shown) > most {
		slices.SortStableFunc(shown, func(a, b *nodeChange) int { return cmp.Compare(a.rank(), b.rank()) })
		shown = shown[:most-1]
	}
	longest := 0
	for _, n := range shown {
		longest = max(longest, len([]rune(n.name)))
	}
	lines := make([]string, 0, len(shown)+1)
	for _, n := range shown {
		lines = append(lines, cutLine(fmt.Sprintf("%-*s  %s", longest, n.name, n.text()), width))
	}
	if more := len(c.nodes) - len(shown); more > 0 {
		lines = append(lines, cutLine(fmt.Sprintf("and %d more", more), width))
	}
	return lines
}

// rank orders nodes by how much there is to see of them.
func (n *nodeChange) rank() int {
	switch {
	case n.failure != "":
		return 0
	case !n.over:
		return 1
	}
	return 2
}

// text is a node's line without its name.
func (n *nodeChange) text() string {
	switch {
	case n.failure != "":
		return "failed: " + n.failure
	case n.over:
		return "success"
	case len(n.layers) == 0:
		return n.status
	}
	full := int(n.share * barWidth)
	return fmt.Sprintf("[%s%s] %s  %s", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), n.sizes(), n.status)
}

func (n *nodeChange) sizes() string {
	total, completed := n.bytes()
	return fmt.Sprintf("%3d%%  %s of %s", int(n.share*100), bytesText(completed), bytesText(total))
}

// newsInterval is how often a node that goes on with the same thing is told of where there is no
// terminal.
const newsInterval = 10 * time.Second

// news is the text for what is no terminal, with a line end, or "" if there is nothing to tell.
func (c *changes) news(l modelUpdate, now time.Time) string {
	if l.Done {
		var b strings.Builder
		for _, n := range c.nodes { // what no line of theirs has told
			b.WriteString(n.news(now))
		}
		return b.String()
	}
	return c.node(l.Node).news(now)
}

func (n *nodeChange) news(now time.Time) string {
	about := n.status
	if n.over {
		about = n.text()
	}
	if about == n.told && (n.over || len(n.layers) == 0 || now.Sub(n.toldAt) < newsInterval) {
		return ""
	}
	n.told, n.toldAt = about, now
	text := n.name + ": " + about
	if !n.over && len(n.layers) > 0 {
		text += ", " + strings.TrimLeft(n.sizes(), " ")
	}
	return harmless(strings.ReplaceAll(text, "\n", " ")) + "\n"
}
