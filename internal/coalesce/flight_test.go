package coalesce

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
)

func TestLeave_LeaderLeavesTheOthersAlone(t *testing.T) {
	for name, begun := range map[string]bool{"waiting": false, "following": true} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				leader, other := s.ask(chat("a")), s.ask(chat("a"))
				u := s.upstream()
				if !begun {
					leader.leave()
					synctest.Wait()
					leader.hears(t, "the leader", "", errLeft)
				}
				u.begin("1")
				if begun {
					leader.leave()
					synctest.Wait()
					leader.hears(t, "the leader", "1", errLeft)
				}
				late := s.ask(chat("a"))
				u.say("2")
				u.complete()
				other.hears(t, "the other", "12.", io.EOF)
				late.hears(t, "a late one", "12.", io.EOF)
				s.calls(1)
			})
		})
	}
}

func TestLeave_LastFollowerEndsTheUpstreamCallAtOnce(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		clients := []*client{s.ask(chat("a")), s.ask(chat("a"))}
		u := s.upstream()
		u.begin("1")
		clients = append(clients, s.ask(chat("a")))
		began := time.Now()
		for i, k := range clients {
			if u.w.Context().Err() != nil {
				t.Fatalf("ended while %d follow", len(clients)-i)
			}
			k.leave()
			synctest.Wait()
		}
		if cause := context.Cause(u.w.Context()); cause != recording.ErrAbandoned {
			t.Errorf("the upstream call ended with %v, want ErrAbandoned", cause)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v, want no time", took)
		}
		if n := s.flights.Running(); n != 0 {
			t.Errorf("%d flights are left", n)
		}
	})
}

// A pump takes a moment to see that nobody is left. Until then the flight stands in the table.
func TestLeave_NewcomerDoesNotJoinWhatIsAbandoned(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		k := s.ask(chat("a"))
		u := s.upstream()
		u.w = recording.New(s.ctx, u.call.Request, 0) // its writer does not look at its context
		r, err := u.w.Follow()
		if err != nil {
			t.Fatal(err)
		}
		u.say("1")
		u.answer(reply{r: r})
		synctest.Wait()
		k.leave()
		synctest.Wait()
		late := s.ask(chat("a"))
		again := s.calls(2)[1]
		u.w.Break(errBoom) // does not take the younger one's place away
		if n := s.flights.Running(); n != 1 {
			t.Errorf("%d flights, want the younger one", n)
		}
		again.begin("2")
		again.complete()
		late.hears(t, "who came late", "2.", io.EOF)
	})
}

func TestLeave_BeforeTheFirstFrameTheOthersWaitOn(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		leader, leaver, other := s.ask(chat("a")), s.ask(chat("a")), s.ask(openAI("a"))
		leaver.leave()
		synctest.Wait()
		leaver.hears(t, "who leaves", "", errLeft)
		u := s.upstream()
		leaver.follows(t, "who leaves", u.call.Upstream)
		if u.ctx.Err() != nil {
			t.Error("the flight ended with one wait")
		}
		u.begin("1")
		u.complete()
		leader.hears(t, "the leader", "1.", io.EOF)
		other.hears(t, "the other", "1.", io.EOF)
	})
}

func TestLeave_LastOneBeforeTheFirstFrameEndsTheFlight(t *testing.T) {
	for name, deaf := range map[string]bool{"next heeds it": false, "next answers all the same": true} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				s.deaf = deaf
				a, b := s.ask(chat("a")), s.ask(chat("a"))
				u := s.upstream()
				began := time.Now()
				a.leave()
				b.leave()
				synctest.Wait()
				if cause := context.Cause(u.ctx); cause != recording.ErrAbandoned || time.Since(began) != 0 {
					t.Errorf("the flight ended with %v after %v, want ErrAbandoned at once", cause, time.Since(began))
				}
				if n := s.flights.Running(); n != 0 {
					t.Errorf("%d flights are left", n)
				}
				c := s.ask(chat("a"))
				calls := s.calls(2)
				if deaf {
					u.begin("old") // nobody takes it
					if u.w.Context().Err() == nil {
						t.Error("an answer that nobody waits for goes on")
					}
				}
				calls[1].begin("1")
				calls[1].complete()
				c.hears(t, "who came later", "1.", io.EOF)
			})
		})
	}
}

