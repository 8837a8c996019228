package batch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// each takes 10ms a text, as a node that embeds one after the other.
func each(texts []string) time.Duration { return time.Duration(len(texts)) * 10 * time.Millisecond }

func TestAnswer_SeenTextsAreNotSentAgain(t *testing.T) {
	f, kept := &fleet{}, &store{}
	within(t, f, Options{}, kept, func(t *testing.T, b *bench) {
		texts := numbered("river", 10)
		seen := []string{texts[9], texts[0], texts[4], texts[5], texts[7], texts[2], texts[3]}
		b.ask(seen...)
		b.ask(texts...)
		if got, want := f.sent(), [][]string{seen, {texts[1], texts[6], texts[8]}}; !reflect.DeepEqual(got, want) {
			t.Errorf("sent %q, want %q", got, want)
		}
		if got, want := b.results[1], (call.Texts{Items: 10, Found: 7, Sent: 3, Shared: true}); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
		if kept.lookups != 2 {
			t.Errorf("%d look-ups for two calls", kept.lookups)
		}
		if len(kept.nodes) != 10 || slices.Contains(kept.nodes, "") {
			t.Errorf("stored from nodes %q, want ten from n0", kept.nodes)
		}
		b.ask(texts...)
		if got := len(f.sent()); got != 2 {
			t.Errorf("%d calls after all was seen, want 2", got)
		}
	})
}

func TestAnswer_EqualTextsOfARequestAreSentOnce(t *testing.T) {
	f := &fleet{}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		got, err := b.get(t.Context(), asking(t, "/api/embed", `{"model":"m","input":["a","ä","a","\u00e4","a"]}`))
		if err != nil || countless(got) != countless(want("a", "ä", "a", "ä", "a")) {
			t.Errorf("got %s, %v", got, err)
		}
		if got := fmt.Sprint(f.sent()); got != "[[a ä]]" {
			t.Errorf("sent %s", got)
		}
		if got, want := b.results[0], (call.Texts{Items: 5, Sent: 2, Shared: true}); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

func TestAnswer_TextsInFlightAreJoined(t *testing.T) {
	f := &fleet{took: each}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		var clients sync.WaitGroup
		clients.Go(func() { b.ask("a", "b", "c") }) // ends with its answer
		synctest.Wait()
		clients.Go(func() { b.ask("d", "c", "b") })
		clients.Wait()
		times := map[string]int{}
		for _, texts := range f.sent() {
			for _, text := range texts {
				times[text]++
			}
		}
		if !reflect.DeepEqual(times, map[string]int{"a": 1, "b": 1, "c": 1, "d": 1}) {
			t.Errorf("sent %v", times)
		}
		if want := (call.Texts{Items: 3, Joined: 2, Sent: 1, Shared: true}); !slices.Contains(b.results, want) {
			t.Errorf("results %+v, want %+v", b.results, want)
		}
	})
}

func TestAnswer_WhoOnlyFollowsSaysWhom(t *testing.T) {
	f := &fleet{took: each}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		leader, follower := asking(t, "/api/embed", embedding("a", "b")), asking(t, "/api/embed", embedding("b"))
		var clients sync.WaitGroup
		clients.Go(func() { b.get(t.Context(), leader) }) // ends with its answer
		synctest.Wait()
		clients.Go(func() { b.get(t.Context(), follower) })
		clients.Wait()
		if node, _ := leader.Upstream.Route(); node != "n0" || len(leader.Upstream.Tries()) != 1 || leader.Cached.Result().Lead != nil {
			t.Errorf("the leader went to %q by %d tries", node, len(leader.Upstream.Tries()))
		}
		lead := follower.Cached.Result().Lead
		if lead == nil || len(follower.Upstream.Tries()) != 0 {
			t.Fatal("the follower has no lead")
		}
		if node, _ := lead.Route(); node != "n0" {
			t.Errorf("its lead went to %q", node)
		}
	})
}

func TestAnswer_AtAnIdleNodeNobodyWaits(t *testing.T) {
	f := &fleet{}
	within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
		began := time.Now()
		c := asking(t, "/api/embed", `{"model":"m", "input":"a"}`)
		got, err := b.get(t.Context(), c)
		if err != nil || got != want("a") || time.Since(began) != 0 {
			t.Errorf("got %s, %v after %v", got, err, time.Since(began))
		}
		if sealed := sealedBody(f.last); sealed != `{"model":"m", "input":"a"}` {
			t.Errorf("sent %s, want the client's own body", sealed)
		}
		if got, want := b.results[0], (call.Texts{Items: 1, Sent: 1}); got != want {
			t.Errorf("result %+v, want %+v", got, want)
		}
	})
}

