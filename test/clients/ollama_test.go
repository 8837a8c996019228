package clients

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ollama/ollama/api"
)

func ollama(t *testing.T, f *fleet) *api.Client {
	t.Helper()
	base, err := url.Parse(f.url)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(transport.CloseIdleConnections)
	return api.NewClient(base, &http.Client{Transport: transport, Timeout: patience})
}

// fixed makes answers repeatable.
var fixed = map[string]any{"temperature": 0}

func userSays(text string) []api.Message { return []api.Message{{Role: "user", Content: text}} }

func ollamaChat(t *testing.T, c *api.Client, req *api.ChatRequest) []api.ChatResponse {
	t.Helper()
	var records []api.ChatResponse
	if err := c.Chat(t.Context(), req, func(r api.ChatResponse) error {
		records = append(records, r)
		return nil
	}); err != nil {
		t.Fatalf("chat: %v", err)
	}
	if len(records) == 0 {
		t.Fatal("chat: no answer and no error")
	}
	return records
}

// checkRecords checks what is true of every answer of a chat and gives the whole text.
func checkRecords(t *testing.T, records []api.ChatResponse, model, reason string) (thinking, content string) {
	t.Helper()
	for i, r := range records {
		if r.Model != model {
			t.Errorf("record %d: model %q, want it as it was spelt: %q", i, r.Model, model)
		}
		if r.Message.Role != "assistant" {
			t.Errorf("record %d: role %q", i, r.Message.Role)
		}
		if time.Since(r.CreatedAt).Abs() > time.Hour {
			t.Errorf("record %d: created_at %s", i, r.CreatedAt)
		}
		if last := i == len(records)-1; r.Done != last {
			t.Errorf("record %d of %d: done %t", i, len(records), r.Done)
		}
		if r.Message.Thinking != "" && content != "" {
			t.Errorf("record %d: a thought after text", i)
		}
		thinking += r.Message.Thinking
		content += r.Message.Content
	}
	last := records[len(records)-1]
	if last.DoneReason != reason {
		t.Errorf("done_reason %q, want %q", last.DoneReason, reason)
	}
	checkMetrics(t, last.Metrics)
	return thinking, content
}

func checkMetrics(t *testing.T, m api.Metrics) {
	t.Helper()
	if m.TotalDuration <= 0 || m.LoadDuration <= 0 || m.PromptEvalCount <= 0 || m.PromptEvalDuration <= 0 || m.EvalCount <= 0 {
		t.Errorf("metrics: %+v", m)
	}
	if m.TotalDuration < m.EvalDuration {
		t.Errorf("the whole took %s, its part %s", m.TotalDuration, m.EvalDuration)
	}
}

func TestOllama_TheGatewayIsANode(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	if err := c.Heartbeat(t.Context()); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	if version, err := c.Version(t.Context()); err != nil || version != "0.24.0" {
		t.Errorf("version: got %q, %v", version, err)
	}
}

func TestOllama_ListIsTheUnionOfTheNodes(t *testing.T) {
	t.Parallel()
	list, err := ollama(t, sharedFleet(t)).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range list.Models {
		names = append(names, m.Name)
		if m.Model != m.Name || len(m.Digest) != 64 || m.Size <= 0 || m.ModifiedAt.IsZero() || m.Details.Format != "gguf" ||
			m.Details.Family == "" || len(m.Details.Families) != 1 || m.Details.ParameterSize == "" || m.Details.QuantizationLevel == "" {
			t.Errorf("got %+v", m)
		}
	}
	slices.Sort(names)
	want := []string{
		"sim-chat:latest", "sim-code:latest", "sim-embed:latest", "sim-small:latest",
		"sim-think:latest", "sim-tool:latest", "sim-vision:latest",
	}
	if !slices.Equal(names, want) {
		t.Errorf("got %q, want each model of both nodes once: %q", names, want)
	}
}

