package gateway

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// remote is the model that the rows of pulls pull: what Ollama's registry has and no node.
func remote() simnode.Model {
	return simnode.Model{
		Name: "remote", Size: 30_000_000, Weights: strings.Repeat("ab", 32), Capabilities: []string{simnode.Completion}, ParameterSize: "8B",
	}
}

const pullRemote = `{"model":"remote"}`

// pulling is a stand whose nodes can pull remote, in some seven seconds.
func pulling(t *testing.T, nodes int) standSetup {
	t.Helper()
	return standSetup{nodes: nodes, scale: 1, site: SiteConfig{Manage: true}, registry: published(t, registry.Options{Rate: 10_000_000})}
}

// published is a registry that has remote.
func published(t *testing.T, o registry.Options) *registry.Registry {
	t.Helper()
	r := registry.New(o)
	if err := simnode.Publish(r, remote()); err != nil {
		t.Fatal(err)
	}
	return r
}

// A pulled is what a client has read of a pull.
type pulled struct {
	status int
	header http.Header
	lines  []pulledLine
	took   time.Duration
}

type pulledLine struct {
	Status, Digest, Error string
	Total, Completed      int64
}

// pulls has a client pull remote and checks that no layer goes back.
func (s *stand) pulls() pulled {
	s.Helper()
	began := time.Now()
	status, answer, header := s.rig.ask("/api/pull", pullRemote)
	p := pulled{status: status, header: header, took: time.Since(began)}
	seen := make(map[string]pulledLine)
	for line := range strings.Lines(answer) {
		var l pulledLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.Fatalf("%d, line %q: %v", status, line, err)
		}
		p.lines = append(p.lines, l)
		if l.Digest == "" {
			continue
		}
		was, known := seen[l.Digest]
		if l.Completed < was.Completed || known && l.Total != was.Total || l.Completed > l.Total {
			s.Errorf("%s went from %d of %d to %d of %d", l.Digest, was.Completed, was.Total, l.Completed, l.Total)
		}
		seen[l.Digest] = l
	}
	if strings.Contains(answer, "localhost") || strings.Contains(answer, "11434") {
		s.Errorf("an address is told: %s", answer)
	}
	return p
}

// ends checks how a pull ended: with these last lines, as "status" or "error: text".
func (p pulled) ends(s *stand, status int, lines ...string) {
	s.Helper()
	var got []string
	for _, l := range p.lines[max(0, len(p.lines)-len(lines)):] {
		if l.Error != "" {
			l.Status = "error: " + l.Error
		}
		got = append(got, l.Status)
	}
	if p.status != status || !slices.Equal(got, lines) {
		s.Errorf("%d, ended with %q, want %d, %q", p.status, got, status, lines)
	}
}

// at checks which nodes have remote, by themselves and in what is known of the fleet.
func (s *stand) at(want ...int) {
	s.Helper()
	var have []int
	for i, n := range s.sim {
		if has(s.T, n) {
			have = append(have, i)
		}
	}
	if !slices.Equal(have, want) {
		s.Errorf("the nodes %v have it, want %v", have, want)
	}
	if s.listed("remote:latest") != (len(want) > 0) {
		s.Errorf("listed by the gateway: %t, on the nodes %v", len(want) == 0, want)
	}
}

// has tells whether a node itself lists remote. One that is cut off has pulled nothing.
func has(t *testing.T, n *simnode.Node) bool {
	defer func() { _ = recover() }() // of a request that is cut
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/api/tags", nil))
	return strings.Contains(w.Body.String(), `"remote:latest"`)
}

// pullsAt is how many pulls a node was asked for, and how many it still works on.
func (s *stand) pullsAt(node int) (asked, running int) {
	stats := s.sim[node].Stats()
	return stats.Requests["/api/pull"], stats.Running
}

// 1
func TestMatrix_APullPassesOverANodeThatRefusesConnections(t *testing.T) {
	onStand(t, pulling(t, 2), func(s *stand) {
		s.fail(0, "refuse")
		p := s.pulls()
		p.ends(s, 200, "writing manifest", "failed on n0: it could not be reached", "success")
		if p.took > 10*time.Second {
			s.Errorf("took %v, and a pull takes some seven seconds", p.took)
		}
		s.at(1)
		if got := s.last(s.T).Outcome; got != OK {
			s.Errorf("outcome %s", got)
		}
	})
}

