package caddymodule

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"
	"time"
)

func TestPreload_AModelIsLoadedWithoutARequest(t *testing.T) {
	one, other := startNode(t, fast("sim-a"), fast("sim-b")), startNode(t, fast("sim-a"), fast("sim-b"))
	c := adminClient(t, "ollama {\nnode "+one+" {\npreload SIM-A {\nnum_ctx 2048\n}\n}\nnode "+other+" {\npreload sim-b\n}\n}")
	var nodes []nodeStatus
	eventually(t, "each node has its model", func() bool {
		status, body := get(t, c, "http://localhost"+nodesPath)
		nodes = nil
		if err := json.Unmarshal([]byte(body), &nodes); status != http.StatusOK || err != nil {
			t.Fatalf("got %d %s, %v", status, body, err)
		}
		return !slices.ContainsFunc(nodes, func(n nodeStatus) bool {
			return len(n.Runners) != 1 || len(n.Loads) != 1 || n.Runners[0].Size == 0
		})
	})
	for i, model := range []string{"sim-a:latest", "sim-b:latest"} {
		r, l := nodes[i].Runners[0], nodes[i].Loads[0]
		if r.Model != model || r.ExpiresAt == nil || time.Until(*r.ExpiresAt) < 24*time.Hour {
			t.Errorf("%s goes at %v, want %s never to go", r.Model, r.ExpiresAt, model)
		}
		if l.Model != model || l.Reason != "preload" || l.Failed || l.Again || time.Since(l.At) > time.Minute || l.Took <= 0 {
			t.Errorf("load %+v", l)
		}
	}
	if a := nodes[0].Runners[0]; a.ContextLength != 2048 || a.Options["num_ctx"] != 2048.0 {
		t.Errorf("sim-a: %+v, want num_ctx 2048", a)
	}
	if b := nodes[1].Runners[0]; b.Options == nil || len(b.Options) != 0 {
		t.Errorf("sim-b: %+v, want it to be known that nothing was set", b)
	}
}