func TestOllama_ShowTellsWhatAModelCanDo(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	for model, want := range map[string][]string{
		"sim-chat":         {"completion"},
		"SIM-TOOL:latest":  {"completion", "tools"},
		"sim-think:latest": {"completion", "thinking"},
		"sim-embed":        {"embedding"},
	} {
		show, err := c.Show(t.Context(), &api.ShowRequest{Model: model})
		if err != nil {
			t.Errorf("%s: %v", model, err)
			continue
		}
		var got []string
		for _, capability := range show.Capabilities {
			got = append(got, string(capability))
		}
		family, _ := show.ModelInfo["general.architecture"].(string)
		length, _ := show.ModelInfo[family+".context_length"].(float64)
		if !slices.Equal(got, want) || show.Template == "" || !strings.Contains(show.Modelfile, "FROM ") || show.Details.Family != family || length < 2048 {
			t.Errorf("%s: got %q, family %q, %v tokens, %+v; want %q", model, got, family, length, show.Details, want)
		}
	}
	_, err := c.Show(t.Context(), &api.ShowRequest{Model: "nope"})
	checkStatus(t, "unknown model", err, 404, "model 'nope' not found")
}

func TestOllama_ChatEchoesTheSpelling(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	for _, model := range []string{
		"sim-small", "SIM-Small", "sim-small:latest", "SIM-SMALL:Latest", "library/sim-small", "registry.ollama.ai/library/sim-small:latest",
	} {
		for _, stream := range []bool{true, false} {
			records := ollamaChat(t, c, &api.ChatRequest{
				Model: model, Messages: userSays("how do you spell it"), Stream: &stream, Options: map[string]any{"num_predict": 2},
			})
			checkRecords(t, records, model, "length")
			if n := records[len(records)-1].EvalCount; n != 2 {
				t.Errorf("%s: %d tokens, want 2", model, n)
			}
		}
	}
}

func TestOllama_ChatSaysTheSameStreamedAndSingle(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	req := &api.ChatRequest{Model: "sim-small", Messages: userSays("why is the sky blue"), Options: fixed}
	streamed := ollamaChat(t, c, req)
	_, text := checkRecords(t, streamed, "sim-small", "stop")
	if len(streamed) < 40 {
		t.Errorf("%d records, want one a token: 40 at least", len(streamed))
	}
	if last := streamed[len(streamed)-1]; last.Message.Content != "" {
		t.Errorf("the last record says %q", last.Message.Content)
	}
	req.Stream = new(bool)
	single := ollamaChat(t, c, req)
	if len(single) != 1 {
		t.Fatalf("%d records, want one", len(single))
	}
	if _, got := checkRecords(t, single, "sim-small", "stop"); got != text {
		t.Errorf("single: %q\nstreamed: %q", got, text)
	}
	if a, b := streamed[len(streamed)-1], single[0]; a.EvalCount != b.EvalCount || a.PromptEvalCount != b.PromptEvalCount {
		t.Errorf("streamed %d and %d tokens, single %d and %d", a.PromptEvalCount, a.EvalCount, b.PromptEvalCount, b.EvalCount)
	}
}

func TestOllama_ChatIsWhatWasSaidBefore(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	messages := []api.Message{{Role: "system", Content: "be kind"}, {Role: "user", Content: "hello"}}
	first := ollamaChat(t, c, &api.ChatRequest{Model: "sim-small", Messages: messages, Stream: new(bool), Options: fixed})[0]
	messages = append(messages, first.Message, api.Message{Role: "user", Content: "and now"})
	second := ollamaChat(t, c, &api.ChatRequest{Model: "sim-small", Messages: messages, Stream: new(bool), Options: fixed})[0]
	if second.PromptEvalCount < first.PromptEvalCount+first.EvalCount {
		t.Errorf("a prompt of %d tokens after one of %d and an answer of %d", second.PromptEvalCount, first.PromptEvalCount, first.EvalCount)
	}
	if second.Message.Content == "" || second.Message.Content == first.Message.Content {
		t.Errorf("both times %q", second.Message.Content)
	}
}

