package clients

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"
)

func openAI(t *testing.T, f *fleet, opts ...option.RequestOption) openai.Client {
	t.Helper()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(f.url + "/v1"), option.WithAPIKey("unused"), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: transport, Timeout: patience}),
	}, opts...)...)
}

func completionOf(model, text string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model: model, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}, Temperature: openai.Float(0),
	}
}

// streamChat reads a streamed chat to its end. It gives the chunks, what the client's own
// accumulator makes of them, and the reasoning, for which the client has no field.
func streamChat(t *testing.T, c openai.Client, params openai.ChatCompletionNewParams) (chunks []openai.ChatCompletionChunk, whole openai.ChatCompletionAccumulator, reasoning string) {
	t.Helper()
	stream := c.Chat.Completions.NewStreaming(t.Context(), params)
	defer stream.Close()
	for stream.Next() {
		chunk := stream.Current()
		if !whole.AddChunk(chunk) {
			t.Errorf("the client's accumulator declines %s", chunk.RawJSON())
		}
		chunks = append(chunks, chunk)
		if len(chunk.Choices) > 0 {
			reasoning += extra(t, chunk.Choices[0].Delta.RawJSON(), "reasoning")
		}
	}
	if err := stream.Err(); err != nil {
		t.Fatalf("stream: %v after %d chunks", err, len(chunks))
	}
	if len(chunks) == 0 {
		t.Fatal("stream: no chunk and no error")
	}
	return chunks, whole, reasoning
}

// extra reads a string that the client has no field for.
func extra(t *testing.T, raw, field string) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(raw), &fields); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	s, _ := fields[field].(string)
	return s
}

func checkCompletion(t *testing.T, c openai.ChatCompletion, model, reason string) {
	t.Helper()
	if !strings.HasPrefix(c.ID, "chatcmpl-") || c.Model != model || extra(t, c.RawJSON(), "system_fingerprint") != "fp_ollama" ||
		c.Object != "chat.completion" || time.Since(time.Unix(c.Created, 0)).Abs() > time.Hour {
		t.Errorf("got %s", c.RawJSON())
	}
	if len(c.Choices) != 1 || c.Choices[0].Index != 0 || c.Choices[0].FinishReason != reason || c.Choices[0].Message.Role != "assistant" {
		t.Fatalf("got %s, want one choice that ended with %s", c.RawJSON(), reason)
	}
	checkUsage(t, c.Usage)
}

func checkUsage(t *testing.T, u openai.CompletionUsage) {
	t.Helper()
	if u.PromptTokens <= 0 || u.CompletionTokens <= 0 || u.TotalTokens != u.PromptTokens+u.CompletionTokens {
		t.Errorf("usage: %s", u.RawJSON())
	}
}

// checkChunks checks what is true of every streamed chat: the finish reason stands in the last
// chunk that has a choice, and usage after it if it was asked for.
func checkChunks(t *testing.T, chunks []openai.ChatCompletionChunk, model, reason string, usage bool) {
	t.Helper()
	said := chunks
	if last := chunks[len(chunks)-1]; usage {
		if len(last.Choices) != 0 {
			t.Errorf("the last chunk has a choice, not usage alone: %s", last.RawJSON())
		}
		checkUsage(t, last.Usage)
		said = chunks[:len(chunks)-1]
	}
	for i, c := range said {
		if c.ID != chunks[0].ID || !strings.HasPrefix(c.ID, "chatcmpl-") || c.Model != model || c.Object != "chat.completion.chunk" ||
			extra(t, c.RawJSON(), "system_fingerprint") != "fp_ollama" || len(c.Choices) != 1 {
			t.Errorf("chunk %d: %s", i, c.RawJSON())
			continue
		}
		if c.JSON.Usage.Valid() {
			t.Errorf("chunk %d: usage where none belongs: %s", i, c.RawJSON())
		}
		want := ""
		if i == len(said)-1 {
			want = reason
		}
		if c.Choices[0].FinishReason != want || c.Choices[0].Delta.Role != "assistant" {
			t.Errorf("chunk %d of %d: finish_reason %q, want %q: %s", i, len(said), c.Choices[0].FinishReason, want, c.RawJSON())
		}
	}
}

