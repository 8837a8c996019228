package caddymodule

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestSimulatedModels(t *testing.T) {
	if got, want := len(simulatedModels(nil)), len(simnode.SimModels()); got != want {
		t.Errorf("nothing named: got %d models, want all %d", got, want)
	}
	models := simulatedModels([]string{"sim-small", "tiny"})
	if len(models) != 2 || models[0].Name != "sim-small" || models[0].DecodeRate == 0 || models[1].Name != "tiny" {
		t.Errorf("got %+v, want sim-small with its speed and a plain tiny", models)
	}
}

func TestListenInARow_TakesThePortsThatFollow(t *testing.T) {
	// The kernel gives the first port; whether the next is free is luck, so it is tried often.
	for range 20 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := first.Addr().(*net.TCPAddr)
		first.Close()
		listeners, err := listenInARow(address.String(), 2)
		if err != nil {
			continue
		}
		second := listeners[1].Addr().(*net.TCPAddr)
		for _, ln := range listeners {
			ln.Close()
		}
		if second.Port != address.Port+1 {
			t.Errorf("got port %d after %d", second.Port, address.Port)
		}
		return
	}
	t.Fatal("no two free ports in a row in 20 tries")
}

func TestListenInARow_Refuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "in use",
		"127.0.0.1":           "ADDR:PORT",
		"127.0.0.1:65535":     "between 0 and 65535",
		"127.0.0.1:x":         "between 0 and 65535",
	} {
		if _, err := listenInARow(address, 2); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("--listen %s: got %v, want it to say %q", address, err, want)
		}
	}
}

func TestStartSimulatedFleet_ServesWhatItNames(t *testing.T) {
	found, err := startSimulatedFleet(2, 3)
	if err != nil {
		t.Fatal(err)
	}
	if len(found.nodes) != 2 || found.slots != 3 || found.nodes[1].Name != "sim-2" {
		t.Fatalf("got %+v", found)
	}
	for _, n := range found.nodes {
		resp, err := http.Get(n.URL.String() + "/api/tags")
		if err != nil {
			t.Fatal(err)
		}
		var tags struct{ Models []struct{ Name string } }
		err = json.NewDecoder(resp.Body).Decode(&tags)
		resp.Body.Close()
		if err != nil || len(tags.Models) == 0 {
			t.Fatalf("node %s: %v, %+v", n.Name, err, tags)
		}
		for _, m := range tags.Models {
			if !strings.HasPrefix(m.Name, "sim-") {
				t.Errorf("node %s has a model %s that does not look simulated", n.Name, m.Name)
			}
		}
	}
}
