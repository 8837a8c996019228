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
	Nodes  []string    `json:"nodes"`
	Models []gridModel `json:"models"`
}

type gridModel struct {
	Name    string     `json:"model"`
	Copies  []gridCopy `json:"nodes"`
	Lacking []string   `json:"lacking"` // nodes that are up and have nothing of this name
}

// A gridCopy is a model as one node has it.
type gridCopy struct {
	Node  string `json:"node"`
	Up    bool   `json:"up"`    // else it is what the node had when it was there last
	Drift bool   `json:"drift"` // it is not what is served under this name
}

// driftNote explains the star.
const driftNote = `* is not the same model as on the other nodes. "pull MODEL --to NODE" brings what its registry has now.`

// writeGrid writes which node has which model.
func writeGrid(w io.Writer, m modelGrid) error {
	if len(m.Models) == 0 {
		_, err := fmt.Fprintln(w, "No node is known to have a model.")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "MODEL")
	for _, n := range m.Nodes {
		fmt.Fprint(table, "\t"+oneWord(n))
	}
	fmt.Fprintln(table)
	drift := false
	for _, model := range m.Models {
		fmt.Fprint(table, oneWord(untagged(model.Name)))
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

// cell says whether a node has the model. In brackets it is what a node that is not up had last.
func (m gridModel) cell(node string) string {
	for _, c := range m.Copies {
		if c.Node != node {
			continue
		}
		text := "yes"
		if c.Drift {
			text += "*"
		}
		if !c.Up {
			return "(" + text + ")"
		}
		return text
	}
	if slices.Contains(m.Lacking, node) {
		return "-"
	}
	return "?"
}

func (m gridModel) drifts() bool {
	return slices.ContainsFunc(m.Copies, func(c gridCopy) bool { return c.Drift })
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
