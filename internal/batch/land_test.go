package batch

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// refuses has a node refuse all that a text is in.
func refuses(bad string, code int) func([]string) error {
	return func(texts []string) error {
		if slices.Contains(texts, bad) {
			return &call.StatusError{Code: code, ContentType: "application/json; charset=utf-8", Body: []byte(`{"error":"` + bad + `"}`)}
		}
		return nil
	}
}

// busy fills the only slot of a fleet until the returned function is called.
func (f *fleet) busy() (free func()) {
	f.slots <- struct{}{}
	return func() { <-f.slots }
}

func TestLand_BadTextFailsItsOwnerAlone(t *testing.T) {
	for _, code := range []int{400, 500} {
		for _, n := range []int{3, 31} { // others beside it
			f := &fleet{most: 1, fails: refuses("bad", code)}
			within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
				b.dear()
				free := f.busy()
				var clients sync.WaitGroup
				for i := range n {
					clients.Go(func() { b.ask(fmt.Sprint("text ", i)) }) // each ends with its answer
				}
				var err error
				clients.Go(func() { _, err = b.get(t.Context(), asking(t, "/api/embed", embedding("bad"))) })
				synctest.Wait()
				free()
				clients.Wait()
				var refused *call.StatusError
				if !errors.As(err, &refused) || refused.Code != code || string(refused.Body) != `{"error":"bad"}` {
					t.Errorf("the owner got %v", err)
				}
				want := 1 + n + 1 // all together, then one by one
				if n > bisected {
					want = 1 + 2 + 2 + 8 // halves of 32, of 16, and eight one by one
				}
				if got := len(f.sent()); got != want {
					t.Errorf("%d: %d calls with %d others, want %d", code, got, n, want)
				}
			})
		}
	}
}

func TestLand_BadTextFailsTheWholeRequestOfItsOwnerAsANodeDoes(t *testing.T) {
	f := &fleet{most: 1, fails: refuses("bad", 400)}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		_, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a", "bad", "b")))
		var refused *call.StatusError
		if !errors.As(err, &refused) || len(f.sent()) != 1 {
			t.Errorf("alone: %v after %d calls, want the refusal of one", err, len(f.sent()))
		}
		free := f.busy()
		var clients sync.WaitGroup
		var bad error
		clients.Go(func() { _, bad = b.get(t.Context(), asking(t, "/api/embed", embedding("a", "bad", "b"))) }) // each ends with its answer
		clients.Go(func() { b.ask("c", "a") })
		synctest.Wait()
		free()
		clients.Wait()
		if !errors.As(bad, &refused) || string(refused.Body) != `{"error":"bad"}` {
			t.Errorf("among others: %v", bad)
		}
	})
}

func TestLand_OtherFailuresAreNotSentAgain(t *testing.T) {
	boom := errors.New("boom")
	for name, fails := range map[string]func([]string) error{
		"a fault":    func([]string) error { return boom },
		"a busy one": refuses("a", http.StatusServiceUnavailable),
		"no model":   refuses("a", http.StatusNotFound),
	} {
		t.Run(name, func(t *testing.T) {
			f := &fleet{most: 1, fails: fails}
			within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
				b.dear()
				free := f.busy()
				var clients sync.WaitGroup
				for _, text := range []string{"a", "b"} {
					clients.Go(func() { // ends with the failure
						if _, err := b.get(t.Context(), asking(t, "/api/embed", embedding(text))); err == nil {
							t.Errorf("%s was answered", text)
						}
					})
				}
				synctest.Wait()
				free()
				clients.Wait()
				if got := len(f.sent()); got != 1 {
					t.Errorf("%d calls, want 1", got)
				}
			})
		})
	}
}

func TestLand_AnswersOfAnotherShapeAreNobodysVectors(t *testing.T) {
	route := *wire.Find("POST", "/api/embed").Route
	odd := answerer(func(_ context.Context, c *call.Call) (*recording.Reader, error) {
		c.Seal()
		return recording.Replay(route, recording.Whole{ContentType: "application/json", Object: []byte(`{"embeddings":[],"new":1}`)}), nil
	})
	kept := &store{}
	b := newBench(t, nil, Options{}, kept, odd)
	defer b.end()
	if got, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a", "b"))); err != nil || got != `{"embeddings":[],"new":1}` {
		t.Errorf("its own request: %s, %v; want what the node says", got, err)
	}
	if _, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a", "a"))); !errors.Is(err, wire.ErrFrame) {
		t.Errorf("a request that it does not answer as it stands: %v", err)
	}
	if len(kept.kept) > 0 {
		t.Errorf("%d vectors were stored", len(kept.kept))
	}
	b.Jobs.Wait()
}

