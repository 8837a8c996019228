package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

var one = standSetup{nodes: 1}

// 1
func TestMatrix_ARefusedConnectionCostsNothingButATry(t *testing.T) {
	row{
		fault: "refuse", code: 200, outcome: OK, tries: "connect_error ok|reset ok", // by whether there was a connection
		after: 2 * time.Second, state: fleet.Down,
		within: 500 * time.Millisecond, // with the load on the other node
	}.hold(t)
	// Where the model is loaded on both, it costs less than 50 ms.
	for _, f := range forms {
		t.Run(f.name+"/loaded on both", func(t *testing.T) {
			onStand(t, standSetup{}, func(s *stand) {
				s.direct(1, "/api/generate", `{"model":"tiny","keep_alive":-1}`)
				time.Sleep(5 * time.Second) // it is known
				began := time.Now()
				s.direct(1, f.path, f.body)
				usual := time.Since(began)
				for asked := 1; ; asked++ {
					s.fail(0, "refuse")
					began := time.Now()
					code, answer, _ := s.rig.ask(f.path, f.body)
					extra := time.Since(began) - usual
					if code != 200 || !strings.Contains(answer, f.whole) {
						s.Fatalf("%d %s", code, answer)
					}
					got := s.last(s.T)
					if len(got.Tries) == 1 && asked < 50 { // the other one was chosen, or n0 is known to be down
						s.fail(0)
						time.Sleep(15 * time.Second)
						continue
					}
					if len(got.Tries) != 2 || !got.Tries[0].Failed || got.Tries[1].Failed || extra > 50*time.Millisecond {
						s.Errorf("after %d calls: %v more than usual, tries %+v; want one more and at most 50ms", asked, extra, got.Tries)
					}
					s.mu.Lock()
					defer s.mu.Unlock()
					if s.tries != asked+1 {
						s.Errorf("%d tries of %d calls were told, want one more", s.tries, asked)
					}
					return
				}
			})
		})
	}
}

// 4
func TestMatrix_A500IsMadeUpForByAnotherNode(t *testing.T) {
	row{fault: "status=500", code: 200, outcome: OK, tries: "status_5xx ok", state: fleet.Up}.hold(t)
}

func TestMatrix_A500OfAllNodesIsTold(t *testing.T) {
	row{
		fault: "status=500", other: "status=500", code: 500, outcome: UpstreamError, tries: "status_5xx status_5xx",
		says: "internal server error", state: fleet.Up,
	}.hold(t)
}

// 5
func TestMatrix_AModelMissingOnANodeIsFoundElsewhere(t *testing.T) {
	row{fault: "missing", code: 200, outcome: OK, tries: "model_missing ok", state: fleet.Up}.hold(t)
}

func TestMatrix_AModelMissingOnAllNodesIsA404InANodesWords(t *testing.T) {
	row{
		fault: "missing", other: "missing", code: 404, outcome: ClientError, tries: "model_missing model_missing",
		says: "model 'tiny' not found", forms: forms[:4], state: fleet.Up,
	}.hold(t)
}

// 6
func TestMatrix_ABusyNodeIsPassedBy(t *testing.T) {
	row{fault: "busy", code: 200, outcome: OK, tries: "busy ok", state: fleet.Up}.hold(t)
}

func TestMatrix_AllBusyIsA503WithRetryAfter(t *testing.T) {
	row{
		fault: "busy", other: "busy", code: 503, outcome: Overloaded, tries: strings.Repeat("busy ", 8) + "busy", says: "server busy",
		within: 5 * time.Second, state: fleet.Up, also: retryAfter,
	}.hold(t)
}

func retryAfter(s *stand, h http.Header) {
	s.Helper()
	if h.Get("Retry-After") == "" {
		s.Error("no Retry-After")
	}
}

// 7
func TestMatrix_WhatIsTheClientsIsPassedThrough(t *testing.T) {
	for _, code := range []int{400, 413, 429} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			row{
				fault: fmt.Sprintf("status=%d", code), code: code, outcome: ClientError, tries: "refused", state: fleet.Up,
				says: strings.ToLower(http.StatusText(code)),
				also: func(s *stand, _ http.Header) {
					if s.served(1) != 0 {
						s.Error("another node was asked")
					}
				},
			}.hold(t)
		})
	}
}

// 8
func TestMatrix_ARedirectIsNotFollowed(t *testing.T) {
	for _, code := range []int{301, 307, 308} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			// It leads to a route of the node itself, so that following it would be seen there.
			row{
				setup: one, fault: fmt.Sprintf("status=%d,redirect=http://elsewhere/api/version2", code), code: 502, outcome: UpstreamError, tries: "redirected",
				state: fleet.Up,
				also: func(s *stand, h http.Header) {
					if n := s.sim[0].Stats().Requests["/api/version2"]; n != 0 || h.Get("Location") != "" {
						s.Errorf("followed %d times, Location %q", n, h.Get("Location"))
					}
				},
			}.hold(t)
		})
	}
}

// 9
func TestMatrix_ASlowFirstByteUnderTheLimitIsWaitedFor(t *testing.T) {
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			onStand(t, one, func(s *stand) {
				s.fail(0, "first-byte=30s")
				began := time.Now()
				resp, err := s.post(s.Context(), f.path, f.body)
				if err != nil {
					s.Fatal(err)
				}
				defer resp.Body.Close()
				if took := time.Since(began); took < 30*time.Second {
					s.Errorf("the headers came after %v, before there was an answer", took)
				}
				answer, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(answer), f.whole) || resp.StatusCode != 200 {
					s.Errorf("%d %s %v", resp.StatusCode, answer, err)
				}
				if got := s.last(s.T); got.Outcome != OK || len(got.Tries) != 1 {
					s.Errorf("%+v", got)
				}
			})
		})
	}
}

