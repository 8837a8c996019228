package clients

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ollama/ollama/api"
)

// checkStatus checks an error as this client shows it. Its streamed routes give the status
// line and the text, the others the text alone.
func checkStatus(t *testing.T, what string, err error, code int, text string) {
	t.Helper()
	var status api.StatusError
	if !errors.As(err, &status) || status.StatusCode != code || status.ErrorMessage != text {
		t.Errorf("%s: got %#v, want %d %q", what, err, code, text)
	}
}

func TestOllama_ErrorsHaveANodesStatusAndWords(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	chat := func(req api.ChatRequest) error {
		if req.Messages == nil {
			req.Messages = userSays("hi")
		}
		return c.Chat(t.Context(), &req, func(api.ChatResponse) error { return nil })
	}
	options := func(key string, v any) map[string]any { return map[string]any{key: v} }
	for _, test := range []struct {
		name string
		req  api.ChatRequest
		code int
		text string
	}{
		{"unknown model", api.ChatRequest{Model: "nope"}, 404, "model 'nope' not found"},
		{"unknown tag", api.ChatRequest{Model: "sim-chat:7b"}, 404, "model 'sim-chat:7b' not found"},
		{"no model", api.ChatRequest{}, 400, "model is required"},
		{"invalid name", api.ChatRequest{Model: "a b"}, 400, "invalid model name"},
		{"hosted model", api.ChatRequest{Model: "gpt-oss:120b-cloud"}, 403, "ollama cloud is disabled: remote model is unavailable"},
		{"wrong option", api.ChatRequest{Model: "sim-chat", Options: options("temperature", "warm")}, 500, `option "temperature" must be of type float32`},
		{"wrong format", api.ChatRequest{Model: "sim-chat", Format: json.RawMessage(`"yaml"`)}, 500, `invalid format: "\"yaml\""; expected "json" or a valid JSON Schema object`},
		{"no tools", api.ChatRequest{Model: "sim-chat", Tools: api.Tools{weather()}}, 400, "registry.ollama.ai/library/sim-chat:latest does not support tools"},
		{"embedding model", api.ChatRequest{Model: "sim-embed"}, 400, `"sim-embed" does not support chat`},
		{"too many logprobs", api.ChatRequest{Model: "sim-chat", TopLogprobs: 21}, 400, "top_logprobs must be between 0 and 20"},
	} {
		checkStatus(t, test.name, chat(test.req), test.code, test.text)
		test.req.Stream = new(bool)
		checkStatus(t, test.name+", single", chat(test.req), test.code, test.text)
	}
	_, err := c.Embed(t.Context(), &api.EmbedRequest{Model: "nope", Input: "x"})
	checkStatus(t, "embed of an unknown model", err, 404, `model "nope" not found, try pulling it first`)
	_, err = c.Embed(t.Context(), &api.EmbedRequest{Model: "sim-embed", Input: 5})
	checkStatus(t, "embed of a number", err, 400, "invalid input type")
	err = c.Generate(t.Context(), &api.GenerateRequest{Model: "nope", Prompt: "x"}, func(api.GenerateResponse) error { return nil })
	checkStatus(t, "generate with an unknown model", err, 404, "model 'nope' not found")
}

// slow is a fleet of one slot whose answers take a second at least after their first token.
func slow(nodes int) plan { return plan{Nodes: nodes, Models: []string{"sim-chat"}} }

