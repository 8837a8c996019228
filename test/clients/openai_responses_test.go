package clients

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

func responseTo(model, text string) responses.ResponseNewParams {
	return responses.ResponseNewParams{
		Model: model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String(text)}, Temperature: openai.Float(0),
	}
}

func checkResponse(t *testing.T, r responses.Response, model string, kinds ...string) {
	t.Helper()
	if !strings.HasPrefix(r.ID, "resp_") || r.Model != model || r.Object != "response" || r.Status != "completed" || r.CreatedAt <= 0 ||
		r.Error.Message != "" || r.Usage.InputTokens <= 0 || r.Usage.OutputTokens <= 0 || r.Usage.TotalTokens != r.Usage.InputTokens+r.Usage.OutputTokens {
		t.Errorf("got %s", r.RawJSON())
	}
	var got []string
	for _, item := range r.Output {
		got = append(got, item.Type)
	}
	if !slices.Equal(got, kinds) {
		t.Fatalf("output: got %q, want %q in %s", got, kinds, r.RawJSON())
	}
}

// streamResponse reads a streamed response to its end and gives its events and the last one's
// response.
func streamResponse(t *testing.T, c openai.Client, params responses.ResponseNewParams) (events []responses.ResponseStreamEventUnion, whole responses.Response) {
	t.Helper()
	stream := c.Responses.NewStreaming(t.Context(), params)
	for stream.Next() {
		e := stream.Current()
		if e.SequenceNumber != int64(len(events)) {
			t.Errorf("event %d has the number %d", len(events), e.SequenceNumber)
		}
		events = append(events, e)
	}
	if err := stream.Err(); err != nil || len(events) == 0 {
		t.Fatalf("stream: %d events, %v", len(events), err)
	}
	last := events[len(events)-1]
	if last.Type != "response.completed" {
		t.Fatalf("the last event is %s", last.RawJSON())
	}
	return events, last.Response
}

// kindsOf lists the types of the events, each run of equal ones once.
func kindsOf(events []responses.ResponseStreamEventUnion) []string {
	var kinds []string
	for _, e := range events {
		kinds = append(kinds, strings.TrimPrefix(e.Type, "response."))
	}
	return slices.Compact(kinds)
}

func TestOpenAI_ResponsesSayTheSameStreamedAndSingle(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := responseTo("SIM-Small:latest", "why is the sky blue")
	params.Instructions = openai.String("be short")
	single, err := c.Responses.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkResponse(t, *single, "SIM-Small:latest", "message")
	if m := single.Output[0]; m.Role != "assistant" || m.Status != "completed" || !strings.HasPrefix(m.ID, "msg_") || len(single.OutputText()) < 40 {
		t.Errorf("got %s", m.RawJSON())
	}

	events, whole := streamResponse(t, c, params)
	checkResponse(t, whole, "SIM-Small:latest", "message")
	want := []string{
		"created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
		"output_text.done", "content_part.done", "output_item.done", "completed",
	}
	if got := kindsOf(events); !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
	var text string
	for _, e := range events {
		if e.Type == "response.output_text.delta" {
			text += e.Delta
		}
	}
	if text != single.OutputText() || whole.OutputText() != text || whole.Usage.TotalTokens != single.Usage.TotalTokens || len(events) < 40 {
		t.Errorf("%d events: %q\nat the end: %q\nsingle: %q", len(events), text, whole.OutputText(), single.OutputText())
	}

	// Cut by max_output_tokens it is completed all the same.
	params.MaxOutputTokens = openai.Int(3)
	if single, err = c.Responses.New(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	checkResponse(t, *single, "SIM-Small:latest", "message")
	if single.Usage.OutputTokens != 3 || single.IncompleteDetails.Reason != "" {
		t.Errorf("got %s", single.RawJSON())
	}
}

func TestOpenAI_ResponsesCallToolsAndAnswerTheirResults(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := responseTo("sim-tool", "what is the weather in Paris?")
	f := weatherFunction()
	params.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: f.Name, Description: f.Description, Parameters: f.Parameters, Strict: openai.Bool(false)}}}
	single, err := c.Responses.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkResponse(t, *single, "sim-tool", "function_call")
	events, whole := streamResponse(t, c, params)
	checkResponse(t, whole, "sim-tool", "function_call")
	// White space comes before the call; the item it opened stays open, as at a node.
	want := []string{
		"created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_item.added",
		"function_call_arguments.delta", "function_call_arguments.done", "output_item.done", "completed",
	}
	if got := kindsOf(events); !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
	for name, r := range map[string]responses.Response{"streamed": whole, "single": *single} {
		call := r.Output[0].AsFunctionCall()
		if call.Name != "get_weather" || !strings.HasPrefix(call.CallID, "call_") || call.Status != "completed" {
			t.Errorf("%s: got %s", name, call.RawJSON())
		}
		checkCity(t, call.Arguments)
		answered := params
		answered.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: responses.ResponseInputParam{
			responses.ResponseInputItemParamOfMessage("what is the weather in Paris?", responses.EasyInputMessageRoleUser),
			responses.ResponseInputItemParamOfFunctionCall(call.Arguments, call.CallID, call.Name),
			{OfFunctionCallOutput: &responses.ResponseInputItemFunctionCallOutputParam{
				CallID: openai.String(call.CallID), Output: responses.ResponseInputItemFunctionCallOutputOutputUnionParam{OfString: openai.String("11 degrees")},
			}},
		}}
		after, err := c.Responses.New(t.Context(), answered)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		checkResponse(t, *after, "sim-tool", "message")
		if len(after.OutputText()) < 40 {
			t.Errorf("%s: the result is answered with %q", name, after.OutputText())
		}
	}
}

