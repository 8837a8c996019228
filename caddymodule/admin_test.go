package caddymodule

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// adminClient speaks to the admin endpoint of a gateway in front of nodes.
func adminClient(t *testing.T, ollama string) *http.Client {
	t.Helper()
	admin := socket(t)
	config, err := adapt("{\nadmin unix/" + admin + "\npersist_config off\n" + ollama + "\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	return client(t, admin, nil)
}

func TestAdmin_NodesTellsWhatIsKnown(t *testing.T) {
	up := startNode(t, fast("sim-a"), fast("sim-b"), simnode.Model{Name: "busy", LoadTime: time.Millisecond, FirstToken: time.Minute})
	for _, body := range []string{`{"model":"sim-a","options":{"num_ctx":2048}}`} { // loads it
		resp := post(t, tcpClient(t), up+"/api/generate", body)
		resp.Body.Close()
	}
	dead := "http://" + freeAddress(t)
	c := adminClient(t, "ollama {\nnode "+up+" {\nname big\nslots 3\nheader Authorization \"Bearer x\"\n}\nnode "+dead+"\n}")

	var nodes []map[string]any
	read := func() string {
		status, body := get(t, c, "http://localhost"+nodesPath)
		if status != http.StatusOK {
			t.Fatalf("got %d %s", status, body)
		}
		nodes = nil
		if err := json.Unmarshal([]byte(body), &nodes); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		return body
	}
	eventually(t, "both nodes were asked", func() bool {
		body := read()
		return nodes[0]["state"] == "up" && strings.Contains(body, `"model":"sim-a:latest"`) && nodes[1]["reason"] == "connection refused"
	})
	big, gone := nodes[0], nodes[1]
	for field, want := range map[string]any{
		"name": "big", "url": up, "state": "up", "version": "0.24.0", "slots": 3.0, "in_flight": 0.0, "models": 3.0, "reason": nil,
	} {
		if big[field] != want {
			t.Errorf("%s: got %v, want %v", field, big[field], want)
		}
	}
	runner := big["runners"].([]any)[0].(map[string]any)
	if runner["context_length"] != 2048.0 || runner["size"].(float64) <= 0 {
		t.Errorf("runner: %v", runner)
	}
	for _, when := range []any{big["since"], gone["since"], runner["expires_at"]} {
		if at, err := time.Parse(time.RFC3339, when.(string)); err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("time %v: %v", when, err)
		}
	}
	if gone["name"] != strings.TrimPrefix(dead, "http://") || gone["state"] != "down" || len(gone["runners"].([]any)) != 0 {
		t.Errorf("the dead node: %v", gone)
	}
}

// What has been measured is told of each runner.
func TestAdmin_NodesTellsSpeedsOfRunners(t *testing.T) {
	sock, admin := socket(t), socket(t)
	config, err := adapt("{\nadmin unix/" + admin + "\npersist_config off\nollama {\nnode " + startNode(t, fast("m")) + "\n}\n}\nhttp:// {\nbind unix/" + sock + "\nollama\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	post(t, client(t, sock, nil), "http://localhost/api/generate", `{"model":"m","prompt":"a few words","stream":false}`).Body.Close()
	c := client(t, admin, nil)
	eventually(t, "the speeds are known", func() bool {
		var nodes []nodeStatus
		_, body := get(t, c, "http://localhost"+nodesPath)
		if err := json.Unmarshal([]byte(body), &nodes); err != nil {
			t.Fatal(err)
		}
		return len(nodes[0].Runners) == 1 && nodes[0].Runners[0].PromptRate > 0 && nodes[0].Runners[0].DecodeRate > 0
	})
}

func TestAdmin_RefusesOtherMethods(t *testing.T) {
	c := adminClient(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}")
	for _, method := range []string{http.MethodPost, http.MethodHead, http.MethodDelete} {
		req, _ := http.NewRequest(method, "http://localhost"+nodesPath, nil)
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != http.MethodGet {
			t.Errorf("%s: %d, Allow %q", method, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestAdmin_WithoutTheApp(t *testing.T) {
	c := adminClient(t, "")
	if status, body := get(t, c, "http://localhost"+nodesPath); status != http.StatusNotFound || !strings.Contains(body, "no ollama in it") {
		t.Errorf("got %d %s", status, body)
	}
}
