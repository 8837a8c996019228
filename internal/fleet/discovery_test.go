package fleet

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A names is a resolver that a test draws by hand.
type names struct {
	mu      sync.Mutex // guards what follows
	ips     []string
	targets []*net.SRV
	err     error
	asked   []string
	hangs   bool
}

func (n *names) set(change func(*names)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

func (n *names) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, network+" "+host)
	if n.hangs {
		n.mu.Unlock()
		<-ctx.Done()
		n.mu.Lock()
		return nil, ctx.Err()
	}
	var ips []netip.Addr
	for _, ip := range n.ips {
		ips = append(ips, netip.MustParseAddr(ip))
	}
	return ips, n.err
}

func (n *names) LookupSRV(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, strings.Join([]string{service, proto, name}, " "))
	return name, n.targets, n.err
}

// A factory makes the nodes of a discovery and keeps count.
type factory struct {
	mu         sync.Mutex // guards what follows
	made, gone []string
	refuse     string
	nodes      *fake
}

func (c *factory) discovery(kind, name string) Discovery {
	return Discovery{
		Kind: kind, Name: name,
		NewNode: func(address string) (NodeConfig, error) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if address == c.refuse {
				return NodeConfig{}, errors.New("no certificate")
			}
			c.made = append(c.made, address)
			return NodeConfig{URL: &url.URL{Scheme: "http", Host: address}, Transport: c.nodes, Slots: 2}, nil
		},
		Gone: func(n NodeConfig) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.gone = append(c.gone, n.Name)
		},
	}
}

func viewNames(f *Fleet) string {
	var all []string
	for _, v := range f.Snapshot().Nodes {
		all = append(all, v.Node.Name())
	}
	return strings.Join(all, " ")
}

// inNames runs a test in virtual time over a fleet that discovers nodes and has a static one.
func inNames(t *testing.T, kind string, r *names, test func(t *testing.T, f *Fleet, c *factory, log *logged, again func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var log logged
		f := New(slog.New(slog.NewTextHandler(&log, nil)))
		defer f.Close()
		c := &factory{nodes: newFake(tagsOf())}
		again := func() {
			f.Configure([]NodeConfig{config("static", c.nodes)}, Options{Discover: []Discovery{c.discovery(kind, "ollama.internal")}, Resolver: r})
		}
		again()
		synctest.Wait()
		test(t, f, c, &log, again)
	})
}

// A reload that brings a discovery has found nothing at first: that is not the whole fleet.
func TestDiscovery_OfAReloadIsWaitedFor(t *testing.T) {
	r := &names{ips: []string{"10.0.0.1"}}
	inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, c *factory, _ *logged, _ func()) {
		if !f.Snapshot().Asked {
			t.Fatal("not asked after the first rounds")
		}
		f.Configure(nil, Options{Discover: []Discovery{c.discovery(DiscoverA, "other.internal")}, Resolver: r})
		if s := f.Snapshot(); s.Asked || !s.Ready {
			t.Errorf("asked %v, ready %v with %q; want not asked, and ready as ever", s.Asked, s.Ready, viewNames(f))
		}
		began := time.Now()
		f.Asked(t.Context())
		if got, took := viewNames(f), time.Since(began); got != "10.0.0.1:11434" || !f.Snapshot().Asked || took > 0 {
			t.Errorf("%q after %v, want 10.0.0.1:11434 at once", got, took)
		}
		// One that hangs is waited for as long as a lookup may take.
		r.set(func(r *names) { r.hangs = true })
		f.Configure(nil, Options{Discover: []Discovery{c.discovery(DiscoverA, "third.internal")}, Resolver: r})
		synctest.Wait()
		if f.Snapshot().Asked {
			t.Error("asked while the lookup hangs")
		}
		time.Sleep(lookupTimeout)
		synctest.Wait()
		if !f.Snapshot().Asked {
			t.Error("waits for a lookup that has failed")
		}
	})
}

func TestDiscovery_NodesComeAndGoAndKeepTheirState(t *testing.T) {
	r := &names{ips: []string{"10.0.0.2", "10.0.0.1", "::ffff:10.0.0.1", "fd00::7"}}
	inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, c *factory, _ *logged, _ func()) {
		if got := viewNames(f); got != "static 10.0.0.1:11434 10.0.0.2:11434 [fd00::7]:11434" || r.asked[0] != "ip ollama.internal" {
			t.Fatalf("nodes %s, asked %v", got, r.asked)
		}
		one := f.Snapshot().Nodes[1]
		if one.State != Up || one.Node.Slots() != 2 {
			t.Errorf("%v with %d slots", one.State, one.Node.Slots())
		}
		faults(f, one.Node, 5, Timeout)
		r.set(func(n *names) { n.ips = []string{"10.0.0.3", "10.0.0.1"} })
		pass(34 * time.Second)
		if got := viewNames(f); got != "static 10.0.0.1:11434 10.0.0.3:11434" {
			t.Errorf("nodes %s", got)
		}
		if v := f.Snapshot().Nodes[1]; v.Node != one.Node || v.Ejections != 1 {
			t.Errorf("the node that stayed: %+v", v)
		}
		if got := strings.Join(c.made, " "); got != "10.0.0.1:11434 10.0.0.2:11434 [fd00::7]:11434 10.0.0.3:11434" {
			t.Errorf("made %s", got)
		}
		if len(c.gone) != 2 {
			t.Errorf("gone %v", c.gone)
		}
	})
}

