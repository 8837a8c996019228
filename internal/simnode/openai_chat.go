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

// openaiMessage is what a model says, whole or a piece of it.
type openaiMessage struct {
	Role      string            `json:"role,omitempty"`
	Content   *string           `json:"content,omitempty"` // "" is written, nil is not
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
		native, err = n.fromOpenAI(&req)
	}
	if err != nil {
		sendOpenAIMistake(w, err)
		return
	}
	n.answerChat(r.Context(), begun, native, &openaiWriter{
		events: events{w: w}, streaming: req.Stream, newest: n.newest,
		usage: req.StreamOptions != nil && req.StreamOptions.IncludeUsage,
		id:    fmt.Sprintf("chatcmpl-%d", rand.IntN(999)), // not unique on a real node either
	})
}

// An openaiWriter writes one answer in the dialect.
type openaiWriter struct {
	events
	streaming bool
	newest    bool
	usage     bool
	id        string
	created   int64 // of all chunks in the newest form, 0 before the first
	called    bool  // a tool has been called
}

func (o *openaiWriter) refuse(err error) { sendOpenAIFailure(o.w, err) }

// fail ends a stream that has begun with a chunk of nothing, without a name, a word about it or the end mark.
func (o *openaiWriter) fail(err error) {
	if o.begun {
		o.record(chatRecord{CreatedAt: now()})
		return
	}
	sendOpenAIFailure(o.w, err)
	if o.streaming {
		flush(o.w) // an error of the model on a stream is chunked
	}
}

func (o *openaiWriter) completion(object string, rec chatRecord) openaiCompletion {
	created := rec.CreatedAt.Unix()
	if o.newest {
		o.created = cmp.Or(o.created, created)
		created = o.created
	}
	return openaiCompletion{
		ID: o.id, Object: object, Created: created, Model: rec.Model, SystemFingerprint: "fp_ollama",
		Choices: []openaiChoice{},
	}
}

// message translates what a record says.
func (o *openaiWriter) message(rec chatRecord) *openaiMessage {
	return &openaiMessage{
		Role: "assistant", Content: &rec.Message.Content, Reasoning: rec.Message.Thinking, ToolCalls: o.calls(rec),
	}
}

func (o *openaiWriter) calls(rec chatRecord) []openai.ToolCall {
	calls := openaiCalls(rec.Message.ToolCalls)
	o.called = o.called || len(calls) > 0
	return calls
}

func openaiCalls(calls []api.ToolCall) []openai.ToolCall {
	var out []openai.ToolCall
	for _, call := range calls {
		c := openai.ToolCall{ID: call.ID, Index: call.Function.Index, Type: "function"}
		c.Function.Name, c.Function.Arguments = call.Function.Name, call.Function.Arguments.String()
		out = append(out, c)
	}
	return out
}

// finishReason is why the answer ended, or nil when it has not. In the newest form a call does not hide that the
// answer was cut.
func (o *openaiWriter) finishReason(rec chatRecord) *string {
	if !rec.Done {
		return nil
	}
	reason := rec.DoneReason
	if o.called && (reason == "stop" || !o.newest) {
		reason = "tool_calls"
	}
	return &reason
}

func probsOf(rec chatRecord) *openaiLogprobs {
	if len(rec.Logprobs) == 0 {
		return nil
	}
	return &openaiLogprobs{rec.Logprobs}
}

func (o *openaiWriter) whole(rec chatRecord) {
	if o.streaming { // a chat of no messages, whose answer is not pushed and so has a length
		o.chunks(rec)
		return
	}
	out := o.completion("chat.completion", rec)
	message := o.message(rec)
	out.Choices = append(out.Choices, openaiChoice{Message: message, FinishReason: o.finishReason(rec), Logprobs: probsOf(rec)})
	out.Usage = usageOf(rec.metrics)
	sendTranslated(o.w, http.StatusOK, out)
}

func (o *openaiWriter) record(rec chatRecord) {
	o.chunks(rec)
	flush(o.w)
}

// chunks writes the events of a record. The last one takes the counts, if they were asked for, and the end mark along.
func (o *openaiWriter) chunks(rec chatRecord) {
	out := o.completion("chat.completion.chunk", rec)
	chunk := func(choices ...openaiChoice) {
		out.Choices = choices
		o.send("", out)
	}
	nothing := rec.Message.Content == "" && rec.Message.Thinking == "" && len(rec.Message.ToolCalls) == 0 && len(rec.Logprobs) == 0
	if !o.newest || !rec.Done || !o.begun || !nothing {
		for _, c := range o.deltas(rec) {
			chunk(c)
		}
	}
	if rec.Done && o.newest {
		chunk(openaiChoice{Delta: &openaiMessage{}, FinishReason: o.finishReason(rec)})
	}
	if !rec.Done {
		return
	}
	if o.usage {
		out.Usage = usageOf(rec.metrics)
		chunk([]openaiChoice{}...)
	}
	o.done()
}

// deltas are the pieces of a record: a thought and what follows it are two.
func (o *openaiWriter) deltas(rec chatRecord) []openaiChoice {
	delta := o.message(rec)
	if o.newest && o.begun {
		delta.Role = ""
	}
	all := openaiChoice{Delta: delta, Logprobs: probsOf(rec)}
	if !o.newest {
		all.FinishReason = o.finishReason(rec)
	}
	if delta.Reasoning == "" || *delta.Content == "" && len(delta.ToolCalls) == 0 {
		return []openaiChoice{all}
	}
	thought := openaiChoice{Delta: &openaiMessage{Role: delta.Role, Reasoning: delta.Reasoning}, Logprobs: all.Logprobs}
	said := openaiChoice{
		Delta: &openaiMessage{Content: delta.Content, ToolCalls: delta.ToolCalls}, FinishReason: all.FinishReason,
	}
	if !o.newest {
		thought.Delta.Content, said.Delta.Role = new(string), delta.Role
	}
	return []openaiChoice{thought, said}
}
