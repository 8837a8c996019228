package clients

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ollama/ollama/api"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

// notStored is what a cache without the answer says to a client that wants no other.
const notStored = "there is no stored answer, and the request says only-if-cached"

// A heard is what a client made of an answer: all of it that is the same in a replay, and the id,
// "" where the dialect has none.
type heard struct {
	id   string
	said any
}

// An asking has a client ask for one of two equal requests, the first (0) or the second (1), and
// checks what it gets.
type asking func(t *testing.T, streamed bool, prompt string, place int) heard

// checkRepeats asks the same twice, streamed and whole in all orders, or just whole. The nodes make
// the first answer alone, and the second says the same under another id.
func checkRepeats(t *testing.T, f *fleet, prompt string, streams bool, ask asking) {
	t.Helper()
	made := func() int {
		t.Helper()
		count, err := f.generated()
		if err != nil {
			t.Fatal(err)
		}
		return count
	}
	shape := map[bool]string{false: "whole", true: "streamed"}
	for i, order := range [][2]bool{{false, false}, {true, true}, {false, true}, {true, false}} {
		if i > 0 && !streams {
			return
		}
		what := fmt.Sprintf("%s, %s and then %s", prompt, shape[order[0]], shape[order[1]])
		asked := fmt.Sprint(prompt, " ", i)
		before := made()
		first := ask(t, order[0], asked, 0)
		if n := made() - before; n != 1 {
			t.Errorf("%s: the nodes made %d answers to the first request, want 1", what, n)
		}
		before = made()
		second := ask(t, order[1], asked, 1)
		if n := made() - before; n != 0 {
			t.Errorf("%s: the nodes made %d answers to the second request, want none", what, n)
		}
		if !reflect.DeepEqual(second.said, first.said) {
			t.Errorf("%s: first %.500s\nthen %.500s", what, fmt.Sprintf("%+v", first.said), fmt.Sprintf("%+v", second.said))
		}
		if first.id != "" && second.id == first.id {
			t.Errorf("%s: both have the id %s", what, first.id)
		}
	}
}