func TestLand_PanicsAndEndsAreToldToAllWhoWait(t *testing.T) {
	for name, next := range map[string]answerer{
		"a panic":                func(context.Context, *call.Call) (*recording.Reader, error) { panic(errors.New("boom")) },
		"the end of a goroutine": func(context.Context, *call.Call) (*recording.Reader, error) { runtime.Goexit(); return nil, nil },
		"no object": func(context.Context, *call.Call) (*recording.Reader, error) {
			return recording.Replay(wire.Route{}, recording.Whole{}), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, nil, Options{Window: time.Second}, nil, next)
				var clients sync.WaitGroup
				for _, texts := range [][]string{{"a"}, {"b", "a"}} {
					clients.Go(func() { // ends with the error
						_, err := b.get(t.Context(), asking(t, "/api/embed", embedding(texts...)))
						var panicked *PanicError
						if err == nil || errors.As(err, &panicked) != (name == "a panic") {
							t.Errorf("%q: %v", texts, err)
						}
					})
				}
				clients.Wait()
				b.end()
				b.Jobs.Wait()
			})
		})
	}
}

func TestLeave_TheLastOneEndsTheCall(t *testing.T) {
	f := &fleet{took: each}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		left := errors.New("client left")
		first, leave := context.WithCancelCause(t.Context())
		second, leaveToo := context.WithCancelCause(t.Context())
		var clients sync.WaitGroup
		for _, ctx := range []context.Context{first, second} {
			clients.Go(func() { // each ends with its client
				if _, err := b.get(ctx, asking(t, "/api/embed", embedding("a", "b"))); err != left {
					t.Errorf("%v, want the cause of the client's context", err)
				}
			})
		}
		synctest.Wait()
		leave(left)
		synctest.Wait()
		if len(f.ended) != 0 {
			t.Error("the call ended while one was left")
		}
		leaveToo(left)
		clients.Wait()
		synctest.Wait()
		if fmt.Sprint(f.ended) != fmt.Sprint([]error{recording.ErrAbandoned}) {
			t.Errorf("calls ended with %v, want %v", f.ended, recording.ErrAbandoned)
		}
		f.ended = nil
		b.ask("a") // is sent anew
	})
}

func TestLeave_TextsOfWhoHasLeftAreNotSent(t *testing.T) {
	f := &fleet{most: 1}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		b.dear()
		free := f.busy()
		ctx, leave := context.WithCancel(t.Context())
		var clients sync.WaitGroup
		clients.Go(func() { b.get(ctx, asking(t, "/api/embed", embedding("a", "b", "c"))) }) // each ends with its client
		synctest.Wait()
		clients.Go(func() { b.ask("c", "d") })
		synctest.Wait()
		leave()
		synctest.Wait()
		free()
		clients.Wait()
		if got, want := f.sent(), [][]string{{"c", "d"}}; !reflect.DeepEqual(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
	})
}

func TestAnswer_EndsWithTheEngine(t *testing.T) {
	f := &fleet{most: 1}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		free := f.busy()
		defer free()
		var clients sync.WaitGroup
		clients.Go(func() { // ends with the engine
			if _, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a"))); err != context.Canceled {
				t.Errorf("%v, want the engine's end", err)
			}
		})
		synctest.Wait()
		b.end()
		clients.Wait()
		if _, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a"))); err != context.Canceled {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestAnswer_WhoLeavesWithinTheWindowSendsNothing(t *testing.T) {
	f := &fleet{}
	within(t, f, Options{Window: time.Minute}, nil, func(t *testing.T, b *bench) {
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := b.get(ctx, asking(t, "/api/embed", embedding("a"))); err != context.DeadlineExceeded {
			t.Errorf("%v", err)
		}
		b.Jobs.Wait()
		if len(f.sent()) != 0 {
			t.Errorf("sent %q", f.sent())
		}
	})
}

// Whoever leaves when, and whatever fails: all who stay get an answer or an error, each its own,
// and nothing is left in the tables (within looks).
func TestLeave_NobodyHangs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.SampledFrom(append(numbered("text", 8), "bad"))
		requests := rapid.SliceOfN(rapid.SliceOfN(text, 1, 8), 1, 12).Draw(rt, "requests")
		stay := rapid.SliceOfN(rapid.IntRange(0, 100), len(requests), len(requests)).Draw(rt, "stay")
		o := Options{MaxItems: rapid.IntRange(1, 12).Draw(rt, "most"), Window: time.Duration(rapid.IntRange(0, 20).Draw(rt, "window")) * time.Millisecond}
		f := &fleet{most: 2, took: each, fails: refuses("bad", 500)}
		within(t, f, o, &store{}, func(t *testing.T, b *bench) {
			var clients sync.WaitGroup
			for i, texts := range requests {
				time.Sleep(3*time.Millisecond + time.Microsecond)
				clients.Go(func() { // ends with its answer, or when it does not stay
					ctx, leave := context.WithTimeout(t.Context(), time.Duration(stay[i])*time.Millisecond)
					defer leave()
					got, err := b.get(ctx, asking(t, "/api/embed", embedding(texts...)))
					var refused *call.StatusError
					switch bad := slices.Contains(texts, "bad"); {
					case ctx.Err() != nil && err == context.DeadlineExceeded:
					case bad && errors.As(err, &refused):
					case !bad && err == nil && countless(got) == countless(want(texts...)):
					default:
						rt.Errorf("%q: %s, %v", texts, got, err)
					}
				})
			}
			clients.Wait()
		})
	})
}
