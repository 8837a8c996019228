package clients

import (
	"crypto/sha256"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"
)

// uneven are three nodes that end a pull of sim-embed in three ways: the first has room for less
// than half of it, the second is slow, and the third so slow that it can be killed in the middle.
var uneven = plan{
	Nodes: 3, Models: []string{"sim-chat"}, Manage: "allow",
	Args: []string{"--disk 5GB", "--write-rate 150MB", "--write-rate 30MB"}, // sim-chat has 4.9 GB, sim-embed 274 MB
}

// A progress is what a client was told of a pull or a create, in order.
type progress struct {
	statuses []string // without those of layers
	layers   map[string]api.ProgressResponse
	wrong    []string // where a layer went back
}

func (p *progress) take(r api.ProgressResponse) {
	if r.Digest == "" {
		p.statuses = append(p.statuses, r.Status)
		return
	}
	if was, known := p.layers[r.Digest]; known && (r.Completed < was.Completed || r.Total != was.Total) || r.Completed > r.Total {
		p.wrong = append(p.wrong, fmt.Sprintf("%s: %d of %d after %d of %d", r.Digest, r.Completed, r.Total, was.Completed, was.Total))
	}
	if p.layers == nil {
		p.layers = map[string]api.ProgressResponse{}
	}
	p.layers[r.Digest] = r
}

func TestOllama_ThreeNodesAreManagedAsOne(t *testing.T) {
	t.Parallel()
	f := newFleet(t, uneven)
	c := ollama(t, f)
	list := func() (names []string) {
		t.Helper()
		all, err := c.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all.Models {
			names = append(names, strings.TrimSuffix(m.Name, ":latest"))
		}
		slices.Sort(names)
		return names
	}
	lists := func(when, gateway string, nodes ...string) {
		t.Helper()
		if got := fmt.Sprint(list()); got != gateway {
			t.Errorf("%s: the gateway lists %s, want %s", when, got, gateway)
		}
		for i, want := range nodes {
			names, err := f.nodes[i].models()
			if got := strings.ReplaceAll(fmt.Sprint(names), ":latest", ""); err != nil || got != want {
				t.Errorf("%s: node %d lists %s, %v, want %s", when, i+1, got, err, want)
			}
		}
	}

	var p progress
	killed := false
	err := c.Pull(t.Context(), &api.PullRequest{Model: "sim-embed"}, func(r api.ProgressResponse) error {
		p.take(r)
		if r.Completed > 0 && !killed {
			killed = true
			f.nodes[2].kill()
		}
		return nil
	})
	if err != nil || !killed {
		t.Errorf("pull: %v, killed a node in the middle: %t", err, killed)
	}
	said := strings.Join(p.statuses, "\n")
	if want := regexp.MustCompile(`^pulling manifest\nverifying sha256 digest\nwriting manifest\n` +
		`failed on node 1: no space left on its disk\nfailed on node 3: (the connection was lost|it could not be reached)\nsuccess$`); !want.MatchString(said) {
		t.Errorf("pull said\n%s", said)
	}
	if len(p.wrong) > 0 || len(p.layers) < 2 {
		t.Errorf("%d layers; backwards: %q", len(p.layers), p.wrong)
	}
	for digest, last := range p.layers {
		if last.Completed != last.Total {
			t.Errorf("%s ended at %d of %d", digest, last.Completed, last.Total)
		}
	}
	lists("after the pull", "[sim-chat sim-embed]", "[sim-chat]", "[sim-chat sim-embed]")

	if err := c.Copy(t.Context(), &api.CopyRequest{Source: "sim-embed", Destination: "mine"}); err != nil {
		t.Errorf("copy: %v", err)
	}
	lists("after the copy", "[mine sim-chat sim-embed]", "[sim-chat]", "[mine sim-chat sim-embed]")
	if shown, err := c.Show(t.Context(), &api.ShowRequest{Model: "mine"}); err != nil || shown.Details.Family != "nomic-bert" {
		t.Errorf("show: %+v, %v", shown, err)
	}

	file := "GGUF" + strings.Repeat("weights ", 1000)
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(file)))
	if err := c.CreateBlob(t.Context(), digest, strings.NewReader(file)); err != nil {
		t.Errorf("blob: %v", err)
	}
	p = progress{}
	err = c.Create(t.Context(), &api.CreateRequest{Model: "made", Files: map[string]string{"made.gguf": digest}, System: "be short"}, func(r api.ProgressResponse) error {
		p.take(r)
		return nil
	})
	if err != nil || len(p.statuses) == 0 || p.statuses[len(p.statuses)-1] != "success" {
		t.Errorf("create: %v, said %q", err, p.statuses)
	}
	lists("after the create", "[made mine sim-chat sim-embed]", "[made sim-chat]", "[made mine sim-chat sim-embed]")

	for _, model := range []string{"made", "mine"} {
		if err := c.Delete(t.Context(), &api.DeleteRequest{Model: model}); err != nil {
			t.Errorf("delete %s: %v", model, err)
		}
	}
	lists("after the deletes", "[sim-chat sim-embed]", "[sim-chat]", "[sim-chat sim-embed]")
	err = c.Delete(t.Context(), &api.DeleteRequest{Model: "mine"})
	checkStatus(t, "delete again", err, 404, "model 'mine' not found")

	err = c.Pull(t.Context(), &api.PullRequest{Model: "nobody-has-this"}, func(api.ProgressResponse) error { return nil })
	if err == nil || err.Error() != "pull model manifest: file does not exist" {
		t.Errorf("pull of what is not there: %v", err)
	}
}

func TestOllama_ManagingModelsIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, plan{Scale: 0.05, Manage: "deny"})
	c := ollama(t, f)
	ignore := func(api.ProgressResponse) error { return nil }
	for name, err := range map[string]error{
		"pull":   c.Pull(t.Context(), &api.PullRequest{Model: "sim-chat"}, ignore),
		"push":   c.Push(t.Context(), &api.PushRequest{Model: "sim-chat"}, ignore),
		"create": c.Create(t.Context(), &api.CreateRequest{Model: "mine", From: "sim-chat"}, ignore),
		"blob":   c.CreateBlob(t.Context(), "sha256:"+strings.Repeat("0", 64), strings.NewReader("x")),
		"copy":   c.Copy(t.Context(), &api.CopyRequest{Source: "sim-chat", Destination: "mine"}),
		"delete": c.Delete(t.Context(), &api.DeleteRequest{Model: "sim-chat"}),
	} {
		checkStatus(t, name, err, 403, "managing models is not allowed here; ask the operator of this gateway")
	}
	stats, err := f.nodes[0].stats()
	if err != nil {
		t.Fatal(err)
	}
	for path, count := range stats.Requests {
		if regexp.MustCompile(`^/api/(pull|push|create|copy|delete|blobs)`).MatchString(path) {
			t.Errorf("the node was asked %s %d times", path, count)
		}
	}
}