// Ollama's own client takes an answer from the cache for one of a node.
func TestOllama_ARepeatIsNotGeneratedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, kept)
	c := ollama(t, f)

	type chat struct {
		Thinking, Content string
		Calls             []api.ToolCall
		Metrics           api.Metrics
	}
	chatOf := func(req api.ChatRequest, check func(t *testing.T, said chat)) asking {
		return func(t *testing.T, streamed bool, prompt string, _ int) heard {
			req := req
			req.Messages, req.Stream = userSays(prompt), &streamed
			records := ollamaChat(t, c, &req)
			if streamed != (len(records) > 1) {
				t.Errorf("%s: streamed %t: %d records", prompt, streamed, len(records))
			}
			said := chat{Metrics: records[len(records)-1].Metrics}
			said.Thinking, said.Content = checkRecords(t, records, req.Model, "stop")
			for _, r := range records {
				said.Calls = append(said.Calls, r.Message.ToolCalls...)
			}
			check(t, said)
			return heard{said: said}
		}
	}
	speaks := func(t *testing.T, said chat) {
		if len(said.Content) < 40 || len(said.Calls) > 0 {
			t.Errorf("got %+v", said)
		}
	}
	checkRepeats(t, f, "a chat", true, chatOf(api.ChatRequest{Model: "SIM-Small"}, speaks))
	checkRepeats(t, f, "thoughts", true, chatOf(api.ChatRequest{Model: "sim-think", Think: &api.ThinkValue{Value: true}}, func(t *testing.T, said chat) {
		if speaks(t, said); len(said.Thinking) < 10 {
			t.Errorf("thought %q", said.Thinking)
		}
	}))
	checkRepeats(t, f, "a person", true, chatOf(api.ChatRequest{Model: "sim-small", Format: json.RawMessage(personSchema)}, func(t *testing.T, said chat) {
		checkPerson(t, said.Content)
	}))
	checkRepeats(t, f, "what is the weather in Paris?", true, chatOf(api.ChatRequest{Model: "sim-tool", Tools: api.Tools{weather()}}, func(t *testing.T, said chat) {
		if len(said.Calls) != 1 || said.Calls[0].Function.Name != "get_weather" || said.Calls[0].Function.Arguments.Len() != 2 {
			t.Errorf("got %+v, want a call", said)
		}
	}))

	checkRepeats(t, f, "once upon a time", true, func(t *testing.T, streamed bool, prompt string, _ int) heard {
		var text string
		var last api.GenerateResponse
		if err := c.Generate(t.Context(), &api.GenerateRequest{Model: "sim-small:latest", Prompt: prompt, Stream: &streamed}, func(r api.GenerateResponse) error {
			text, last = text+r.Response, r
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !last.Done || last.DoneReason != "stop" || last.Model != "sim-small:latest" || len(last.Context) < 40 {
			t.Errorf("the last record: %+v", last)
		}
		checkMetrics(t, last.Metrics)
		return heard{said: []any{text, last.Context, last.Metrics}}
	})
	checkRepeats(t, f, "the river", false, func(t *testing.T, _ bool, prompt string, _ int) heard {
		out, err := c.Embed(t.Context(), &api.EmbedRequest{Model: "SIM-Embed", Input: prompt})
		if err != nil {
			t.Fatal(err)
		}
		if out.Model != "SIM-Embed" || len(out.Embeddings) != 1 || len(out.Embeddings[0]) != 768 || out.PromptEvalCount <= 0 || out.TotalDuration <= 0 {
			t.Errorf("got model %q, %d vectors, %d tokens", out.Model, len(out.Embeddings), out.PromptEvalCount)
		}
		if out.LoadDuration <= 0 {
			t.Errorf("it was loaded in %v", out.LoadDuration)
		}
		return heard{said: []any{out.Embeddings, out.PromptEvalCount}}
	})
	t.Run("texts of which some are known", func(t *testing.T) {
		embed := func(texts ...string) *api.EmbedResponse {
			out, err := c.Embed(t.Context(), &api.EmbedRequest{Model: "sim-embed", Input: texts})
			if err != nil || len(out.Embeddings) != len(texts) {
				t.Fatalf("got %d vectors for %q, %v", len(out.Embeddings), texts, err)
			}
			return out
		}
		known := embed("a known text", "another known text")
		all := embed("a new text", "another known text", "a second new text", "a known text")
		if !slices.Equal(all.Embeddings[1], known.Embeddings[1]) || !slices.Equal(all.Embeddings[3], known.Embeddings[0]) {
			t.Error("a known text has another vector than before")
		}
		again := embed("a second new text", "a new text")
		if !slices.Equal(again.Embeddings[0], all.Embeddings[2]) || !slices.Equal(again.Embeddings[1], all.Embeddings[0]) {
			t.Error("a vector stands in another's place")
		}
	})
	checkRepeats(t, f, "the old route", false, func(t *testing.T, _ bool, prompt string, _ int) heard {
		out, err := c.Embeddings(t.Context(), &api.EmbeddingRequest{Model: "sim-embed", Prompt: prompt})
		if err != nil || len(out.Embedding) != 768 {
			t.Fatalf("got %+v, %v", out, err)
		}
		return heard{said: out}
	})
}

// OpenAI's client takes an answer from the cache for one of a node, also that of a native chat.
func TestOpenAI_ARepeatIsNotGeneratedAgain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, kept)
	c := openAI(t, f)

	type chat struct {
		Content, Reasoning string
		Calls              []string
		Tokens             int64
	}
	chatOf := func(params openai.ChatCompletionNewParams, usage bool, reason string, check func(t *testing.T, said chat)) asking {
		return func(t *testing.T, streamed bool, prompt string, _ int) heard {
			params := params
			params.Messages = []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)}
			var said chat
			var id string
			var message openai.ChatCompletionMessage
			if streamed {
				if usage {
					params.StreamOptions.IncludeUsage = openai.Bool(true)
				}
				chunks, whole, reasoning := streamChat(t, c, params)
				checkChunks(t, chunks, params.Model, reason, usage)
				id, message, said.Reasoning, said.Tokens = whole.ID, whole.Choices[0].Message, reasoning, whole.Usage.TotalTokens
			} else {
				single, err := c.Chat.Completions.New(t.Context(), params)
				if err != nil {
					t.Fatal(err)
				}
				checkCompletion(t, *single, params.Model, reason)
				id, message, said.Tokens = single.ID, single.Choices[0].Message, single.Usage.TotalTokens
				said.Reasoning = extra(t, message.RawJSON(), "reasoning")
			}
			if !usage {
				said.Tokens = 0
			}
			said.Content = message.Content
			for _, call := range message.ToolCalls {
				said.Calls = append(said.Calls, call.ID+" "+call.Function.Name+" "+call.Function.Arguments)
				checkCity(t, call.Function.Arguments)
			}
			check(t, said)
			return heard{id, said}
		}
	}
	speaks := func(t *testing.T, said chat) {
		if len(said.Content) < 40 || len(said.Calls) > 0 {
			t.Errorf("got %+v", said)
		}
	}
	checkRepeats(t, f, "a chat", true, chatOf(openai.ChatCompletionNewParams{Model: "SIM-Small:latest"}, false, "stop", speaks))
	checkRepeats(t, f, "a chat whose tokens are asked for", true, chatOf(openai.ChatCompletionNewParams{Model: "sim-small"}, true, "stop", func(t *testing.T, said chat) {
		if speaks(t, said); said.Tokens <= 0 {
			t.Errorf("%d tokens", said.Tokens)
		}
	}))
	checkRepeats(t, f, "reasons", true, chatOf(openai.ChatCompletionNewParams{Model: "sim-think", ReasoningEffort: "high"}, true, "stop", func(t *testing.T, said chat) {
		if speaks(t, said); len(said.Reasoning) < 10 {
			t.Errorf("thought %q", said.Reasoning)
		}
	}))
	shaped := openai.ChatCompletionNewParams{Model: "sim-small"}
	shaped.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "person", Strict: openai.Bool(true), Schema: json.RawMessage(personSchema)},
	}
	checkRepeats(t, f, "a person", true, chatOf(shaped, true, "stop", func(t *testing.T, said chat) { checkPerson(t, said.Content) }))
	tools := openai.ChatCompletionNewParams{Model: "sim-tool", Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(weatherFunction())}}
	checkRepeats(t, f, "what is the weather in Paris?", true, chatOf(tools, true, "tool_calls", func(t *testing.T, said chat) {
		if len(said.Calls) != 1 {
			t.Errorf("got %+v, want a call", said)
		}
	}))

	for _, usage := range []bool{false, true} {
		checkRepeats(t, f, fmt.Sprint("once upon a time, usage ", usage), true, func(t *testing.T, streamed bool, prompt string, _ int) heard {
			params := openai.CompletionNewParams{Model: "sim-small", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String(prompt)}}
			if !streamed {
				single, err := c.Completions.New(t.Context(), params)
				if err != nil {
					t.Fatal(err)
				}
				if single.Model != "sim-small" || len(single.Choices) != 1 || single.Choices[0].FinishReason != "stop" || len(single.Choices[0].Text) < 40 {
					t.Fatalf("got %s", single.RawJSON())
				}
				checkUsage(t, single.Usage)
				return heard{single.ID, single.Choices[0].Text}
			}
			if usage {
				params.StreamOptions.IncludeUsage = openai.Bool(true)
			}
			var text, id string
			var last openai.Completion
			stream := c.Completions.NewStreaming(t.Context(), params)
			for stream.Next() {
				chunk := stream.Current()
				if id == "" {
					id = chunk.ID
				}
				if chunk.ID != id || chunk.Model != "sim-small" || chunk.JSON.Usage.Valid() != usage {
					t.Errorf("usage %t: chunk %s", usage, chunk.RawJSON())
				}
				for _, choice := range chunk.Choices {
					text += choice.Text
				}
				last = chunk
			}
			if err := stream.Err(); err != nil {
				t.Fatal(err)
			}
			if usage {
				checkUsage(t, last.Usage)
			}
			return heard{id, text}
		})
	}
	for _, format := range []openai.EmbeddingNewParamsEncodingFormat{"float", "base64"} {
		checkRepeats(t, f, "the river as "+string(format), false, func(t *testing.T, _ bool, prompt string, _ int) heard {
			out, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
				Model: "SIM-Embed", EncodingFormat: format, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String(prompt)},
			})
			if err != nil {
				t.Fatal(err)
			}
			if out.Model != "SIM-Embed" || len(out.Data) != 1 || len(out.Data[0].Embedding) != 768 || out.Usage.PromptTokens <= 0 {
				t.Fatalf("got model %q, %d vectors, %s", out.Model, len(out.Data), out.Usage.RawJSON())
			}
			return heard{said: []any{out.Data[0].Embedding, out.Usage.TotalTokens}}
		})
	}

	responseOf := func(params responses.ResponseNewParams, kinds ...string) asking {
		return func(t *testing.T, streamed bool, prompt string, _ int) heard {
			params := params
			params.Input.OfString = openai.String(prompt)
			var r responses.Response
			if streamed {
				_, r = streamResponse(t, c, params)
			} else {
				single, err := c.Responses.New(t.Context(), params)
				if err != nil {
					t.Fatal(err)
				}
				r = *single
			}
			checkResponse(t, r, params.Model, kinds...)
			said := []any{r.OutputText(), r.Usage.InputTokens, r.Usage.OutputTokens}
			for _, item := range r.Output {
				switch item.Type {
				case "function_call":
					call := item.AsFunctionCall()
					checkCity(t, call.Arguments)
					said = append(said, call.CallID, call.Name, call.Arguments)
				case "reasoning":
					said = append(said, item.AsReasoning().Summary[0].Text)
				}
			}
			return heard{r.ID, said}
		}
	}
	checkRepeats(t, f, "a response", true, responseOf(responses.ResponseNewParams{Model: "sim-small"}, "message"))
	reasons := responses.ResponseNewParams{Model: "sim-think"}
	reasons.Reasoning.Effort = "high"
	checkRepeats(t, f, "a response with reasons", true, responseOf(reasons, "reasoning", "message"))
	w := weatherFunction()
	checkRepeats(t, f, "how is the weather in Paris?", true, responseOf(responses.ResponseNewParams{
		Model: "sim-tool",
		Tools: []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: w.Name, Description: w.Description, Parameters: w.Parameters, Strict: openai.Bool(false)}}},
	}, "function_call"))

	native := ollama(t, f)
	afterNative := chatOf(openai.ChatCompletionNewParams{Model: "sim-small:latest", Temperature: openai.Float(0)}, false, "stop", speaks)
	checkRepeats(t, f, "why is the sky blue", true, func(t *testing.T, streamed bool, prompt string, place int) heard {
		if place == 1 {
			return afterNative(t, streamed, prompt, place)
		}
		records := ollamaChat(t, native, &api.ChatRequest{
			Model: "SIM-Small", Messages: userSays(prompt), Stream: &streamed, Options: map[string]any{"temperature": 0, "top_p": 1},
		})
		_, text := checkRecords(t, records, "SIM-Small", "stop")
		return heard{said: chat{Content: text}}
	})
}