func TestOpenAI_ModelsAreThoseOfTheFleet(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	page, err := c.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range page.Data {
		ids = append(ids, m.ID)
		if m.Object != "model" || m.OwnedBy != "library" || m.Created <= 0 {
			t.Errorf("got %s", m.RawJSON())
		}
	}
	if !slices.Contains(ids, "sim-chat:latest") || len(ids) != 7 {
		t.Errorf("got %q", ids)
	}
	if m, err := c.Models.Get(t.Context(), "SIM-Chat"); err != nil || m.ID != "SIM-Chat" || m.Object != "model" {
		t.Errorf("one: got %+v, %v", m, err)
	}
	_, err = c.Models.Get(t.Context(), "nope")
	checkOpenAIError(t, "unknown model", err, 404, "not_found_error", "model 'nope' not found")
}

func TestOpenAI_ChatSaysTheSameStreamedAndSingle(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := completionOf("SIM-Small:latest", "why is the sky blue")
	single, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *single, "SIM-Small:latest", "stop")
	text := single.Choices[0].Message.Content

	chunks, whole, _ := streamChat(t, c, params)
	checkChunks(t, chunks, "SIM-Small:latest", "stop", false)
	if got := whole.Choices[0].Message.Content; got != text || len(chunks) < 40 {
		t.Errorf("%d chunks: %q\nsingle: %q", len(chunks), got, text)
	}

	params.StreamOptions.IncludeUsage = openai.Bool(true)
	chunks, whole, _ = streamChat(t, c, params)
	checkChunks(t, chunks, "SIM-Small:latest", "stop", true)
	if got := whole.Choices[0].Message.Content; got != text || whole.Usage.TotalTokens != single.Usage.TotalTokens {
		t.Errorf("with usage: %q, %s\nsingle: %q, %s", got, whole.Usage.RawJSON(), text, single.Usage.RawJSON())
	}
}

func TestOpenAI_MaxTokensCutTheAnswer(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := completionOf("sim-small", "tell me more")
	params.MaxTokens = openai.Int(3)
	single, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *single, "sim-small", "length")
	if single.Usage.CompletionTokens != 3 {
		t.Errorf("got %s, want 3 tokens", single.Usage.RawJSON())
	}
	chunks, _, _ := streamChat(t, c, params)
	checkChunks(t, chunks, "sim-small", "length", false)

	// Only max_tokens is known: max_completion_tokens is ignored without a word.
	params.MaxTokens, params.MaxCompletionTokens = openai.CompletionNewParams{}.MaxTokens, openai.Int(3)
	if single, err = c.Chat.Completions.New(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *single, "sim-small", "stop")
}

func weatherFunction() shared.FunctionDefinitionParam {
	return shared.FunctionDefinitionParam{
		Name: "get_weather", Description: openai.String("Weather of a city"),
		Parameters: shared.FunctionParameters{
			"type": "object", "required": []string{"city"},
			"properties": map[string]any{"city": map[string]any{"type": "string"}},
		},
	}
}

func checkCity(t *testing.T, arguments string) {
	t.Helper()
	var args map[string]string
	if err := json.Unmarshal([]byte(arguments), &args); err != nil || len(args) != 1 || args["city"] == "" {
		t.Errorf("arguments %q: %v, want a city", arguments, err)
	}
}

