package simnode

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

type openaiError struct {
	Error struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   any     `json:"param"`
		Code    *string `json:"code"`
	} `json:"error"`
}

func newOpenAIError(status int, text string) openaiError {
	var e openaiError
	e.Error.Message = text
	switch status {
	case http.StatusBadRequest:
		e.Error.Type = "invalid_request_error"
	case http.StatusNotFound:
		e.Error.Type = "not_found_error"
	default:
		e.Error.Type = "api_error"
	}
	return e
}

// sendOpenAI writes a whole answer of the dialect: no charset, and a newline at the end.
func sendOpenAI(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, errorBody(err.Error())
	}
	send(w, status, typeBareJSON, append(b, '\n'))
}

// sendOpenAIFailure writes an error that a native handler found. That the hosted service is off stays in native form.
func sendOpenAIFailure(w http.ResponseWriter, err error) {
	status, text := failure(err)
	if status == http.StatusForbidden {
		sendError(w, status, text)
		return
	}
	sendOpenAI(w, status, newOpenAIError(status, text))
}

type openaiUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

type openaiMessage struct {
	Role      string            `json:"role"`
	Content   string            `json:"content"`
	Reasoning string            `json:"reasoning,omitempty"`
	ToolCalls []openai.ToolCall `json:"tool_calls,omitempty"`
}

type openaiLogprobs struct {
	Content []logprob `json:"content"`
}

type openaiChoice struct {
	Index        int             `json:"index"`
	Message      *openaiMessage  `json:"message,omitempty"`
	Delta        *openaiMessage  `json:"delta,omitempty"`
	FinishReason *string         `json:"finish_reason"`
	Logprobs     *openaiLogprobs `json:"logprobs,omitempty"`
}

type openaiCompletion struct {
	ID                string         `json:"id"`
	Object            string         `json:"object"`
	Created           int64          `json:"created"`
	Model             string         `json:"model"`
	SystemFingerprint string         `json:"system_fingerprint"`
	Choices           []openaiChoice `json:"choices"`
	Usage             *openaiUsage   `json:"usage,omitempty"`
}

// openaiChat translates a request to the native one and the native answer back.
func (n *Node) openaiChat(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req openai.ChatCompletionRequest
	err := decodeBody(r, &req)
	var native *api.ChatRequest
	if err == nil {
		native, err = fromOpenAI(&req)
	}
	if err != nil { // what the translator finds itself has a charset and no newline
		sendJSON(w, http.StatusBadRequest, newOpenAIError(http.StatusBadRequest, err.Error()))
		return
	}
	n.answerChat(r.Context(), begun, native, &openaiWriter{
		w: w, streaming: req.Stream,
		usage: req.StreamOptions != nil && req.StreamOptions.IncludeUsage,
		id:    fmt.Sprintf("chatcmpl-%d", rand.IntN(999)), // not unique on a real node either
	})
}

// An openaiWriter writes one answer in the dialect.
type openaiWriter struct {
	w         http.ResponseWriter
	streaming bool
	usage     bool
	id        string
	begun     bool
	called    bool // a tool has been called
}

func (o *openaiWriter) refuse(err error) { sendOpenAIFailure(o.w, err) }

func (o *openaiWriter) fail(err error) {
	sendOpenAIFailure(o.w, err)
	if o.streaming {
		flush(o.w) // an error of the model on a stream is chunked
	}
}

func (o *openaiWriter) completion(object string, rec chatRecord) openaiCompletion {
	return openaiCompletion{
		ID: o.id, Object: object, Created: rec.CreatedAt.Unix(), Model: rec.Model, SystemFingerprint: "fp_ollama",
		Choices: []openaiChoice{},
	}
}

// choice translates what a record says.
func (o *openaiWriter) choice(rec chatRecord) (openaiChoice, *openaiMessage) {
	m := &openaiMessage{Role: rec.Message.Role, Content: rec.Message.Content, Reasoning: rec.Message.Thinking}
	for _, call := range rec.Message.ToolCalls {
		o.called = true
		c := openai.ToolCall{ID: call.ID, Index: call.Function.Index, Type: "function"}
		c.Function.Name, c.Function.Arguments = call.Function.Name, call.Function.Arguments.String()
		m.ToolCalls = append(m.ToolCalls, c)
	}
	var c openaiChoice
	if rec.Done {
		reason := rec.DoneReason
		if o.called {
			reason = "tool_calls"
		}
		c.FinishReason = &reason
	}
	if len(rec.Logprobs) > 0 {
		c.Logprobs = &openaiLogprobs{rec.Logprobs}
	}
	return c, m
}

func usageOf(rec chatRecord) *openaiUsage {
	return &openaiUsage{rec.PromptEvalCount, rec.EvalCount, rec.PromptEvalCount + rec.EvalCount}
}

func (o *openaiWriter) whole(rec chatRecord) {
	out := o.completion("chat.completion", rec)
	choice, message := o.choice(rec)
	choice.Message = message
	out.Choices = append(out.Choices, choice)
	out.Usage = usageOf(rec)
	sendOpenAI(o.w, http.StatusOK, out)
}

// record writes one event. The last one takes the counts, if they were asked for, and the end mark along.
func (o *openaiWriter) record(rec chatRecord) {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", typeSSE)
		o.w.WriteHeader(http.StatusOK)
	}
	out := o.completion("chat.completion.chunk", rec)
	choice, delta := o.choice(rec)
	choice.Delta = delta
	out.Choices = append(out.Choices, choice)
	o.event(out)
	if rec.Done {
		if o.usage {
			last := o.completion("chat.completion.chunk", rec)
			last.Usage = usageOf(rec)
			o.event(last)
		}
		_, _ = o.w.Write([]byte("data: [DONE]\n\n"))
	}
	flush(o.w)
}

func (o *openaiWriter) event(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = errorBody(err.Error())
	}
	_, _ = fmt.Fprintf(o.w, "data: %s\n\n", b) // an error here means that the client is gone
}

type openaiModel struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func (n *Node) openaiModels(w http.ResponseWriter, _ *http.Request) {
	var out struct {
		Object string        `json:"object"`
		Data   []openaiModel `json:"data"` // null when nothing is installed
	}
	out.Object = "list"
	for _, m := range n.newestFirst() {
		out.Data = append(out.Data, openaiModel{m.name.short(), "model", m.ModifiedAt.Unix(), m.name.namespace})
	}
	sendOpenAI(w, http.StatusOK, out)
}

func (n *Node) openaiModel(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Path[len("/v1/models/"):]
	m, err := n.find(asked)
	if err != nil {
		sendOpenAIFailure(w, err)
		return
	}
	sendOpenAI(w, http.StatusOK, openaiModel{asked, "model", m.ModifiedAt.Unix(), m.name.namespace})
}