// A client that wants a stored answer or none hears that there is none, and takes what there is.
func TestOpenAI_OnlyIfCachedGeneratesNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, kept)
	only := option.WithHeader("Cache-Control", "only-if-cached")
	var status string // of the last answer
	c := openAI(t, f, option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
		resp, err := next(r)
		if err == nil {
			status = resp.Header.Get("Cache-Status")
		}
		return resp, err
	}))
	params := completionOf("sim-small", "have you said it before")
	_, err := c.Chat.Completions.New(t.Context(), params, only)
	checkOpenAIError(t, "whole", err, 504, "api_error", notStored)
	stream := c.Chat.Completions.NewStreaming(t.Context(), params, only)
	if stream.Next() {
		t.Errorf("streamed: got %s", stream.Current().RawJSON())
	}
	checkOpenAIError(t, "streamed", stream.Err(), 504, "api_error", notStored)
	_, err = c.Responses.New(t.Context(), responseTo("sim-small", "have you said it before"), only)
	checkOpenAIError(t, "a response", err, 504, "api_error", notStored)
	_, err = c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "sim-embed", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}}, only)
	checkOpenAIError(t, "an embedding", err, 504, "api_error", notStored)
	if n, err := f.generated(); err != nil || n != 0 {
		t.Errorf("the nodes made %d answers, want none (%v)", n, err)
	}

	first, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	second, err := c.Chat.Completions.New(t.Context(), params, only)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *second, "sim-small", "stop")
	if n, err := f.generated(); err != nil || n != 1 || second.Choices[0].Message.Content != first.Choices[0].Message.Content {
		t.Errorf("%d answers made (%v); first %s\nthen %s", n, err, first.RawJSON(), second.RawJSON())
	}
	if !strings.HasPrefix(status, "caddy-ollama; hit; ttl=") {
		t.Errorf("Cache-Status: %s", status)
	}
}