func TestAnswer_AtABusyNodeManyTravelTogether(t *testing.T) {
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		call, text time.Duration // what each costs
		calls      [2]int        // for a hundred texts, when nothing is known of that and when it is
		slower     float64       // than one by one, at most
	}{
		"a call costs all":           {time.Second, 0, [2]int{25, 5}, 0.1},
		"a call costs six texts":     {12 * ms, 2 * ms, [2]int{25, 9}, 0.5}, // a server that batches (algorithms 4)
		"a call costs a third of it": {5 * ms, 15 * ms, [2]int{25, 32}, 0.9},
		"a call costs nothing":       {0, 10 * ms, [2]int{25, 36}, 1.1}, // Ollama itself: nothing can be won
	} {
		t.Run(name, func(t *testing.T) {
			f := &fleet{most: 1, took: func(texts []string) time.Duration { return c.call + time.Duration(len(texts))*c.text }}
			within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
				for round, most := range c.calls {
					var mu sync.Mutex
					var total time.Duration
					var clients sync.WaitGroup
					for i := range 100 {
						clients.Go(func() { // ends with its answer
							began := time.Now()
							b.ask(fmt.Sprint("text ", round, i))
							mu.Lock()
							defer mu.Unlock()
							total += time.Since(began)
						})
					}
					clients.Wait()
					calls, texts := f.sent(), 0
					f.calls = nil
					for _, call := range calls {
						texts += len(call)
						if len(call) > DefaultMaxItems {
							t.Errorf("%d texts in one call", len(call))
						}
					}
					alone := (c.call + c.text) * 101 / 2
					ratio := float64(total/100) / float64(alone)
					t.Logf("%d calls, mean %v: x%.2f of one by one", len(calls), total/100, ratio)
					if texts != 100 || len(calls) > most || round == 1 && ratio > c.slower {
						t.Errorf("%d texts in %d calls with a mean of %v, want up to %d calls, and x%v of %v", texts, len(calls), total/100, most, c.slower, alone)
					}
				}
			})
		})
	}
}

func TestAnswer_LargeArraysAreSpreadAtOnce(t *testing.T) {
	for n, want := range map[int]string{32: "[32]", 33: "[17 16]", 100: "[25 25 25 25]"} {
		f := &fleet{took: each}
		within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
			began := time.Now()
			b.ask(numbered("text", n)...)
			if took := time.Since(began); took > 320*time.Millisecond {
				t.Errorf("%d texts took %v", n, took)
			}
			var sizes []int
			for _, texts := range f.sent() {
				sizes = append(sizes, len(texts))
			}
			slices.SortFunc(sizes, func(a, b int) int { return b - a })
			if got := fmt.Sprint(sizes); got != want {
				t.Errorf("%d texts in calls of %s, want %s", n, got, want)
			}
			if b.results[0].Shared {
				t.Error("the counts of the request's own calls add up to what the nodes said")
			}
		})
	}
}

func TestAnswer_TheLargestArrayLeavesTheQueueToOthers(t *testing.T) {
	const n = 4000
	f := &fleet{took: each}
	within(t, f, Options{MaxItems: 4}, nil, func(t *testing.T, b *bench) {
		most := 0
		done := make(chan struct{})
		go func() { // ends with the answer
			defer close(done)
			b.ask(numbered("text", n)...)
		}()
		for open := true; open; {
			select {
			case <-done:
				open = false
			case <-time.After(5 * time.Millisecond):
				b.Step.mu.Lock()
				most = max(most, len(b.flying))
				b.Step.mu.Unlock()
			}
		}
		if limit := mostAhead * 4; most > limit || most < limit/2 {
			t.Errorf("%d texts in flight at once, want up to %d", most, limit)
		}
	})
}

