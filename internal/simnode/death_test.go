package simnode_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

const queryOfDeath = `{"model":"a","prompt":"x","context":[99999]}`

func TestNode_DiesOfATokenOutsideTheVocabulary(t *testing.T) {
	inBubble(t, simnode.Options{Slots: 2, Restart: 3 * time.Second}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a"}`)
		innocent := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x"}`)
		time.Sleep(5 * time.Second)
		if a := b.call(t.Context(), "/api/generate", queryOfDeath); a.err == nil || a.status != 0 {
			t.Errorf("the killer got %d %s", a.status, a.body)
		}
		if a := innocent(); a.status != 200 || a.err == nil || strings.Contains(a.body, `"done":true`) {
			t.Errorf("the innocent got %d, %v, %s", a.status, a.err, a.body)
		}
		if a := b.call(t.Context(), "/api/generate", askA); !errors.Is(a.err, syscall.ECONNREFUSED) {
			t.Errorf("a dead node answered %d, %v", a.status, a.err)
		}
		time.Sleep(3*time.Second + time.Millisecond)
		if got := b.loaded(); got != "" {
			t.Errorf("it came back with %s", got)
		}
		if a := b.post("/api/generate", askA); a.status != 200 {
			t.Errorf("it came back to say %d %s", a.status, a.body)
		}
		if s := b.node.Stats(); s.Deaths != 1 || s.Running != 0 || s.Cancelled != 0 || s.Orphaned == 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestNode_RunnersThatHurtThemselves(t *testing.T) {
	inBubble(t, simnode.Options{Slots: 2, KeepAlive: -1}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a"}`)
		innocent := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x"}`)
		time.Sleep(5 * time.Second)
		if a := b.post("/api/generate", `{"model":"a","prompt":"x","stream":false,"options":{"repeat_penalty":0}}`); a.status != 500 || !strings.Contains(a.body, "signal arrived during cgo execution") {
			t.Errorf("repeat_penalty 0: %d %s", a.status, a.body)
		}
		if a := innocent(); a.err != nil || !strings.HasSuffix(a.body, "signal arrived during cgo execution\"}\n") {
			t.Errorf("the other answer of the model ended %v, %s", a.err, a.body)
		}
		deep := `{"model":"a","prompt":"x","format":` + strings.Repeat(`{"type":"object","properties":{"a":`, 200) + `{}` + strings.Repeat("}}", 200) + `}`
		for _, body := range []string{deep, `{"model":"a","prompt":"x","format":{"type":"array","minItems":100000}}`} {
			if a := b.post("/api/generate", body); a.status != 500 || !strings.Contains(a.body, "unexpectedly stopped") {
				t.Errorf("%.60s: %d %s", body, a.status, a.body)
			}
		}
		b.post("/api/generate", `{"model":"a"}`)
		if a := b.post("/api/generate", `{"model":"a","prompt":"x","options":{"num_batch":0}}`); a.status != 500 || b.loaded() != "" {
			t.Errorf("num_batch 0: %d %s, loaded %s", a.status, a.body, b.loaded())
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		blocked := b.start(ctx, "/api/generate", `{"model":"a","prompt":"x","options":{"num_thread":100000}}`)
		if a := b.call(ctx, "/api/generate", askB); !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("a load behind num_thread 100000: %d %v", a.status, a.err)
		}
		blocked()
		if a := b.post("/api/generate", askB); a.status != 200 {
			t.Errorf("afterwards: %d %s", a.status, a.body)
		}
		if s := b.node.Stats(); s.Crashes != 3 || s.Deaths != 0 || s.LoadsFailed != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// Leaving out messages one by one takes a real node longer than answering.
func TestNode_ToilsOverAChatThatDoesNotFit(t *testing.T) {
	inBubble(t, simnode.Options{Models: simnode.GoldenModels()}, func(t *testing.T, b *bubble) {
		many := `{"model":"tiny","messages":[{"role":"user","content":"x"}` + strings.Repeat(`,{"role":"user","content":"x"}`, 2999) + `],"options":{"num_predict":1}}`
		if a := b.post("/api/chat", many); a.first < 10*time.Second || a.first > 30*time.Second {
			t.Errorf("first byte after %v; a real node took 18 s", a.first)
		}
	})
}

func TestNode_OrphansHoldTheirMemory(t *testing.T) {
	inBubble(t, simnode.Options{VRAM: 2500, KeepAlive: -1}, func(t *testing.T, b *bubble) {
		load := func(model string) { b.post("/api/generate", `{"model":"`+model+`"}`) }
		load("a")
		load("b")
		b.node.Kill()
		b.node.Restart()
		synctest.Wait()
		load("a")
		if got := b.loaded(); got != "a" {
			t.Fatalf("loaded: %s", got)
		}
		load("b") // there is room for one no more
		if got := b.loaded(); got != "b" {
			t.Errorf("beside two orphans: %s", got)
		}
		b.node.ReapOrphans()
		load("a")
		if got := b.loaded(); got != "a b" && got != "b a" {
			t.Errorf("without them: %s", got)
		}
	})
}

func TestFault_Dies(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{Die: "kill", Contains: "boom", Frames: 2, Restart: time.Minute})
		a := b.call(t.Context(), "/api/generate", strings.Replace(streamA, `"x"`, `"boom"`, 1))
		if a.status != 200 || a.err == nil || lines(a.body) != 2 {
			t.Errorf("%d %v %q", a.status, a.err, a.body)
		}
		if a := b.call(t.Context(), "/api/generate", askA); !errors.Is(a.err, syscall.ECONNREFUSED) {
			t.Errorf("dead: %d %v", a.status, a.err)
		}
		time.Sleep(time.Minute + time.Millisecond)
		b.faults(simnode.Fault{Die: "term"})
		before := b.node.Stats().Orphaned
		if a := b.call(t.Context(), "/api/generate", askA); a.status != 0 {
			t.Errorf("%d %v", a.status, a.err)
		}
		if s := b.node.Stats(); s.Deaths != 2 || s.Orphaned != before {
			t.Errorf("%+v", s)
		}
		time.Sleep(time.Hour)
		if a := b.call(t.Context(), "/api/generate", askA); !errors.Is(a.err, syscall.ECONNREFUSED) {
			t.Errorf("nobody restarts it: %d %v", a.status, a.err)
		}
	})
}

func TestNode_DeathCutsIdleConnections(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		conn, err := b.pipe.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		b.node.Terminate()
		synctest.Wait()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("it stays open")
		}
	})
}

func TestNode_CloseEndsADeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := simnode.New(simnode.Options{Restart: time.Hour})
		n.Kill()
		n.Close()
		n.Restart()
		pipe := simnode.NewPipe(n)
		defer pipe.Close()
		resp, err := pipe.RoundTrip((&bubble{T: t}).get("/"))
		if err == nil {
			resp.Body.Close()
			t.Errorf("it answers %s", resp.Status)
		}
	})
}

func TestNode_HandlerWithoutADoorIsCut(t *testing.T) {
	n := newNode(t)
	n.Kill()
	defer func() {
		if p := recover(); p != any(http.ErrAbortHandler) {
			t.Errorf("got %v", p)
		}
	}()
	ask(t, n, http.MethodGet, "/", "")
}
