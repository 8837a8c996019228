package simnode_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestLoad_OneAtATime(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		one := b.start(t.Context(), "/api/generate", `{"model":"a"}`)
		two := b.start(t.Context(), "/api/generate", `{"model":"b"}`)
		again := b.start(t.Context(), "/api/generate", `{"model":"a"}`)
		b.wantLoaded("") // a model that is being loaded is not there
		if x, y, z := one(), two(), again(); x.end != 10*time.Second || y.end != 20*time.Second || z.end != 20*time.Second {
			t.Errorf("ends at %v, %v, %v; want 10s, 20s, 20s", x.end, y.end, z.end)
		}
		if s := b.node.Stats(); s.Loads != 2 || s.PeakQueue != 3 || s.Queue != 0 {
			t.Errorf("loads %d, peak queue %d, queue %d", s.Loads, s.PeakQueue, s.Queue)
		}
	})
}

func TestLoad_QueueFullIsRefusedAtOnce(t *testing.T) {
	inBubble(t, simnode.Options{MaxQueue: 1}, func(t *testing.T, b *bubble) {
		one := b.start(t.Context(), "/api/generate", `{"model":"a"}`)
		two := b.start(t.Context(), "/api/generate", `{"model":"b"}`)
		three := b.post("/api/generate", `{"model":"c"}`)
		if three.status != 503 || three.end != 0 {
			t.Errorf("status %d at %v, want 503 at once", three.status, three.end)
		}
		if x, y := one(), two(); x.status != 200 || y.status != 200 {
			t.Errorf("status %d and %d", x.status, y.status)
		}
		if refused := b.node.Stats().Refused; refused != 1 {
			t.Errorf("refused %d", refused)
		}
	})
}

func TestLoad_DepartureCancels(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		ctx, leave := context.WithCancel(t.Context())
		one := b.start(ctx, "/api/generate", load)
		two := b.start(t.Context(), "/api/generate", load)
		time.Sleep(5 * time.Second)
		leave()
		one()
		if a := two(); a.status != 200 || a.end != 15*time.Second { // it begins afresh
			t.Errorf("the second waiter: status %d at %v, want 200 at 15s", a.status, a.end)
		}
		if s := b.node.Stats(); s.Loads != 1 || s.Cancelled != 1 {
			t.Errorf("loads %d, cancelled %d; want 1, 1", s.Loads, s.Cancelled)
		}
	})
}

func TestLoad_DepartureLeavesTheQueue(t *testing.T) {
	inBubble(t, simnode.Options{MaxQueue: 1}, func(t *testing.T, b *bubble) {
		one := b.start(t.Context(), "/api/generate", `{"model":"a"}`)
		ctx, leave := context.WithCancel(t.Context())
		two := b.start(ctx, "/api/generate", `{"model":"b"}`)
		leave()
		two()
		synctest.Wait()
		three := b.start(t.Context(), "/api/generate", `{"model":"c"}`)
		if x, y := one(), three(); x.end != 10*time.Second || y.end != 20*time.Second || y.status != 200 {
			t.Errorf("ends at %v and %v, status %d", x.end, y.end, y.status)
		}
		b.wantLoaded("c a")
	})
}