func TestOllama_ChatCarriesLogprobs(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	for _, stream := range []bool{true, false} {
		records := ollamaChat(t, c, &api.ChatRequest{
			Model: "sim-small", Messages: userSays("how sure are you"), Stream: &stream, Logprobs: true, TopLogprobs: 2,
			Options: map[string]any{"temperature": 0, "num_predict": 4},
		})
		_, text := checkRecords(t, records, "sim-small", "length")
		var tokens string
		for _, r := range records {
			for _, p := range r.Logprobs {
				tokens += p.Token
				if p.Logprob > 0 || len(p.Bytes) != len(p.Token) || len(p.TopLogprobs) != 2 {
					t.Errorf("stream %t: got %+v", stream, p)
				}
			}
		}
		if tokens != text {
			t.Errorf("stream %t: the tokens are %q, the text %q", stream, tokens, text)
		}
	}
}

func TestOllama_GenerateSaysTheSameStreamedAndSingle(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	generate := func(stream bool) (records []api.GenerateResponse, text string) {
		err := c.Generate(t.Context(), &api.GenerateRequest{
			Model: "Sim-Small:latest", Prompt: "once upon a time", Stream: &stream, Options: fixed,
		}, func(r api.GenerateResponse) error {
			records = append(records, r)
			text += r.Response
			return nil
		})
		if err != nil || len(records) == 0 {
			t.Fatalf("stream %t: %d records, %v", stream, len(records), err)
		}
		for i, r := range records {
			if last := i == len(records)-1; r.Done != last || r.Model != "Sim-Small:latest" || last != (len(r.Context) > 0) {
				t.Errorf("stream %t, record %d of %d: %+v", stream, i, len(records), r)
			}
		}
		last := records[len(records)-1]
		if last.DoneReason != "stop" {
			t.Errorf("stream %t: done_reason %q", stream, last.DoneReason)
		}
		checkMetrics(t, last.Metrics)
		return records, text
	}
	streamed, text := generate(true)
	single, whole := generate(false)
	if len(streamed) < 40 || len(single) != 1 || text != whole {
		t.Errorf("streamed %d: %q\nsingle %d: %q", len(streamed), text, len(single), whole)
	}
	if !slices.Equal(streamed[len(streamed)-1].Context, single[0].Context) {
		t.Error("the contexts differ")
	}
}

func TestOllama_GenerateInserts(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	generate := func(model string) (text string, err error) {
		err = c.Generate(t.Context(), &api.GenerateRequest{Model: model, Prompt: "func main() {", Suffix: "}", Options: fixed}, func(r api.GenerateResponse) error {
			text += r.Response
			return nil
		})
		return text, err
	}
	if text, err := generate("sim-code"); err != nil || text == "" {
		t.Errorf("got %q, %v", text, err)
	}
	_, err := generate("sim-small")
	checkStatus(t, "a model that cannot", err, 400, "registry.ollama.ai/library/sim-small:latest does not support insert")
}

func TestOllama_StopSequenceIsCutOff(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	records := ollamaChat(t, c, &api.ChatRequest{
		Model: "sim-small", Messages: userSays("stop there"), Options: map[string]any{"temperature": 0, "stop": []string{"."}},
	})
	if _, text := checkRecords(t, records, "sim-small", "stop"); text == "" || strings.Contains(text, ".") {
		t.Errorf("got %q", text)
	}
}

