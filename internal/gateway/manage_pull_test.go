package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// begin has a client pull remote and reads until its layer is under way.
func (s *stand) begin(ctx context.Context) (*http.Response, *bufio.Scanner) {
	s.Helper()
	resp, err := s.post(ctx, "/api/pull", pullRemote)
	if err != nil {
		s.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.Contains(lines.Text(), `"completed":1`) || strings.Contains(lines.Text(), `"completed":2`) {
			return resp, lines
		}
	}
	s.Fatalf("no layer is under way: %v", lines.Err())
	return nil, nil
}

// ending reads the rest of a pull and gives the last lines.
func (s *stand) ending(resp *http.Response, lines *bufio.Scanner, count int) []string {
	s.Helper()
	defer resp.Body.Close()
	var all []string
	for lines.Scan() {
		all = append(all, lines.Text())
	}
	if err := lines.Err(); err != nil {
		s.Errorf("after %q: %v", all, err)
	}
	return all[max(0, len(all)-count):]
}

func TestPull_CanceledLeavesNoHalfStateAndGoesOnTheNextTime(t *testing.T) {
	setup := pulling(t, 3)
	onStand(t, setup, func(s *stand) {
		ctx, cancel := context.WithCancel(s.Context())
		resp, _ := s.begin(ctx)
		time.Sleep(time.Second)
		cancel()
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		time.Sleep(time.Second) // the limit for a departure to reach a node
		synctest.Wait()
		if got := s.last(s.T).Outcome; got != ClientCanceled {
			s.Errorf("outcome %s", got)
		}
		s.at()
		for i := range s.sim {
			if asked, running := s.pullsAt(i); asked != 1 || running != 0 {
				s.Errorf("n%d was asked %d times, and %d requests still run there", i, asked, running)
			}
		}
		s.settled()
		before := setup.registry.Stats().Bytes["GET"]
		if before == 0 {
			s.Error("nothing had been fetched")
		}
		p := s.pulls()
		p.ends(s, 200, "writing manifest", "success")
		s.at(0, 1, 2)
		if got := setup.registry.Stats().Bytes["GET"]; got > 3*30_100_000 {
			s.Errorf("%d bytes were fetched of 90 MB, %d of them before: what was there was not used", got, before)
		}
	})
}

// A configuration that is loaded meanwhile, or a node that is taken out of use, ends no pull.
func TestPull_OutlivesWhatHappensToTheConfiguration(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*stand)
		ends    []string
		at      []int
	}{
		"reload": {func(s *stand) {
			s.reconfigure(slices.Clone[[]fleet.NodeConfig])
		}, []string{`{"status":"writing manifest"}`, succeeded}, []int{0, 1}},
		"drain": {func(s *stand) {
			if err := s.engine.fleet.Drain("n1"); err != nil {
				s.Fatal(err)
			}
		}, []string{`{"status":"writing manifest"}`, succeeded}, []int{0, 1}},
		"a node is removed": {func(s *stand) {
			s.reconfigure(func(nodes []fleet.NodeConfig) []fleet.NodeConfig { return nodes[:1] })
		}, []string{`{"status":"writing manifest"}`, succeeded}, []int{0, 1}},
		"a node is removed and fails": {func(s *stand) {
			s.reconfigure(func(nodes []fleet.NodeConfig) []fleet.NodeConfig { return nodes[:1] })
			s.fail(1, "no-space")
			s.sim[1].Close()
		}, []string{`{"status":"writing manifest"}`, `{"status":"failed on a node that is gone: the connection was lost"}`, succeeded}, []int{0}},
		"the process is told to leave": {func(s *stand) {
			s.engine.Stop()
		}, []string{`{"status":"writing manifest"}`, succeeded}, []int{0, 1}},
		"no configuration is left": {func(s *stand) {
			s.hold.Detach()
			s.engine.Close()
		}, []string{`{"status":"writing manifest"}`, succeeded}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, pulling(t, 2), func(s *stand) {
				resp, lines := s.begin(s.Context())
				c.happens(s)
				if got := s.ending(resp, lines, len(c.ends)); !slices.Equal(got, c.ends) {
					s.Errorf("ended with %q, want %q", got, c.ends)
				}
				if c.at != nil {
					s.at(c.at...)
				}
			})
		})
	}
}

