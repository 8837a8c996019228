package gateway

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

func hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

func (f *faulty) become(infer http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.infer = infer
}

func TestFault_ALoadedModelThatHangsIsGivenUpSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, bad, good := faultRig(t, Config{}, nil)
		for range 10 { // what is usual is learned
			r.ask("/api/chat", chatBody)
			synctest.Wait() // the slot is free again
		}
		if calls, _ := good.count(); calls != 0 {
			t.Fatalf("%d calls at the node where the model is not loaded", calls)
		}
		bad.become(hang)
		begun := time.Now()
		code, answer, _ := r.ask("/api/chat", chatBody)
		if took := time.Since(begun); code != 200 || !strings.Contains(answer, `"done":true`) || took > 1500*time.Millisecond {
			t.Errorf("%d after %v, want an answer within 1.5s", code, took)
		}
		good.become(hang) // the second try has the whole time
		begun = time.Now()
		code, _, _ = r.ask("/api/chat", chatBody)
		if took := time.Since(begun); code != 504 || took < 5*time.Minute {
			t.Errorf("%d after %v, want 504 after the whole time", code, took)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestFault_AnIllNodeGetsNoCallsUntilOneHasTriedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, bad, _ := faultRig(t, Config{Health: fleet.Options{EjectAfter: 1, EjectBase: 10 * time.Second}}, status(500, `{"error":"llama runner process has terminated"}`))
		for range 100 {
			if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 {
				t.Fatalf("%d %s", code, answer)
			}
		}
		if calls, _ := bad.count(); calls > 1 {
			t.Errorf("%d of 100 calls went to a node that fails them all", calls)
		}
		if v := r.engine.fleet.Snapshot().Nodes[0]; v.State != fleet.Ejected {
			t.Errorf("the node is %v", v.State)
		}
		bad.become(nil)
		time.Sleep(11 * time.Second)
		before, _ := bad.count()
		r.ask("/api/chat", chatBody)
		synctest.Wait()
		if calls, _ := bad.count(); calls != before+1 {
			t.Errorf("%d calls tried it, want one", calls-before)
		}
		if v := r.engine.fleet.Snapshot().Nodes[0]; !v.Usable() {
			t.Errorf("well again, the node is %v", v.State)
		}
		r.idle()
	})
}

func TestFault_RetriesAreNoStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := status(500, `{"error":"llama runner process has terminated"}`)
		r, bad, good := faultRig(t, Config{Health: fleet.Options{EjectAfter: -1}}, failing)
		good.become(failing)
		const calls = 2000
		for range calls {
			if code, _, _ := r.ask("/api/chat", chatBody); code < 500 {
				t.Fatalf("status %d", code)
			}
		}
		a, _ := bad.count()
		b, _ := good.count()
		if a+b > calls+calls/10+100 {
			t.Errorf("%d tries for %d calls", a+b, calls)
		}
		r.idle()
	})
}

func TestFault_AClosedConnectionIsMadeUpForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cut := func(w http.ResponseWriter, _ *http.Request) { abort(w) }
		third := &faulty{Handler: goldenNode(t, 0.01)}
		bad, worse := &faulty{Handler: goldenNode(t, 0.01)}, &faulty{Handler: goldenNode(t, 0.01)}
		r := newRig(t, rigOptions{}, bad, worse, third)
		for _, f := range []*faulty{bad, worse, third} {
			f.become(cut)
		}
		code, _, _ := r.ask("/api/chat", chatBody)
		a, _ := bad.count()
		b, _ := worse.count()
		c, _ := third.count()
		if code != 502 || a+b+c != 2 {
			t.Errorf("status %d after %d deaths, want 502 after 2", code, a+b+c)
		}
		r.idle()
	})
}
