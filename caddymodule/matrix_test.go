package caddymodule

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// matrixCanary stands in each prompt of the matrix and must stand in no log.
const matrixCanary = "canary-7f31"

// isKnown tells whether a promise of the test is not kept yet: the table of these stands with the
// other tests of the matrix. The part of a test that asks for it is turned round until it is.
func isKnown(t *testing.T) bool {
	t.Helper()
	source, err := os.ReadFile("../internal/gateway/matrix_stand_test.go")
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(t.Name(), "/")
	return bytes.Contains(source, []byte("\t\""+name+"\": "))
}

const (
	matrixChat  = `{"model":"m","messages":[{"role":"user","content":"` + matrixCanary + `"}]}`
	matrixWhole = `{"model":"m","stream":false,"messages":[{"role":"user","content":"` + matrixCanary + `"}]}`
)

// A matrixFront is a gateway of Caddy's on a TCP socket before one node, whose end is checked for
// what holds in every row: nothing on its way, nothing left, no prompt in a log.
type matrixFront struct {
	*testing.T
	address string
	node    *watchedNode
	logFile string
	config  []byte
}

// A matrixSetup is what a row wants otherwise than usual.
type matrixSetup struct {
	server, app, site string // lines of the Caddyfile
	model             simnode.Model
	slots             int
	node              http.HandlerFunc // instead of what the node answers to inference
}

func newMatrixFront(t *testing.T, setup matrixSetup) *matrixFront {
	t.Helper()
	if setup.model.Name == "" {
		setup.model = fast("m")
	}
	sim := simnode.New(simnode.Options{Models: []simnode.Model{setup.model}, Slots: max(1, setup.slots)})
	t.Cleanup(sim.Close)
	f := &matrixFront{T: t, node: &watchedNode{Node: sim, instead: setup.node}, logFile: filepath.Join(t.TempDir(), "log")}
	url := serve(t, f.node)
	f.address = freeAddress(t)
	_, port, _ := strings.Cut(f.address, ":")
	f.config = configOf(t, fmt.Sprintf("log {\noutput file %s\nlevel DEBUG\n}\nservers {\n%s\n}\nollama {\nnode %s {\nslots %d\n}\n%s\n}",
		f.logFile, setup.server, url, max(1, setup.slots), setup.app),
		"http://:"+port+" {\nbind 127.0.0.1\nhandle /metrics {\nmetrics\n}\nhandle {\nollama {\n"+setup.site+"\n}\n}\n}\n")
	load(t, f.config)
	eventually(t, "the node is up", func() bool { e, ok := currentEngine(); return ok && e.Ready() && f.usable() })
	return f
}

// usable tells whether the node is asked for its model.
func (f *matrixFront) usable() bool {
	e, _ := currentEngine()
	s := e.Fleet().Snapshot()
	return s.Models["registry.ollama.ai/library/m:latest"] != nil && s.Nodes[0].Usable()
}

// raw opens a connection and sends bytes on it. It is closed with the test, and has ten seconds.
func (f *matrixFront) raw(text string) (net.Conn, *bufio.Reader) {
	f.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, text); err != nil {
		f.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// A matrixAnswer is what came back; status 0: nothing did.
type matrixAnswer struct {
	status  int
	interim []int
	header  http.Header
	trailer http.Header
	body    string
	closes  bool
}

// answerTo reads the answer to a request with the method.
func answerTo(r *bufio.Reader, method string) (a matrixAnswer) {
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return a
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			a.interim = append(a.interim, resp.StatusCode)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return matrixAnswer{}
		}
		a.status, a.header, a.trailer, a.body, a.closes = resp.StatusCode, resp.Header, resp.Trailer, string(body), resp.Close
		return a
	}
}

// ask sends one request as it stands and reads its answer.
func (f *matrixFront) ask(method, text string) matrixAnswer {
	f.Helper()
	conn, r := f.raw(text)
	defer conn.Close()
	return answerTo(r, method)
}

var (
	matrixGauges   = regexp.MustCompile(`(?m)^caddy_ollama_(?:requests_in_flight|queue_depth|node_in_flight)(?:\{[^}]*\})? (\S+)$`)
	matrixOutcomes = regexp.MustCompile(`(?m)^caddy_ollama_requests_total\{.*outcome="(\w+)"\} (\d+)$`)
)

// scrape gives the metrics.
func (f *matrixFront) scrape() string {
	f.Helper()
	_, text := get(f, tcpClient(f), "http://"+f.address+"/metrics")
	return text
}

// outcomes counts requests by how they ended, in this process so far.
func (f *matrixFront) outcomes() map[string]int {
	f.Helper()
	counts := make(map[string]int)
	for _, m := range matrixOutcomes.FindAllStringSubmatch(f.scrape(), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			f.Fatal(err)
		}
		counts[m[1]] += n
	}
	return counts
}

// settled holds what every row promises, and stops the gateway.
func (f *matrixFront) settled() {
	f.Helper()
	eventually(f, "all gauges are 0", func() bool {
		found := matrixGauges.FindAllStringSubmatch(f.scrape(), -1)
		return len(found) > 2 && !slices.ContainsFunc(found, func(m []string) bool { return m[1] != "0" })
	})
	eventually(f, "the node answers nothing more", func() bool { return f.node.Stats().Running == 0 })
	stop()
	wantReferences(f, 0)
	if left := ownGoroutines(); len(left) > 0 {
		f.Errorf("%d goroutines are left, as\n%s", len(left), left[0])
	}
	said, err := os.ReadFile(f.logFile)
	if err != nil {
		f.Fatal(err)
	}
	if len(said) == 0 || bytes.Contains(said, []byte(matrixCanary)) {
		f.Errorf("the log of %d bytes has a prompt in it, or nothing", len(said))
	}
}

// A watchedNode keeps the inference requests that a node is sent, without the gateway's own loads.
type watchedNode struct {
	*simnode.Node
	instead http.HandlerFunc

	mu   sync.Mutex // guards what follows
	seen []*http.Request
	sent []string
}

func (n *watchedNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path == "/api/show" {
		n.Node.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if isLoad(body) {
		r.Body = io.NopCloser(bytes.NewReader(body))
		n.Node.ServeHTTP(w, r)
		return
	}
	n.mu.Lock()
	n.seen, n.sent = append(n.seen, r.Clone(r.Context())), append(n.sent, string(body))
	n.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	if n.instead != nil {
		n.instead(w, r)
		return
	}
	n.Node.ServeHTTP(w, r)
}

// isLoad tells whether a request to a node only loads a model, as the gateway has it done before it
// sends a call for that.
func isLoad(body []byte) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return false
	}
	for name := range fields {
		if !slices.Contains([]string{"model", "stream", "options", "keep_alive"}, name) {
			return false
		}
	}
	return true
}

// asked gives the requests since the last time.
func (n *watchedNode) asked() (seen []*http.Request, sent []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen, sent = n.seen, n.sent
	n.seen, n.sent = nil, nil
	return seen, sent
}

// direct asks the node itself.
func (n *watchedNode) direct(method, path string, header http.Header, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, "http://localhost"+path, strings.NewReader(body))
	for name, values := range header {
		r.Header[name] = values
	}
	n.Node.ServeHTTP(w, r)
	return w
}
