package caddymodule

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestDiscover_NodesAreFoundByNameAndLeaveNothingBehind(t *testing.T) {
	before := countTransports()
	node := startNode(t, fast("found"))
	u, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	config := configOf(t, "ollama {\ndiscover a localhost:"+u.Port()+" {\nrefresh 100ms\nslots 3\n}\n}", "http://"+address+" {\nbind 127.0.0.1\nollama\n}\n")
	load(t, config)
	c := overReloads(tcpClient(t))
	eventually(t, "the node is found", func() bool {
		_, body := get(t, c, "http://"+address+"/api/tags")
		return strings.Contains(body, "found:latest")
	})
	frames(t, post(t, c, "http://"+address+"/api/chat", `{"model":"found","messages":[{"role":"user","content":"x"}]}`).Body)
	load(t, config) // another factory, the same node
	frames(t, post(t, c, "http://"+address+"/api/chat", `{"model":"found","messages":[{"role":"user","content":"x"}]}`).Body)
	stop()
	eventually(t, "the transports are given back", func() bool { return countTransports() == before })
}

func TestAdmin_ANodeIsDrainedAndResumed(t *testing.T) {
	up := startNode(t, fast("m"))
	c := adminClient(t, "ollama {\nnode "+up+" {\nname big/one\n}\n}")
	states := func() string { _, body := get(t, c, "http://localhost"+nodesPath); return body }
	do := func(method, path string) int {
		req, _ := http.NewRequest(method, "http://localhost"+path, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	eventually(t, "it is up", func() bool { return strings.Contains(states(), `"state":"up"`) })
	for _, step := range []struct {
		method, path string
		status       int
		state        string
	}{
		{"POST", nodesPath + "/big%2Fone/drain", 204, `"state":"draining","reason":"by the operator"`},
		{"POST", nodesPath + "/big%2Fone/drain", 204, `"usable":false`},
		{"POST", nodesPath + "/big%2Fone/resume", 204, `"usable":true`},
		{"GET", nodesPath + "/big%2Fone/drain", 405, `"usable":true`},
		{"POST", nodesPath + "/nobody/drain", 404, `"usable":true`},
		{"POST", nodesPath + "/big%2Fone/stop", 404, `"usable":true`},
		{"POST", nodesPath + "/", 404, `"usable":true`},
	} {
		if got := do(step.method, step.path); got != step.status || !strings.Contains(states(), step.state) {
			t.Errorf("%s %s: %d, want %d and %s in\n%s", step.method, step.path, got, step.status, step.state, states())
		}
	}
}
