package caddymodule

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// writeNodes writes the nodes as a table, and below it what is known of their runners and their
// last loads, where there are any.
func writeNodes(w io.Writer, nodes []nodeStatus) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tURL\tSTATE\tREASON\tSLOTS\tIN FLIGHT\tVERSION\tMODELS\tLOADED")
	for _, n := range nodes {
		loaded := make([]string, len(n.Runners))
		for i, r := range n.Runners {
			loaded[i] = untagged(r.Model)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\t%s\n",
			n.Name, n.URL, n.State+since(n.Since), cmp.Or(n.Reason, "-"), n.Slots, n.InFlight,
			cmp.Or(n.Version, "-"), n.Models, cmp.Or(strings.Join(loaded, " "), "-"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if err := writeRunners(w, nodes); err != nil {
		return err
	}
	return writeLoads(w, nodes)
}

func writeRunners(w io.Writer, nodes []nodeStatus) error {
	if !slices.ContainsFunc(nodes, func(n nodeStatus) bool { return len(n.Runners) > 0 }) {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nNODE\tLOADED\tCONTEXT\tOPTIONS\tVRAM\tPROMPT TOK/S\tDECODE TOK/S")
	for _, n := range nodes {
		for _, r := range n.Runners {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Name, untagged(r.Model),
				contextText(r.ContextLength), optionsText(r.Options), vramText(r), rateText(r.PromptRate), rateText(r.DecodeRate))
		}
	}
	return table.Flush()
}

func writeLoads(w io.Writer, nodes []nodeStatus) error {
	if !slices.ContainsFunc(nodes, func(n nodeStatus) bool { return len(n.Loads) > 0 }) {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nNODE\tLAST LOADS")
	for _, n := range nodes {
		for _, l := range n.Loads {
			fmt.Fprintf(table, "%s\t%s\n", n.Name, loadText(l))
		}
	}
	return table.Flush()
}

// loadText tells of a load as in "llama3 loaded 3m ago in 4.2s: first".
func loadText(l loadStatus) string {
	took := time.Duration(l.Took * float64(time.Second))
	verb, of := "loaded", "in"
	if l.Failed {
		verb, of = "failed", "after"
	}
	text := fmt.Sprintf("%s %s %s ago %s %s: %s", untagged(l.Model), verb, ago(l.At.Add(took)), of, rounded(took), l.Reason)
	if len(l.Evicted) > 0 {
		evicted := make([]string, len(l.Evicted))
		for i, model := range l.Evicted {
			evicted[i] = untagged(model)
		}
		text += ", " + strings.Join(evicted, " and ") + " unloaded for it"
	}
	if l.Again {
		text += ", in use there less than 5m before"
	}
	return text
}

// rounded leaves a duration as many digits as people read.
func rounded(d time.Duration) time.Duration {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond)
	case d < time.Minute:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Second)
}

// optionsText writes options by their names; "-" for none, and for what the gateway does not know.
func optionsText(options map[string]any) string {
	words := make([]string, 0, len(options))
	for _, name := range slices.Sorted(maps.Keys(options)) {
		value := options[name]
		if n, ok := value.(float64); ok { // as JSON has it; it is never written as 1e+06
			value = strconv.FormatFloat(n, 'f', -1, 64)
		}
		words = append(words, fmt.Sprintf("%s=%v", name, value))
	}
	return cmp.Or(strings.Join(words, " "), "-")
}

// vramText says how much of a model is on GPUs, and of how much if that is not all.
func vramText(r runnerStatus) string {
	if r.Size <= 0 {
		return "-"
	}
	vram := humanize.IBytes(uint64(max(0, r.SizeVRAM)))
	if r.SizeVRAM < r.Size {
		return vram + " of " + humanize.IBytes(uint64(r.Size))
	}
	return vram
}

func contextText(tokens int) string {
	if tokens == 0 {
		return "-"
	}
	return strconv.Itoa(tokens)
}

func rateText(rate float64) string {
	if rate == 0 {
		return "-"
	}
	return strconv.FormatFloat(rate, 'f', 1, 64)
}

// untagged leaves out the tag that is meant anyway.
func untagged(model string) string { return strings.TrimSuffix(model, ":latest") }

// since says in brackets how long ago t was.
func since(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " (" + ago(t) + ")"
}

// ago says how long ago t was.
func ago(t time.Time) string { return span(max(0, time.Since(t))) }

// span says how long something takes, in the largest unit that says enough.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
