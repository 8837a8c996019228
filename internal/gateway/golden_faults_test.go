package gateway

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// newFaultSession is a session before a node that a test can hurt.
func newFaultSession(t *testing.T) (*session, *simnode.Node) {
	node := simnode.New(simnode.Options{Models: simnode.GoldenModels()})
	t.Cleanup(node.Close)
	pipe := simnode.NewPipe(node)
	t.Cleanup(pipe.Close)
	return &session{t: t, node: pipe, rig: newRig(t, rigOptions{
		site:   SiteConfig{Manage: true},
		config: Config{Health: fleet.Options{PsInterval: polled / 5, TagsInterval: polled / 5, Interval: polled / 5}},
	}, node)}, node
}

// TestGoldens_Faults does to the node what was done to the recorded one.
func TestGoldens_Faults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, node := newFaultSession(t)
		const most = 1300 * time.Millisecond // so long the recorded answers had spoken
		for _, rec := range golden.Load(t, "faults") {
			var faults []simnode.Fault
			var strike func()
			switch {
			case rec.Response.Status == 0:
				continue // an answer that never came is asked for again
			case strings.HasPrefix(rec.ID, "runner-killed"):
				strike = func() { node.Crash("tinyslow") }
			case strings.HasPrefix(rec.ID, "sigkill"):
				strike = node.Kill
			case strings.HasPrefix(rec.ID, "sig"):
				strike = node.Terminate
			case rec.ID == "truncated-file":
				faults = []simnode.Fault{{LoadFails: `tensor "token_embd.weight" offset+size (212128) exceeds file size (200000)`}}
			case rec.ID == "missing-file":
				faults = []simnode.Fault{{FileGone: true}}
			}
			if err := node.SetFaults(faults...); err != nil {
				t.Fatal(err)
			}
			if strike != nil {
				s.ask("/api/generate", `{"model":"tinyslow"}`)
				stop := time.AfterFunc(most, strike)
				s.hold("faults", rec)
				if stop.Stop() {
					t.Errorf("%s: the answer came to an end before", rec.ID)
				}
			} else {
				s.hold("faults", rec)
			}
			_ = node.SetFaults()
			node.Restart()
			for !s.engine.Ready() {
				time.Sleep(polled)
			}
		}
		synctest.Wait()
		s.idle()
	})
}

// TestGoldens_Queue holds what a client sees of a node that is full, when there is no other.
func TestGoldens_Queue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, node := newFaultSession(t)
		for _, rec := range golden.Load(t, "queue") {
			if strings.HasPrefix(rec.ID, "overflow") {
				if err := node.SetFaults(simnode.Fault{Busy: true}); err != nil {
					t.Fatal(err)
				}
				s.hold("queue", rec)
				continue
			}
			_ = node.SetFaults()
			if strings.HasPrefix(rec.ID, "shift") {
				s.hold("queue", rec)
			}
		}
		synctest.Wait()
		s.idle()
	})
}
