package simnode_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// What an administrator, a signal or a damaged file did to the recorded server is done to the node.
func TestGoldens_Faults(t *testing.T) {
	inBubble(t, simnode.Options{Models: simnode.GoldenModels()}, func(t *testing.T, b *bubble) {
		const most = 1300 * time.Millisecond // so long the recorded answers had spoken
		during := func(rec golden.Record, f func()) {
			stop := time.AfterFunc(most, f)
			hold(t, b.pipe, "faults", rec)
			if stop.Stop() {
				t.Errorf("%s: the answer came to an end before", rec.ID)
			}
		}
		faults := func(list ...simnode.Fault) {
			if err := b.node.SetFaults(list...); err != nil {
				t.Fatal(err)
			}
		}
		for _, rec := range golden.Load(t, "faults") {
			switch {
			case strings.HasPrefix(rec.ID, "runner-killed"):
				b.post("/api/generate", `{"model":"tinyslow"}`)
				during(rec, func() {
					if !b.node.Crash("tinyslow") {
						t.Errorf("%s: no runner", rec.ID)
					}
				})
				continue
			case strings.HasPrefix(rec.ID, "sig"):
				b.post("/api/generate", `{"model":"tinyslow"}`)
				end := b.node.Terminate
				if strings.HasPrefix(rec.ID, "sigkill") {
					end = b.node.Kill
				}
				during(rec, end)
				b.node.Restart()
				time.Sleep(time.Millisecond)
				continue
			case rec.ID == "truncated-file":
				faults(simnode.Fault{LoadFails: `tensor "token_embd.weight" offset+size (212128) exceeds file size (200000)`})
			case rec.ID == "missing-file":
				faults(simnode.Fault{FileGone: true})
			}
			hold(t, b.pipe, "faults", rec)
			faults()
		}
		if s := b.node.Stats(); s.Deaths != 4 || s.Crashes != 9 || s.Orphaned == 0 {
			t.Errorf("%d deaths, %d crashes, %d bytes orphaned", s.Deaths, s.Crashes, s.Orphaned)
		}
	})
}

// The requests themselves hurt the node.
func TestGoldens_Hostile(t *testing.T) {
	inBubble(t, simnode.Options{Models: simnode.GoldenModels(), CheckHost: true}, func(t *testing.T, b *bubble) {
		for _, rec := range golden.Load(t, "hostile") {
			switch rec.ID {
			case "context-negative":
				before := b.node.Stats().Deaths
				hold(t, b.pipe, "hostile", rec)
				if b.node.Stats().Deaths != before+1 {
					t.Errorf("%s: the node lives", rec.ID)
				}
				b.node.Restart()
				time.Sleep(time.Millisecond)
			case "num_thread=100000":
				ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second) // as long as was waited for the recorded server
				got, err := golden.Replay(ctx, b.pipe.Dial, rec)
				cancel()
				if !errors.Is(err, context.DeadlineExceeded) || got.Status != 0 {
					t.Errorf("%s: got %d, %v", rec.ID, got.Status, err)
				}
			default:
				hold(t, b.pipe, "hostile", rec)
			}
		}
		if got := b.node.Stats().Crashes; got != 3 { // repeat_penalty, and two schemas
			t.Errorf("%d crashes", got)
		}
	})
}

// The recorded registry wrote its manifest with spaces; that is the digest of what was pulled.
func TestGoldens_Pull(t *testing.T) {
	published := registry.New(registry.Options{})
	think := simnode.GoldenModels()[3]
	if err := simnode.Publish(published, think); err != nil {
		t.Fatal(err)
	}
	spaced := strings.NewReplacer(`":`, `": `, `,"`, `, "`, `},{`, `}, {`, "\n", "")
	manifest := spaced.Replace(string(published.Manifest("library/tinythink", "latest")))
	if err := published.Put("library/tinythink", "latest", []byte(manifest)); err != nil {
		t.Fatal(err)
	}
	inRegistryBubble(t, published, simnode.Options{Models: []simnode.Model{}}, func(t *testing.T, b *bubble) {
		for _, rec := range golden.Load(t, "pull") {
			hold(t, b.pipe, "pull", rec)
		}
	})
}
