package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Two nodes, 40 requests, and one node is killed in their middle: 8 streams have begun, 4 on
// each node; 24 streams and 8 single requests wait. Only the streams that ran on the killed
// node may end early, and they say so.
func TestUp_AKilledNodeCostsOnlyWhatItWasSaying(t *testing.T) {
	t.Parallel()
	const slots = 4
	args := []string{"--slots", "4", "--models", "sim-chat", "--scale", "0.5"}
	victim, victimURL := startSimulate(t, 1, args...)
	_, otherURL := startSimulate(t, 1, args...)
	g := startUp(t, []string{"OLLAMA_NODES=" + victimURL[0] + "," + otherURL[0], "OLLAMA_NUM_PARALLEL=4"})

	nodes := g.nodes()
	if len(nodes) != 2 || nodes[0].URL != victimURL[0] || nodes[1].URL != otherURL[0] {
		t.Fatalf("got %+v, want %s and %s", nodes, victimURL[0], otherURL[0])
	}
	client := g.client("HTTP/1.1")
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 40
	if _, body := get(t, client, base("http", "localhost", g.httpPort)+"/api/tags", ""); strings.Count(body, `"name"`) != 1 || !strings.Contains(body, "sim-chat") {
		t.Errorf("models: got %s, want sim-chat only", body)
	}
	chat := base("http", "localhost", g.httpPort) + "/api/chat"

	var (
		running, began, sent sync.WaitGroup
		answers              = make([]*stream, 40)
	)
	ask := func(i int, body string, wrote, first func()) {
		running.Go(func() { // ends with the answer
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
				WroteRequest: func(httptrace.WroteRequestInfo) { wrote() },
			})
			answers[i] = askStream(ctx, client, chat, body, first)
		})
	}
	nothing := func() {}
	for i := range 2 * slots {
		began.Add(1)
		ask(i, chatBody("sim-chat", fmt.Sprint("long ", i), ""), nothing, began.Done)
	}
	began.Wait()
	g.waitForNodes("even load", func(nodes []nodeStatus) bool {
		return nodes[0].InFlight == slots && nodes[1].InFlight == slots
	})
	for i := 2 * slots; i < len(answers); i++ {
		more := `,"options":{"num_predict":8}`
		if i%4 == 0 {
			more += `,"stream":false`
		}
		sent.Add(1)
		ask(i, chatBody("sim-chat", fmt.Sprint("short ", i), more), sent.Done, nil)
	}
	sent.Wait()
	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	running.Wait()

	broken := 0
	for i, s := range answers {
		switch ended := endOf(s); {
		case ended == "done":
		case ended == "error" && i < 2*slots:
			broken++
		default:
			t.Errorf("request %d: status %d, %d frames, %v, last %s", i, s.status, len(s.frames), s.err, s.last())
		}
	}
	if broken < 1 || broken > slots {
		t.Errorf("%d streams ended early, want those on the killed node: 1 to %d", broken, slots)
	}

	g.waitForNodes("node that is down", func(nodes []nodeStatus) bool {
		return slices.ContainsFunc(nodes, func(n nodeStatus) bool { return n.URL == victimURL[0] && n.State == "down" })
	})
	if s := askStream(t.Context(), client, chat, chatBody("sim-chat", "after", `,"options":{"num_predict":2}`), nil); endOf(s) != "done" {
		t.Errorf("afterwards: status %d, %v, %s", s.status, s.err, s.last())
	}
}

// endOf tells how a native answer ended: "done", with an "error" record in an orderly end, or
// neither.
func endOf(s *stream) string {
	var last struct {
		Done  bool
		Error string
	}
	switch {
	case s.err != nil || s.status != http.StatusOK || json.Unmarshal([]byte(s.last()), &last) != nil:
		return ""
	case last.Done:
		return "done"
	case last.Error != "":
		return "error"
	}
	return ""
}