func TestAnswer_BytesOfACallAreBounded(t *testing.T) {
	f := &fleet{}
	within(t, f, Options{MaxBytes: 100}, nil, func(t *testing.T, b *bench) {
		long := strings.Repeat("long", 50)
		b.ask("a", strings.Repeat("b", 60), strings.Repeat("c", 60), long, "d")
		var calls []string
		for _, texts := range f.sent() {
			calls = append(calls, fmt.Sprint(len(strings.Join(texts, ""))))
		}
		slices.Sort(calls)
		if got := fmt.Sprint(calls); got != "[1 200 60 61]" {
			t.Errorf("calls of %s bytes", got)
		}
	})
}

func TestAnswer_WindowCollects(t *testing.T) {
	f := &fleet{}
	within(t, f, Options{Window: 2 * time.Second, MaxItems: 10}, nil, func(t *testing.T, b *bench) {
		began := time.Now()
		var clients sync.WaitGroup
		for i := range 3 {
			time.Sleep(500 * time.Millisecond)
			clients.Go(func() { b.ask(fmt.Sprint("text ", i)) }) // ends with its answer
		}
		clients.Wait()
		if took := time.Since(began); len(f.sent()) != 1 || took != 2500*time.Millisecond {
			t.Errorf("%d calls after %v, want one when the window is over", len(f.sent()), took)
		}
		if fmt.Sprint(b.sizes, b.waits) != "[3] [2s]" {
			t.Errorf("told of calls of %v texts that waited %v, want one of 3 and 2s", b.sizes, b.waits)
		}
		began = time.Now()
		b.ask(numbered("full", 10)...)
		if took := time.Since(began); took != 0 {
			t.Errorf("a full call waited for %v", took)
		}
		c := asking(t, "/api/embeddings", `{"model":"m","prompt":"x"}`)
		if _, err := b.get(t.Context(), c); err != nil || time.Since(began) != 0 {
			t.Errorf("a call that can take no more waited for %v: %v", time.Since(began), err)
		}
	})
}

func TestAnswer_OthersNeverTravelTogether(t *testing.T) {
	plain := func(*call.Call) {}
	tests := []struct {
		name, path, body string
		change           func(*call.Call)
		joins            bool // an equal text in flight will do all the same
	}{
		{"another model", "/api/embed", `{"model":"m2","input":["a"]}`, func(c *call.Call) { c.Caching.Identity = "id2" }, false},
		{"another name of it", "/api/embed", `{"model":"M","input":["a"]}`, plain, true},
		{"another version", "/api/embed", `{"model":"m","input":["a"]}`, func(c *call.Call) { c.Caching.Version = "0.25.0" }, false},
		{"another tenant", "/api/embed", `{"model":"m","input":["a"]}`, func(c *call.Call) { c.Caching.Tenant = "key:b" }, false},
		{"a class that goes first", "/api/embed", `{"model":"m","input":["a"]}`, func(c *call.Call) { c.Class = call.Interactive }, false},
		{"a class that goes later", "/api/embed", `{"model":"m","input":["a"]}`, func(c *call.Call) { c.Class = call.Batch }, true},
		{"dimensions", "/api/embed", `{"model":"m","input":["a"],"dimensions":2}`, plain, false},
		{"truncate", "/api/embed", `{"model":"m","input":["a"],"truncate":false}`, plain, false},
		{"options", "/api/embed", `{"model":"m","input":["a"],"options":{"num_ctx":64}}`, plain, false},
		{"a place", "/api/embed", `{"model":"m","input":["a"],"options":{"num_gpu":1}}`, plain, true},
		{"a time to stay", "/api/embed", `{"model":"m","input":["a"],"keep_alive":"1h"}`, plain, true},
		{"what no node knows", "/api/embed", `{"model":"m","input":["a"],"task":"query"}`, plain, false},
		{"another route", "/v1/embeddings", `{"model":"m","input":["a"]}`, plain, false},
		{"who wants it anew", "/api/embed", `{"model":"m","input":["a"]}`, func(c *call.Call) { c.Caching.Control.NoCache = true }, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			for _, text := range []string{"a", "b"} { // the same text in flight, and another one
				f := &fleet{most: 1, took: each}
				within(t, f, Options{}, nil, func(t *testing.T, b *bench) {
					background := func(c *call.Call) { c.Class = call.Background }
					ask := func(path, body string, change func(*call.Call)) {
						if _, err := b.get(t.Context(), asking(t, path, body, background, change)); err != nil {
							t.Error(err)
						}
					}
					f.slots <- struct{}{} // the node is busy
					var clients sync.WaitGroup
					clients.Go(func() { ask("/api/embed", embedding(text), plain) }) // each ends with its answer
					synctest.Wait()
					clients.Go(func() { ask(test.path, test.body, test.change) })
					synctest.Wait()
					<-f.slots
					clients.Wait()
					want := 2
					switch {
					case test.joins && text == "a":
						want = 1
					case test.name == "who wants it anew":
						want = 1 // generated anew, beside others
					}
					if got := f.sent(); len(got) != want {
						t.Errorf("beside %q: sent %q, want %d calls", text, got, want)
					}
				})
			}
		})
	}
}