func TestOllama_AbortingAStreamFreesTheSlot(t *testing.T) {
	t.Parallel()
	f := newFleet(t, slow(1))
	c := ollama(t, f)
	ctx, abort := context.WithCancel(t.Context())
	records := 0
	err := c.Chat(ctx, &api.ChatRequest{Model: "sim-chat", Messages: userSays("tell me more")}, func(r api.ChatResponse) error {
		records++
		abort()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) || records != 1 {
		t.Fatalf("got %d records, %v", records, err)
	}
	if err := f.idle(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	after := ollamaChat(t, c, &api.ChatRequest{Model: "sim-chat", Messages: userSays("next"), Options: map[string]any{"num_predict": 2}})
	checkRecords(t, after, "sim-chat", "length")
	if took := time.Since(begun); after[len(after)-1].TotalDuration > took {
		t.Errorf("the node says %s, the client waited %s", after[len(after)-1].TotalDuration, took)
	}
}

// This client takes an end without a word for success, so the gateway must say the fault.
func TestOllama_AStreamThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, slow(2))
	c := ollama(t, f)
	var once sync.Once
	var records []api.ChatResponse
	err := c.Chat(t.Context(), &api.ChatRequest{Model: "sim-chat", Messages: userSays("tell me more")}, func(r api.ChatResponse) error {
		records = append(records, r)
		once.Do(func() {
			if _, err := f.killBusy(); err != nil {
				t.Error(err)
			}
		})
		return nil
	})
	if want := "the answer is incomplete: the connection to the Ollama node was lost"; err == nil || err.Error() != want {
		t.Errorf("got %v after %d records, want %q", err, len(records), want)
	}
	for _, r := range records {
		if r.Done || r.Message.Content == "" {
			t.Errorf("got %+v", r)
		}
	}
	// The other node serves.
	after := ollamaChat(t, c, &api.ChatRequest{Model: "sim-chat", Messages: userSays("next"), Options: map[string]any{"num_predict": 2}})
	checkRecords(t, after, "sim-chat", "length")
}

func TestOllama_ASingleAnswerOutlivesItsNode(t *testing.T) {
	t.Parallel()
	f := newFleet(t, slow(2))
	c := ollama(t, f)
	var answer []api.ChatResponse
	var failed error
	var asking sync.WaitGroup
	asking.Go(func() {
		failed = c.Chat(t.Context(), &api.ChatRequest{Model: "sim-chat", Messages: userSays("all at once"), Stream: new(bool), Options: fixed},
			func(r api.ChatResponse) error {
				answer = append(answer, r)
				return nil
			})
	})
	if err := f.wait("request on its way", func(nodes []nodeStatus) bool {
		return slices.ContainsFunc(nodes, func(n nodeStatus) bool { return n.InFlight == 1 })
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.killBusy(); err != nil {
		t.Fatal(err)
	}
	asking.Wait()
	if failed != nil || len(answer) != 1 {
		t.Fatalf("got %d records, %v", len(answer), failed)
	}
	if _, text := checkRecords(t, answer, "sim-chat", "stop"); len(text) < 40 {
		t.Errorf("got %q", text)
	}
}

func TestOllama_AFullQueueIsAnErrorThatTellsToComeBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, full)
	c := ollama(t, f)
	ctx, leave := context.WithCancel(t.Context())
	holds := make(chan struct{})
	var once sync.Once
	var holding sync.WaitGroup
	holding.Go(func() {
		_ = c.Chat(ctx, &api.ChatRequest{Model: "sim-chat", Messages: userSays("hold the slot")}, func(api.ChatResponse) error {
			once.Do(func() { close(holds) })
			return nil
		})
	})
	<-holds
	// Of two that come now one waits and one is refused, whichever is first.
	type end struct {
		records []api.ChatResponse
		err     error
	}
	ends := make(chan end, 2)
	for range 2 {
		holding.Go(func() {
			var e end
			e.err = c.Chat(t.Context(), &api.ChatRequest{Model: "sim-chat", Messages: userSays("me too"), Options: map[string]any{"num_predict": 2}},
				func(r api.ChatResponse) error {
					e.records = append(e.records, r)
					return nil
				})
			ends <- e
		})
	}
	refused := <-ends
	checkStatus(t, "the queue is full", refused.err, 503, "server busy, please try again.  maximum pending requests exceeded")
	leave()
	if waited := <-ends; waited.err != nil {
		t.Errorf("the one that waited: %v", waited.err)
	} else {
		checkRecords(t, waited.records, "sim-chat", "length")
	}
	holding.Wait()
}

// full is a fleet with one slot and room for one that waits.
var full = plan{Models: []string{"sim-chat"}, Queue: "\t\t\tmax_length 1\n\t\t\tmax_wait 30s"}
