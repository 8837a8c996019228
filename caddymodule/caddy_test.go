package caddymodule

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// globals are the global options of every test: nothing of the machine is touched.
const globals = "admin off\npersist_config off\nskip_install_trust\nauto_https disable_redirects\n"

func init() {
	caddy.RegisterModule(new(stumbling))
}

// stumbling is an app that fails where it is told to.
type stumbling struct {
	At string `json:"at,omitempty"`
}

func (*stumbling) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "stumbling", New: func() caddy.Module { return new(stumbling) }}
}

var errStumbled = errors.New("stumbled")

func (s *stumbling) at(place string) error {
	if s.At == place {
		return errStumbled
	}
	return nil
}
func (s *stumbling) Provision(caddy.Context) error { return s.at("provision") }
func (s *stumbling) Start() error                  { return s.at("start") }
func (s *stumbling) Stop() error                   { return nil }

// configOf adapts a Caddyfile whose global options are more and site the rest.
func configOf(t testing.TB, more, sites string) []byte {
	t.Helper()
	text := "{\n" + globals + more + "\n}\n" + sites
	made, err := adapt(text)
	if err != nil {
		t.Fatalf("adapt:\n%s\n%v", text, err)
	}
	return made
}

// withApp adds an app to a configuration.
func withApp(t testing.TB, config []byte, name, value string) []byte {
	t.Helper()
	var c map[string]any
	if err := json.Unmarshal(config, &c); err != nil {
		t.Fatal(err)
	}
	c["apps"].(map[string]any)[name] = json.RawMessage(value)
	made, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// load runs a configuration until the test ends.
func load(t testing.TB, config []byte) {
	t.Helper()
	t.Cleanup(stop)
	if err := caddy.Load(config, true); err != nil {
		t.Fatalf("load: %v\n%s", err, config)
	}
}

// stop ends what Caddy runs and waits until nothing of ours is left.
func stop() {
	caddy.Stop()
	for deadline := time.Now().Add(10 * time.Second); len(ownGoroutines()) > 0 && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
}

// ownGoroutines gives the stacks of all goroutines that run the gateway's code, but for the
// tests and the simulated nodes.
func ownGoroutines() []string {
	buf := make([]byte, 4<<20)
	own := regexp.MustCompile(`caddy-ollama/(internal/(gateway|fleet|attempt|schedule|recording)|caddymodule)\b`)
	var found []string
	for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if own.MatchString(stack) && !strings.Contains(stack, "testing.") {
			found = append(found, stack)
		}
	}
	return found
}

// fast is a model that answers at once.
func fast(name string) simnode.Model {
	return simnode.Model{Name: name, LoadTime: time.Millisecond, DecodeRate: 1e6, PromptRate: 1e6}
}

// slow is a model whose answers take more than a second, in many frames.
func slow(name string) simnode.Model {
	return simnode.Model{Name: name, LoadTime: time.Millisecond, DecodeRate: 25, ShortestAnswer: 30, LongestAnswer: 35}
}

// startNode runs a simulated node and gives its address.
func startNode(t testing.TB, models ...simnode.Model) string {
	t.Helper()
	node := simnode.New(simnode.Options{Models: models, Slots: 4})
	t.Cleanup(node.Close)
	return serve(t, node)
}

// serve runs a handler as a node and gives its address.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// socket gives the path of a Unix socket to bind to: no port has to be free.
func socket(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gw") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// client speaks to a socket, whatever the URL's host.
func client(t testing.TB, socket string, change func(*http.Transport)) *http.Client {
	t.Helper()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	if change != nil {
		change(transport)
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// tcpClient is a client without idle connections from before.
func tcpClient(t testing.TB) *http.Client {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// overReloads makes a client that asks again when a connection ends without an answer: right
// after a reload the server before may still take one, since Caddy closes its listener in the
// background.
func overReloads(c *http.Client) *http.Client {
	return &http.Client{Transport: persistent{c.Transport}}
}

type persistent struct{ http.RoundTripper }

func (p persistent) RoundTrip(r *http.Request) (*http.Response, error) {
	for end := time.Now().Add(5 * time.Second); ; {
		resp, err := p.RoundTripper.RoundTrip(r)
		if err == nil || time.Now().After(end) {
			return resp, err
		}
		if r.GetBody != nil {
			if r.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// post sends JSON and gives the answer, which must have the status 200.
func post(t testing.TB, c *http.Client, url, body string) *http.Response {
	t.Helper()
	resp, err := c.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		t.Fatalf("%s %s: %d %s", url, body, resp.StatusCode, text)
	}
	return resp
}

// get gives status and body.
func get(t testing.TB, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// frames reads an NDJSON answer to its end and fails unless it ends complete.
func frames(t testing.TB, r io.Reader) [][]byte {
	t.Helper()
	var all [][]byte
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		all = append(all, bytes.Clone(lines.Bytes()))
	}
	if err := lines.Err(); err != nil {
		t.Fatalf("after %d frames: %v", len(all), err)
	}
	if len(all) == 0 || !bytes.Contains(all[len(all)-1], []byte(`"done":true`)) {
		t.Fatalf("%d frames without a final one; last: %s", len(all), all[max(0, len(all)-1):])
	}
	return all
}

// eventually waits until ok, at most for ten seconds.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10s: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
