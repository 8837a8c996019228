package simnode

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/anthropic"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// messages translates a request of the Anthropic form to a chat and the native answer back.
func (n *Node) messages(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req anthropic.MessagesRequest
	err := decodeBody(r, &req)
	var native *api.ChatRequest
	if err == nil {
		native, err = fromMessages(&req)
	}
	if err != nil { // what the translator finds itself has a charset and no newline
		sendJSON(w, http.StatusBadRequest, newAnthropicError(http.StatusBadRequest, err.Error()))
		return
	}
	if m, err := n.find(r.Context(), req.Model); err == nil && !m.can(Thinking) && native.Think != nil && native.Think.On {
		native.Think = nil // here alone it is no mistake to ask a model to think that cannot
	}
	out := &messageWriter{
		events: events{w: w}, streaming: req.Stream, newest: n.newest, model: req.Model, id: randomID("msg_"),
		estimate: estimateTokens(&req), // the real count is not known yet when it has to be told
	}
	if req.Stream {
		out.named()
	}
	n.answerChat(r.Context(), begun, native, out)
}

func randomID(prefix string) string {
	b := make([]byte, 12)
	_, _ = rand.Read(b) // it never fails
	return prefix + hex.EncodeToString(b)
}

type anthropicError struct {
	Type  string `json:"type"`
	Error struct {
		Type    string `json:"type"`
		Message string `json:"message"`
	} `json:"error"`
	RequestID string `json:"request_id"`
}

func newAnthropicError(status int, text string) anthropicError {
	e := anthropicError{Type: "error", RequestID: randomID("req_")}
	e.Error.Message = text
	switch status {
	case http.StatusBadRequest:
		e.Error.Type = "invalid_request_error"
	case http.StatusNotFound:
		e.Error.Type = "not_found_error"
	case http.StatusServiceUnavailable:
		e.Error.Type = "overloaded_error"
	default:
		e.Error.Type = "api_error"
	}
	return e
}

// sendAnthropicFailure writes an error that a native handler found. That the hosted service is off stays in native form.
func sendAnthropicFailure(w http.ResponseWriter, err error) {
	status, text := failure(err)
	if status == http.StatusForbidden {
		sendError(w, status, text)
		return
	}
	sendTranslated(w, status, newAnthropicError(status, text))
}

// A contentBlock is a piece of an answer. Only the fields of its type are there.
type contentBlock struct {
	Type     string        `json:"type"`
	Text     *string       `json:"text,omitempty"`
	ID       string        `json:"id,omitempty"`
	Name     string        `json:"name,omitempty"`
	Input    api.Arguments `json:"input,omitempty"`
	Thinking *string       `json:"thinking,omitempty"`
}

type anthropicUsage struct {
	InputTokens  int `json:"input_tokens"`
	OutputTokens int `json:"output_tokens"`
}

type anthropicMessage struct {
	ID         string         `json:"id"`
	Type       string         `json:"type"`
	Role       string         `json:"role"`
	Model      string         `json:"model"`
	Content    []contentBlock `json:"content"`
	StopReason string         `json:"stop_reason,omitempty"`
	Usage      anthropicUsage `json:"usage"`
}

// A messageWriter writes one answer of /v1/messages: as one object here, as events in messages_stream.go.
type messageWriter struct {
	events
	streaming bool
	newest    bool
	model     string
	id        string
	estimate  int

	messageStream
}

func (o *messageWriter) refuse(err error) { sendAnthropicFailure(o.w, err) }

// fail ends a stream that has begun without a word.
func (o *messageWriter) fail(err error) {
	if o.begun {
		return
	}
	sendAnthropicFailure(o.w, err)
	if o.streaming {
		flush(o.w) // an error of the model on a stream is chunked
	}
}

func (o *messageWriter) whole(rec chatRecord) {
	if o.streaming {
		o.record(rec)
		return
	}
	out := anthropicMessage{
		ID: o.id, Type: "message", Role: "assistant", Model: rec.Model,
		StopReason: stopReason(rec.DoneReason, len(rec.Message.ToolCalls) > 0),
		Usage:      anthropicUsage{rec.PromptEvalCount, rec.EvalCount},
	}
	if rec.Message.Thinking != "" {
		out.Content = append(out.Content, contentBlock{Type: "thinking", Thinking: &rec.Message.Thinking})
	}
	if rec.Message.Content != "" {
		out.Content = append(out.Content, contentBlock{Type: "text", Text: &rec.Message.Content})
	}
	for _, call := range rec.Message.ToolCalls {
		out.Content = append(out.Content, contentBlock{
			Type: "tool_use", ID: call.ID, Name: call.Function.Name, Input: call.Function.Arguments,
		})
	}
	sendTranslated(o.w, http.StatusOK, out)
}

// stopReason translates why an answer ended. A load is none of the reasons there are, and told as one.
func stopReason(done string, called bool) string {
	switch {
	case called:
		return "tool_use"
	case done == "stop":
		return "end_turn"
	case done == "length":
		return "max_tokens"
	case done != "":
		return "stop_sequence"
	}
	return ""
}

// estimateTokens guesses four characters to a token.
func estimateTokens(req *anthropic.MessagesRequest) int {
	total := 0
	switch system := req.System.(type) {
	case nil:
	case string:
		total += len(system)
	default:
		var blocks []anthropic.ContentBlock
		if b, err := json.Marshal(system); err == nil && json.Unmarshal(b, &blocks) == nil {
			total += blockLengths(blocks)
		}
	}
	for _, m := range req.Messages {
		total += len(m.Role) + blockLengths(m.Content)
	}
	for _, t := range req.Tools {
		total += len(t.Name) + len(t.Description) + len(t.InputSchema)
	}
	return max(1, total/4)
}

func blockLengths(blocks []anthropic.ContentBlock) (total int) {
	for _, b := range blocks {
		total += len(valueOr(b.Text, "")) + len(valueOr(b.Thinking, ""))
		if b.Type == "tool_use" || b.Type == "tool_result" {
			if raw, err := json.Marshal(b); err == nil {
				total += len(raw)
			}
		}
	}
	return total
}
