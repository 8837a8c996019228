package caddymodule

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A modelGrid is what the admin endpoint tells of the models on the nodes.
type modelGrid struct {
	Nodes  []gridNode  `json:"nodes"`
	Models []gridModel `json:"models"`
}

type gridNode struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

type gridModel struct {
	Name string              `json:"name"`
	On   map[string]gridCopy `json:"on"` // by the node's name
}

// A gridCopy is a model as one node has it.
type gridCopy struct {
	Digest   string `json:"digest"`
	Identity string `json:"identity"`
	Size     int64  `json:"size"`  // bytes on disk
	Drift    bool   `json:"drift"` // its identity is not that of most nodes
}

func (n gridNode) up() bool { return n.State == "up" }

// driftNote explains the star.
const driftNote = `* is not the same model as on the other nodes. "pull MODEL --to NODE" brings what its registry has now.`

// writeGrid writes which node has which model.
func writeGrid(w io.Writer, m modelGrid) error {
	if len(m.Models) == 0 {
		_, err := fmt.Fprintln(w, "No node is known to have a model.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "MODEL\tSIZE")
	for _, n := range m.Nodes {
		name := n.Name
		if !n.up() {
			name += " (" + n.State + ")"
		}
		fmt.Fprint(table, "\t"+oneWord(name))
	}
	fmt.Fprintln(table)
	drift := false
	for _, model := range m.Models {
		fmt.Fprintf(table, "%s\t%s", oneWord(untagged(model.Name)), bytesText(model.size()))
		for _, n := range m.Nodes {
			fmt.Fprint(table, "\t"+model.cell(n))
		}
		fmt.Fprintln(table)
		drift = drift || model.drifts()
	}
	if err := table.Flush(); err != nil || !drift {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+driftNote)
	return err
}

// oneWord keeps a name from breaking the table.
func oneWord(name string) string { return cutLine(strings.ReplaceAll(name, "\t", " "), 1000) }

// cell says whether a node has the model; of one that is not up this may not be known.
func (m gridModel) cell(n gridNode) string {
	on, has := m.On[n.Name]
	switch {
	case has && on.Drift:
		return "yes*"
	case has:
		return "yes"
	case !n.up():
		return "?"
	}
	return "-"
}

// size is the largest of its copies in bytes.
func (m gridModel) size() (size int64) {
	for _, on := range m.On {
		size = max(size, on.Size)
	}
	return size
}

func (m gridModel) drifts() bool {
	for _, on := range m.On {
		if on.Drift {
			return true
		}
	}
	return false
}

// lacking names the nodes that are up and do not have the model.
func (m modelGrid) lacking(model gridModel) (names []string) {
	for _, n := range m.Nodes {
		if _, has := model.On[n.Name]; n.up() && !has {
			names = append(names, n.Name)
		}
	}
	return names
}

// find looks a model up by its name as people spell it.
func (m modelGrid) find(name string) (gridModel, bool) {
	key := modelKey(name)
	i := slices.IndexFunc(m.Models, func(x gridModel) bool { return modelKey(x.Name) == key })
	if i < 0 {
		return gridModel{}, false
	}
	return m.Models[i], true
}
