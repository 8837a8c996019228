package caddymodule

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// gatewayConfig is a gateway at a TCP address in front of one node. It is no Unix socket,
// because Caddy's listener on one does not survive the failed start of another configuration.
func gatewayConfig(t testing.TB, address, node string) []byte {
	t.Helper()
	return configOf(t, "ollama {\nnode "+node+"\n}", "http://"+address+" {\nbind 127.0.0.1\nollama\n}\n")
}

// siteless is a configuration without the app.
func siteless(t testing.TB, address string) []byte {
	t.Helper()
	return configOf(t, "", "http://"+address+" {\nbind 127.0.0.1\nrespond 204\n}\n")
}

// mustStumble loads a configuration whose other app fails.
func mustStumble(t testing.TB, config []byte, at string) {
	t.Helper()
	err := caddy.Load(withApp(t, config, "stumbling", `{"at":"`+at+`"}`), true)
	if !errors.Is(err, errStumbled) && (err == nil || !strings.Contains(err.Error(), errStumbled.Error())) {
		t.Fatalf("load: got %v, want that the other app stumbles", err)
	}
}

// rules tells whether the fleet consists of one node at an address.
func rules(node string) bool {
	e, ok := currentEngine()
	if !ok {
		return false
	}
	nodes := e.Fleet().Snapshot().Nodes
	return len(nodes) == 1 && nodes[0].Node.URL().String() == node
}

func wantReferences(t testing.TB, want int) {
	t.Helper()
	if got, _ := engines.References(engineKey); got != want {
		t.Errorf("references to the engine: got %d, want %d", got, want)
	}
}

func countTransports() int {
	n := 0
	transports.Range(func(_, _ any) bool { n++; return true })
	return n
}

func TestReload_StreamSurvives(t *testing.T) {
	node := startNode(t, slow("slow"))
	for name, change := range map[string]func(t *testing.T, address string, good []byte){
		"good reload": func(t *testing.T, _ string, good []byte) {
			load(t, good)
			load(t, good)
		},
		"other nodes": func(t *testing.T, address string, _ []byte) {
			load(t, gatewayConfig(t, address, startNode(t, fast("other"))))
		},
		"failed provision": func(t *testing.T, _ string, good []byte) { mustStumble(t, good, "provision") },
		"failed start": func(t *testing.T, _ string, good []byte) {
			for range 5 { // before and after our own Start
				mustStumble(t, good, "start")
			}
		},
		"app removed": func(t *testing.T, address string, _ []byte) { load(t, siteless(t, address)) },
		"app removed and added again": func(t *testing.T, address string, good []byte) {
			load(t, siteless(t, address))
			load(t, good)
		},
		"stopped": func(*testing.T, string, []byte) { caddy.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			good := gatewayConfig(t, address, node)
			load(t, good)
			c := tcpClient(t)
			resp := post(t, c, "http://"+address+"/api/generate", `{"model":"slow","prompt":"hello"}`)
			defer resp.Body.Close()
			first := make([]byte, 1)
			if _, err := io.ReadFull(resp.Body, first); err != nil {
				t.Fatal(err)
			}
			change(t, address, good)
			if got := frames(t, resp.Body); len(got) < 10 {
				t.Errorf("the stream had %d frames more, want a long one: it may have been over before", len(got))
			}
			stop()
			wantReferences(t, 0)
			if left := ownGoroutines(); len(left) > 0 {
				t.Errorf("%d goroutines are left, as\n%s", len(left), left[0])
			}
			if n := countTransports(); n > 0 {
				t.Errorf("%d transports are left", n)
			}
		})
	}
}