func TestLeave_WhoHasLeftAlreadyAsksNobody(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		ctx, cancel := context.WithCancelCause(s.t.Context())
		cancel(errLeft)
		if _, err := s.step.Answer(ctx, chat("a")); err != errLeft {
			t.Errorf("got %v", err)
		}
		s.calls(0)
	})
}

func TestError_BeforeTheFirstFrameGoesToAllOfTheRoute(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		refused := &call.StatusError{Code: http.StatusBadRequest}
		var native, others []*client
		for range 10 {
			native = append(native, s.ask(chat("a")))
			others = append(others, s.ask(openAI("a")))
		}
		s.upstream().fail(refused)
		for _, k := range native {
			k.hears(t, "a native client", "", refused)
		}
		calls := s.calls(2) // the other route asks once
		if got := calls[1].call.Request.Route.Path; got != openAIChat.Path {
			t.Errorf("asked again for %s", got)
		}
		if n := s.flights.Running(); n != 1 {
			t.Errorf("%d flights, want that of the other route", n)
		}
		calls[1].begin("1")
		calls[1].complete()
		led := 0
		for _, k := range others {
			k.hears(t, "an OpenAI client", "1.", io.EOF)
			if k.call.Upstream == calls[1].call.Upstream {
				led++
				k.follows(t, "who asked again", nil)
			} else {
				k.follows(t, "who follows that", calls[1].call.Upstream)
			}
		}
		if led != 1 {
			t.Errorf("%d led", led)
		}
	})
}

func TestError_FlightLeavesTheTableBeforeAnybodyIsTold(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		in, ctx := s.flights.enter(chat("a"), nil, 1)
		s.flights.fly(ctx, in.flight, nextFunc(func(context.Context, *call.Call) (*recording.Reader, error) { return nil, errBoom }))
		if n := s.flights.Running(); n != 0 {
			t.Errorf("%d flights that have failed can be joined", n)
		}
	})
}

func TestError_IsNotKept(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		s.ask(chat("a")).hears(t, "who asks", "", nil)
		s.upstream().fail(errBoom)
		k := s.ask(chat("a"))
		u := s.calls(2)[1]
		u.begin("1")
		u.complete()
		k.hears(t, "who asks later", "1.", io.EOF)
	})
}

func TestBreak_EachFollowerIsToldAtEveryPosition(t *testing.T) {
	for frames := 1; frames <= 5; frames++ {
		for joined := 0; joined <= frames; joined++ {
			t.Run(fmt.Sprintf("%d frames joined after %d", frames, joined), func(t *testing.T) {
				onStage(t, Options{}, func(s *stage) {
					clients := []*client{s.ask(chat("a")), s.ask(openAI("a"))}
					want := ""
					for n := range frames {
						if n == joined {
							clients = append(clients, s.ask(chat("a")))
						}
						if want += "x"; n == 0 {
							s.upstream().begin("x")
						} else {
							s.upstream().say("x")
						}
					}
					if frames == joined {
						clients = append(clients, s.ask(chat("a")))
					}
					s.upstream().w.Break(errBoom)
					synctest.Wait()
					for i, k := range clients {
						k.hears(t, fmt.Sprintf("client %d", i), want, errBoom)
						var end *recording.EndError
						if !errors.As(k.err, &end) || !end.Begun {
							t.Errorf("client %d ended with %#v", i, k.err)
						}
					}
					if n := s.flights.Running(); n != 0 {
						t.Errorf("%d flights are left", n)
					}
				})
			})
		}
	}
}

func TestEnd_FlightLeavesTheTableBeforeItCanBeRead(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		seen := -1
		s.asksAndReads(chat("a"), func(k *client, r *recording.Reader) {
			k.read(r)
			seen = s.flights.Running()
		})
		u := s.upstream()
		u.begin("1")
		u.complete()
		if seen != 0 {
			t.Errorf("%d flights were in the table when the end was read", seen)
		}
	})
}

