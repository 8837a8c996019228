package coalesce

import (
	"fmt"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

func TestStep_EqualCallsMakeOneUpstreamCall(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		var clients []*client
		for range 50 {
			clients = append(clients, s.asks(chat("a")))
		}
		u := s.upstream()
		if u.call.Whole {
			t.Error("the upstream call is read in one piece, though others may join")
		}
		u.begin("1")
		if n := s.flights.Running(); n != 1 {
			t.Errorf("%d flights, want 1", n)
		}
		for _, f := range []string{"2", "3"} {
			u.say(f)
		}
		u.complete()
		led := 0
		for i, k := range clients {
			k.hears(t, fmt.Sprintf("client %d", i), "123.", io.EOF)
			if k.call.Upstream == u.call.Upstream {
				led++
				k.follows(t, "the leader", nil)
			} else {
				k.follows(t, fmt.Sprintf("client %d", i), u.call.Upstream)
			}
			if !k.call.Whole {
				t.Error("the call of a client was changed")
			}
		}
		if led != 1 {
			t.Errorf("%d calls led", led)
		}
	})
}

func TestStep_JoinerHasWhatWasSaidAtOnceAndTheRestLive(t *testing.T) {
	frames := []string{"1", "2", "3", "4"}
	for at := range frames {
		t.Run(fmt.Sprintf("after frame %d", at+1), func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				leader := s.ask(chat("a"))
				u := s.upstream()
				u.begin("1")
				heard := "1"
				for _, f := range frames[1 : at+1] {
					u.say(f)
					heard += f
				}
				late := s.ask(chat("a"))
				late.hears(t, "who joins", heard, nil)
				for _, f := range frames[at+1:] {
					u.say(f)
					heard += f
					late.hears(t, "who joined", heard, nil)
				}
				u.complete()
				leader.hears(t, "the leader", heard+".", io.EOF)
				late.hears(t, "who joined", heard+".", io.EOF)
				s.calls(1)
			})
		})
	}
}

func TestStep_ObjectIsFollowedLikeFrames(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		clients := []*client{s.ask(chat("a")), s.ask(chat("a")), s.ask(chat("a"))}
		u := s.upstream()
		r := u.record()
		u.w.Object("application/json", []byte("{}"))
		u.answer(reply{r: r})
		synctest.Wait()
		for i, k := range clients {
			if k.object != "{}" {
				t.Errorf("client %d has %q, %v; want the object", i, k.object, k.err)
			}
		}
		s.ask(chat("a")).leave()
		s.calls(2) // it had ended
	})
}

func TestStep_WhatDoesNotJoinGoesItsWayAsItIs(t *testing.T) {
	for name, change := range map[string]func(*call.Call){
		"not to be joined":        func(c *call.Call) { c.Joining = nil },
		"only into an idle slot":  func(c *call.Call) { c.IdleOnly = true },
		"neither joined nor idle": func(c *call.Call) { c.Joining, c.IdleOnly = nil, true },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				a, b := s.ask(with(chat("a"), change)), s.ask(with(chat("a"), change))
				calls := s.calls(2)
				if calls[0].call != a.call || calls[1].call != b.call {
					t.Error("next got other calls than were made")
				}
				if n := s.flights.Running(); n != 0 {
					t.Errorf("%d flights", n)
				}
				for _, u := range calls {
					u.begin("1")
					u.complete()
				}
				a.hears(t, "one", "1.", io.EOF)
				b.hears(t, "the other", "1.", io.EOF)
			})
		})
	}
}

