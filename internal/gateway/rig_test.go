package gateway

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestMain(m *testing.M) {
	// The compressor is made with its first use, which must not be within the bubble of one test.
	e := cache.NewEntry(cache.Meta{}, cache.Answer{Question: make([]byte, 8<<10)})
	if _, err := e.Answer(nil); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// A rig is a gateway before nodes, all of it over pipes, so that it works in virtual time.
type rig struct {
	*testing.T
	engine   *Engine
	settings *Settings
	front    *simnode.Pipe // what a client connects to
	nodes    []*simnode.Pipe
	hold     *Attachment
}

// rigOptions are what a test wants otherwise than usual.
type rigOptions struct {
	config Config // without nodes
	site   SiteConfig
	other  *SiteConfig // a second site, for requests with the header X-Site
	slots  int
	each   []int // slots of the nodes, where they differ
	host   bool  // the Host rule
	warm   bool  // the model tiny is loaded on all nodes

	observer Observer
}

// inOrder chooses as usual, of equals the first.
var inOrder = schedule.LeastLoaded(func(int) int { return 1 })

const loadBody = `{"model":"tiny","keep_alive":-1}`

// newRig puts a gateway before nodes, which are called n0, n1, ...
func newRig(t *testing.T, opts rigOptions, nodes ...http.Handler) *rig {
	t.Helper()
	r := &rig{T: t, engine: newEngine(slog.New(slog.DiscardHandler), inOrder)}
	if opts.observer != nil {
		r.engine.Observe(opts.observer)
	}
	config := opts.config
	for i, n := range nodes {
		pipe := simnode.NewPipe(n)
		t.Cleanup(pipe.Close)
		r.nodes = append(r.nodes, pipe)
		slots := opts.slots
		if i < len(opts.each) {
			slots = opts.each[i]
		}
		config.Nodes = append(config.Nodes, fleet.NodeConfig{
			Name: fmt.Sprintf("n%d", i), URL: &url.URL{Scheme: "http", Host: "localhost:11434"},
			Slots: slots, Transport: pipe, Key: fmt.Sprint(i),
		})
		if opts.warm {
			r.direct(i, "/api/generate", loadBody)
		}
	}
	site, err := NewSite(opts.site)
	if err != nil {
		t.Fatal(err)
	}
	r.settings = NewSettings(r.engine, config)
	r.hold = r.settings.Attach()
	other := site
	if opts.other != nil {
		if other, err = NewSite(*opts.other); err != nil {
			t.Fatal(err)
		}
	}
	r.front = simnode.NewPipe(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		entry := Entry{Site: site, HostRule: opts.host, Name: "one", User: q.Header.Get("X-Test-User")}
		if q.Header.Get("X-Site") != "" {
			entry.Site, entry.Name = other, "other"
		}
		r.settings.Serve(w, q, entry)
	}))
	t.Cleanup(func() {
		r.front.Close()
		r.engine.Close()
		<-r.engine.Closed()
	})
	if err := r.engine.fleet.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// direct asks a node itself.
func (r *rig) direct(node int, path, body string) (status int, answer string) {
	r.Helper()
	return r.send(node, http.MethodPost, path, body)
}

// remove deletes a model on a node, without the gateway.
func (r *rig) remove(node int, model string) {
	r.Helper()
	if code, answer := r.send(node, http.MethodDelete, "/api/delete", `{"model":"`+model+`"}`); code != http.StatusOK {
		r.Errorf("delete: %d %s", code, answer)
	}
}

func (r *rig) send(node int, method, path, body string) (status int, answer string) {
	r.Helper()
	q, err := http.NewRequestWithContext(r.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	resp, err := r.nodes[node].RoundTrip(q)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// post sends a request and gives the answer, whose body the caller closes.
func (r *rig) post(ctx context.Context, path, body string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		r.Fatal(err)
	}
	return r.front.RoundTrip(q)
}

// ask is post read to its end.
func (r *rig) ask(path, body string) (status int, answer string, header http.Header) {
	r.Helper()
	resp, err := r.post(r.Context(), path, body)
	if err != nil {
		r.Fatalf("POST %s: %v", path, err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatalf("POST %s: read: %v", path, err)
	}
	return resp.StatusCode, string(all), resp.Header
}

// idle fails the test unless nothing is on its way or waiting any more.
func (r *rig) idle() {
	r.Helper()
	if n := r.engine.InFlight(); n != 0 {
		r.Errorf("%d requests still on their way", n)
	}
	for _, v := range r.engine.fleet.Snapshot().Nodes {
		if n := r.engine.queue.InFlight(v.Node); n != 0 {
			r.Errorf("%s: %d slots still in use", v.Node.Name(), n)
		}
	}
	if n := r.engine.bodies.used.Load(); n != 0 {
		r.Errorf("%d bytes of bodies still counted", n)
	}
	if n := r.engine.streams.used.Load(); n != 0 {
		r.Errorf("%d streams still counted", n)
	}
}

// goldenNode is the node of the recordings; scale is of its simulated durations. "broken" was
// installed only for the faults.
func goldenNode(t *testing.T, scale float64) *simnode.Node {
	models := slices.DeleteFunc(simnode.GoldenModels(), func(m simnode.Model) bool { return m.Name == "broken" })
	n := simnode.New(simnode.Options{Models: models, CheckHost: true, Scale: scale})
	t.Cleanup(n.Close)
	return n
}