func TestOpenAI_ToolsAreCalledAndTheirResultsAnswered(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := completionOf("sim-tool", "what is the weather in Paris?")
	params.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(weatherFunction())}

	chunks, whole, _ := streamChat(t, c, params)
	checkChunks(t, chunks, "sim-tool", "tool_calls", false)
	single, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *single, "sim-tool", "tool_calls")

	for name, message := range map[string]openai.ChatCompletionMessage{"streamed": whole.Choices[0].Message, "single": single.Choices[0].Message} {
		if len(message.ToolCalls) != 1 {
			t.Fatalf("%s: %d calls: %+v", name, len(message.ToolCalls), message)
		}
		call := message.ToolCalls[0]
		if !strings.HasPrefix(call.ID, "call_") || call.Function.Name != "get_weather" || name == "single" && call.Type != "function" {
			t.Errorf("%s: got %+v", name, call)
		}
		checkCity(t, call.Function.Arguments)

		answered := params
		answered.Messages = append(slices.Clone(params.Messages), message.ToParam(), openai.ToolMessage("11 degrees", call.ID))
		after, err := c.Chat.Completions.New(t.Context(), answered)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkCompletion(t, *after, "sim-tool", "stop")
		if m := after.Choices[0].Message; len(m.ToolCalls) > 0 || len(m.Content) < 40 {
			t.Errorf("%s: the result is answered with %+v", name, m)
		}
	}
}

func TestOpenAI_ResponseFormatShapesTheAnswer(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := completionOf("sim-chat", "a person")
	params.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
		JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "person", Strict: openai.Bool(true), Schema: json.RawMessage(personSchema)},
	}
	single, err := c.Chat.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkCompletion(t, *single, "sim-chat", "stop")
	checkPerson(t, single.Choices[0].Message.Content)
	_, whole, _ := streamChat(t, c, params)
	checkPerson(t, whole.Choices[0].Message.Content)

	params.ResponseFormat = openai.ChatCompletionNewParamsResponseFormatUnion{OfJSONObject: new(shared.ResponseFormatJSONObjectParam)}
	if single, err = c.Chat.Completions.New(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal([]byte(single.Choices[0].Message.Content), &object); err != nil {
		t.Errorf("json_object: %q, %v", single.Choices[0].Message.Content, err)
	}
}

func TestOpenAI_ReasoningComesApartFromTheAnswer(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	for _, effort := range []shared.ReasoningEffort{"", "high", "none"} {
		params := completionOf("sim-think", "think")
		params.ReasoningEffort = effort
		single, err := c.Chat.Completions.New(t.Context(), params)
		if err != nil {
			t.Fatalf("%q: %v", effort, err)
		}
		checkCompletion(t, *single, "sim-think", "stop")
		chunks, whole, streamed := streamChat(t, c, params)
		checkChunks(t, chunks, "sim-think", "stop", false)
		message := single.Choices[0].Message
		reasoning := extra(t, message.RawJSON(), "reasoning")
		if thinks := effort != "none"; thinks != (len(reasoning) > 10) || len(message.Content) < 40 {
			t.Errorf("%q: thought %q, said %q", effort, reasoning, message.Content)
		}
		if reasoning != streamed || message.Content != whole.Choices[0].Message.Content {
			t.Errorf("%q: streamed: thought %q, said %q; single: %q, %q", effort, streamed, whole.Choices[0].Message.Content, reasoning, message.Content)
		}
	}
	params := completionOf("sim-chat", "think")
	params.ReasoningEffort = "high"
	_, err := c.Chat.Completions.New(t.Context(), params)
	checkOpenAIError(t, "a model that cannot", err, 400, "invalid_request_error", `"sim-chat" does not support thinking`)
}