func TestAnswer_WhatCannotBeTakenApartGoesAsItIs(t *testing.T) {
	tests := []struct {
		name, path, body string
		change           func(*call.Call)
	}{
		{"a chat", "/api/chat", `{"model":"m","messages":[{"role":"user","content":"a"}]}`, nil},
		{"no text", "/api/embed", `{"model":"m","input":""}`, nil},
		{"an empty prompt", "/api/embeddings", `{"model":"m","prompt":""}`, nil},
		{"a model to be unloaded", "/api/embed", `{"model":"m","input":"a","keep_alive":0}`, nil},
		{"it is not known whose it is", "/api/embed", `{"model":"m","input":"a"}`, func(c *call.Call) { c.Caching.Tenant = "" }},
		{"nothing is shared", "/api/embed", `{"model":"m","input":"a"}`, func(c *call.Call) { c.Caching = nil }},
		{"an idle slot or none", "/api/embed", `{"model":"m","input":"a"}`, func(c *call.Call) { c.IdleOnly = true }},
		{"very many texts", "/api/embed", embedding(make([]string, mostTexts+1)...), nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.change == nil {
				test.change = func(*call.Call) {}
			}
			c := asking(t, test.path, test.body, test.change)
			var got *call.Call
			b := newBench(t, nil, Options{}, nil, answerer(func(_ context.Context, c *call.Call) (*recording.Reader, error) {
				got = c
				return nil, errors.New("seen")
			}))
			defer b.end()
			if _, err := b.Answer(t.Context(), c); got != c || err == nil || err.Error() != "seen" {
				t.Errorf("the next step got %p, %v, want %p", got, err, c)
			}
		})
	}
}

type answerer func(context.Context, *call.Call) (*recording.Reader, error)

func (f answerer) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	return f(ctx, c)
}

func TestAnswer_OnlyIfCachedSendsNothing(t *testing.T) {
	f, kept := &fleet{}, &store{}
	within(t, f, Options{}, kept, func(t *testing.T, b *bench) {
		only := func(c *call.Call) { c.Caching.Control.OnlyIfCached = true }
		b.ask("a")
		if got, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a"), only)); err != nil || got != want("a") {
			t.Errorf("what is stored: %s, %v", got, err)
		}
		if _, err := b.get(t.Context(), asking(t, "/api/embed", embedding("a", "b"), only)); err != call.ErrNotCached {
			t.Errorf("what is not: %v", err)
		}
		if len(f.sent()) != 1 {
			t.Errorf("sent %q", f.sent())
		}
	})
}

func TestAnswer_Base64IsMergedAsItIs(t *testing.T) {
	f := &fleet{}
	within(t, f, Options{}, &store{}, func(t *testing.T, b *bench) {
		const format = `,"encoding_format":"base64"}`
		body := func(texts ...string) string { return strings.TrimSuffix(embedding(texts...), "}") + format }
		for _, texts := range [][]string{{"b"}, {"a", "b", "c"}, {"c", "a"}} {
			r, err := b.Answer(t.Context(), asking(t, "/v1/embeddings", body(texts...)))
			if err != nil {
				t.Fatal(err)
			}
			_, want := nodesAnswer(*wire.Find("POST", "/v1/embeddings").Route, "m", true, texts, 0)
			if contentType, got, _ := r.Object(); string(got) != string(want) || contentType != "application/json" {
				t.Errorf("%q\ngot  %s %s\nwant %s", texts, contentType, got, want)
			}
			r.Close()
		}
		if got := fmt.Sprint(f.sent()); got != "[[b] [a c]]" {
			t.Errorf("sent %s", got)
		}
	})
}
