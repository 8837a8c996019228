package simnode

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

type chatRecord struct {
	Model      string      `json:"model"`
	CreatedAt  time.Time   `json:"created_at"`
	Message    api.Message `json:"message"`
	Done       bool        `json:"done"`
	DoneReason string      `json:"done_reason,omitempty"`
	DebugInfo  *debugInfo  `json:"_debug_info,omitempty"`
	Logprobs   []logprob   `json:"logprobs,omitempty"`
	metrics
}

// A chatWriter writes an answer to a chat in a dialect.
type chatWriter interface {
	record(chatRecord) // one record of a stream, the last one Done
	whole(chatRecord)  // the whole answer, also on a stream when it is a load or an unload
	refuse(error)      // an error before the model was asked
	fail(err error)    // an error of the model
}

func (n *Node) chat(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req api.ChatRequest
	if !bind(w, r, &req) {
		return
	}
	n.answerChat(r.Context(), begun, &req, nativeChat{w, &records{w: w, streaming: streams(req.Stream)}})
}

type nativeChat struct {
	w   http.ResponseWriter
	out *records
}

func (c nativeChat) record(rec chatRecord) { c.out.record(rec) }
func (c nativeChat) whole(rec chatRecord)  { sendJSON(c.w, http.StatusOK, rec) }
func (c nativeChat) refuse(err error)      { sendFailure(c.w, err) }
func (c nativeChat) fail(err error)        { c.out.fail(err) }

// answerChat is a chat in any dialect, already translated.
func (n *Node) answerChat(ctx context.Context, begun time.Time, req *api.ChatRequest, w chatWriter) {
	if req.TopLogprobs < 0 || req.TopLogprobs > 20 {
		w.refuse(errTopLogprobs)
		return
	}
	if req.Model == "" {
		w.refuse(&statusError{http.StatusBadRequest, "model is required"})
		return
	}
	m, err := n.find(ctx, req.Model)
	if err != nil {
		w.refuse(err)
		return
	}
	if len(req.Messages) == 0 && unloads(req.KeepAlive) {
		n.expire(m)
		rec := newChatRecord(req)
		rec.Done, rec.DoneReason = true, "unload"
		w.whole(rec)
		return
	}
	think, err := thinking(m, req.Model, req.Think)
	if err != nil {
		w.refuse(err)
		return
	}
	wanted := []string{Completion}
	if len(req.Tools) > 0 {
		wanted = append(wanted, Tools)
	}
	l, err := n.lease(ctx, begun, m, wanted, req.Options, req.KeepAlive)
	switch {
	case n.left(err):
		return
	case errors.Is(err, errCapability):
		w.refuse(&statusError{http.StatusBadRequest, fmt.Sprintf("%q does not support chat", req.Model)})
		return
	case err != nil:
		w.refuse(err)
		return
	}
	defer l.release()
	if len(req.Messages) == 0 {
		rec := newChatRecord(req)
		rec.Done, rec.DoneReason = true, "load"
		w.whole(rec)
		return
	}
	a, err := chatAsk(m, l, req, think)
	if err != nil {
		w.refuse(err)
		return
	}
	if err := pass(ctx, n.scaled(ctx, a.toil)); err != nil {
		n.left(err)
		return
	}
	if req.DebugRenderOnly {
		rec := newChatRecord(req)
		rec.Message, rec.DebugInfo = api.Message{}, &debugInfo{a.prompt}
		w.whole(rec)
		return
	}
	if a.format, err = parseFormat(req.Format); err != nil {
		w.fail(err)
		return
	}
	n.speakChat(ctx, l, req, a, think != nil && think.On, w)
}

func newChatRecord(req *api.ChatRequest) chatRecord {
	return chatRecord{Model: req.Model, CreatedAt: now(), Message: api.Message{Role: "assistant"}}
}

// chatAsk renders the chat and decides what the model will do about it.
func chatAsk(m *installed, l *lease, req *api.ChatRequest, think *api.ThinkValue) (ask, error) {
	p := m.prompter
	if m.promptErr != nil {
		return ask{}, m.promptErr
	}
	messages := append(slices.Clip(m.Messages), req.Messages...)
	if req.Messages[0].Role != "system" && m.System != "" {
		messages = append([]api.Message{{Role: "system", Content: m.System}}, messages...)
	}
	truncate := req.Truncate == nil || *req.Truncate
	prompt, toil, err := p.fit(conversation{messages: withImages(messages), tools: req.Tools, think: think}, l.context, truncate)
	if err != nil {
		return ask{}, err
	}
	a := ask{
		prompt: prompt, toil: toil, opts: l.opts, truncate: truncate, shift: req.Shift == nil || *req.Shift,
		thinks:   m.can(Thinking) && (think.On || !p.handlesThink()),
		logprobs: req.Logprobs || req.TopLogprobs > 0, top: req.TopLogprobs,
	}
	if m.Call != "" || !hasResult(messages) {
		a.tools = req.Tools
	}
	return a, nil
}

// hasResult reports whether a tool's result came in since the model spoke last. Something else may stand behind it: in
// the Anthropic form a user says both in one message.
func hasResult(messages []api.Message) bool {
	for _, m := range slices.Backward(messages) {
		switch m.Role {
		case "tool":
			return true
		case "assistant":
			return false
		}
	}
	return false
}

// speakChat lets the model speak and passes on what it says, thoughts and calls told from text.
func (n *Node) speakChat(ctx context.Context, l *lease, req *api.ChatRequest, a ask, split bool, w chatWriter) {
	streaming := streams(req.Stream)
	var parts splitter
	if !split {
		parts.state = afterThought
	}
	calls := caller{tools: req.Tools}
	whole := newChatRecord(req)
	var thought, content strings.Builder
	add := func(rec chatRecord) {
		if streaming {
			w.record(rec)
			return
		}
		thought.WriteString(rec.Message.Thinking)
		content.WriteString(rec.Message.Content)
		whole.Message.ToolCalls = append(whole.Message.ToolCalls, rec.Message.ToolCalls...)
		whole.Logprobs = append(whole.Logprobs, rec.Logprobs...)
	}
	o, err := n.complete(ctx, l.runner, a, func(u utterance) {
		rec := newChatRecord(req)
		rec.Logprobs = u.probs
		rec.Message.Thinking, rec.Message.Content = parts.feed(u.text)
		if len(req.Tools) == 0 {
			if rec.Message.Thinking != "" || rec.Message.Content != "" || u.text == "" {
				add(rec)
			}
			return
		}
		text, found := calls.feed(rec.Message.Content)
		rec.Message.Content = text
		if text != "" || rec.Message.Thinking != "" {
			add(rec)
		}
		if len(found) > 0 {
			rec = newChatRecord(req)
			rec.Message.ToolCalls = found
			add(rec)
		}
	})
	if n.left(err) {
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	last := newChatRecord(req)
	last.Done, last.DoneReason, last.metrics = true, o.reason, l.metrics(o)
	last.Message.Content = parts.rest() + calls.rest()
	if streaming {
		w.record(last)
		return
	}
	last.Message.Thinking, last.Message.ToolCalls, last.Logprobs = thought.String(), whole.Message.ToolCalls, whole.Logprobs
	last.Message.Content = content.String() + last.Message.Content
	w.whole(last)
}
