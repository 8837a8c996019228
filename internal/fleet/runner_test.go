package fleet

import (
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestRunnerMatches(t *testing.T) {
	set := func(n int) wire.OptionalInt { return wire.OptionalInt{Value: n, Set: true} }
	none := wire.RunnerOptions{}
	with := func(change func(*wire.RunnerOptions)) wire.RunnerOptions {
		o := ctxOf(4096)
		change(&o)
		return o
	}
	found := Runner{ContextLength: 4096}
	ours := Runner{Exact: true, Options: ctxOf(4096), ContextLength: 4096}
	for _, c := range []struct {
		name                 string
		runner               Runner
		requested, effective wire.RunnerOptions
		want                 bool
	}{
		{"found, nothing set", found, none, none, true},
		{"found, the model's own context", found, none, ctxOf(4096), true},
		{"found, another context of the model", found, none, ctxOf(2048), false},
		{"found, its context asked for", found, ctxOf(4096), ctxOf(4096), true},
		{"found, another context asked for", found, ctxOf(2048), ctxOf(2048), false},
		{"found, the model's own threads", found, none, with(func(o *wire.RunnerOptions) { o.NumThread = set(1) }), true},
		{"found, threads asked for", found, wire.RunnerOptions{NumThread: set(1)}, with(func(o *wire.RunnerOptions) { o.NumThread = set(1) }), false},
		{"found, mmap asked for", found, wire.RunnerOptions{UseMMap: wire.OptionalBool{Set: true}}, with(func(o *wire.RunnerOptions) { o.UseMMap.Set = true }), false},
		{"found, default num_gpu asked for", found, wire.RunnerOptions{NumGPU: set(-1)}, with(func(o *wire.RunnerOptions) { o.NumGPU = set(-1) }), true},
		{"found, context unknown", Runner{}, none, ctxOf(4096), false},
		{"ours, equal", ours, ctxOf(4096), ctxOf(4096), true},
		{"ours, equal by the model", ours, none, ctxOf(4096), true},
		{"ours, another context", ours, ctxOf(8192), ctxOf(8192), false},
		{"ours, nothing set now", ours, none, none, false},
		{"ours, another batch", ours, none, with(func(o *wire.RunnerOptions) { o.NumBatch = set(64) }), false},
		{"ours, default num_gpu", ours, none, with(func(o *wire.RunnerOptions) { o.NumGPU = set(-1) }), true},
		{"ours, layers placed", ours, none, with(func(o *wire.RunnerOptions) { o.NumGPU = set(0) }), false},
		{"ours with layers placed, none asked for", Runner{Exact: true, Options: with(func(o *wire.RunnerOptions) { o.NumGPU = set(0) })}, none, ctxOf(4096), true},
		{"ours, first GPU is the default", ours, none, with(func(o *wire.RunnerOptions) { o.MainGPU = set(0) }), true},
		{"ours, another GPU", ours, none, with(func(o *wire.RunnerOptions) { o.MainGPU = set(1) }), false},
		{"ours, clamped by the node", Runner{Exact: true, Options: ctxOf(1 << 20), ContextLength: 4096}, none, ctxOf(1 << 20), true},
		{"ours, less than the least context", Runner{Exact: true, Options: ctxOf(1)}, none, ctxOf(4), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.runner.Matches(c.requested, c.effective); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestParsePs_ReadsWhatANodeWrites(t *testing.T) {
	for _, rec := range golden.Load(t, "models") {
		if rec.ID != "ps-copy" {
			continue
		}
		runners, err := parsePs(rec.Response.Body)
		if err != nil || len(runners) != 3 {
			t.Fatalf("%d runners, %v", len(runners), err)
		}
		r := runners[2]
		if r.Key != key("tinyembed") || r.ContextLength != 512 || r.Size != 5357056 || r.VRAM != 0 || r.ExpiresAt.IsZero() {
			t.Errorf("%+v", r)
		}
		return
	}
	t.Fatal("no recording ps-copy")
}

func FuzzPs(f *testing.F) {
	for _, s := range []string{`{"models":[]}`, `{"models":null}`, `{"models":[null,1,{"name":"a"}]}`, `[]`, `{"models":[{"name":"a","context_length":1e99}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		runners, err := parsePs(body)
		if err != nil {
			return
		}
		n := NewNode(NodeConfig{})
		n.running(runners, 1)
		for _, r := range runners {
			if r.Key == "" || r.row == "" {
				t.Errorf("runner without a name or a row: %+v", r)
			}
		}
	})
}