func TestLoad_OtherRunnerOptionsReload(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		loads := 0
		for _, step := range []struct {
			options string
			reloads bool
		}{
			{`{}`, true},
			{`{"temperature":0,"num_predict":1,"top_k":3,"stop":["x"],"seed":1}`, false},
			{`{"num_ctx":4096}`, false},
			{`{"num_ctx":2048}`, true},
			{`{}`, true}, // absent is the default again
			{`{"num_gpu":-1}`, false},
			{`{"num_gpu":3}`, true},
			{`{"num_gpu":-1}`, false},
			{`{"num_gpu":3,"num_batch":64}`, true},
			{`{"num_gpu":3,"num_batch":64,"main_gpu":1}`, true},
			{`{"num_gpu":3,"num_batch":64,"main_gpu":1,"use_mmap":true}`, true},
			{`{"num_gpu":3,"num_batch":64,"main_gpu":1,"use_mmap":false}`, true},
			{`{"num_gpu":3,"num_batch":64,"main_gpu":1,"use_mmap":false}`, false},
			{`{"num_thread":2}`, true},
			{`{"num_thread":2,"num_ctx":1}`, true},
			{`{"num_thread":2,"num_ctx":4}`, false}, // its floor
		} {
			b.post("/api/generate", `{"model":"a","options":`+step.options+`}`)
			if step.reloads {
				loads++
			}
			if got := b.node.Stats().Loads; got != loads {
				t.Fatalf("after %s: %d loads, want %d", step.options, got, loads)
			}
		}
	})
}

func TestLoad_CopySharesTheRunner(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/copy", `{"source":"a","destination":"me/twin:v2"}`)
		b.post("/api/generate", `{"model":"me/twin:v2"}`)
		b.post("/api/generate", load)
		b.at(10 * time.Second)
		b.wantLoaded("me/twin:v2")
	})
}

func TestLoad_ReloadStopsTheQueueButNotTheRunners(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"b","keep_alive":-1}`)
		b.post("/api/generate", `{"model":"a","keep_alive":-1}`)
		answer := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`) // until 30 s
		reload := b.start(t.Context(), "/api/generate", `{"model":"a","options":{"num_ctx":1024}}`)
		other := b.start(t.Context(), "/api/generate", `{"model":"c"}`)
		passing := b.start(t.Context(), "/api/generate", `{"model":"b","prompt":"x","options":{"num_predict":1}}`)
		time.Sleep(time.Second)
		newcomer := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`)
		for name, tt := range map[string]struct{ got, want time.Duration }{
			"loaded model":           {passing().end, 20 * time.Second},
			"running answer":         {answer().end, 30 * time.Second},
			"newcomer, old options":  {newcomer().end, 40 * time.Second}, // it overtakes the reload
			"reload":                 {reload().end, 50 * time.Second},
			"load behind the reload": {other().end, 60 * time.Second},
		} {
			if tt.got != tt.want {
				t.Errorf("%s: end at %v, want %v", name, tt.got, tt.want)
			}
		}
	})
}

func TestEviction_IdleWithShortestKeepAliveFirst(t *testing.T) {
	inBubble(t, simnode.Options{MaxLoaded: 2}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a","keep_alive":"2h"}`)
		b.post("/api/generate", `{"model":"b","keep_alive":"1h"}`)
		b.post("/api/generate", `{"model":"c","keep_alive":"3h"}`)
		b.wantLoaded("c a")
		busy := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":21}}`)
		b.post("/api/generate", `{"model":"d"}`) // a has the shorter keep-alive, but c is idle
		b.at(40 * time.Second)
		b.wantLoaded("a d")
		busy()
		if s := b.node.Stats(); s.Evictions != 2 || s.Expired != 0 {
			t.Errorf("evictions %d, expired %d", s.Evictions, s.Expired)
		}
	})
}

func TestEviction_WaitsForTheBusy(t *testing.T) {
	inBubble(t, simnode.Options{MaxLoaded: 1}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		busy := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`)
		b.post("/api/generate", `{"model":"b"}`)
		b.at(30 * time.Second)
		if a := busy(); a.end != 20*time.Second || a.status != 200 {
			t.Errorf("the busy one ended with %d at %v", a.status, a.end)
		}
		b.wantLoaded("b")
	})
}

func TestEviction_KeepsWithinMemory(t *testing.T) {
	inBubble(t, simnode.Options{VRAM: 2500, MaxLoaded: 9}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a"}`)
		b.post("/api/generate", `{"model":"b"}`)
		b.wantLoaded("b a")
		b.post("/api/generate", `{"model":"c"}`)
		if b.wantLoadedCount(2); b.node.Stats().Evictions != 1 {
			t.Errorf("evictions %d, want 1", b.node.Stats().Evictions)
		}
	})
	big := clockModels()
	big[0].Memory = 9000
	inBubble(t, simnode.Options{VRAM: 2500, Models: big}, func(t *testing.T, b *bubble) {
		if a := b.post("/api/generate", load); a.status != 200 { // it is loaded in part
			t.Errorf("a model that is too big: %d %s", a.status, a.body)
		}
	})
}

