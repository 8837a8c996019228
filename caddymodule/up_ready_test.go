package caddymodule

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// snapshotOf is a fleet of one node that is up with these models, and one that is down.
func snapshotOf(models ...*fleet.Model) *fleet.Snapshot {
	node := func(name, address string) *fleet.Node {
		return fleet.NewNode(fleet.NodeConfig{Name: name, URL: &url.URL{Scheme: "http", Host: address}})
	}
	up, down := node("big", "10.0.0.1:11434"), node("10.0.0.2:11434", "10.0.0.2:11434")
	s := &fleet.Snapshot{Ready: true, Version: "0.24.0", Models: map[string]*fleet.Model{}, Nodes: []fleet.NodeView{
		{Node: up, State: fleet.Up, Models: len(models)},
		{Node: down, State: fleet.Down, Reason: "connection refused"},
	}}
	for _, m := range models {
		m.Key, m.Nodes = m.Short, []*fleet.Node{up}
		s.Models[m.Key] = m
	}
	return s
}

func TestReadyText_SaysWhatIsServed(t *testing.T) {
	got := upPlanOf(t, []string{"10.0.0.1", "10.0.0.2"}, nil, defaultListen, defaultHTTPS).readyText(snapshotOf(
		&fleet.Model{Short: "qwen3:8b", Identity: "q"},
		&fleet.Model{Short: "all-minilm:latest", Identity: "a", Embedding: true},
	))
	want := `READY: serving Ollama's API on http://localhost:8080 and https://localhost:8443

  certificate authority of https: /home/alice/.local/share/caddy/pki/authorities/local/root.crt

  node big              http://10.0.0.1:11434   up                         2 models
  node 10.0.0.2:11434   http://10.0.0.2:11434   down: connection refused   0 models

  models: all-minilm, qwen3:8b

  status: http://localhost:8080/status/ and, in a terminal, the command top

  Try:
  curl http://localhost:8080/api/chat -d '{"model":"qwen3:8b","messages":[{"role":"user","content":"Why is the sky blue?"}]}'

`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadyText_SaysWhatIsNotSo(t *testing.T) {
	plan := upPlanOf(t, []string{"10.0.0.1"}, nil, ":9000", "off")
	var many []*fleet.Model
	for i := range shownModels + 3 {
		many = append(many, &fleet.Model{Short: fmt.Sprintf("m%02d:latest", i)})
	}
	nobody := snapshotOf()
	nobody.Version = ""
	for name, test := range map[string]struct {
		text string
		want []string
		not  []string
	}{
		"others can connect": {plan.readyText(snapshotOf()), []string{"Others than this machine"}, []string{"https", "certificate"}},
		"no node is up":      {plan.readyText(nobody), []string{"No node answers yet", "none yet", "curl http://localhost:9000/api/tags"}, nil},
		"many models":        {plan.readyText(snapshotOf(many...)), []string{"m00, m01", "m11 and 3 more"}, []string{"m12"}},
		"embeddings only": {
			plan.readyText(snapshotOf(&fleet.Model{Short: "e:latest", Embedding: true})),
			[]string{"models: e\n", "/api/tags"},
			[]string{"/api/chat"},
		},
	} {
		for _, part := range test.want {
			if !strings.Contains(test.text, part) {
				t.Errorf("%s: no %q in\n%s", name, part, test.text)
			}
		}
		for _, part := range test.not {
			if strings.Contains(test.text, part) {
				t.Errorf("%s: %q in\n%s", name, part, test.text)
			}
		}
	}
}