// reconfigure has the engine serve other nodes from now on.
func (s *stand) reconfigure(change func([]fleet.NodeConfig) []fleet.NodeConfig) {
	config := s.settings.config
	config.Nodes = change(slices.Clone(config.Nodes))
	next := NewSettings(s.engine, config)
	hold := next.Attach()
	s.hold.Detach()
	s.settings, s.hold = next, hold
}

// A node that is replaced by another one of the same name has not pulled what the old one pulls.
func TestPull_AReplacedNodeIsAskedItself(t *testing.T) {
	setup := pulling(t, 2)
	onStand(t, setup, func(s *stand) {
		resp, lines := s.begin(s.Context())
		fresh := simnode.New(simnode.Options{Scale: 0.01, Registry: s.way})
		s.Cleanup(fresh.Close)
		pipe := simnode.NewPipe(fresh)
		s.Cleanup(pipe.Close)
		s.sim = append(s.sim, fresh)
		s.reconfigure(func(nodes []fleet.NodeConfig) []fleet.NodeConfig {
			nodes[1].Transport, nodes[1].Key = pipe, "another"
			return nodes
		})
		if err := s.engine.fleet.Ready(s.Context()); err != nil {
			s.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond) // it has answered its checks
		s.pulls().ends(s, 200, "writing manifest", "success")
		s.ending(resp, lines, 1)
		s.at(0, 1, 2)
	})
}

func TestPull_AClientThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	onStand(t, pulling(t, 2), func(s *stand) {
		resp, lines := s.begin(s.Context()) // and it does not read on: a pipe holds nothing for it
		s.pulls().ends(s, 200, "writing manifest", "success")
		s.at(0, 1)
		time.Sleep(time.Minute)
		if got := s.ending(resp, lines, 1); !slices.Equal(got, []string{succeeded}) {
			s.Errorf("who reads later is told %q", got)
		}
		for i := range s.sim {
			if asked, _ := s.pullsAt(i); asked != 1 {
				s.Errorf("n%d was asked %d times for equal pulls", i, asked)
			}
		}
	})
}

// A node begins a layer again after its connection to the registry was reset.
func TestPull_ANodeThatBeginsALayerAgainTakesNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part := func(completed int) string {
			return fmt.Sprintf(`{"status":"pulling c54460c78625","digest":"sha256:c54460c78625","total":1000,"completed":%d}`, completed)
		}
		slowly := func(lines ...string) func(*manager, http.ResponseWriter, *http.Request, string) bool {
			return func(_ *manager, w http.ResponseWriter, _ *http.Request, _ string) bool {
				for _, l := range lines {
					says(w, l)
					time.Sleep(time.Second) // so that each is told
				}
				return true
			}
		}
		r := managingRig(t, ManageConfig{},
			newManager(t, slowly(manifest, part(800), part(0), part(300), part(1000), succeeded)),
			newManager(t, slowly(manifest, part(100), part(200), part(300), part(400), part(500), `{"error":"max retries exceeded"}`)))
		_, answer, _ := r.asks("POST", "/api/pull", pullNew)
		var got []int64
		for line := range strings.Lines(answer) {
			var l pulledLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			if l.Digest != "" {
				got = append(got, l.Completed)
			}
		}
		if !slices.IsSorted(got) || len(got) < 4 || got[len(got)-1] != 2000 {
			t.Errorf("told %v of 2000", got)
		}
		if !strings.HasSuffix(answer, `{"status":"failed on n1: max retries exceeded"}`+"\n"+succeeded+"\n") {
			t.Errorf("ended with %s", answer)
		}
	})
}
