package gateway

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// A node gives a load up when the client that asked for it leaves. Here it is the engine's own.
func TestLoad_AClientThatLeavesCancelsNothingForTheOthers(t *testing.T) {
	onStand(t, standSetup{nodes: 1, scale: 1, cold: true}, func(s *stand) {
		ctx, leave := context.WithTimeout(s.Context(), 100*time.Millisecond)
		defer leave()
		var clients sync.WaitGroup
		clients.Go(func() { // ends when it leaves
			if resp, err := s.post(ctx, "/api/chat", forms[0].body); err == nil {
				resp.Body.Close()
				s.Errorf("answered %d before the model was loaded", resp.StatusCode)
			}
		})
		began := time.Now()
		code, answer, _ := s.rig.ask("/api/chat", forms[0].body)
		if code != 200 || !strings.Contains(answer, forms[0].whole) {
			s.Errorf("the other got %d %s", code, answer)
		}
		if took := time.Since(began); took > 400*time.Millisecond {
			s.Errorf("the other waited %v: the load began anew", took)
		}
		clients.Wait()
		if got := s.sim[0].Stats(); got.Loads != 1 {
			s.Errorf("%d loads, want 1", got.Loads)
		}
	})
}

func TestLoad_FiftyClientsOfAColdModelCauseOneLoad(t *testing.T) {
	onStand(t, standSetup{nodes: 1, slots: 4, scale: 1, cold: true}, func(s *stand) {
		var clients sync.WaitGroup
		for i := range 50 {
			clients.Go(func() { // ends with its answer
				f := forms[i%len(forms)]
				if code, answer, _ := s.rig.ask(f.path, f.body); code != 200 || !strings.Contains(answer, f.whole) {
					s.Errorf("%s: %d %.200s", f.name, code, answer)
				}
			})
		}
		clients.Wait()
		got := s.sim[0].Stats()
		if got.Loads != 1 {
			s.Errorf("%d loads, want 1", got.Loads)
		}
		if peak := got.Models["tiny:latest"].Peak; peak > 4 {
			s.Errorf("%d answers at once on 4 slots", peak)
		}
	})
}

func TestLoad_TwoColdModelsOfOneNodeLoadOneAfterAnother(t *testing.T) {
	onStand(t, standSetup{nodes: 1, scale: 1, cold: true}, func(s *stand) {
		var clients sync.WaitGroup
		for _, model := range []string{"tiny", "tinythink"} {
			clients.Go(func() { // ends with its answer
				body := strings.Replace(forms[0].body, `"tiny"`, `"`+model+`"`, 1)
				if code, answer, _ := s.rig.ask("/api/chat", body); code != 200 {
					s.Errorf("%s: %d %.200s", model, code, answer)
				}
			})
		}
		clients.Wait()
		if got := s.sim[0].Stats(); got.Loads != 2 || got.PeakQueue > 1 {
			s.Errorf("%d loads, %d at once at the node, want one after another", got.Loads, got.PeakQueue)
		}
	})
}

func TestLoad_ItsErrorIsToldInEachDialect(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			row{
				setup: standSetup{cold: true}, fault: "load-fails", other: "load-fails", forms: []form{f},
				code: 500, outcome: UpstreamError, says: "llama runner process has terminated", state: fleet.Up,
			}.hold(t)
		})
	}
}

func TestLoad_ThatFailsOnOneNodeIsDoneByAnother(t *testing.T) {
	for _, fault := range []string{"load-fails", "missing", "status=500", "never", "reset-after=0", "status=200,body=<html>"} {
		t.Run(fault, func(t *testing.T) {
			setup := standSetup{cold: true}
			setup.config.Attempts.FirstByteTimeout = 5 * time.Second
			onStand(t, setup, func(s *stand) {
				s.fail(0, fault)
				if code, answer, _ := s.rig.ask("/api/chat", forms[0].body); code != 200 || !strings.Contains(answer, forms[0].whole) {
					s.Errorf("%d %s", code, answer)
				}
				_ = s.sim[0].SetFaults()
			})
		})
	}
}

func TestLoad_TakesOverOptionsAndKeepAliveOfTheCall(t *testing.T) {
	onStand(t, standSetup{nodes: 1, cold: true}, func(s *stand) {
		s.rig.ask("/api/chat", `{"model":"tiny","keep_alive":-1,"messages":[{"role":"user","content":"hi"}],"options":{"num_ctx":512}}`)
		if got := s.sim[0].Stats(); got.Loads != 1 {
			s.Errorf("%d loads: it was loaded otherwise than the call wanted it", got.Loads)
		}
		_, ps, _ := s.rig.with(http.MethodGet, "/api/ps", "", http.Header{})
		if !strings.Contains(ps, `"context_length":512`) || !strings.Contains(ps, `"expires_at":"2`) {
			s.Errorf("loaded as %s", ps)
		}
		// A call that wants it gone afterwards gets its answer first.
		code, answer, _ := s.rig.ask("/api/chat", `{"model":"tinythink","keep_alive":0,"stream":false,"messages":[{"role":"user","content":"hi"}]}`)
		if code != 200 {
			s.Errorf("%d %s", code, answer)
		}
	})
}

func TestExplain_SaysWhereAnAnswerComesFromAndWhy(t *testing.T) {
	for explain, want := range map[bool][]string{true: {"node=n0, reason=spread", "node=n0, reason=prefix"}, false: {"", ""}} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, rigOptions{site: SiteConfig{Explain: explain}, warm: true}, goldenNode(t, 0.01), goldenNode(t, 0.01))
			for i, body := range []string{chatBody, singleBody} {
				if _, _, header := r.ask("/api/chat", body); header.Get("X-Ollama-Route") != want[i] {
					t.Errorf("the header is %q, want %q", header.Get("X-Ollama-Route"), want[i])
				}
			}
			synctest.Wait()
		})
	}
}