func (b *bubble) wantLoadedCount(want int) {
	b.Helper()
	got := 0
	for _, c := range b.loaded() + " " {
		if c == ' ' {
			got++
		}
	}
	if got != want {
		b.Errorf("%d models loaded (%s), want %d", got, b.loaded(), want)
	}
}

func TestKeepAlive_StartsWhenTheLastAnswerEnds(t *testing.T) {
	inBubble(t, simnode.Options{KeepAlive: time.Minute}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`) // until 20 s
		time.Sleep(59 * time.Second)
		b.wantLoaded("a")
		time.Sleep(2 * time.Second)
		b.wantLoaded("")
		if s := b.node.Stats(); s.Expired != 1 || s.Evictions != 0 {
			t.Errorf("expired %d, evictions %d", s.Expired, s.Evictions)
		}
	})
}

func TestKeepAlive_LastOneThatGaveItDecides(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a","keep_alive":"1m"}`)
		time.Sleep(50 * time.Second)
		b.post("/api/chat", `{"model":"a","messages":[{"role":"user","content":"x"}],"options":{"num_predict":1}}`) // restarts it
		time.Sleep(50 * time.Second)
		b.wantLoaded("a")
		b.post("/api/generate", `{"model":"a","keep_alive":-1}`)
		b.post("/v1/chat/completions", `{"model":"a","messages":[{"role":"user","content":"x"}],"max_tokens":1}`)
		time.Sleep(1000 * time.Hour)
		b.wantLoaded("a")
		b.post("/api/generate", `{"model":"a","keep_alive":1.5}`)
		time.Sleep(1600 * time.Millisecond)
		b.wantLoaded("")
	})
}

func TestKeepAlive_NegativeDefaultIsForEver(t *testing.T) {
	inBubble(t, simnode.Options{KeepAlive: -1}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		time.Sleep(1000 * time.Hour)
		b.wantLoaded("a")
	})
}

func TestUnload_FinishesWhatRuns(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		running := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`)
		if a := b.post("/api/chat", `{"model":"a","keep_alive":0}`); a.end != 10*time.Second || a.last(t).DoneReason != "unload" {
			t.Errorf("unload answered at %v: %s", a.end, a.body)
		}
		late := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`)
		if x, y := running(), late(); x.end != 20*time.Second || y.end != 30*time.Second {
			t.Errorf("ends at %v and %v, want 20s and 30s", x.end, y.end)
		}
		synctest.Wait()
		b.wantLoaded("")
		if loads := b.node.Stats().Loads; loads != 1 {
			t.Errorf("%d loads", loads)
		}
	})
}

func TestLoad_FailureIsToldToEverybody(t *testing.T) {
	models := clockModels()
	models[0].LoadError = "no such luck"
	inBubble(t, simnode.Options{Models: models}, func(t *testing.T, b *bubble) {
		one := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x"}`)
		two := b.start(t.Context(), "/api/embed", `{"model":"a","input":"x"}`)
		for i, wait := range []func() answer{one, two} {
			if a := wait(); a.status != 500 || a.last(t).Error != "no such luck" {
				t.Errorf("request %d: %d %s", i, a.status, a.body)
			}
		}
		b.wantLoaded("")
		if s := b.node.Stats(); s.LoadsFailed != 2 || s.Loads != 0 {
			t.Errorf("failed %d, loads %d", s.LoadsFailed, s.Loads)
		}
	})
}