// 2
func TestMatrix_APullPassesOverANodeThatDoesNotAccept(t *testing.T) {
	s := newStreet(t, 2, 1, 300*time.Millisecond)
	s.fail(t, "hang-accept")
	code, answer := s.ask(t, form{path: "/api/pull", body: pullRemote})
	lines := strings.Split(strings.TrimSpace(answer), "\n")
	if code != 200 || lines[len(lines)-1] != succeeded {
		t.Errorf("%d %s", code, answer)
	}
	told := strings.Contains(answer, `{"status":"failed on n0: it could not be reached"}`)
	if !told && s.engine.fleet.Snapshot().Nodes[0].Usable() { // else a check has met it first
		t.Errorf("the node that failed is not told of: %s", answer)
	}
	if err := s.nodes[0].SetFaults(); err != nil {
		t.Fatal(err)
	}
	if has(t, s.nodes[0]) || !has(t, s.nodes[1]) {
		t.Error("not the node that could be reached has it, or not alone")
	}
}

// 10
func TestMatrix_APullGivesUpASilentNode(t *testing.T) {
	const silent = "path=/api/pull,never"
	onStand(t, pulling(t, 2), func(s *stand) {
		s.fail(0, silent)
		p := s.pulls()
		p.ends(s, 200, "writing manifest", "failed on n0: it sent nothing for too long", "success")
		if p.took > 2*time.Minute+time.Second {
			s.Errorf("took %v", p.took)
		}
		synctest.Wait()
		if asked, running := s.pullsAt(0); asked != 1 || running != 0 {
			s.Errorf("asked %d times, and %d requests still run there", asked, running)
		}
		s.at(1)
	})
	onStand(t, pulling(t, 2), func(s *stand) {
		s.fail(0, silent)
		s.fail(1, silent)
		const both = "failed on n0: it sent nothing for too long; failed on n1: it sent nothing for too long"
		s.pulls().ends(s, 504, "error: "+both)
		if got := s.last(s.T).Outcome; got != Timeout {
			s.Errorf("outcome %s", got)
		}
		s.at()
	})
	onStand(t, pulling(t, 2), func(s *stand) {
		s.fail(0, "path=/api/pull,first-byte=90s")
		s.pulls().ends(s, 200, "writing manifest", "success")
		s.at(0, 1)
	})
}

// 11, 12
func TestMatrix_APullThatBreaksOffOnANodeIsHonest(t *testing.T) {
	for fault, said := range map[string]string{
		"path=/api/pull,gap=1h":                   "it sent nothing for too long",
		"path=/api/pull,reset-after=8":            "the connection was lost",
		"path=/api/pull,half-after=8":             "the connection was lost",
		"path=/api/pull,clean-after=8":            "it ended without saying that it succeeded",
		"path=/api/pull,die=kill,frames=8":        "the connection was lost",
		"no-space":                                "no space left on its disk",
		"path=/api/pull,frames=1,bad-line=<html>": "it did not answer as an Ollama server does",
		"path=/api/pull,giant-line=100000":        "it did not answer as an Ollama server does",
	} {
		t.Run(fault, func(t *testing.T) {
			onStand(t, pulling(t, 3), func(s *stand) {
				s.fail(1, fault)
				s.pulls().ends(s, 200, "writing manifest", "failed on n1: "+said, "success")
				s.at(0, 2)
			})
			onStand(t, pulling(t, 2), func(s *stand) {
				s.fail(0, fault)
				s.fail(1, fault)
				p := s.pulls()
				if last := p.lines[len(p.lines)-1]; !strings.Contains(last.Error, "failed on n0: "+said+"; failed on n1: "+said) {
					s.Errorf("%d, ended with %+v", p.status, last)
				}
				if got := s.last(s.T).Outcome; got == OK {
					s.Errorf("outcome %s", got)
				}
				s.at()
			})
		})
	}
}

// 22
func TestMatrix_APullWhileAllNodesAreDownIsToldAtOnce(t *testing.T) {
	for name, wait := range map[string]time.Duration{"known": 10 * time.Second, "not yet known": 0} {
		t.Run(name, func(t *testing.T) {
			onStand(t, pulling(t, 2), func(s *stand) {
				s.fail(0, "refuse")
				s.fail(1, "refuse")
				time.Sleep(wait)
				p := s.pulls()
				if p.status != 503 || p.header.Get("Retry-After") == "" || p.took > 100*time.Millisecond || len(p.lines) != 1 || p.lines[0].Error == "" {
					s.Errorf("%d %v %+v after %v", p.status, p.header, p.lines, p.took)
				}
				s.fail(0)
				s.fail(1)
				time.Sleep(10 * time.Second)
				if got := s.state(0); !slices.Contains([]fleet.State{fleet.Up, fleet.Probation}, got) {
					s.Fatalf("n0 is %s", got)
				}
				s.pulls().ends(s, 200, "writing manifest", "success")
				s.at(0, 1)
			})
		})
	}
}
