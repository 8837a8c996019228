package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// canary stands in each prompt of the matrix and must stand in no log.
const canary = "canary-7f31"

// known are the promises that are not kept yet, by test, with the reason. The part of a test
// that asks for them is left out until they are. Tests of caddymodule read it here, too.
var known = map[string]string{}

// A stand is a rig of simulated nodes whose end is checked for what holds in every row: one
// outcome a request, nothing on its way, no prompt in a log.
type stand struct {
	*rig
	witness
	sim    []*simnode.Node
	before []int // requests that made a node ready
	log    *journal
	way    http.RoundTripper // to the registry
}

// A standSetup is what a row wants otherwise than usual.
type standSetup struct {
	nodes    int // default: 2
	slots    int
	scale    float64 // of simulated durations. Default: 0.01.
	config   Config
	site     SiteConfig
	versions []string
	cold     bool // else the model is loaded on all nodes

	registry *registry.Registry // that the nodes pull from; nil: none
	disk     []int64            // bytes each node has room for, where it is bounded
}

// onStand runs a row in virtual time.
func onStand(t *testing.T, setup standSetup, row func(*stand)) {
	t.Helper()
	if setup.nodes == 0 {
		setup.nodes = 2
	}
	if setup.scale == 0 {
		setup.scale = 0.01
	}
	synctest.Test(t, func(t *testing.T) {
		s := &stand{log: &journal{}}
		s.rig = &rig{T: t, engine: newEngine(slog.New(slog.NewTextHandler(s.log, &slog.HandlerOptions{Level: slog.LevelDebug})), inOrder)}
		if NewCounting != nil {
			s.real = NewCounting(s.engine.State)
		}
		s.engine.Observe(&s.witness)
		models := slices.DeleteFunc(simnode.GoldenModels(), func(m simnode.Model) bool { return m.Name == "broken" })
		config := setup.config
		if setup.registry != nil {
			pipe := simnode.NewPipe(setup.registry)
			t.Cleanup(pipe.Close)
			s.way = pipe
		}
		for i := range setup.nodes {
			o := simnode.Options{Models: models, CheckHost: true, Scale: setup.scale, Slots: setup.slots, Registry: s.way}
			if i < len(setup.versions) {
				o.Version = setup.versions[i]
			}
			if i < len(setup.disk) {
				o.Disk = setup.disk[i]
			}
			n := simnode.New(o)
			t.Cleanup(n.Close)
			pipe := simnode.NewPipe(n)
			t.Cleanup(pipe.Close)
			s.sim, s.nodes = append(s.sim, n), append(s.nodes, pipe)
			config.Nodes = append(config.Nodes, fleet.NodeConfig{
				Name: fmt.Sprintf("n%d", i), URL: &url.URL{Scheme: "http", Host: "localhost:11434"},
				Slots: setup.slots, Transport: pipe, Key: fmt.Sprint(i),
			})
		}
		for i := range s.nodes {
			if !setup.cold {
				s.direct(i, "/api/generate", loadBody)
			}
			s.before = append(s.before, 0)
			s.before[i] = s.served(i)
		}
		site, err := NewSite(setup.site)
		if err != nil {
			t.Fatal(err)
		}
		s.settings = NewSettings(s.engine, config)
		s.hold = s.settings.Attach()
		s.front = simnode.NewPipe(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
			s.settings.Serve(w, q, Entry{Site: site})
		}))
		t.Cleanup(func() {
			s.front.Close()
			s.engine.Close()
			<-s.engine.Closed()
		})
		if err := s.engine.fleet.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		row(s)
		time.Sleep(time.Second) // the limit for a departure to reach a node
		s.settled()
	})
}

// settled holds what every row promises.
func (s *stand) settled() {
	s.Helper()
	synctest.Wait()
	s.idle()
	for _, class := range []call.Class{call.Interactive, call.Batch} {
		if n := s.engine.queue.Waiting(class); n != 0 {
			s.Errorf("%d calls still wait", n)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.begun) != len(s.records) {
		s.Errorf("%d requests had %d outcomes", len(s.begun), len(s.records))
	}
	if s.real != nil {
		if err := s.real.Check(s.records); err != nil {
			s.Error(err)
		}
	}
	if said := s.log.String() + fmt.Sprintf("%+v", s.records); strings.Contains(said, canary) {
		s.Errorf("a prompt was logged: %s", said)
	}
	for i, n := range s.sim {
		for name, m := range n.Stats().Models {
			if m.Running != 0 || m.Waiting != 0 {
				s.Errorf("n%d still works on %d and holds %d of %s", i, m.Running, m.Waiting, name)
			}
		}
	}
}

// fail sets faults on one node; none heals it.
func (s *stand) fail(node int, faults ...string) {
	s.Helper()
	var list []simnode.Fault
	for _, text := range faults {
		f, err := simnode.ParseFault(text)
		if err != nil {
			s.Fatal(err)
		}
		list = append(list, f)
	}
	if err := s.sim[node].SetFaults(list...); err != nil {
		s.Fatal(err)
	}
	synctest.Wait() // the door has moved
}

// state is that of a node.
func (s *stand) state(node int) fleet.State {
	return s.engine.fleet.Snapshot().Nodes[node].State
}

// served is how many inference requests a node has had since the row began.
func (s *stand) served(node int) int {
	n := -s.before[node]
	for path, count := range s.sim[node].Stats().Requests {
		if slices.ContainsFunc(forms, func(f form) bool { return f.path == path }) || strings.Contains(path, "embed") {
			n += count
		}
	}
	return n
}

// A journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex // guards text
	bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Buffer.Write(p)
}

