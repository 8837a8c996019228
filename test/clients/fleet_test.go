package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fleet is a running gateway in front of simulated nodes, each a process of its own.
type fleet struct {
	url     string // of the gateway
	gateway *process
	nodes   []*node
	home    string
	admin   *http.Client // asks the gateway's admin endpoint
}

type node struct {
	*process
	url string
}

// A plan says what fleet to start. The zero value of each field has a default. It is JSON for
// the tests that run in node.
type plan struct {
	Nodes  int      `json:"nodes"`  // Default: 1.
	Slots  int      `json:"slots"`  // of each node. Default: 1.
	Scale  float64  `json:"scale"`  // on every simulated time. Default: 1.
	Models []string `json:"models"` // Default: all sim-* models.
	Queue  string   `json:"queue"`  // lines of the option "queue"
	Cache  string   `json:"cache"`  // lines of the option "cache"; what it keeps is shared by all clients. With it all else that shares is on

	Manage string   `json:"manage"` // "allow" or "deny". Default: what "up" has
	Args   []string `json:"args"`   // further flags of each node in turn, as "--disk 5GB"

	// With Queue, Cache or Manage the gateway runs with a Caddyfile, else by "up".
}

// kept is a fleet whose gateway keeps all answers: sampled ones, too, so that one that was
// generated again says something else, and those that call tools.
var kept = plan{
	Nodes: 2, Scale: 0.05, Models: []string{"sim-small", "sim-tool", "sim-think", "sim-embed"},
	Cache: "\t\t\tttl 1h tools\n\t\t\tttl 1h",
}

// startFleet starts nodes and a gateway in front of them and waits until it is ready.
func startFleet(p plan) (*fleet, error) {
	f := new(fleet)
	ok := false
	defer func() {
		if !ok {
			f.Close()
		}
	}()
	var err error
	if f.home, err = os.MkdirTemp(scrap, ""); err != nil {
		return nil, err
	}
	p.Nodes, p.Slots = max(p.Nodes, 1), max(p.Slots, 1)
	args := []string{"simulate", "--listen", "127.0.0.1:0", "--slots", strconv.Itoa(p.Slots), "--faults-admin"}
	if p.Scale > 0 {
		args = append(args, "--scale", fmt.Sprint(p.Scale))
	}
	if len(p.Models) > 0 {
		args = append(args, "--models", strings.Join(p.Models, ","))
	}
	for i := range p.Nodes {
		args := slices.Clone(args)
		if i < len(p.Args) {
			args = append(args, strings.Fields(p.Args[i])...)
		}
		p, err := start(nil, args...)
		if err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, &node{process: p})
	}
	const listens = "simulated Ollama node listens on "
	for _, n := range f.nodes {
		line, err := n.line(listens)
		if err != nil {
			return nil, err
		}
		n.url = strings.TrimPrefix(line, listens)
	}
	if err := f.startGateway(p); err != nil {
		return nil, err
	}
	ok = true
	return f, nil
}

// startGateway tries a few ports: somebody else may take one that was free.
func (f *fleet) startGateway(p plan) error {
	var failed error
	for range 3 {
		port, err := freePort()
		if err != nil {
			return err
		}
		f.url = "http://localhost:" + port
		if p.Queue == "" && p.Cache == "" && p.Manage == "" {
			failed = f.up(p, port)
		} else {
			failed = f.run(p, port)
		}
		if failed == nil && p.Cache != "" {
			return f.cacheable(p.Models)
		}
		if failed == nil || !strings.Contains(failed.Error(), "in use") {
			return failed
		}
	}
	return failed
}

// cacheable waits until it is known what the answers of models depend on: before that none is kept.
func (f *fleet) cacheable(models []string) error {
	for _, model := range models {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			path, body := "/api/generate", `{"model":"`+model+`","prompt":"nobody asks this"}`
			if strings.Contains(model, "embed") {
				path, body = "/api/embed", `{"model":"`+model+`","input":"nobody asks this"}`
			}
			q, err := http.NewRequest(http.MethodPost, f.url+path, strings.NewReader(body))
			if err != nil {
				return err
			}
			q.Header.Set("Cache-Control", "only-if-cached")
			resp, err := http.DefaultClient.Do(q)
			if err != nil {
				return err
			}
			resp.Body.Close()
			if strings.Contains(resp.Header.Get("Cache-Status"), "detail=only-if-cached") {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%s: no answer can be kept: %q", model, resp.Header.Get("Cache-Status"))
			}
		}
	}
	return nil
}

// up starts the gateway as one does without a file.
func (f *fleet) up(p plan, port string) (err error) {
	var urls []string
	for _, n := range f.nodes {
		urls = append(urls, n.url)
	}
	env := []string{"HOME=" + f.home, "OLLAMA_NODES=" + strings.Join(urls, ","), "OLLAMA_NUM_PARALLEL=" + strconv.Itoa(p.Slots)}
	if f.gateway, err = start(env, "up", "--listen", "localhost:"+port, "--https", "off"); err != nil {
		return err
	}
	f.admin = adminAt(filepath.Join(f.home, ".local", "share", "caddy", "ollama-up.sock"))
	_, err = f.gateway.line("READY")
	return err
}