// Who meets whom: the second call asks while the flight of the first has its first frame or has
// not.
func TestStep_WhoFollowsWhom(t *testing.T) {
	const before, after = 1, 2 // the first frame
	for name, c := range map[string]struct {
		first, second *call.Call
		follows       int
	}{
		"equal":                      {chat("a"), chat("a"), before | after},
		"different":                  {chat("a"), chat("b"), 0},
		"openai the equal native":    {chat("a"), openAI("a"), before | after},
		"openai another native":      {chat("a"), openAI("b"), 0},
		"openai an openai":           {openAI("a"), openAI("a"), before | after},
		"native the equal openai":    {openAI("a"), chat("a"), 0},
		"one that wants its own":     {chat("a"), with(chat("a"), alone), 0},
		"one that has got its own":   {with(chat("a"), alone), chat("a"), before | after},
		"openai that wants its own":  {chat("a"), with(openAI("a"), alone), 0},
		"better class":               {with(chat("a"), ranked(call.Batch)), with(chat("a"), ranked(call.Background)), after},
		"best class":                 {with(chat("a"), ranked(call.Batch)), chat("a"), after},
		"worse class":                {with(chat("a"), ranked(call.Background)), with(chat("a"), ranked(call.Batch)), before | after},
		"openai of a better class":   {with(chat("a"), ranked(call.Batch)), openAI("a"), after},
		"openai of a worse class":    {chat("a"), with(openAI("a"), ranked(call.Batch)), before | after},
		"one that takes idle slots":  {with(chat("a"), func(c *call.Call) { c.IdleOnly = true }), chat("a"), 0},
		"one that joins nobody":      {with(chat("a"), func(c *call.Call) { c.Joining = nil }), chat("a"), 0},
		"streamed one that is whole": {chat("a"), with(chat("a"), func(c *call.Call) { c.Request.Stream, c.Whole = true, false }), before | after},
	} {
		for moment, when := range map[int]string{before: "before", after: "after"} {
			t.Run(name+" "+when+" the first frame", func(t *testing.T) {
				// The cases are shared by both moments, what is written down of a call is not.
				first, second := *c.first, *c.second
				first.Cached, second.Cached = new(call.Cached), new(call.Cached)
				onStage(t, Options{}, func(s *stage) {
					a := s.ask(&first)
					u := s.upstream()
					if moment == after {
						u.begin("1")
					}
					b := s.ask(&second)
					n := 2
					if c.follows&moment != 0 {
						n = 1
						defer b.follows(t, "the second", u.call.Upstream)
					} else {
						defer b.follows(t, "the second", nil)
					}
					calls := s.calls(n)
					if moment == before {
						u.begin("1")
					}
					if n == 2 {
						calls[1].begin("1")
						calls[1].complete()
					}
					u.complete()
					a.hears(t, "the first", "1.", io.EOF)
					b.hears(t, "the second", "1.", io.EOF)
				})
			})
		}
	}
}

func TestStep_NewcomerThatMayNotFollowTakesThePlace(t *testing.T) {
	for name, second := range map[string]*call.Call{
		"better class":         chat("a"),
		"one that wants a new": with(chat("a"), alone),
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				old := s.ask(with(chat("a"), ranked(call.Batch)))
				s.ask(second)
				third := s.ask(chat("a"))
				calls := s.calls(2)
				calls[0].begin("old")
				calls[1].begin("new")
				calls[0].complete() // it has no place in the table any more
				if n := s.flights.Running(); n != 1 {
					t.Errorf("%d flights, want that of the newcomer", n)
				}
				calls[1].complete()
				old.hears(t, "the old leader", "old.", io.EOF)
				third.hears(t, "the third", "new.", io.EOF)
			})
		})
	}
}

func TestForget_NobodyJoinsWhatRunsAndItsFollowersGoOn(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		a, b := s.ask(chat("a")), s.ask(chat("a"))
		u := s.upstream()
		s.flights.Forget()
		c := s.ask(chat("a"))
		calls := s.calls(2)
		u.begin("old")
		d := s.ask(chat("a"))
		u.complete() // does not take the younger one's place away
		e := s.ask(chat("a"))
		s.calls(2)
		calls[1].begin("new")
		calls[1].complete()
		for who, k := range map[string]*client{"the leader": a, "its follower": b} {
			k.hears(t, who, "old.", io.EOF)
		}
		for _, k := range []*client{c, d, e} {
			k.hears(t, "a later one", "new.", io.EOF)
		}
	})
}

func TestMaxFollowers_BeyondThemNewcomersFollowANewFlight(t *testing.T) {
	for name, begun := range map[string]bool{"waiting": false, "following": true} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{MaxFollowers: 2}, func(s *stage) {
				var clients []*client
				for i := range 7 {
					clients = append(clients, s.ask(chat("a")))
					if all := s.upstreams(); begun && i%3 == 0 {
						all[len(all)-1].begin(name)
					}
				}
				for _, u := range s.calls(3) {
					if !begun {
						u.begin(name)
					}
					u.complete()
				}
				for _, k := range clients {
					k.hears(t, "a client", name+".", io.EOF)
				}
			})
		})
	}
}

func TestMaxFollowers_WhoLeavesBeforeTheFirstFrameGivesItsPlaceBack(t *testing.T) {
	onStage(t, Options{MaxFollowers: 1}, func(s *stage) {
		s.ask(chat("a"))
		for range 3 {
			k := s.ask(chat("a"))
			k.leave()
			synctest.Wait()
		}
		last := s.ask(chat("a"))
		u := s.upstream()
		u.begin("1")
		u.complete()
		last.hears(t, "the last one", "1.", io.EOF)
	})
}

func TestStep_OneClientsDrawsDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(Base{Context: t.Context(), Jobs: new(sync.WaitGroup)})
		lead := &call.Call{Joining: &call.Joining{Client: "10.0.0.7"}}
		flight, _ := newFlight(t.Context(), lead)
		defer flight.cancel(nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, c := range []struct {
			client string
			follow bool
		}{{"10.0.0.7", false}, {"10.0.0.8", true}, {"10.0.0.8", false}, {"", true}, {"", true}} {
			if ok := flight.followLocked(&call.Call{Joining: &call.Joining{Client: c.client}}, 100); ok != c.follow {
				t.Errorf("%q follows: %v, want %v", c.client, ok, c.follow)
			}
		}
	})
}