func TestOpenAI_CompletionsSayTheSameStreamedAndSingle(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := openai.CompletionNewParams{
		Model: "SIM-Small", Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("once upon a time")}, Temperature: openai.Float(0),
	}
	single, err := c.Completions.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(single.ID, "cmpl-") || single.Object != "text_completion" || single.Model != "SIM-Small" || single.SystemFingerprint != "fp_ollama" ||
		len(single.Choices) != 1 || single.Choices[0].FinishReason != "stop" || len(single.Choices[0].Text) < 40 {
		t.Fatalf("got %s", single.RawJSON())
	}
	checkUsage(t, single.Usage)

	for _, usage := range []bool{false, true} {
		if usage {
			params.StreamOptions.IncludeUsage = openai.Bool(true)
		}
		var text string
		var chunks []openai.Completion
		stream := c.Completions.NewStreaming(t.Context(), params)
		for stream.Next() {
			chunk := stream.Current()
			chunks = append(chunks, chunk)
			if chunk.ID != chunks[0].ID || chunk.Object != "text_completion" || chunk.Model != "SIM-Small" || chunk.JSON.Usage.Valid() != usage {
				t.Errorf("usage %t: chunk %s", usage, chunk.RawJSON())
			}
			for _, choice := range chunk.Choices {
				text += choice.Text
			}
		}
		if err := stream.Err(); err != nil || len(chunks) < 40 {
			t.Fatalf("usage %t: %d chunks, %v", usage, len(chunks), err)
		}
		finish := chunks[len(chunks)-1]
		if usage { // every chunk carries zeros, then one without a choice the sums
			if len(finish.Choices) != 0 || finish.Usage.TotalTokens != single.Usage.TotalTokens || chunks[0].Usage.TotalTokens != 0 {
				t.Errorf("got %s at the end, %s at the beginning, want %s", finish.RawJSON(), chunks[0].RawJSON(), single.Usage.RawJSON())
			}
			finish = chunks[len(chunks)-2]
		}
		if len(finish.Choices) != 1 || finish.Choices[0].FinishReason != "stop" || finish.Choices[0].Text != "" || text != single.Choices[0].Text {
			t.Errorf("usage %t: ends with %s; streamed %q, single %q", usage, finish.RawJSON(), text, single.Choices[0].Text)
		}
	}
}

func TestOpenAI_EmbeddingsAreTheSameAsNumbersAndAsBase64(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	embed := func(format openai.EmbeddingNewParamsEncodingFormat, inputs ...string) *openai.CreateEmbeddingResponse {
		t.Helper()
		params := openai.EmbeddingNewParams{Model: "SIM-Embed", EncodingFormat: format}
		if len(inputs) == 1 {
			params.Input.OfString = openai.String(inputs[0])
		} else {
			params.Input.OfArrayOfStrings = inputs
		}
		out, err := c.Embeddings.New(t.Context(), params)
		if err != nil {
			t.Fatalf("%s %q: %v", format, inputs, err)
		}
		if out.Model != "SIM-Embed" || out.Object != "list" || len(out.Data) != len(inputs) || out.Usage.PromptTokens <= 0 || out.Usage.TotalTokens != out.Usage.PromptTokens {
			t.Fatalf("%s %q: %d vectors, model %q, %s", format, inputs, len(out.Data), out.Model, out.Usage.RawJSON())
		}
		for i, e := range out.Data {
			var square float64
			for _, x := range e.Embedding {
				square += x * x
			}
			if e.Object != "embedding" || e.Index != int64(i) || len(e.Embedding) != 768 || math.Abs(square-1) > 1e-4 {
				t.Errorf("%s %q: vector %d: index %d, %d numbers, length %g", format, inputs, i, e.Index, len(e.Embedding), math.Sqrt(square))
			}
		}
		return out
	}
	numbers := embed("float", "the river", "the boat")
	packed := embed("base64", "the river", "the boat")
	if raw := packed.Data[0].JSON.Embedding.Raw(); !strings.HasPrefix(raw, `"`) {
		t.Errorf("base64: the embedding is %.20s…", raw)
	}
	for i := range numbers.Data {
		for j, x := range numbers.Data[i].Embedding {
			if float32(x) != float32(packed.Data[i].Embedding[j]) {
				t.Fatalf("vector %d: %g as a number, %g as base64", i, x, packed.Data[i].Embedding[j])
			}
		}
	}
	embed("float", "") // one vector, unlike /api/embed
	_, err := c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "sim-embed", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}, EncodingFormat: "hex"})
	checkOpenAIError(t, "unknown encoding", err, 400, "invalid_request_error", "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].")
	_, err = c.Embeddings.New(t.Context(), openai.EmbeddingNewParams{Model: "nope", Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("x")}})
	checkOpenAIError(t, "unknown model", err, 404, "not_found_error", `model "nope" not found, try pulling it first`)
}
