package main

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// routingNode is a node that answers at once.
func routingNode(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node := simnode.New(simnode.Options{
		Admin: true, Models: []simnode.Model{{Name: "chat", ShortestAnswer: 5, LongestAnswer: 5}}, Scale: 0.001,
	})
	server := simnode.Serve(ln.(*net.TCPListener), node, simnode.ServerOptions{})
	t.Cleanup(func() { server.Close(); node.Close() })
	return server.Addr().String()
}

func TestRouting_SampleHasWhatTheNodesDidMeanwhile(t *testing.T) {
	addr := routingNode(t)
	c := &client{ctx: t.Context(), addr: addr}
	defer c.close()
	if _, err := c.askChat(workload.Chat{Model: "chat"}); err != nil { // the load does not count
		t.Fatal(err)
	}
	s := new(routingSample)
	if err := s.count([]string{addr}, -1); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat(" river", 100)
	s.play(t.Context(), addr, []workload.Conversation{
		{Model: "chat", Turns: []workload.Turn{{Says: long}, {Says: "and then?"}}},
		{At: 50 * time.Millisecond, Model: "nothing", Turns: []workload.Turn{{Says: "x"}, {Says: "never asked"}}},
	})
	if err := s.count([]string{addr}, 1); err != nil {
		t.Fatal(err)
	}
	if len(s.firsts) != 2 || s.failed != 1 || !strings.Contains(s.fault.Error(), "status 404") {
		t.Errorf("%d answers, %d failed: %v", len(s.firsts), s.failed, s.fault)
	}
	if s.loads != 0 || !slices.Equal(s.requests, []int{3}) || s.prompt < 200 || s.prefixHits() < 0.3 || s.prefixHits() > 0.6 {
		t.Errorf("%d loads, requests %d, %d tokens of prompts, prefix hits %.2f", s.loads, s.requests, s.prompt, s.prefixHits())
	}
}

func TestRouting_AnAnswerWithoutItsEndIsNone(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
	for _, c := range []struct{ name, answer string }{
		{"cut", head + "Content-Length: 90\r\n\r\n" + `{"message":{"content":"so"},"done":false}` + "\n"},
		{"ended in order", head + "Content-Length: 42\r\n\r\n" + `{"message":{"content":"so"},"done":false}` + "\n"},
		{"an error record", head + "Content-Length: 17\r\n\r\n" + `{"error":"sorry"}`},
	} {
		if a, err := answering(t, c.answer).askChat(workload.Chat{Model: "chat"}); err == nil {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}

func TestRouting_GoalsHaveTheirRows(t *testing.T) {
	row := 10
	for _, r := range routings() {
		sample := func(ms int) *routingSample {
			d := time.Duration(ms) * time.Millisecond
			return &routingSample{firsts: []time.Duration{d}, tooks: []time.Duration{d}, loads: ms, prompt: 100, prefix: 60}
		}
		var text strings.Builder
		out := &printer{w: &text}
		routingResult{r, map[string]*routingSample{caddy: sample(100), gateway: sample(50)}}.writeGoals(out)
		lines := strings.Split(strings.TrimSpace(text.String()), "\n")
		if len(lines) != len(r.goals) || out.err != nil {
			t.Fatalf("%s: %q, %v", r.name(), lines, out.err)
		}
		for i, g := range r.goals {
			if g.row != row || g.must == g.bar || g.more != (g.bar > g.must) || !strings.HasPrefix(lines[i], "| ") {
				t.Errorf("%s: %+v\n%s", r.name(), g, lines[i])
			}
		}
		row++
	}
	var all selection
	all.routings = routings()
	if err := all.choose("routing"); err != nil || len(all.routings) != 4 {
		t.Errorf("-scenarios routing leaves %d of them: %v", len(all.routings), err)
	}
}
