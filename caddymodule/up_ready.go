package caddymodule

import (
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

const (
	// readyWait bounds the wait for the first inventory. The fleet has one after three polls
	// of 2 s each; a node that hangs is known to hang by then.
	readyWait = 10 * time.Second
	// detailsWait bounds the further wait until it is known what each model can do. It only
	// makes the line to try a better one.
	detailsWait = 2 * time.Second
	// shownModels is how many models are told at the start; `/api/tags` has them all.
	shownModels = 12
)

// announce waits until the first inventory is there and says in plain words what is served.
// Whether anybody listens does not matter.
func announce(ctx context.Context, w io.Writer, p upPlan) {
	e, ok := currentEngine()
	if !ok {
		return // told to leave while it started
	}
	await(ctx, readyWait, e.Fleet(), func(s *fleet.Snapshot) bool { return s.Ready })
	snap := await(ctx, detailsWait, e.Fleet(), func(s *fleet.Snapshot) bool {
		for m := range maps.Values(s.Models) {
			if len(m.Nodes) > 0 && m.Identity == "" {
				return false
			}
		}
		return true
	})
	io.WriteString(w, p.readyText(snap))
}

// await gives the first snapshot that is enough, or the last one when the wait is over.
func await(ctx context.Context, wait time.Duration, f *fleet.Fleet, enough func(*fleet.Snapshot) bool) *fleet.Snapshot {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	changed := make(chan struct{}, 1)
	defer f.Subscribe(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	for {
		snap := f.Snapshot()
		if enough(snap) {
			return snap
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return snap
		}
	}
}

// readyText is what `up` says when it serves. Its first line begins with READY.
func (p upPlan) readyText(s *fleet.Snapshot) string {
	var b strings.Builder
	urls := []string{p.http.url("http")}
	if p.https != nil {
		urls = append(urls, p.https.url("https"))
	}
	fmt.Fprintf(&b, "READY: serving Ollama's API on %s\n", strings.Join(urls, " and "))
	if p.https != nil {
		fmt.Fprintf(&b, "\n  certificate authority of https: %s\n",
			filepath.Join(filepath.Dir(p.socket), "pki", "authorities", "local", "root.crt"))
	}
	if !p.http.private() {
		b.WriteString("\n  Others than this machine can connect: who reaches the port can use the models.\n")
	}

	b.WriteString("\n")
	table := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, n := range s.Nodes {
		state := n.State.String()
		if n.Reason != "" {
			state += ": " + n.Reason
		}
		fmt.Fprintf(table, "  node %s\t%s\t%s\t%s\n", n.Node.Name(), n.Node.URL(), state, counted(n.Models, "model"))
	}
	table.Flush()
	if s.Version == "" { // of the nodes that are up
		b.WriteString("\n  No node answers yet. Requests are refused until one does; it is noticed by itself.\n")
	}

	served, url := servedModels(s), p.http.url("http")
	fmt.Fprintf(&b, "\n  models: %s\n", modelList(served))
	if strings.HasPrefix(url, "http://localhost") { // else its clients are not of this machine, by their address
		fmt.Fprintf(&b, "\n  status: %s/status/ and, in a terminal, the command top\n", url)
	}
	fmt.Fprintf(&b, "\n  Try:\n  %s\n\n", tryLine(url, served))
	return b.String()
}

// servedModels are the models that some node can serve now, by name.
func servedModels(s *fleet.Snapshot) []*fleet.Model {
	var served []*fleet.Model
	for m := range maps.Values(s.Models) {
		if len(m.Nodes) > 0 {
			served = append(served, m)
		}
	}
	slices.SortFunc(served, func(a, b *fleet.Model) int { return strings.Compare(a.Short, b.Short) })
	return served
}

func modelList(served []*fleet.Model) string {
	if len(served) == 0 {
		return "none yet"
	}
	names := make([]string, 0, shownModels)
	for _, m := range served[:min(shownModels, len(served))] {
		names = append(names, modelName(m))
	}
	list := strings.Join(names, ", ")
	if more := len(served) - len(names); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return list
}

// tryLine is a command that shows something with the models there are.
func tryLine(url string, served []*fleet.Model) string {
	if i := slices.IndexFunc(served, func(m *fleet.Model) bool { return !m.Embedding }); i >= 0 {
		return fmt.Sprintf(`curl %s/api/chat -d '{"model":"%s","messages":[{"role":"user","content":"Why is the sky blue?"}]}'`,
			url, modelName(served[i]))
	}
	return "curl " + url + "/api/tags"
}

// modelName is a model's short name as people type it.
func modelName(m *fleet.Model) string { return strings.TrimSuffix(m.Short, ":latest") }

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