func TestDiscovery_ServiceNamesTargetsAndPorts(t *testing.T) {
	r := &names{targets: []*net.SRV{{Target: "GPU2.internal.", Port: 8080}, {Target: "gpu1.internal.", Port: 11434}, {Target: "."}}}
	inNames(t, DiscoverSRV, r, func(t *testing.T, f *Fleet, _ *factory, _ *logged, _ func()) {
		if got := viewNames(f); got != "static gpu1.internal:11434 gpu2.internal:8080" || r.asked[0] != "  ollama.internal" {
			t.Errorf("nodes %s, asked %q", got, r.asked)
		}
	})
}

func TestDiscovery_FailingLookupKeepsTheNodesAndIsLoggedOnce(t *testing.T) {
	for name, broken := range map[string]func(*names){
		"error":      func(n *names) { n.err = &net.DNSError{Err: "no such host", Name: "secret", IsNotFound: true} },
		"no address": func(n *names) { n.ips = nil },
		"hang":       func(n *names) { n.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			r := &names{ips: []string{"10.0.0.1"}}
			inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, _ *factory, log *logged, again func()) {
				before := f.Snapshot().Nodes[1].Node
				r.set(broken)
				pass(10 * time.Minute)
				again()
				pass(10 * time.Minute)
				if s := f.Snapshot(); len(s.Nodes) != 2 || s.Nodes[1].Node != before {
					t.Errorf("nodes %s", viewNames(f))
				}
				r.set(func(n *names) { n.err, n.hangs, n.ips = nil, false, []string{"10.0.0.1", "10.0.0.2"} })
				pass(40 * time.Second)
				if got := viewNames(f); got != "static 10.0.0.1:11434 10.0.0.2:11434" {
					t.Errorf("nodes %s", got)
				}
				text := strings.Join(log.lines(), "\n")
				if strings.Count(text, "discovery failed") != 1 || strings.Count(text, "discovery works again") != 1 || strings.Contains(text, "secret") {
					t.Errorf("log:\n%s", text)
				}
			})
		})
	}
}

func TestDiscovery_ReadyWaitsForTheFirstLookupEvenIfItFails(t *testing.T) {
	r := &names{hangs: true}
	inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, _ *factory, _ *logged, _ func()) {
		if f.Snapshot().Ready {
			t.Error("ready before the first lookup")
		}
		begun := time.Now()
		if err := f.Ready(t.Context()); err != nil || time.Since(begun) > lookupTimeout {
			t.Errorf("ready after %v: %v", time.Since(begun), err)
		}
		r.set(func(n *names) { n.hangs, n.ips = false, []string{"10.0.0.1"} })
		pass(2 * time.Second)
		if got := viewNames(f); got != "static 10.0.0.1:11434" {
			t.Errorf("nodes %s: a first lookup that failed was not soon repeated", got)
		}
	})
}

func TestDiscovery_ReloadKeepsNodesAndMakesTheirConfigsAnew(t *testing.T) {
	r := &names{ips: []string{"10.0.0.1"}}
	inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, c *factory, _ *logged, again func()) {
		before := f.Snapshot().Nodes[1].Node
		r.set(func(n *names) { n.hangs = true })
		again()
		if s := f.Snapshot(); len(s.Nodes) != 2 || s.Nodes[1].Node != before || s.Nodes[1].State != Up {
			t.Errorf("nodes %s", viewNames(f))
		}
		if len(c.made) != 2 || len(c.gone) != 1 {
			t.Errorf("made %v, gone %v", c.made, c.gone)
		}
		f.Close()
		if len(c.gone) != 2 {
			t.Errorf("gone %v after Close", c.gone)
		}
	})
}

func TestDiscovery_WhatIsThereAlreadyOrNotUsableIsLeftOut(t *testing.T) {
	r := &names{ips: []string{"10.0.0.1", "10.0.0.2"}}
	inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, c *factory, log *logged, _ func()) {
		c.refuse = "10.0.0.3:11434"
		own := config("own name", c.nodes)
		own.URL.Host = "10.0.0.2:11434"
		f.Configure([]NodeConfig{own}, Options{Discover: []Discovery{c.discovery(DiscoverA, "ollama.internal")}, Resolver: r})
		r.set(func(n *names) { n.ips = append(n.ips, "10.0.0.3") })
		pass(5 * time.Minute)
		if got := viewNames(f); got != "own name 10.0.0.1:11434" {
			t.Errorf("nodes %s", got)
		}
		if got := strings.Count(strings.Join(log.lines(), "\n"), "not usable"); got != 1 {
			t.Errorf("the unusable one was told %d times", got)
		}
	})
}

func TestDiscovery_DrainOutlivesAnAddressThatGoesAndComes(t *testing.T) {
	r := &names{ips: []string{"10.0.0.1", "10.0.0.2"}}
	inNames(t, DiscoverA, r, func(t *testing.T, f *Fleet, _ *factory, _ *logged, _ func()) {
		if err := f.Drain("10.0.0.1:11434"); err != nil {
			t.Fatal(err)
		}
		for _, ips := range [][]string{{"10.0.0.2"}, {"10.0.0.1", "10.0.0.2"}} {
			r.set(func(n *names) { n.ips = ips })
			pass(34 * time.Second)
		}
		if v := f.Snapshot().Nodes[1]; v.State != Draining {
			t.Errorf("%s is %v", v.Node.Name(), v.State)
		}
	})
}
