package caddymodule

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// protocols are the ways to a gateway, each with the site and the client for it.
var protocols = []struct {
	name, scheme string
	proto        string
	client       func(*http.Transport)
}{
	{"h1", "http", "HTTP/1.1", nil},
	{"h2c", "http", "HTTP/2.0", func(t *http.Transport) {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}},
	{"h2", "https", "HTTP/2.0", func(t *http.Transport) {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
		t.ForceAttemptHTTP2 = true
	}},
}

// gatewayAt runs a gateway for one protocol, whose site has the name gateway.
func gatewayAt(t *testing.T, scheme, node string) (socketPath string) {
	t.Helper()
	path := socket(t)
	site := scheme + "://gateway {\nbind unix/" + path + "\nollama\n"
	if scheme == "https" {
		cert, key := keyPair(t)
		site += "tls " + cert + " " + key + "\n"
	}
	load(t, configOf(t, "servers {\nprotocols h1 h2 h2c\n}\nollama {\nnode "+node+"\n}", site+"}\n"))
	return path
}

// Each frame must be with the client before the node makes the next one.
func TestStream_EachFrameIsFlushed(t *testing.T) {
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			const frames = 5
			seen := make(chan struct{})
			sim := simnode.New(simnode.Options{Models: []simnode.Model{fast("m")}})
			t.Cleanup(sim.Close)
			node := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				r.Body = io.NopCloser(bytes.NewReader(body))
				if r.URL.Path != "/api/generate" || isLoad(body) {
					sim.ServeHTTP(w, r)
					return
				}
				w.Header().Set("Content-Type", "application/x-ndjson")
				for i := range frames {
					fmt.Fprintf(w, `{"model":"m","created_at":"2026-01-01T00:00:00Z","response":"%d","done":false}`+"\n", i)
					w.(http.Flusher).Flush()
					select {
					case <-seen:
					case <-r.Context().Done():
						return
					}
				}
				fmt.Fprintln(w, `{"model":"m","created_at":"2026-01-01T00:00:00Z","response":"","done":true,"done_reason":"stop"}`)
			}))
			c := client(t, gatewayAt(t, p.scheme, node), p.client)
			c.Timeout = 10 * time.Second
			resp := post(t, c, p.scheme+"://gateway/api/generate", `{"model":"m","prompt":"hello"}`)
			defer resp.Body.Close()
			if resp.Proto != p.proto {
				t.Errorf("protocol: got %s, want %s", resp.Proto, p.proto)
			}
			lines := bufio.NewScanner(resp.Body)
			for i := range frames {
				if !lines.Scan() || !strings.Contains(lines.Text(), fmt.Sprintf(`"response":"%d"`, i)) {
					t.Fatalf("frame %d: %q, %v", i, lines.Text(), lines.Err())
				}
				seen <- struct{}{}
			}
			if !lines.Scan() || !strings.Contains(lines.Text(), `"done":true`) {
				t.Errorf("the end: %q, %v", lines.Text(), lines.Err())
			}
		})
	}
}

// A cold load sends nothing for minutes; the server's limits on idle connections must not end it.
func TestStream_LateFirstByteOutlivesIdleLimits(t *testing.T) {
	const idle = "servers {\nprotocols h1 h2 h2c\ntimeouts {\nread_body_idle 1s\nwrite_idle 1s\n}\n}\n"
	cert, key := keyPair(t)
	var nodes, sites string
	paths := make([]string, len(protocols))
	for i, p := range protocols {
		paths[i] = socket(t)
		sites += p.scheme + "://gateway" + strconv.Itoa(i) + " {\nbind unix/" + paths[i] + "\nollama\n"
		if p.scheme == "https" {
			sites += "tls " + cert + " " + key + "\n"
		}
		sites += "}\n"
		for _, stream := range []bool{true, false} {
			late := fast(fmt.Sprintf("late-%d-%t", i, stream))
			late.LoadTime = 3 * time.Second
			nodes += "node " + startNode(t, late) + "\n" // one each: a node does one load at a time
		}
	}
	load(t, configOf(t, idle+"ollama {\n"+nodes+"}", sites))

	t.Run("all", func(t *testing.T) { // ends when the parallel ones have
		for i, p := range protocols {
			for _, stream := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/stream=%t", p.name, stream), func(t *testing.T) {
					t.Parallel()
					began := time.Now()
					resp := post(t, client(t, paths[i], p.client), fmt.Sprintf("%s://gateway%d/api/generate", p.scheme, i),
						fmt.Sprintf(`{"model":"late-%d-%t","prompt":"hello","stream":%t}`, i, stream, stream))
					defer resp.Body.Close()
					if resp.Proto != p.proto {
						t.Errorf("protocol: got %s, want %s", resp.Proto, p.proto)
					}
					frames(t, resp.Body)
					if took := time.Since(began); took < 3*time.Second {
						t.Errorf("the answer came after %s already: nothing was tested", took)
					}
				})
			}
		}
	})
}