func TestReload_LastGoodConfigurationRules(t *testing.T) {
	good, bad := startNode(t, fast("good")), startNode(t, fast("bad"))
	address := freeAddress(t)
	config := gatewayConfig(t, address, good)
	load(t, config)
	made, _ := currentEngine()
	c := tcpClient(t)
	check := func() {
		t.Helper()
		wantReferences(t, 1)
		if e, _ := currentEngine(); e != made {
			t.Fatal("another engine was made")
		}
		if !rules(good) {
			t.Fatalf("the nodes are those of a failed configuration")
		}
		if n := countTransports(); n != 1 {
			t.Errorf("%d transports are held, want 1", n)
		}
	}
	check()
	for i := range 20 {
		switch i % 4 {
		case 0:
			mustStumble(t, gatewayConfig(t, address, bad), "provision")
		case 1, 2: // whether our app was started before is left to chance
			mustStumble(t, gatewayConfig(t, address, bad), "start")
		case 3:
			load(t, config)
		}
		check()
	}
	for name, broken := range map[string]string{
		"own provision": `{"nodes":[{"url":"` + bad + `"},{"url":"ftp://x"}]}`,
		"own transport": `{"nodes":[{"url":"` + bad + `"},{"url":"https://x","tls":{"client_certificate_file":"/none","client_certificate_key_file":"/none"}}]}`,
		"own decoding":  `{"nodess":[]}`,
	} {
		if err := caddy.Load(withApp(t, config, "ollama", broken), true); err == nil {
			t.Fatalf("%s: it was accepted", name)
		}
		check()
	}
	resp := post(t, c, "http://"+address+"/api/generate", `{"model":"good","prompt":"hello"}`)
	frames(t, resp.Body)
	resp.Body.Close()

	load(t, gatewayConfig(t, address, bad))
	if !rules(bad) {
		t.Error("a good configuration does not rule")
	}
	wantReferences(t, 1)
	load(t, siteless(t, address))
	wantReferences(t, 0)
}

func TestReload_ConnectionsToNodesStay(t *testing.T) {
	node := startNode(t, fast("m"))
	address := freeAddress(t)
	config := gatewayConfig(t, address, node)
	load(t, config)
	kept := pooledTransports()
	if len(kept) != 1 {
		t.Fatalf("%d transports, want 1", len(kept))
	}
	load(t, config)
	if now := pooledTransports(); len(now) != 1 || now[0] != kept[0] {
		t.Error("the node has a new transport after a reload that changed nothing")
	}
	load(t, configOf(t, "ollama {\nnode "+node+"\nattempts {\ndial_timeout 1s\n}\n}", ""))
	if now := pooledTransports(); len(now) != 1 || now[0] == kept[0] {
		t.Error("the node has the same transport with another dial_timeout")
	}
}

func pooledTransports() (all []*nodeTransport) {
	transports.Range(func(_, v any) bool {
		all = append(all, v.(*nodeTransport))
		return true
	})
	return all
}

func TestReload_SecretsAreNotSaved(t *testing.T) {
	const secret = "sesame-open"
	t.Setenv("NODE_TOKEN", secret)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var got http.Header
	node := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/version" {
			got = r.Header
		}
		http.NotFound(w, r)
	}))
	saved := caddy.ConfigAutosavePath
	caddy.ConfigAutosavePath = filepath.Join(t.TempDir(), "autosave.json")
	t.Cleanup(func() { caddy.ConfigAutosavePath = saved })

	admin := socket(t)
	text := fmt.Sprintf(`{
		admin unix/%s
		ollama {
			node %s {
				header Authorization "Bearer {env.NODE_TOKEN}"
				header X-Api-Key {file.%s}
			}
		}
	}`, admin, node, file)
	config, err := adapt(text)
	if err != nil {
		t.Fatal(err)
	}
	load(t, config)
	eventually(t, "the node is asked", func() bool { e, _ := currentEngine(); return e.Fleet().Snapshot().Ready })
	if a, k := got.Get("Authorization"), got.Get("X-Api-Key"); a != "Bearer "+secret || k != secret+"-file" {
		t.Errorf("the node got %q and %q", a, k)
	}
	autosaved, err := os.ReadFile(caddy.ConfigAutosavePath)
	if err != nil {
		t.Fatal(err)
	}
	_, served := get(t, client(t, admin, nil), "http://localhost/config/")
	_, nodes := get(t, client(t, admin, nil), "http://localhost"+nodesPath)
	for where, text := range map[string]string{"autosave": string(autosaved), "/config/": served, nodesPath: nodes, "the pool's keys": transportKeys()} {
		if strings.Contains(text, secret) {
			t.Errorf("the secret is in %s: %s", where, text)
		}
	}
	if !strings.Contains(served, "{env.NODE_TOKEN}") {
		t.Errorf("/config/ does not show what was written: %s", served)
	}
}

