package clients

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func checkOpenAIError(t *testing.T, what string, err error, code int, kind, text string) {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) || e.StatusCode != code || e.Type != kind || e.Message != text || e.Code != "" || e.Param != "" {
		t.Errorf("%s: got %v, want %d %s %q", what, err, code, kind, text)
		if e != nil {
			t.Errorf("its body: %s", e.RawJSON())
		}
	}
}

func TestOpenAI_ErrorsHaveANodesStatusTypeAndWords(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	empty := completionOf("sim-chat", "")
	empty.Messages = []openai.ChatCompletionMessageParamUnion{}
	tools := completionOf("sim-chat", "hi")
	tools.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(weatherFunction())}
	for _, test := range []struct {
		name   string
		params openai.ChatCompletionNewParams
		code   int
		kind   string
		text   string
	}{
		{"unknown model", completionOf("nope", "hi"), 404, "not_found_error", "model 'nope' not found"},
		{"no model", completionOf("", "hi"), 400, "invalid_request_error", "model is required"},
		{"invalid name", completionOf("a b", "hi"), 400, "invalid_request_error", "invalid model name"},
		{"no messages", empty, 400, "invalid_request_error", "[] is too short - 'messages'"},
		{"no tools", tools, 400, "invalid_request_error", "registry.ollama.ai/library/sim-chat:latest does not support tools"},
		{"embedding model", completionOf("sim-embed", "hi"), 400, "invalid_request_error", `"sim-embed" does not support chat`},
	} {
		_, err := c.Chat.Completions.New(t.Context(), test.params)
		checkOpenAIError(t, test.name, err, test.code, test.kind, test.text)
		stream := c.Chat.Completions.NewStreaming(t.Context(), test.params)
		if stream.Next() {
			t.Errorf("%s, streamed: there is a chunk", test.name)
		}
		checkOpenAIError(t, test.name+", streamed", stream.Err(), test.code, test.kind, test.text)
	}
	// The hosted service's refusal is a native one on every route, which this client cannot read.
	_, err := c.Chat.Completions.New(t.Context(), completionOf("gpt-oss:120b-cloud", "hi"))
	if err == nil || !strings.Contains(err.Error(), "cannot unmarshal string") {
		t.Errorf("hosted model: got %v", err)
	}
	_, err = c.Completions.New(t.Context(), openai.CompletionNewParams{Model: "nope", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("x")}})
	checkOpenAIError(t, "completion with an unknown model", err, 404, "not_found_error", "model 'nope' not found")
	_, err = c.Completions.New(t.Context(), openai.CompletionNewParams{Model: "sim-chat", Prompt: openai.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"a", "b"}}})
	checkOpenAIError(t, "completion of a list", err, 400, "invalid_request_error", "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string")
}

func TestOpenAI_AbortingAStreamFreesTheSlot(t *testing.T) {
	t.Parallel()
	f := newFleet(t, slow(1))
	c := openAI(t, f)
	ctx, abort := context.WithCancel(t.Context())
	stream := c.Chat.Completions.NewStreaming(ctx, completionOf("sim-chat", "tell me more"))
	if !stream.Next() {
		t.Fatal(stream.Err())
	}
	abort()
	for stream.Next() { // what had arrived already
	}
	if !errors.Is(stream.Err(), context.Canceled) {
		t.Errorf("got %v", stream.Err())
	}
	if err := f.idle(); err != nil {
		t.Fatal(err)
	}
	params := completionOf("sim-chat", "next")
	params.MaxTokens = openai.Int(2)
	after, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *after, "sim-chat", "length")
}

// This client takes an end without [DONE] for success, and so must never see one.
func TestOpenAI_AStreamThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, slow(3))
	c := openAI(t, f)
	const want = "the answer is incomplete: the connection to the Ollama node was lost"
	kill := func() {
		if _, err := f.killBusy(); err != nil {
			t.Error(err)
		}
	}

	chat := c.Chat.Completions.NewStreaming(t.Context(), completionOf("sim-chat", "tell me more"))
	for n := 0; chat.Next(); n++ {
		if n == 0 {
			kill()
		}
		if choices := chat.Current().Choices; len(choices) != 1 || choices[0].FinishReason != "" {
			t.Errorf("chat: got %s", chat.Current().RawJSON())
		}
	}
	if err := chat.Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("chat: got %v, want %q in it", err, want)
	}

	text := c.Completions.NewStreaming(t.Context(), openai.CompletionNewParams{
		Model: "sim-chat", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("once")},
	})
	for n := 0; text.Next(); n++ {
		if n == 0 {
			kill()
		}
		if choices := text.Current().Choices; len(choices) != 1 || choices[0].FinishReason != "" {
			t.Errorf("completion: got %s", text.Current().RawJSON())
		}
	}
	if err := text.Err(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("completion: got %v, want %q in it", err, want)
	}
}

func TestOpenAI_AFullQueueIsA503WithRetryAfter(t *testing.T) {
	t.Parallel()
	p := full
	p.Queue = "\t\t\tmax_length 8\n\t\t\tmax_wait 50ms"
	f := newFleet(t, p)
	c := openAI(t, f)
	holds := c.Chat.Completions.NewStreaming(t.Context(), completionOf("sim-chat", "hold the slot"))
	defer holds.Close()
	if !holds.Next() {
		t.Fatal(holds.Err())
	}
	_, err := c.Chat.Completions.New(t.Context(), completionOf("sim-chat", "me too"))
	checkOpenAIError(t, "no slot in time", err, 503, "api_error", "server busy: no slot became free in time, please try again")
	var e *openai.Error
	if errors.As(err, &e) && e.Response.Header.Get("Retry-After") != "2" {
		t.Errorf("Retry-After: %q", e.Response.Header.Get("Retry-After"))
	}
	// As it comes from the package, the client obeys Retry-After and is served.
	patient := openAI(t, f, option.WithMaxRetries(3))
	params := completionOf("sim-chat", "me too")
	params.MaxTokens = openai.Int(2)
	holds.Close()
	after, err := patient.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *after, "sim-chat", "length")
}
