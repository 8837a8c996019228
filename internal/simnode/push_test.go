package simnode_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

func TestPush_OtherNodesCanPullIt(t *testing.T) {
	r := registry.New(registry.Options{})
	inRegistryBubble(t, r, simnode.Options{Models: []simnode.Model{huge()}}, func(t *testing.T, b *bubble) {
		b.post("/api/create", `{"model":"reg.example/me/mine","from":"reg.example/team/big:v1","system":"be long"}`)
		a := b.post("/api/push", `{"model":"reg.example/me/mine"}`)
		b.wantEnd(a, "success")
		var told []string
		for _, s := range a.steps(t) {
			if len(told) == 0 || told[len(told)-1] != s.Status {
				told = append(told, s.Status)
			}
			if s.Digest == "sha256:"+big().Weights && s.Total < 249_000_000 {
				t.Errorf("the weights have %d bytes", s.Total)
			}
		}
		all := strings.Join(told, ", ")
		if !strings.HasPrefix(all, "retrieving manifest, pushing abababababab, pushing ") ||
			!strings.HasSuffix(all, ", pushing manifest, success") || len(told) != 8 {
			t.Errorf("told %s", all)
		}
		if got := r.Stats().Bytes["PATCH"]; got < 249_000_000 || got > 251_000_000 {
			t.Errorf("%d bytes were sent", got)
		}
		again := b.post("/api/push", `{"name":"reg.example/me/mine","stream":false}`)
		if again.body != `{"status":"success"}` || r.Stats().Bytes["PATCH"] > 251_000_000 {
			t.Errorf("again: %s, %d bytes", again.body, r.Stats().Bytes["PATCH"])
		}

		way := simnode.NewPipe(r)
		defer way.Close()
		other := newBubble(t, simnode.Options{Registry: way})
		third := newBubble(t, simnode.Options{Registry: way})
		for _, o := range []*bubble{other, third} {
			o.wantEnd(o.post("/api/pull", `{"model":"reg.example/me/mine"}`), "success")
		}
		const name = "reg.example/me/mine:latest"
		if x, y := other.digests()[name], third.digests()[name]; x != y || x == "" {
			t.Errorf("nodes that pulled disagree: %s, %s", x, y)
		}
		if shown := other.post("/api/show", `{"model":"reg.example/me/mine"}`).body; !strings.Contains(shown, `"system":"be long"`) {
			t.Errorf("shown: %s", shown)
		}
	})
}

func TestPush_TellsWhatItCannotSend(t *testing.T) {
	inRegistryBubble(t, registry.New(registry.Options{}), simnode.Options{}, func(t *testing.T, b *bubble) {
		gguf := "GGUF" + strings.Repeat("real weights ", 100_000)
		digest := "sha256:" + sum(gguf)
		if a := b.post("/api/blobs/"+digest, gguf); a.status != http.StatusCreated {
			t.Fatalf("blob: %d %s", a.status, a.body)
		}
		b.wantEnd(b.post("/api/create", `{"model":"r.example/a/b","files":{"x.gguf":"`+digest+`"}}`), "success")
		if a := b.post("/api/push", `{"model":"r.example/a/b"}`); !strings.HasPrefix(a.outcome(t), "the simulated node keeps no file of 1300004 bytes") {
			t.Errorf("ended with %s", a.outcome(t))
		}
		b.wantEnd(b.post("/api/push", `{"model":"a b"}`), "unqualified name: a b")
	})
}

func TestPush_ClientThatLeavesStopsIt(t *testing.T) {
	r := registry.New(registry.Options{Rate: 5_000_000})
	inRegistryBubble(t, r, simnode.Options{Models: []simnode.Model{big()}}, func(t *testing.T, b *bubble) {
		ctx, leave := context.WithCancel(t.Context())
		wait := b.start(ctx, "/api/push", pullBig)
		time.Sleep(2 * time.Second)
		leave()
		wait()
		time.Sleep(time.Second) // the registry notices when it reads on
		sent := r.Stats().Bytes["PATCH"]
		time.Sleep(10 * time.Second)
		if later := r.Stats().Bytes["PATCH"]; later != sent || sent == 0 || sent > 15_000_000 {
			t.Errorf("%d bytes were sent when the client left, %d later", sent, later)
		}
		a := b.post("/api/push", pullBig)
		b.wantEnd(a, "success")
		var before int64
		for _, s := range a.steps(t) {
			if s.Digest == "sha256:"+big().Weights {
				if s.Completed < before {
					t.Errorf("at %d, was at %d", s.Completed, before)
				}
				before = s.Completed
			}
		}
		if a.end < 16*time.Second || before < 29_000_000 {
			t.Errorf("sent %d bytes until %v", before, a.end)
		}
	})
}