func (j *journal) String() string { j.mu.Lock(); defer j.mu.Unlock(); return j.Buffer.String() }

// A form is one way to ask for the same.
type form struct {
	name, path, body string
	whole            string // what only a complete answer has
	fault            string // how a refusal begins
	record           string // how the error record of a broken stream begins; "": not streamed
}

var forms = []form{
	{
		"chat", "/api/chat", `{"model":"tiny","messages":[{"role":"user","content":"` + canary + `"}],"options":{"temperature":0}}`,
		`"done":true`, `{"error":"`, `{"error":"`,
	},
	{
		"chat whole", "/api/chat", `{"model":"tiny","stream":false,"messages":[{"role":"user","content":"` + canary + `"}],"options":{"temperature":0}}`,
		`"done":true`, `{"error":"`, "",
	},
	{
		"generate", "/api/generate", `{"model":"tiny","prompt":"` + canary + `","options":{"temperature":0}}`,
		`"done":true`, `{"error":"`, `{"error":"`,
	},
	{
		"v1 chat", "/v1/chat/completions", `{"model":"tiny","stream":true,"temperature":0,"messages":[{"role":"user","content":"` + canary + `"}]}`,
		"data: [DONE]", `{"error":{"message":"`, `data: {"error":{"message":"`,
	},
	{
		"messages", "/v1/messages", `{"model":"tiny","max_tokens":50,"stream":true,"temperature":0,"messages":[{"role":"user","content":"` + canary + `"}]}`,
		"event: message_stop", `{"type":"error","error":{"type":"`, "event: error\ndata: {",
	},
}

// A row is what one request meets.
type row struct {
	setup   standSetup
	before  func(*stand)
	fault   string // of n0
	other   string // of the other nodes; "": they are well
	forms   []form // default: all
	streams bool   // only those that are streamed

	code    int
	outcome Outcome
	tries   string // their outcomes; "|" between what may be
	says    string // text in the answer
	within  time.Duration
	broken  bool          // a stream that ends in an error record
	after   time.Duration // until the state is looked at
	state   fleet.State
	also    func(*stand, http.Header)
}

func (r row) hold(t *testing.T) {
	t.Helper()
	if r.forms == nil {
		r.forms = forms
	}
	for _, f := range r.forms {
		if r.streams && f.record == "" {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			onStand(t, r.setup, func(s *stand) { r.ask(s, f) })
		})
	}
}

func (r row) ask(s *stand, f form) {
	s.Helper()
	if r.before != nil {
		r.before(s)
	}
	if r.fault != "" {
		s.fail(0, r.fault)
	}
	for i := 1; i < len(s.sim) && r.other != ""; i++ {
		s.fail(i, r.other)
	}
	began := time.Now()
	code, answer, header := s.rig.ask(f.path, f.body)
	took := time.Since(began)
	if code != r.code || !strings.Contains(answer, r.says) {
		s.Errorf("got %d %.300s\nwant %d with %q", code, answer, r.code, r.says)
	}
	if r.within > 0 && took > r.within {
		s.Errorf("took %v, want at most %v", took, r.within)
	}
	lines := strings.Split(strings.TrimRight(answer, "\n"), "\n")
	last := lines[len(lines)-1]
	if strings.HasPrefix(f.record, "event:") && len(lines) > 1 {
		last = lines[len(lines)-2] + "\n" + last
	}
	whole := code == 200 && strings.Contains(answer, f.whole)
	switch {
	case code != 200 && !strings.HasPrefix(answer, f.fault):
		s.Errorf("%.300s is no error of the dialect", answer)
	case r.broken && (whole || !strings.HasPrefix(last, f.record)):
		s.Errorf("ends with %.300s, want an error record", last)
	case !r.broken && (code == 200) != whole:
		s.Errorf("not the whole answer: %.300s", answer)
	case strings.Contains(answer, "localhost") || strings.Contains(answer, "11434"):
		s.Errorf("names the node: %.300s", answer)
	}
	got := s.last(s.T)
	var tries []string
	for _, t := range got.Tries {
		tries = append(tries, t.Outcome)
	}
	if got.Outcome != r.outcome || !slices.Contains(strings.Split(r.tries, "|"), strings.Join(tries, " ")) {
		s.Errorf("outcome %s after %v, want %s after %s", got.Outcome, tries, r.outcome, r.tries)
	}
	time.Sleep(r.after)
	if s.state(0) != r.state {
		s.Errorf("n0 is %s, want %s", s.state(0), r.state)
	}
	if r.also != nil {
		r.also(s, header)
	}
}