func TestOpenAI_ResponsesReasonAndShape(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	params := responseTo("sim-think", "think")
	params.Reasoning.Effort = "high"
	single, err := c.Responses.New(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	checkResponse(t, *single, "sim-think", "reasoning", "message")
	thought := single.Output[0].AsReasoning()
	if len(thought.Summary) != 1 || len(thought.Summary[0].Text) < 10 || thought.EncryptedContent != thought.Summary[0].Text {
		t.Errorf("got %s", thought.RawJSON())
	}
	events, whole := streamResponse(t, c, params)
	checkResponse(t, whole, "sim-think", "reasoning", "message")
	want := []string{
		"created", "in_progress", "output_item.added", "reasoning_summary_text.delta", "reasoning_summary_text.done", "output_item.done",
		"output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed",
	}
	if got := kindsOf(events); !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}

	params = responseTo("sim-chat", "a person")
	var schema map[string]any
	if err := json.Unmarshal([]byte(personSchema), &schema); err != nil {
		t.Fatal(err)
	}
	params.Text.Format = responses.ResponseFormatTextConfigParamOfJSONSchema("person", schema)
	if single, err = c.Responses.New(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	checkResponse(t, *single, "sim-chat", "message")
	checkPerson(t, single.OutputText())
}

func TestOpenAI_ResponsesFailInTheDialect(t *testing.T) {
	t.Parallel()
	c := openAI(t, sharedFleet(t))
	_, err := c.Responses.New(t.Context(), responseTo("nope", "hi"))
	checkOpenAIError(t, "unknown model", err, 404, "not_found_error", "model 'nope' not found")
	params := responseTo("sim-chat", "hi")
	params.Reasoning = shared.ReasoningParam{Effort: "high"}
	_, err = c.Responses.New(t.Context(), params)
	checkOpenAIError(t, "a model that cannot think", err, 400, "invalid_request_error", `"sim-chat" does not support thinking`)
}

func TestOpenAI_AResponseThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	f := newFleet(t, slow(1))
	c := openAI(t, f)
	stream := c.Responses.NewStreaming(t.Context(), responseTo("sim-chat", "tell me more"))
	killed := false
	for stream.Next() {
		e := stream.Current()
		if e.Type == "response.output_text.delta" && !killed {
			killed = true
			if _, err := f.killBusy(); err != nil {
				t.Error(err)
			}
		}
		if strings.HasSuffix(e.Type, ".done") || e.Type == "response.completed" {
			t.Errorf("got %s", e.RawJSON())
		}
	}
	if err := stream.Err(); err == nil || !strings.Contains(err.Error(), "the answer is incomplete") {
		t.Errorf("got %v, want an error that says that the answer is incomplete", err)
	}
}