// run starts the gateway with a Caddyfile.
func (f *fleet) run(p plan, port string) (err error) {
	socket := filepath.Join(f.home, "admin.sock")
	var text strings.Builder
	fmt.Fprintf(&text, "{\n\tadmin unix/%s|0600\n\tpersist_config off\n\tlog {\n\t\texclude admin.api\n\t}\n\tollama {\n", socket)
	for _, n := range f.nodes {
		fmt.Fprintf(&text, "\t\tnode %s {\n\t\t\tslots %d\n\t\t}\n", n.url, p.Slots)
	}
	site := "ollama"
	if p.Queue != "" {
		fmt.Fprintf(&text, "\t\tqueue {\n%s\n\t\t}\n", p.Queue)
	}
	if p.Cache != "" {
		fmt.Fprintf(&text, "\t\tcache {\n%s\n\t\t}\n\t\tcoalesce\n\t\tbatch embed\n", p.Cache)
		site = "ollama {\n\t\ttenant shared\n\t}" // clients send different credentials
	}
	if p.Manage != "" {
		site = "ollama {\n\t\tmanage " + p.Manage + "\n\t}"
	}
	fmt.Fprintf(&text, "\t}\n}\n\nhttp://:%s {\n\tbind 127.0.0.1 ::1\n\t%s\n}\n", port, site)
	file := filepath.Join(f.home, "Caddyfile")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		return err
	}
	if f.gateway, err = start([]string{"HOME=" + f.home}, "run", "--config", file); err != nil {
		return err
	}
	f.admin = adminAt(socket)
	if _, err := f.gateway.line("serving initial configuration"); err != nil {
		return err
	}
	return f.wait("fleet of which everything is known", func(nodes []nodeStatus) bool {
		return !slices.ContainsFunc(nodes, func(n nodeStatus) bool { return n.State != "up" || n.Models == 0 })
	})
}

// Close ends all of it.
func (f *fleet) Close() {
	if f.gateway != nil {
		f.gateway.kill()
	}
	for _, n := range f.nodes {
		n.kill()
	}
	os.RemoveAll(f.home)
}

func adminAt(socket string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
}

// A nodeStatus is what these tests read of GET /ollama/nodes.
type nodeStatus struct {
	URL      string
	State    string
	Models   int
	InFlight int `json:"in_flight"`
}

// status asks the admin endpoint.
func (f *fleet) status() ([]nodeStatus, error) {
	resp, err := f.admin.Get("http://localhost/ollama/nodes")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the admin endpoint answers %d %s", resp.StatusCode, body)
	}
	var nodes []nodeStatus
	return nodes, json.Unmarshal(body, &nodes)
}

// wait asks the admin endpoint until enough is true.
func (f *fleet) wait(what string, enough func([]nodeStatus) bool) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); ; <-look.C {
		nodes, err := f.status()
		if err != nil {
			return err
		}
		if enough(nodes) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no %s in %s: %+v", what, patience, nodes)
		}
	}
}

// idle waits until no request holds a slot.
func (f *fleet) idle() error {
	return f.wait("free slots", func(nodes []nodeStatus) bool {
		return !slices.ContainsFunc(nodes, func(n nodeStatus) bool { return n.InFlight != 0 })
	})
}

// generated counts the answers and vectors that the nodes have made so far. Nothing but a request
// that a client has sent adds to it.
func (f *fleet) generated() (count int, err error) {
	for _, n := range f.nodes {
		s, err := n.stats()
		if err != nil {
			return 0, err
		}
		for _, m := range s.Models {
			count += m.Answers
		}
	}
	return count, nil
}

// A nodeStats is what these tests read of a node's counts.
type nodeStats struct {
	Requests map[string]int // by path
	Models   map[string]struct{ Answers int }
}

// stats asks a node for its counts.
func (n *node) stats() (nodeStats, error) {
	var report struct{ Stats nodeStats }
	err := n.read("/_faults", &report)
	return report.Stats, err
}

// models are the names that a node itself lists.
func (n *node) models() ([]string, error) {
	var list struct{ Models []struct{ Name string } }
	err := n.read("/api/tags", &list)
	var names []string
	for _, m := range list.Models {
		names = append(names, m.Name)
	}
	slices.Sort(names)
	return names, err
}

// read asks a node itself.
func (n *node) read(path string, v any) error {
	resp, err := http.Get(n.url + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		return fmt.Errorf("%s%s: %w", n.url, path, err)
	}
	return nil
}

// killBusy kills the one node that is answering, as a crash would, and gives its URL.
func (f *fleet) killBusy() (string, error) {
	nodes, err := f.status()
	if err != nil {
		return "", err
	}
	nodes = slices.DeleteFunc(nodes, func(n nodeStatus) bool { return n.InFlight == 0 })
	if len(nodes) != 1 {
		return "", fmt.Errorf("got %+v, want one node that is busy", nodes)
	}
	i := slices.IndexFunc(f.nodes, func(n *node) bool { return n.url == nodes[0].URL })
	if i < 0 {
		return "", fmt.Errorf("%s is none of the nodes that were started", nodes[0].URL)
	}
	f.nodes[i].kill()
	return nodes[0].URL, nil
}

// newFleet is startFleet for one test.
func newFleet(t *testing.T, p plan) *fleet {
	t.Helper()
	f, err := startFleet(p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Close()
		if t.Failed() {
			t.Logf("the gateway said:\n%s", f.gateway.output())
		}
	})
	return f
}

// calm is a fleet for all tests that only ask and answer: quick nodes with room for everybody.
// Three, so that all seven models can stay loaded: a node holds three at a time.
var calm = sync.OnceValues(func() (*fleet, error) {
	return startFleet(plan{Nodes: 3, Slots: 8, Scale: 0.05})
})

func sharedFleet(t *testing.T) *fleet {
	t.Helper()
	f, err := calm()
	if err != nil {
		t.Fatal(err)
	}
	return f
}
