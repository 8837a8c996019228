package gateway

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// guardDiffers are the records that the guard refuses with 400, with what a node does.
var guardDiffers = map[string]string{
	"hostile/context-negative":  "the server ends",
	"hostile/num_thread=100000": "it hangs for minutes",
	"hostile/num_batch=0":       "the model cannot be loaded",
	"hostile/num_batch=-1":      "the model's process ends",
	"hostile/repeat_penalty=0":  "the model's process ends",
	"hostile/format-deep-200":   "the model's process ends",
	"hostile/format-minitems":   "the model's process ends",
	"hostile/template-loop":     "an error of the template; others of its kind write without end",
	"hostile/template-big":      "it writes a million blanks; others of its kind write without end",
}

// deadly are those of them after which a node answers nothing more.
var deadly = []string{"hostile/context-negative", "hostile/num_thread=100000"}

// newHostileSession is a session before a node that may be killed by what it is asked.
func newHostileSession(t *testing.T, site SiteConfig) (*session, *simnode.Node) {
	node := simnode.New(simnode.Options{Models: simnode.GoldenModels(), CheckHost: true})
	t.Cleanup(node.Close)
	pipe := simnode.NewPipe(node)
	t.Cleanup(pipe.Close)
	return &session{t: t, node: pipe, rig: newRig(t, rigOptions{
		host: true, site: site, config: Config{Health: fleet.Options{PsInterval: polled / 5}},
	}, node)}, node
}

// TestGoldens_Hostile asks what once killed a server or came near it. What is known to kill is
// refused with 400, and nothing happens to the node.
func TestGoldens_Hostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, node := newHostileSession(t, SiteConfig{})
		s.also = guardDiffers
		for _, rec := range golden.Load(t, "hostile") {
			s.hold("hostile", rec)
			if _, refused := guardDiffers["hostile/"+rec.ID]; !refused {
				continue
			}
			got, err := golden.Replay(t.Context(), s.front.Dial, rec)
			if err != nil || got.Status != http.StatusBadRequest {
				t.Errorf("%s: %d %s %v, want 400", rec.ID, got.Status, got.Body, err)
			}
		}
		synctest.Wait()
		s.idle()
		if got := node.Stats(); got.Deaths+got.Crashes > 0 {
			t.Errorf("%d deaths and %d crashes behind the guard", got.Deaths, got.Crashes)
		}
	})
}

// Without the guard the answers are a node's again, as far as it survives the question.
func TestGoldens_HostileWithoutTheGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, node := newHostileSession(t, SiteConfig{Unguarded: true})
		for _, rec := range golden.Load(t, "hostile") {
			if id := "hostile/" + rec.ID; guardDiffers[id] != "" && !slices.Contains(deadly, id) {
				s.hold("hostile", rec)
			}
		}
		synctest.Wait()
		s.idle()
		if got := node.Stats(); got.Deaths > 0 || got.Crashes != 3 { // repeat_penalty, and two schemas
			t.Errorf("%d deaths and %d crashes", got.Deaths, got.Crashes)
		}
	})
}

func TestGoldens_DifferencesAreRecords(t *testing.T) {
	there := make(map[string]bool)
	for _, table := range []map[string]string{differences, guardDiffers} {
		for id := range table {
			file, _, _ := strings.Cut(id, "/")
			for _, rec := range golden.Load(t, file) {
				there[file+"/"+rec.ID] = true
			}
			if !there[id] {
				t.Errorf("%s is no record", id)
			}
		}
	}
}
