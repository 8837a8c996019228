package caddymodule

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// 53
func TestMatrix_AnIPv6NodeIsOneLikeOthers(t *testing.T) {
	for _, written := range []string{"::1", "[::1]", "[::1]:11434", "http://[::1]", "http://[0:0:0:0:0:0:0:1]:11434/"} {
		u, err := parseNodeURL(written)
		if err != nil || u.Port() != "11434" || !net.ParseIP(u.Hostname()).IsLoopback() {
			t.Errorf("%s: %v %v, want port 11434 of ::1", written, u, err)
		}
	}
	if _, err := parseNodeURL("http://::1:11434"); err == nil {
		t.Error("an address whose port cannot be told was taken")
	}
	socket, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Logf("this kernel has no IPv6 loopback, only the form of addresses was tested: %v", err)
		return
	}
	node := simnode.New(simnode.Options{Models: []simnode.Model{fast("m")}, CheckHost: true})
	t.Cleanup(node.Close)
	server := httptest.NewUnstartedServer(node)
	server.Listener.Close()
	server.Listener = socket
	server.Start()
	t.Cleanup(server.Close)
	address := freeAddress(t)
	load(t, gatewayConfig(t, address, server.URL))
	eventually(t, "the node is up", func() bool { e, _ := currentEngine(); return e.Ready() })
	resp := post(t, tcpClient(t), "http://"+address+"/api/chat", matrixChat)
	defer resp.Body.Close()
	frames(t, resp.Body)
	if !rules(server.URL) || !strings.HasPrefix(server.URL, "http://[::1]:") {
		t.Errorf("the fleet is not the node %s", server.URL)
	}
}

// 33
func TestMatrix_TwentyReloadsCostNoneOfAHundredStreams(t *testing.T) {
	const streams, waiting, reloads = 100, 10, 20
	long := slow("m")
	long.DecodeRate = 150 // two seconds for a hundred at once, which the reloads must not outlast
	f := newMatrixFront(t, matrixSetup{model: long, slots: streams})
	before := f.outcomes()["ok"]
	var clients, began sync.WaitGroup
	c := tcpClient(t)
	c.Transport.(*http.Transport).DisableKeepAlives = true
	ask := func(first func()) {
		resp, err := c.Post("http://"+f.address+"/api/chat", "application/json", strings.NewReader(matrixChat))
		if err != nil {
			first()
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		_, err = io.ReadFull(resp.Body, make([]byte, 1))
		first()
		if err != nil {
			t.Error(err)
			return
		}
		if rest, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 || !strings.Contains(string(rest), `"done":true`) {
			t.Errorf("%d %v, ends with %.200s", resp.StatusCode, err, rest[max(0, len(rest)-200):])
		}
	}
	for range streams {
		began.Add(1)
		clients.Go(func() { ask(began.Done) }) // ends with its answer
	}
	began.Wait()
	for range waiting {
		clients.Go(func() { ask(func() {}) }) // ends with its answer
	}
	e, _ := currentEngine()
	eventually(t, "all are on their way", func() bool { return e.InFlight() == streams+waiting })
	for i := range reloads {
		switch i % 4 {
		case 3:
			mustStumble(t, f.config, "start")
		case 1:
			mustStumble(t, f.config, "provision")
		default:
			if err := caddy.Load(f.config, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if now, _ := currentEngine(); now != e || e.InFlight() != streams+waiting {
		t.Errorf("%d of %d are on their way after %d reloads: the streams were over, or lost", e.InFlight(), streams+waiting, reloads)
	}
	clients.Wait()
	if text := f.scrape(); !strings.Contains(text, "caddy_config_last_reload_successful 0") { // the last one stumbled
		t.Error("the metrics do not tell of the failed reload")
	}
	var after int
	eventually(t, "the outcomes are counted", func() bool { after = f.outcomes()["ok"] - before; return after == streams+waiting })
	if peak := f.node.Stats().Models["m:latest"].Peak; peak > streams {
		t.Errorf("%d ran at once on %d slots", peak, streams)
	}
	f.settled()
}
