package caddymodule

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// driftNote explains the star.
const driftNote = `* is not the same model as on the other nodes. "pull MODEL --to NODE" brings what its registry has now.`

// writeMatrix writes which node has which model.
func writeMatrix(w io.Writer, m modelMatrix) error {
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
		fmt.Fprint(table, oneWord(untagged(model.Model)))
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
func (r modelRow) cell(node string) string {
	for _, c := range r.Nodes {
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
	if slices.Contains(r.Lacking, node) {
		return "-"
	}
	return "?"
}

func (r modelRow) drifts() bool {
	return slices.ContainsFunc(r.Nodes, func(c modelCell) bool { return c.Drift })
}

// find looks a model up by its name as people spell it.
func (m modelMatrix) find(name string) (modelRow, bool) {
	key := modelKey(name)
	i := slices.IndexFunc(m.Models, func(x modelRow) bool { return modelKey(x.Model) == key })
	if i < 0 {
		return modelRow{}, false
	}
	return m.Models[i], true
}
