package gateway

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// calls asks so many times, with a pause between, and tells how many were not answered.
func (s *stand) calls(n int, pause time.Duration) (failed int) {
	s.Helper()
	for range n {
		if code, answer, _ := s.rig.ask("/api/chat", forms[0].body); code != 200 || !strings.Contains(answer, `"done":true`) {
			failed++
		}
		time.Sleep(pause)
	}
	return failed
}

// crowd is so many clients, each of which asks so often, one after the other.
func (s *stand) crowd(clients, each int) (failed int) {
	var bad atomic.Int64
	var g sync.WaitGroup
	for range clients {
		g.Go(func() { bad.Add(int64(s.calls(each, 0))) }) // ends with its last answer
	}
	g.Wait()
	return int(bad.Load())
}

// moves is how often a node has changed its state, as the log has it.
func (s *stand) moves(node string) int {
	n := 0
	for line := range strings.SplitSeq(s.log.String(), "\n") {
		if strings.Contains(line, "node state changed") && strings.Contains(line, "node="+node+" ") {
			n++
		}
	}
	return n
}

// 19
func TestMatrix_PassedChecksDoNotEndAnEjection(t *testing.T) {
	for name, fault := range map[string]string{
		"500": "status=500", "hangs": "never", "reset": "reset-after=0", "half": "reset-after=2",
		"500 to calls alone": "status=500,path=/api/chat", "hangs in calls alone": "never,path=/api/chat",
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Attempts: attempt.Options{FirstByteTimeout: time.Second}}
			onStand(t, standSetup{nodes: 3, slots: 4, config: config}, func(s *stand) {
				s.fail(0, fault)
				asked := 0
				ask := func() (int, string) { // each another thing: an equal one would be taken for what kills
					asked++
					code, answer, _ := s.rig.ask("/api/chat", strings.Replace(forms[1].body, canary, fmt.Sprint(canary, " ", asked), 1))
					time.Sleep(500 * time.Millisecond)
					return code, answer
				}
				for s.state(0) == fleet.Up && asked < 200 {
					ask()
				}
				if s.state(0) == fleet.Up {
					s.Fatalf("n0 is up after %d calls", asked)
				}
				before := s.sim[0].Stats().Requests
				failed, trusted, ejected := 0, 0, false
				const calls = 300 // two and a half minutes: an ejection is over again and again
				for range calls {
					if code, answer := ask(); code != 200 || !strings.Contains(answer, `"done":true`) {
						failed++
					}
					state := s.state(0)
					ejected = ejected || state == fleet.Ejected
					if ejected && state == fleet.Up {
						trusted++
					}
				}
				if failed != 0 {
					s.Errorf("%d of %d calls failed beside two good nodes", failed, calls)
				}
				after := s.sim[0].Stats().Requests
				if n := after["/api/chat"] - before["/api/chat"]; n == 0 || n*20 >= calls {
					s.Errorf("%d of %d calls went to a node that only lies, want few and some", n, calls)
				}
				if !ejected || trusted > 0 {
					s.Errorf("ejected: %t; its checks had it trusted at %d of %d calls", ejected, trusted, calls)
				}
				if n := after["/api/version"] - before["/api/version"]; n < 15 {
					s.Errorf("it was checked only %d times", n)
				}
				if n := after["/api/generate"] - before["/api/generate"]; n < 30 {
					s.Errorf("it was asked to use its model only %d times", n)
				}
			})
		})
	}
}

// 17, 19
func TestMatrix_ANodeThatWorksAgainIsUsedWithinTwoSeconds(t *testing.T) {
	for name, faults := range map[string][]string{
		"500": {"status=500"}, "hangs": {"never"}, "hangs in all": {"never,path=*", "deaf"}, "reset": {"reset-after=0"},
	} {
		t.Run(name, func(t *testing.T) {
			config := Config{Attempts: attempt.Options{FirstByteTimeout: time.Second}}
			onStand(t, standSetup{nodes: 3, slots: 4, config: config}, func(s *stand) {
				s.fail(0, faults...)
				ask := func(n int) { // each another thing, as above
					body := strings.Replace(forms[1].body, canary, fmt.Sprint(canary, " ", n), 1)
					if code, answer, _ := s.rig.ask("/api/chat", body); code != 200 {
						s.Errorf("got %d %.300s", code, answer)
					}
				}
				for n := 0; s.state(0) != fleet.Ejected && n < 200; n++ {
					ask(n)
					time.Sleep(200 * time.Millisecond)
				}
				if s.state(0) != fleet.Ejected {
					s.Fatalf("n0 is %s", s.state(0))
				}
				time.Sleep(3 * time.Second)
				s.fail(0)
				before, well := s.sim[0].Stats().Requests["/api/chat"], time.Now()
				for n := 1000; s.sim[0].Stats().Requests["/api/chat"] == before && time.Since(well) < time.Minute; n++ {
					ask(n)
					time.Sleep(20 * time.Millisecond)
				}
				if d := time.Since(well); d >= 2*time.Second {
					s.Errorf("used %v after it was well", d)
				}
				time.Sleep(time.Minute)
				s.calls(1, 0)
				if s.state(0) != fleet.Up {
					s.Errorf("n0 is %s a minute later", s.state(0))
				}
			})
		})
	}
}