func TestOllama_AnEmptyChatLoadsTheModelAndPsShowsIt(t *testing.T) {
	t.Parallel()
	c := ollama(t, newFleet(t, plan{Nodes: 2, Scale: 0.05})) // of its own: others' models drive each other out
	loaded := func() *api.ProcessModelResponse {
		ps, err := c.ListRunning(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(ps.Models, func(m api.ProcessModelResponse) bool { return m.Name == "sim-vision:latest" })
		if i < 0 {
			return nil
		}
		return &ps.Models[i]
	}
	records := ollamaChat(t, c, &api.ChatRequest{Model: "sim-vision", KeepAlive: &api.Duration{Duration: time.Hour}})
	if r := records[0]; len(records) != 1 || !r.Done || r.DoneReason != "load" || r.Message.Content != "" || r.Message.Role != "assistant" {
		t.Fatalf("got %+v, want one record with done_reason load", records)
	}
	m := loaded()
	for end := time.Now().Add(5 * time.Second); m == nil; m = loaded() { // a look at the nodes is up to 2 s old
		if time.Now().After(end) {
			t.Fatal("ps does not show the model that was just loaded")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if m.Model != m.Name || len(m.Digest) != 64 || m.Size <= 0 || m.ContextLength <= 0 || time.Until(m.ExpiresAt) < 50*time.Minute || time.Until(m.ExpiresAt) > time.Hour+time.Minute {
		t.Errorf("got %+v", m)
	}
}

func TestOllama_EmbedGivesUnitVectors(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	embed := func(input any, dimensions int) *api.EmbedResponse {
		t.Helper()
		out, err := c.Embed(t.Context(), &api.EmbedRequest{Model: "SIM-Embed", Input: input, Dimensions: dimensions})
		if err != nil {
			t.Fatal(err)
		}
		if out.Model != "SIM-Embed" {
			t.Errorf("model %q", out.Model)
		}
		for _, v := range out.Embeddings {
			var square float64
			for _, x := range v {
				square += float64(x) * float64(x)
			}
			if math.Abs(square-1) > 1e-4 {
				t.Errorf("%v: a vector of length %g", input, math.Sqrt(square))
			}
		}
		return out
	}
	one := embed("the river", 0)
	if len(one.Embeddings) != 1 || len(one.Embeddings[0]) != 768 || one.PromptEvalCount <= 0 || one.TotalDuration <= 0 || one.LoadDuration <= 0 {
		t.Fatalf("one: %d vectors, %+v", len(one.Embeddings), one)
	}
	batch := embed([]string{"the boat", "the river", ""}, 0)
	if len(batch.Embeddings) != 3 || !slices.Equal(batch.Embeddings[1], one.Embeddings[0]) || batch.PromptEvalCount <= one.PromptEvalCount {
		t.Errorf("batch: %d vectors, %d tokens; the second is not that of the same text alone", len(batch.Embeddings), batch.PromptEvalCount)
	}
	if short := embed("the river", 5); len(short.Embeddings) != 1 || len(short.Embeddings[0]) != 5 {
		t.Errorf("5 dimensions: got %v", short.Embeddings)
	}
	// An empty string is no input here, and the answer has no counts.
	if none := embed("", 0); none.Embeddings == nil || len(none.Embeddings) != 0 || none.PromptEvalCount != 0 || none.TotalDuration != 0 {
		t.Errorf("empty: got %+v", none)
	}
	old, err := c.Embeddings(t.Context(), &api.EmbeddingRequest{Model: "sim-embed", Prompt: "the river"})
	if err != nil || len(old.Embedding) != 768 || math.Abs(old.Embedding[0]-float64(one.Embeddings[0][0])) > 1e-6 {
		t.Errorf("the old route: %d numbers, %v", len(old.Embedding), err)
	}
}

// weather is a tool as a client describes it.
func weather() api.Tool {
	properties := api.NewToolPropertiesMap()
	properties.Set("city", api.ToolProperty{Type: api.PropertyType{"string"}, Description: "name of the city"})
	properties.Set("unit", api.ToolProperty{Type: api.PropertyType{"string"}, Enum: []any{"celsius", "fahrenheit"}})
	return api.Tool{Type: "function", Function: api.ToolFunction{
		Name: "get_weather", Description: "Weather of a city",
		Parameters: api.ToolFunctionParameters{Type: "object", Required: []string{"city"}, Properties: properties},
	}}
}

func TestOllama_ToolsAreCalledAndTheirResultsAnswered(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	for _, stream := range []bool{true, false} {
		messages := userSays("what is the weather in Paris?")
		records := ollamaChat(t, c, &api.ChatRequest{Model: "sim-tool", Messages: messages, Tools: api.Tools{weather()}, Stream: &stream, Options: fixed})
		checkRecords(t, records, "sim-tool", "stop") // not "tool_calls": a node says stop
		var calls []api.ToolCall
		for _, r := range records {
			calls = append(calls, r.Message.ToolCalls...)
		}
		if len(calls) != 1 {
			t.Fatalf("stream %t: %d calls, want one: %+v", stream, len(calls), records)
		}
		city, _ := calls[0].Function.Arguments.Get("city")
		unit, _ := calls[0].Function.Arguments.Get("unit")
		if name, ok := city.(string); calls[0].Function.Name != "get_weather" || !strings.HasPrefix(calls[0].ID, "call_") || !ok || name == "" ||
			unit != "celsius" && unit != "fahrenheit" || calls[0].Function.Arguments.Len() != 2 {
			t.Errorf("stream %t: got %+v", stream, calls[0])
		}

		messages = append(messages, api.Message{Role: "assistant", ToolCalls: calls},
			api.Message{Role: "tool", Content: "11 degrees", ToolName: "get_weather", ToolCallID: calls[0].ID})
		records = ollamaChat(t, c, &api.ChatRequest{Model: "sim-tool", Messages: messages, Tools: api.Tools{weather()}, Stream: &stream, Options: fixed})
		_, text := checkRecords(t, records, "sim-tool", "stop")
		for _, r := range records {
			if len(r.Message.ToolCalls) > 0 {
				t.Errorf("stream %t: the result is answered with another call", stream)
			}
		}
		if len(text) < 40 {
			t.Errorf("stream %t: the result is answered with %q", stream, text)
		}
	}
}

func TestOllama_FormatShapesTheAnswer(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	for _, stream := range []bool{true, false} {
		records := ollamaChat(t, c, &api.ChatRequest{Model: "sim-chat", Messages: userSays("a person"), Stream: &stream, Format: json.RawMessage(personSchema)})
		_, text := checkRecords(t, records, "sim-chat", "stop")
		checkPerson(t, text)

		records = ollamaChat(t, c, &api.ChatRequest{Model: "sim-chat", Messages: userSays("an object"), Stream: &stream, Format: json.RawMessage(`"json"`)})
		_, text = checkRecords(t, records, "sim-chat", "stop")
		var object map[string]any
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// personSchema is a schema that every dialect is asked for.
const personSchema = `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":1},` +
	`"mood":{"type":"string","enum":["calm","glad"]}},"required":["name","age","mood"],"additionalProperties":false}`

func checkPerson(t *testing.T, text string) {
	t.Helper()
	var person struct {
		Name, Mood string
		Age        int
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&person); err != nil || person.Name == "" || person.Age < 1 || person.Mood != "calm" && person.Mood != "glad" {
		t.Errorf("%q is no person: %v", text, err)
	}
}

func TestOllama_ThoughtsComeApartFromTheAnswer(t *testing.T) {
	t.Parallel()
	c := ollama(t, sharedFleet(t))
	for _, stream := range []bool{true, false} {
		// A model that can think does unless it is told not to.
		for _, think := range []*api.ThinkValue{nil, {Value: true}} {
			records := ollamaChat(t, c, &api.ChatRequest{Model: "sim-think", Messages: userSays("think"), Stream: &stream, Think: think})
			if thinking, text := checkRecords(t, records, "sim-think", "stop"); len(thinking) < 10 || len(text) < 40 || strings.Contains(thinking+text, "think>") {
				t.Errorf("stream %t, think %v: thought %q, said %q", stream, think, thinking, text)
			}
		}
		records := ollamaChat(t, c, &api.ChatRequest{Model: "sim-think", Messages: userSays("do not"), Stream: &stream, Think: &api.ThinkValue{Value: false}})
		if thinking, text := checkRecords(t, records, "sim-think", "stop"); thinking != "" || len(text) < 40 {
			t.Errorf("stream %t, think false: thought %q, said %q", stream, thinking, text)
		}
		err := c.Chat(t.Context(), &api.ChatRequest{Model: "sim-chat", Messages: userSays("think"), Stream: &stream, Think: &api.ThinkValue{Value: true}},
			func(api.ChatResponse) error { return nil })
		checkStatus(t, "a model that cannot", err, 400, `"sim-chat" does not support thinking`)
	}
}
