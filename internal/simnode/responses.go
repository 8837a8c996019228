package simnode

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

// responses translates a request to a chat and the native answer back. Nothing is kept: each request stands alone.
func (n *Node) responses(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req openai.ResponsesRequest
	err := decodeBody(r, &req)
	var native *api.ChatRequest
	if err == nil {
		native, err = n.fromResponses(&req)
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	out := &responseWriter{
		events: events{w: w}, req: &req, newest: n.newest, streaming: *native.Stream,
		id:     fmt.Sprintf("resp_%d", rand.IntN(999999)), // not unique on a real node either
		itemID: fmt.Sprintf("msg_%d", rand.IntN(999999)),
	}
	if out.streaming {
		out.named()
	}
	n.answerChat(r.Context(), begun, native, out)
}

// A responseWriter writes one answer of /v1/responses: as one object here, as events in responses_stream.go.
type responseWriter struct {
	events
	req       *openai.ResponsesRequest
	newest    bool
	streaming bool
	id        string
	itemID    string // of the message

	responseStream
}

func (o *responseWriter) refuse(err error) { sendOpenAIFailure(o.w, err) }

// fail ends a stream that has begun without a word.
func (o *responseWriter) fail(err error) {
	if o.begun {
		return
	}
	sendOpenAIFailure(o.w, err)
	if o.streaming {
		flush(o.w) // an error of the model on a stream is chunked
	}
}

func (o *responseWriter) whole(rec chatRecord) {
	if o.streaming {
		o.record(rec)
		return
	}
	var output []object
	if rec.Message.Thinking != "" {
		output = append(output, reasoningItem("rs_"+o.id, rec.Message.Thinking))
	}
	for i, call := range openaiCalls(rec.Message.ToolCalls) {
		output = append(output, callItem(fmt.Sprintf("fc_%s_%d", o.id, i), call, true))
	}
	if len(rec.Message.ToolCalls) == 0 {
		output = append(output, messageItem(o.itemID, rec.Message.Content))
	}
	sendTranslated(o.w, http.StatusOK, o.response(rec.CreatedAt, "completed", output, &rec.metrics))
}

// response is the answer around its items; m is nil while it is not complete. It echoes the request, and tells of much
// that a node does not do that it does not.
func (o *responseWriter) response(created time.Time, status string, output []object, m *metrics) object {
	req := o.req
	out := object{
		{"id", o.id},
		{"object", "response"},
		{"created_at", created.Unix()},
		{"completed_at", nil},
		{"status", status},
		{"incomplete_details", nil}, // also of an answer that was cut
		{"model", req.Model},
		{"previous_response_id", nil},
		{"instructions", orNull(req.Instructions)},
		{"output", output},
		{"error", nil},
		{"tools", o.tools(req.Tools)},
		{"tool_choice", "auto"},
		{"truncation", valueOr(req.Truncation, "disabled")},
		{"parallel_tool_calls", true},
		{"text", object{{"format", o.format()}}},
		{"top_p", valueOr(req.TopP, 1)},
		{"presence_penalty", 0},
		{"frequency_penalty", 0},
		{"top_logprobs", 0},
		{"temperature", valueOr(req.Temperature, 1)},
		{"reasoning", o.reasoning()},
		{"usage", nil},
		{"max_output_tokens", req.MaxOutputTokens},
		{"max_tool_calls", nil},
		{"store", false},
		{"background", req.Background},
		{"service_tier", "default"},
		{"metadata", object{}},
		{"safety_identifier", nil},
		{"prompt_cache_key", nil},
	}
	if m == nil {
		return out
	}
	for i, f := range out {
		switch f.key {
		case "completed_at":
			out[i].value = now().Unix()
		case "usage":
			out[i].value = object{
				{"input_tokens", m.PromptEvalCount},
				{"output_tokens", m.EvalCount},
				{"total_tokens", m.PromptEvalCount + m.EvalCount},
				{"input_tokens_details", object{{"cached_tokens", 0}}},
				{"output_tokens_details", object{{"reasoning_tokens", 0}}},
			}
		}
	}
	return out
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func valueOr[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}

func (o *responseWriter) tools(tools []openai.ResponsesTool) []object {
	out := make([]object, len(tools))
	for i, t := range tools {
		out[i] = object{
			{"type", t.Type}, {"name", t.Name}, {"description", t.Description}, {"strict", t.Strict}, {"parameters", t.Parameters},
		}
		if o.newest && !o.streaming && len(t.Tools) > 0 {
			out[i] = append(out[i], field{"tools", o.tools(t.Tools)})
		}
	}
	return out
}

func (o *responseWriter) format() object {
	if o.req.Text == nil || o.req.Text.Format == nil {
		return object{{"type", "text"}}
	}
	f := o.req.Text.Format
	out := object{{"type", f.Type}}
	if f.Name != "" {
		out = append(out, field{"name", f.Name})
	}
	if len(f.Schema) > 0 {
		out = append(out, field{"schema", f.Schema})
	}
	if f.Strict != nil {
		out = append(out, field{"strict", *f.Strict})
	}
	return out
}

// reasoning echoes the effort. What was not said is null in a stream, and left out in one object.
func (o *responseWriter) reasoning() any {
	asked := o.req.Reasoning
	if cmp.Or(asked.Effort, asked.Summary) == "" {
		return nil
	}
	var out object
	for _, f := range []field{{"effort", orNull(asked.Effort)}, {"summary", orNull(asked.Summary)}} {
		if o.streaming || f.value != nil {
			out = append(out, f)
		}
	}
	return out
}

func reasoningItem(id, thought string) object {
	return object{
		{"id", id},
		{"type", "reasoning"},
		{"summary", []object{{{"type", "summary_text"}, {"text", thought}}}},
		{"encrypted_content", thought}, // in plain text
	}
}

func messageItem(id, text string) object {
	return object{
		{"id", id}, {"type", "message"}, {"status", "completed"}, {"role", "assistant"}, {"content", []object{textPart(text)}},
	}
}

func textPart(text string) object {
	return object{{"type", "output_text"}, {"text", text}, {"annotations", []object{}}, {"logprobs", []object{}}}
}

// callItem is a wish to have a function called. Its arguments come in events of their own before it is complete.
func callItem(id string, call openai.ToolCall, complete bool) object {
	status, arguments := "in_progress", ""
	if complete {
		status, arguments = "completed", call.Function.Arguments
	}
	return object{
		{"id", id},
		{"type", "function_call"},
		{"status", status},
		{"call_id", call.ID},
		{"name", call.Function.Name},
		{"arguments", arguments},
	}
}
