package caddymodule

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestSimulated_PullsFromTheirOwnRegistry(t *testing.T) {
	models, err := newSimulatedRegistry([]simnode.Model{{Name: "me/plain", Size: 1000}})
	if err != nil {
		t.Fatal(err)
	}
	defer models.Close()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	node := startSimulated(ln.(*net.TCPListener), simnode.Options{Registry: models, Scale: 0.01, Disk: 1_000_000_000}, simnode.ServerOptions{})
	defer node.Close()
	for model, want := range map[string]string{
		"me/plain":  `{"status":"success"}`,
		"sim-small": `{"status":"success"}`,
		"sim-chat":  "no space left on device",
		"llama3.2":  "pull model manifest: file does not exist",
	} {
		resp, err := http.Post(node.url+"/api/pull", "application/json", strings.NewReader(`{"stream":false,"model":"`+model+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d %s, %v; want %s", model, resp.StatusCode, body, err, want)
		}
	}
}

func TestSizeFlag(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "20GB": 20_000_000_000, "512MiB": 512 << 20} {
		if got, err := sizeFlag("disk", text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "much", "-1"} {
		if _, err := sizeFlag("disk", text); err == nil || !strings.Contains(err.Error(), "--disk "+text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