func transportKeys() string {
	var all strings.Builder
	transports.Range(func(key, _ any) bool {
		fmt.Fprintln(&all, key)
		return true
	})
	return all.String()
}

func TestApp_RefusesOwnListener(t *testing.T) {
	l := freeAddress(t)
	_, port, _ := strings.Cut(l, ":")
	for _, node := range []string{"127.0.0.1:" + port, "localhost:" + port, "http://0.0.0.0:" + port} {
		t.Run(node, func(t *testing.T) {
			config := configOf(t, "ollama {\nnode "+node+"\n}", "http://:"+port+" {\nollama\n}\n")
			t.Cleanup(stop)
			err := caddy.Load(config, true)
			if err == nil || !strings.Contains(err.Error(), "is this gateway's own listener :"+port) {
				t.Errorf("node %s: got %v", node, err)
			}
			wantReferences(t, 0)
		})
	}
}

func TestApp_DirectiveWorksWithoutGlobalOption(t *testing.T) {
	socket := socket(t)
	load(t, configOf(t, "", "http:// {\nbind unix/"+socket+"\nollama\n}\n"))
	if !rules(defaultNode) {
		t.Error("the fleet is not the default node")
	}
	c := client(t, socket, nil)
	if status, body := get(t, c, "http://gateway/"); status != http.StatusOK || body != "Ollama is running" {
		t.Errorf("/: %d %q", status, body)
	}
	if status, body := get(t, c, "http://gateway/other"); status != http.StatusNotFound || body != "404 page not found" {
		t.Errorf("/other: %d %q", status, body)
	}
}

func TestApp_CleanupToleratesEveryHalfOfProvision(t *testing.T) {
	for name, app := range map[string]*App{
		"nothing":    {},
		"bad nodes":  {Nodes: []*Node{{URL: "ftp://x"}}},
		"bad limits": {Limits: &Limits{Body: -1}},
		"bad transport": {Nodes: []*Node{{URL: "a"}, {
			URL: "https://b", TLS: &reverseproxy.TLSConfig{ClientCertificateFile: "/none"},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			if name != "nothing" {
				if err := app.Provision(ctx); err == nil {
					t.Fatal("it was accepted")
				}
			}
			for range 2 {
				if err := app.Cleanup(); err != nil {
					t.Error(err)
				}
			}
			wantReferences(t, 0)
			if n := countTransports(); n > 0 {
				t.Errorf("%d transports are left", n)
			}
		})
	}
}

func TestReload_WaitingRequestKeepsItsPlace(t *testing.T) {
	address := freeAddress(t)
	config := gatewayConfig(t, address, startNode(t, slow("slow")))
	load(t, config)
	c := tcpClient(t)
	const body = `{"model":"slow","prompt":"hello"}`
	running := post(t, c, "http://"+address+"/api/generate", body)
	defer running.Body.Close()
	waiting := make(chan error, 1)
	go func() { // ends with its answer
		resp, err := c.Post("http://"+address+"/api/generate", "application/json", strings.NewReader(body))
		if err == nil {
			defer resp.Body.Close()
			var text []byte
			if text, err = io.ReadAll(resp.Body); err == nil && !strings.Contains(string(text), `"done":true`) {
				err = fmt.Errorf("%d %s", resp.StatusCode, text)
			}
		}
		waiting <- err
	}()
	e, _ := currentEngine()
	eventually(t, "the second request is on its way", func() bool { return e.InFlight() == 2 })
	load(t, config)
	mustStumble(t, config, "start")
	frames(t, running.Body)
	if err := <-waiting; err != nil {
		t.Errorf("the waiting request: %v", err)
	}
}
