package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// The seed decides which faults, reloads and requests there are, in which order; what meets what is the machine's affair.
var (
	chaosSeed = flag.Uint64("chaos.seed", 0, "seed of TestChaos; 0 takes a random one")
	chaosTime = flag.Duration("chaos.time", 20*time.Second, "how long TestChaos lets nodes fail")
)

const (
	chaosNodes   = 4
	chaosClients = 200
	chaosRetries = 2
	chaosSlots   = 8
	chaosHang    = time.Minute // three tries of 2s + 1.5s, each after the queue, where it takes 15s while few nodes are trusted; and twice that

	// The share of requests that may be refused: they met as many faulty nodes as they have tries, or no further node
	// was up. Runs have 0 to 1 %.
	chaosRefused = 0.05
)

// chaosStatuses are what a request may be refused with.
var chaosStatuses = []int{500, 502, 503, 504}

// chaosFaults are what a node may have: each a way to fail before the first byte, in the middle, or slowly.
var chaosFaults = []string{
	"status=500", "status=503", "status=500,share=0.5", "status=200,body=<html>", "busy", "missing",
	"load-fails", "reset-after=0", "close-after=0", "reset-after=3", "close-after=0,share=0.3", "half-after=4", "clean-after=3",
	"clean-after=0", "crash,frames=3", "never", "never,share=0.3", "first-byte=300ms", "gap=100ms", "gap=3s,frames=2", "slow=5",
	"bad-line,frames=2", "bad-line", "die,restart=200ms,first=1", "die=term,frames=2,restart=200ms,first=1", "refuse", "flap=200ms", "deaf",
	"hang-accept", "redirect",
}

// A failure is an error that a client got before its answer had begun.
type failure struct {
	text      string
	model     string
	came, got time.Time // the request and its answer
	usable    []string  // nodes that the gateway might have asked
}

// A failedLoad is one that the gateway had done for all who waited for the model.
type failedLoad struct {
	node, model string
	at          time.Time
}

// A chaosRun is what the clients have in common.
type chaosRun struct {
	t       *testing.T
	address string
	http    *http.Client
	oracle  *simnode.Node // gives each answer as it should be
	over    context.Context
	began   time.Time
	calm    atomic.Int64 // the number of a time without faults, negative while there are some
	deadly  atomic.Int64 // requests that were refused because nodes seemed to have died of them

	reloaded atomic.Int64 // when a reload ended last, in nanoseconds; a time to come while one is going on

	mu       sync.Mutex // guards what follows
	ended    map[string]int
	failures map[string]failure // of requests that had not begun, by their ids
}

// pause lets time pass, unless it is over.
func (c *chaosRun) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.over.Done():
	}
}