// 10
func TestMatrix_ASilentNodeIsGivenUp(t *testing.T) {
	limits := Config{Attempts: attempt.Options{FirstByteTimeout: 2 * time.Second}}
	cancelled := func(s *stand, _ http.Header) {
		s.Helper()
		time.Sleep(time.Second)
		for i, n := range s.sim {
			if x := n.Stats(); x.Faulted["1"] != x.Cancelled {
				s.Errorf("n%d still works on what was given up: %d of %d cancelled", i, x.Cancelled, x.Faulted["1"])
			}
		}
	}
	t.Run("another answers", func(t *testing.T) {
		row{
			setup: standSetup{config: limits}, fault: "never", code: 200, outcome: OK, tries: "timeout ok", within: 3 * time.Second,
			state: fleet.Up, also: cancelled,
		}.hold(t)
	})
	t.Run("none answers", func(t *testing.T) {
		row{
			setup: standSetup{config: limits}, fault: "never", other: "never", code: 504, outcome: Timeout, tries: "timeout timeout",
			within: 5 * time.Second, state: fleet.Up, also: cancelled,
		}.hold(t)
	})
}

// 17
func TestMatrix_APageInsteadOfAnAnswerIsNotPassedOn(t *testing.T) {
	const page = "status=200,body=<html><body>Please sign in</body></html>"
	t.Run("another answers", func(t *testing.T) {
		row{fault: page, code: 200, outcome: OK, tries: "protocol ok", state: fleet.Up}.hold(t)
	})
	t.Run("none answers", func(t *testing.T) {
		row{setup: one, fault: page, code: 502, outcome: UpstreamError, tries: "protocol", state: fleet.Up}.hold(t)
	})
	t.Run("an answer as a page", func(t *testing.T) {
		row{fault: "type=text/html", code: 200, outcome: OK, tries: "protocol ok", state: fleet.Up}.hold(t)
	})
}

// 18
func TestMatrix_ALiedModelIsAMissingOne(t *testing.T) {
	setup := one
	setup.config.Health.TagsInterval = time.Second
	for _, f := range forms[:4] {
		t.Run(f.name, func(t *testing.T) {
			onStand(t, setup, func(s *stand) {
				s.fail(0, "tags=ghost")
				time.Sleep(5 * time.Second)
				code, answer, _ := s.rig.ask(f.path, strings.Replace(f.body, "tiny", "ghost", 1))
				if code != 404 || !strings.Contains(answer, "model 'ghost' not found") {
					s.Errorf("%d %s, want a node's 404", code, answer)
				}
				if got := s.last(s.T); got.Outcome != ClientError || s.state(0) != fleet.Up {
					s.Errorf("outcome %s, node %s", got.Outcome, s.state(0))
				}
			})
		})
	}
}

// 18, the other way round: it was there when the call was let in.
func TestMatrix_AModelThatGoesWhileACallWaitsIsAMissingOne(t *testing.T) {
	setup := one
	setup.slots = 1
	setup.scale = 1
	setup.config.Health.TagsInterval = time.Second
	for _, f := range forms[:4] {
		t.Run(f.name, func(t *testing.T) {
			onStand(t, setup, func(s *stand) {
				s.fail(0, "first-byte=20s,path="+f.path)
				running := make(chan struct{})
				go func() {
					defer close(running)
					if code, answer, _ := s.rig.ask(f.path, f.body); code != 200 {
						s.Errorf("what was running: %d %s", code, answer)
					}
				}()
				time.Sleep(time.Second)
				s.fail(0)
				began := time.Now()
				time.AfterFunc(time.Second, func() { s.remove(0, "tiny") })
				code, answer, _ := s.rig.ask(f.path, f.body)
				if code != 404 || !strings.Contains(answer, "model 'tiny' not found") {
					s.Errorf("%d %s, want a node's 404", code, answer)
				}
				if took := time.Since(began); took > 5*time.Second {
					s.Errorf("it was told after %v, when the one before it had ended", took)
				}
				if got := s.last(s.T); got.Outcome != ClientError || s.state(0) != fleet.Up {
					s.Errorf("outcome %s, node %s", got.Outcome, s.state(0))
				}
				<-running
			})
		})
	}
}

// 58
func TestMatrix_ARouteThatANodeDoesNotKnowGoesToOneThatDoes(t *testing.T) {
	for _, f := range forms[3:] {
		t.Run(f.name, func(t *testing.T) {
			onStand(t, standSetup{versions: []string{"0.12.0", "0.24.0"}}, func(s *stand) {
				s.fail(0, "path="+f.path+",status=404,body=404 page not found")
				for range 3 {
					code, answer, _ := s.rig.ask(f.path, f.body)
					if code != 200 || !strings.Contains(answer, f.whole) {
						s.Errorf("%d %s, want the answer of the node that can", code, answer)
					}
				}
				// What the old node can do it still gets.
				s.fail(1, "refuse")
				if code, answer, _ := s.rig.ask("/api/chat", forms[0].body); code != 200 {
					s.Errorf("%d %s from the old node, want 200", code, answer)
				}
			})
		})
	}
}