// 20
func TestMatrix_AFlappingNodeDoesNotShowAndDoesNotFlapInTheFleet(t *testing.T) {
	onStand(t, standSetup{nodes: 3, slots: 4}, func(s *stand) {
		s.fail(0, "flap=1s")
		const minutes = 2
		asked, failed := 0, 0
		for range minutes * 60 {
			failed += s.calls(4, 250*time.Millisecond)
			asked += 4
		}
		if failed*100 > asked {
			s.Errorf("%d of %d calls failed beside two good nodes", failed, asked)
		}
		if n := s.moves("n0"); n > 6*minutes {
			s.Errorf("the node changed its state %d times in %d minutes", n, minutes)
		}
	})
}

// 21
func TestMatrix_ASlowNodeGetsLess(t *testing.T) {
	onStand(t, standSetup{slots: 4, scale: 0.2, cold: true}, func(s *stand) {
		s.fail(0, "slow=10")
		s.crowd(6, 20) // what is usual is learned
		before0, before1 := s.served(0), s.served(1)
		if failed := s.crowd(6, 40); failed != 0 {
			s.Errorf("%d calls failed", failed)
		}
		slow, fast := s.served(0)-before0, s.served(1)-before1
		if slow*4 > fast {
			s.Errorf("the slow node had %d calls, the fast one %d", slow, fast)
		}
	})
}

// 22
func TestMatrix_AllNodesDownIsToldAtOnceAndEndsSoon(t *testing.T) {
	onStand(t, standSetup{}, func(s *stand) {
		s.fail(0, "refuse")
		s.fail(1, "refuse")
		time.Sleep(time.Minute)
		for _, f := range forms {
			began := time.Now()
			code, answer, header := s.rig.ask(f.path, f.body)
			if took := time.Since(began); code != 503 || !strings.HasPrefix(answer, f.fault) || took > 100*time.Millisecond {
				s.Errorf("%d %s after %v", code, answer, took)
			}
			retryAfter(s, header)
			if got := s.last(s.T); got.Outcome != Overloaded && got.Outcome != UpstreamError || len(got.Tries) != 0 {
				s.Errorf("%+v", got)
			}
		}
		s.fail(0)
		s.fail(1)
		time.Sleep(5 * time.Second) // the check interval
		if n := s.calls(5, 0); n != 0 {
			s.Errorf("%d of 5 calls failed a check interval after the outage", n)
		}
	})
}

// 23
func TestMatrix_ANodeThatComesBackIsNotStampeded(t *testing.T) {
	onStand(t, standSetup{slots: 8, scale: 1}, func(s *stand) {
		const slow = "slow=50" // answers of seconds
		s.fail(0, "refuse", slow)
		s.fail(1, slow)
		time.Sleep(time.Minute)
		var g sync.WaitGroup
		g.Go(func() { // ends after its span
			if failed := s.crowd(16, 60); failed != 0 {
				s.Errorf("%d calls failed", failed)
			}
		})
		time.Sleep(20 * time.Second)
		s.fail(0, slow)
		for s.state(0) == fleet.Down {
			time.Sleep(100 * time.Millisecond)
		}
		if s.state(0) != fleet.Probation {
			s.Errorf("it came back %s", s.state(0))
		}
		time.Sleep(3 * time.Second)
		early := s.sim[0].Stats().Models["tiny:latest"].Peak
		time.Sleep(time.Minute)
		synctest.Wait()
		late := s.sim[0].Stats().Models["tiny:latest"].Peak
		if early > 2 || late <= early {
			s.Errorf("it ran %d at once after 3 s and %d after a minute, want one or two and then more", early, late)
		}
		g.Wait()
		if s.state(0) != fleet.Up {
			s.Errorf("it ended %s", s.state(0))
		}
	})
}

// 24
func TestMatrix_RetriesUnderLoadAreBounded(t *testing.T) {
	onStand(t, standSetup{nodes: 3, slots: 4, config: Config{Health: fleet.Options{EjectAfter: -1}}}, func(s *stand) {
		for i := range s.sim {
			s.fail(i, "status=500,share=0.5,seed=7")
		}
		began := time.Now()
		const asked = 20 * 50
		before := s.served(0) // the load
		s.crowd(20, 50)
		tries := -before
		for i := range s.sim {
			tries += s.served(i)
		}
		// A tenth of the calls, and the floor: 3 a second and 30 saved ones.
		if limit := asked + asked/10 + 30 + int(3*time.Since(began).Seconds()); tries > limit {
			s.Errorf("%d tries for %d calls, want at most %d", tries, asked, limit)
		}
	})
}