// note logs what happened when.
func (c *chaosRun) note(format string, args ...any) {
	c.t.Logf("%6.2fs: %s", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

func (c *chaosRun) count(what string) {
	c.mu.Lock()
	c.ended[what]++
	c.mu.Unlock()
}

// TestChaos lets four nodes fail at random, at most two at a time, under clients of all dialects and over reloads.
func TestChaos(t *testing.T) {
	if *chaosSeed == 0 {
		*chaosSeed = rand.Uint64()
	}
	t.Logf("-chaos.seed=%d", *chaosSeed)
	models := []simnode.Model{
		{Name: "text", LoadTime: time.Millisecond, PromptRate: 1e6, DecodeRate: 300, LongestAnswer: 30},
		{Name: "vectors", LoadTime: time.Millisecond, PromptRate: 1e6, Capabilities: []string{simnode.Embedding}},
	}
	var nodes []*simnode.Node
	var written string
	for range chaosNodes {
		socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		node := simnode.New(simnode.Options{Models: models, Slots: chaosSlots})
		server := simnode.Serve(socket, node, simnode.ServerOptions{})
		t.Cleanup(func() { node.Close(); server.Close() })
		nodes = append(nodes, node)
		written += fmt.Sprintf("node %s {\nslots %d\n}\n", server.URL(), chaosSlots)
	}
	quick := slices.Clone(models)
	quick[0].DecodeRate = 1e6
	oracle := simnode.New(simnode.Options{Models: quick, Slots: chaosClients})
	t.Cleanup(oracle.Close)

	address, logFile := freeAddress(t), filepath.Join(t.TempDir(), "log")
	config := configOf(t, fmt.Sprintf("log {\noutput file %s\nlevel WARN\n}\nollama {\n%shealth {\ninterval 100ms\n}\nattempts {\n"+
		"dial_timeout 500ms\nfirst_byte_timeout 2s\nstall_timeout 1500ms\nretries %d\n}\n}", logFile, written, chaosRetries),
		"http://"+address+" {\nbind 127.0.0.1\nhandle /metrics {\nmetrics\n}\nhandle {\nollama\n}\n}\n")
	load(t, config)
	eventually(t, "all nodes are up", func() bool { return len(usable("text")) == chaosNodes && len(usable("vectors")) == chaosNodes })

	transport := &http.Transport{MaxIdleConnsPerHost: chaosClients}
	t.Cleanup(transport.CloseIdleConnections)
	over, end := context.WithTimeout(context.Background(), *chaosTime)
	run := &chaosRun{
		t: t, began: time.Now(), address: address, http: &http.Client{Transport: transport}, oracle: oracle, over: over,
		ended: make(map[string]int), failures: make(map[string]failure),
	}
	run.calm.Store(1)
	var clients sync.WaitGroup
	for i := range chaosClients {
		clients.Go(func() { run.client(i) }) // ends with over, and its last answer
	}
	defer clients.Wait() // also when the storm fails
	defer end()
	run.storm(nodes, config)
	run.note("time is over")
	clients.Wait()
	run.note("the last client has its answer")
	if t.Failed() {
		return
	}
	run.settled(nodes)
	run.account(logFile)
	run.note("all is settled")
	transport.CloseIdleConnections()
	stop()
	run.note("stopped")
	wantReferences(t, 0)
	if left := ownGoroutines(); len(left) > 0 {
		t.Errorf("%d goroutines are left, as\n%s", len(left), left[0])
	}
}

// storm sets and heals faults and reloads, until the time is over; then nobody has a fault.
func (c *chaosRun) storm(nodes []*simnode.Node, config []byte) {
	random := rand.New(rand.NewPCG(*chaosSeed, 0))
	reload := func() {
		c.reloaded.Store(time.Now().Add(time.Minute).UnixNano())
		defer func() { c.reloaded.Store(time.Now().UnixNano()) }()
		switch random.IntN(4) {
		case 0, 1:
			if err := caddy.Load(config, true); err != nil {
				c.t.Fatal(err)
			}
		case 2:
			mustStumble(c.t, config, "provision")
		case 3:
			mustStumble(c.t, config, "start")
		}
	}
	var ill []*simnode.Node // at most two, the one that is ill for longer first
	heal := func(n int) {
		for _, node := range ill[:n] {
			_ = node.SetFaults()
			c.note("node %d is healed", slices.Index(nodes, node))
		}
		ill = slices.Clone(ill[n:])
		c.pause(250 * time.Millisecond) // a node that died is back
	}
	for round := int64(1); c.over.Err() == nil && !c.t.Failed(); round++ {
		c.calm.Store(round)
		for range 3 {
			c.pause(time.Duration(random.IntN(400)) * time.Millisecond)
			reload()
		}
		c.calm.Store(-round)
		for n := 0; n < 15 && c.over.Err() == nil; n++ {
			if len(ill) == 2 || len(ill) == 1 && random.IntN(3) == 0 {
				heal(1)
			}
			node := nodes[random.IntN(len(nodes))]
			for slices.Contains(ill, node) {
				node = nodes[random.IntN(len(nodes))]
			}
			words := chaosFaults[random.IntN(len(chaosFaults))]
			fault, err := simnode.ParseFault(words)
			if err == nil {
				fault.Seed = random.Uint64() | 1
				err = node.SetFaults(fault)
			}
			if err != nil {
				c.t.Fatal(err)
			}
			ill = append(ill, node)
			c.note("node %d has %s; %d are usable", slices.Index(nodes, node), words, len(usable("text")))
			c.pause(time.Duration(100+random.IntN(400)) * time.Millisecond)
			if random.IntN(3) == 0 {
				reload()
			}
		}
		heal(len(ill))
	}
}

var chaosGauges = regexp.MustCompile(`(?m)^caddy_ollama_(requests_in_flight|queue_depth|node_in_flight|panics_total)(\{[^}]*\})? (.*)$`)

// settled waits until nothing is on its way any more.
func (c *chaosRun) settled(nodes []*simnode.Node) {
	var scrape string
	eventually(c.t, "all gauges are 0", func() bool {
		_, scrape = get(c.t, c.http, "http://"+c.address+"/metrics")
		found := chaosGauges.FindAllStringSubmatch(scrape, -1)
		return len(found) > chaosNodes && !slices.ContainsFunc(found, func(m []string) bool { return m[3] != "0" })
	})
	for i, node := range nodes {
		eventually(c.t, fmt.Sprintf("node %d answers nothing more", i), func() bool { return node.Stats().Running == 0 })
	}
}

// account holds each request that failed before its answer began against what the log says of its tries.
func (c *chaosRun) account(logFile string) {
	text, err := os.ReadFile(logFile)
	if err != nil {
		c.t.Fatal(err)
	}
	tries := make(map[string][]string)
	var loads []failedLoad
	for line := range bytes.Lines(text) {
		var said struct {
			ID      string   `json:"request_id"`
			Tries   []string `json:"tries"`
			Message string   `json:"msg"`
			Node    string   `json:"node"`
			Model   string   `json:"model"`
			At      float64  `json:"ts"`
		}
		if json.Unmarshal(line, &said) != nil {
			continue
		}
		if said.ID != "" {
			tries[said.ID] = said.Tries
		}
		if said.Message == "a model could not be loaded" {
			loads = append(loads, failedLoad{said.Node, said.Model, time.UnixMicro(int64(said.At * 1e6))})
		}
	}
	tally, all, early := make(map[string]int), 0, 0
	for id, f := range c.failures {
		var outcomes []string
		for _, try := range tries[id] {
			words := strings.Fields(try) // a node, what came of it, how long that took
			outcomes = append(outcomes, words[1])
			f.usable = slices.DeleteFunc(f.usable, func(node string) bool { return node == words[0] })
		}
		// A load that failed while it waited is as good as a try of its own there.
		for _, l := range loads {
			if l.model != f.model+":latest" || l.at.Before(f.came) || l.at.After(f.got) {
				continue
			}
			outcomes = append(outcomes, "load")
			f.usable = slices.DeleteFunc(f.usable, func(node string) bool { return node == l.node })
		}
		kind := "enough nodes"
		switch {
		case len(outcomes) > chaosRetries, strings.Count(fmt.Sprint(outcomes), "reset") == 2: // what closes two may be the request
		case len(f.usable) == 0:
			kind = "no node left"
		default:
			early++
			kind = "EARLY"
		}
		tally[fmt.Sprintf("%s: %s %v", kind, f.text, outcomes)]++
	}
	for _, n := range c.ended {
		all += n
	}
	for _, what := range slices.Sorted(maps.Keys(tally)) {
		c.note("%d x %s", tally[what], what)
	}
	c.note("%d requests: %v; %d failed early: %.1f %%", all, c.ended, early, 100*float64(early)/float64(all))
	if n := len(c.failures); float64(n) > chaosRefused*float64(all) {
		c.t.Errorf("%d of %d requests were refused", n, all)
	}
	// Which nodes were usable is looked up when the answer is here, and one may have come up in between.
	if 1000*early > all {
		c.t.Errorf("%d of %d requests failed before they had met %d faulty nodes", early, all, chaosRetries+1)
	}
}

// usable names the nodes that may be asked for a model.
func usable(model string) (names []string) {
	e, _ := currentEngine()
	s := e.Fleet().Snapshot()
	if m := s.Models["registry.ollama.ai/library/"+model+":latest"]; m != nil {
		for _, n := range s.Nodes {
			if n.Usable() && slices.Contains(m.Nodes, n.Node) {
				names = append(names, n.Node.Name())
			}
		}
	}
	return names
}