func TestEnd_AnswerThatIsWholeAtOnceGoesToAllWhoWait(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		clients := []*client{s.ask(chat("a")), s.ask(openAI("a")), s.ask(chat("a"))}
		u := s.upstream()
		r := u.record()
		u.complete()
		u.answer(reply{r: r})
		synctest.Wait()
		for i, k := range clients {
			k.hears(t, fmt.Sprintf("client %d", i), ".", io.EOF)
		}
	})
}

// The second tier gives a single answer where that is all that is asked for.
func TestEnd_SingleReplayIsOnlyForThoseWhoWantIt(t *testing.T) {
	onStage(t, Options{}, func(s *stage) {
		streams := func(c *call.Call) { c.Request.Stream = true }
		var singles atomic.Int32
		take := func(k *client, r *recording.Reader) {
			if _, _, ok := r.Single(); ok {
				singles.Add(1)
				k.err = io.EOF
				return
			}
			k.read(r)
		}
		s.asksAndReads(chat("a"), take)
		synctest.Wait()
		s.asksAndReads(chat("a"), take)
		others := []*client{s.asksAndReads(with(chat("a"), streams), take), s.asksAndReads(openAI("a"), take)}
		u := s.upstream()
		u.answer(reply{r: recording.Replay(nativeChat, recording.Whole{ContentType: "application/json", Single: []byte("{}")})})
		calls := s.calls(3)
		if n := singles.Load(); n != 2 {
			t.Errorf("%d have the single answer, want two", n)
		}
		for _, u := range calls[1:] {
			u.begin("1")
			u.complete()
		}
		for _, k := range others {
			k.hears(t, "who wants frames", "1.", io.EOF)
		}
	})
}

func TestPanic_IsToldToAllWhoWait(t *testing.T) {
	for name, c := range map[string]struct {
		reply reply
		want  error // in the chain; nil: a PanicError will do
	}{
		"with an error":         {reply{panic: errBoom}, errBoom},
		"with something else":   {reply{panic: "secret"}, nil},
		"by an answer of none":  {reply{}, nil},
		"end of its goroutine":  {reply{exit: true}, errNoAnswer},
		"abort of net/http":     {reply{panic: http.ErrAbortHandler}, http.ErrAbortHandler},
		"with an ordinary fail": {reply{err: errBoom}, errBoom},
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				clients := []*client{s.ask(chat("a")), s.ask(chat("a")), s.ask(chat("a"))}
				s.upstream().answer(c.reply)
				synctest.Wait()
				for i, k := range clients {
					var p *PanicError
					if !k.done || k.err == nil || c.want != nil && !errors.Is(k.err, c.want) || c.want == nil && !errors.As(k.err, &p) {
						t.Errorf("client %d: done %v with %v", i, k.done, k.err)
					}
					if p != nil && (len(p.Stack) == 0 || p.Error() == "secret") {
						t.Errorf("client %d: %v with a stack of %d bytes", i, p, len(p.Stack))
					}
				}
			})
		})
	}
}

func TestEngine_ItsEndEndsAllWaits(t *testing.T) {
	for name, deaf := range map[string]bool{"next heeds it": false, "next is stuck": true} {
		t.Run(name, func(t *testing.T) {
			onStage(t, Options{}, func(s *stage) {
				s.deaf = deaf
				waiting := []*client{s.ask(chat("a")), s.ask(chat("a")), s.ask(openAI("a"))}
				following := s.ask(chat("b"))
				calls := s.calls(2)
				calls[1].begin("1")
				s.end(errEngine)
				synctest.Wait()
				if cause := context.Cause(calls[0].ctx); cause != errEngine {
					t.Errorf("the flight ended with %v", cause)
				}
				for i, k := range waiting {
					k.hears(t, fmt.Sprintf("client %d", i), "", errEngine)
				}
				following.hears(t, "who follows", "1", errEngine)
				s.ask(chat("c")).hears(t, "who comes later", "", errEngine)
				s.calls(2)
				if deaf {
					calls[0].fail(errBoom) // or its goroutine would stay
				}
			})
		})
	}
}
