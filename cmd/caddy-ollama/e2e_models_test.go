package main

import (
	"strings"
	"testing"
)

// The commands about models against the admin endpoint of a running gateway, and simulated nodes with
// a registry in the place of Ollama's. The nodes have no names but their addresses.
func TestModels_CommandsChangeWhatNodesHave(t *testing.T) {
	t.Parallel()
	_, first := startSimulate(t, 1, "--models", "sim-small,mine", "--scale", "0.01")
	_, second := startSimulate(t, 1, "--models", "mine", "--scale", "0.01")
	_, full := startSimulate(t, 1, "--models", "sim-small,mine", "--scale", "0.01", "--disk", "1MB")
	var nodes []string
	for _, url := range []string{first[0], second[0], full[0]} {
		nodes = append(nodes, strings.TrimPrefix(url, "http://"))
	}
	g := startUp(t, []string{"OLLAMA_NODES=" + strings.Join(nodes, ",")})
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, step := range []struct {
		args []string
		ok   bool
		out  []string // each is in what the command writes, blanks and tabs being one
		errs string   // is in what it writes when it fails
	}{
		{[]string{"models"}, true, []string{"MODEL " + a + " " + b + " " + c, "mine yes yes yes", "sim-small yes - yes"}, ""},
		{[]string{"models", "sync", "sim-small"}, true, []string{"sim-small, to " + b + ":", b + ": success"}, ""},
		{[]string{"models", "sync", "--all"}, true, []string{"Nothing is lacking."}, ""},
		{[]string{"pull", "sim-embed"}, false, []string{a + ": success", b + ": success", c + ": failed: no space left on its disk"}, "1 of 3 nodes failed: " + c},
		{[]string{"models"}, true, []string{"sim-embed yes yes -"}, ""},
		{[]string{"pull", "sim-embed", "--to", a, "--to", b}, true, []string{a + ": success", b + ": success"}, ""},
		{[]string{"pull", "sim-embed", "--to", b, "--json"}, true, []string{`{"node":"` + b + `","status":"success"}`, `{"done":true,"ok":["` + b + `"],"failed":[]}`}, ""},
		{[]string{"ollama", "pull", "nobody"}, false, []string{a + ": failed: pull model manifest: file does not exist"}, "3 of 3 nodes failed"},
		{[]string{"rm", "sim-small", "--from", a}, true, []string{a + ": success"}, ""},
		{[]string{"models"}, true, []string{"sim-small - yes yes"}, ""},
		{[]string{"rm", "mine"}, true, []string{a + ": success", b + ": success", c + ": success"}, ""},
		{[]string{"rm", "mine"}, false, nil, "no node was concerned"},
		{[]string{"rm", "sim-small", "--from", "nobody"}, false, nil, "no node has"},
		{[]string{"models", "sync", "mine"}, false, nil, "no node is known to have mine"},
	} {
		out, errs, ok := ask(t, g.env, step.args...)
		if ok != step.ok || !strings.Contains(errs, step.errs) {
			t.Errorf("%q: done %t, want %t with %q; wrote\n%s%s", step.args, ok, step.ok, step.errs, out, errs)
		}
		plain := strings.Join(strings.Fields(out), " ")
		for _, want := range step.out {
			if !strings.Contains(plain, want) {
				t.Errorf("%q wrote\n%s, want %q in it", step.args, out, want)
			}
		}
	}
	// What was made on one node only is in no registry. A client's pull has the gateway look at the nodes.
	for _, q := range [][2]string{
		{first[0] + "/api/create", `{"model":"ours","from":"sim-embed","system":"be brief"}`},
		{base("http", "localhost", g.httpPort) + "/api/pull", `{"model":"sim-small"}`},
	} {
		url, body := q[0], q[1]
		if answer := askStream(t.Context(), g.client("HTTP/1.1"), url, body, nil); answer.last() != `{"status":"success"}` {
			t.Errorf("%s: %d, %q, %v", url, answer.status, answer.last(), answer.err)
		}
	}
	out, errs, ok := ask(t, g.env, "models", "sync", "ours")
	if ok || !strings.Contains(out, "ours cannot be pulled: its registry does not have it.") || !strings.Contains(errs, "1 of 1 models still lack somewhere: ours") {
		t.Errorf("sync of what no registry has: done %t\n%s%s", ok, out, errs)
	}
}
