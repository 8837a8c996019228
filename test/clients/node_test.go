package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// The clients that are npm packages. Their tests get the shared gateway's address, and start
// and hurt fleets of their own through the stage.
func TestNodeClients(t *testing.T) {
	t.Parallel()
	node := findNode(t)
	if _, err := os.Stat(filepath.Join("node_modules", "openai")); err != nil {
		t.Fatalf("the npm packages are missing: run `npm ci` in test/clients, as `make test-clients` does (%v)", err)
	}
	files, err := filepath.Glob("*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("no *.test.js here: %v", err)
	}
	f, s := sharedFleet(t), newStage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{"--test", "--test-concurrency=4", "--test-reporter=spec"}, files...)...)
	keeping, err := json.Marshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	managing, err := json.Marshal(uneven)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "GATEWAY="+f.url, "STAGE="+s, "KEPT="+string(keeping), "UNEVEN="+string(managing), "NO_COLOR=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // so that it ends its own children
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		t.Errorf("node --test: %v; what failed stands above", err)
	}
}

// findNode gives the node of the environment, or that which `make test-clients` installs where
// the machine's own is too old, or the machine's own.
func findNode(t *testing.T) string {
	t.Helper()
	node := os.Getenv("NODE")
	if node == "" {
		node = "node"
		installed, _ := filepath.Glob("runtime/node_modules/node-*/bin/node") // only a bad pattern fails
		if len(installed) > 0 {
			node = "." + string(filepath.Separator) + installed[0]
		}
	}
	version, err := exec.Command(node, "--version").Output()
	if err != nil {
		t.Fatalf("node is needed to run the clients that are npm packages: %v; `make test-clients` installs what is missing, or says how", err)
	}
	var major int
	if _, err := fmt.Sscanf(string(version), "v%d.", &major); err != nil || major < 20 {
		t.Fatalf("%s is version %q; the clients want node 20 or newer: `make test-clients` installs one, or set NODE", node, version)
	}
	return node
}

// newStage serves what the tests in node cannot do themselves. It gives its URL.
//
//	POST /fleets               starts a fleet; the body is a plan, the answer {"id","url","nodes"}
//	POST /fleets/ID/kill       kills the one node that is answering
//	POST /fleets/ID/kill/N     kills node N, counted from 0
//	GET  /fleets/ID/idle       answers once no request holds a slot
//	GET  /fleets/ID/generated  counts the answers that its nodes have made
func newStage(t *testing.T) string {
	t.Helper()
	var (
		mu     sync.Mutex // guards fleets
		fleets []*fleet
	)
	t.Cleanup(func() {
		for _, f := range fleets {
			f.Close()
			if t.Failed() {
				t.Logf("the gateway at %s said:\n%s", f.url, f.gateway.output())
			}
		}
	})
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		json.NewEncoder(w).Encode(v)
	}
	asked := func(r *http.Request) (*fleet, error) {
		mu.Lock()
		defer mu.Unlock()
		i, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || i < 0 || i >= len(fleets) {
			return nil, fmt.Errorf("no fleet %s", r.PathValue("id"))
		}
		return fleets[i], nil
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /fleets", func(w http.ResponseWriter, r *http.Request) {
		var p plan
		err := json.NewDecoder(r.Body).Decode(&p)
		var f *fleet
		if err == nil {
			f, err = startFleet(p)
		}
		if err != nil {
			answer(w, nil, err)
			return
		}
		mu.Lock()
		fleets = append(fleets, f)
		id := len(fleets) - 1
		mu.Unlock()
		nodes := make([]string, len(f.nodes))
		for i, n := range f.nodes {
			nodes[i] = n.url
		}
		answer(w, map[string]any{"id": id, "url": f.url, "nodes": nodes}, nil)
	})
	mux.HandleFunc("POST /fleets/{id}/kill", func(w http.ResponseWriter, r *http.Request) {
		f, err := asked(r)
		var url string
		if err == nil {
			url, err = f.killBusy()
		}
		answer(w, url, err)
	})
	mux.HandleFunc("POST /fleets/{id}/kill/{node}", func(w http.ResponseWriter, r *http.Request) {
		f, err := asked(r)
		if err == nil {
			var i int
			if i, err = strconv.Atoi(r.PathValue("node")); err == nil && i >= 0 && i < len(f.nodes) {
				f.nodes[i].kill()
			}
		}
		answer(w, true, err)
	})
	mux.HandleFunc("GET /fleets/{id}/idle", func(w http.ResponseWriter, r *http.Request) {
		f, err := asked(r)
		if err == nil {
			err = f.idle()
		}
		answer(w, true, err)
	})
	mux.HandleFunc("GET /fleets/{id}/generated", func(w http.ResponseWriter, r *http.Request) {
		f, err := asked(r)
		var count int
		if err == nil {
			count, err = f.generated()
		}
		answer(w, count, err)
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux}
	go server.Serve(ln) // ends with the cleanup
	t.Cleanup(func() { server.Close() })
	return "http://" + ln.Addr().String()
}
