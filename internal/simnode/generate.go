package simnode

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// metrics end an answer of the native routes. Durations are nanoseconds; 0 is left out, as a real node does.
type metrics struct {
	TotalDuration      time.Duration `json:"total_duration,omitempty"`
	LoadDuration       time.Duration `json:"load_duration,omitempty"`
	PromptEvalCount    int           `json:"prompt_eval_count,omitempty"`
	PromptEvalDuration time.Duration `json:"prompt_eval_duration,omitempty"`
	EvalCount          int           `json:"eval_count,omitempty"`
	EvalDuration       time.Duration `json:"eval_duration,omitempty"`
}

func (l *lease) metrics(o outcome) metrics {
	return metrics{
		TotalDuration: max(1, time.Since(l.begun)), LoadDuration: l.load,
		PromptEvalCount: o.promptTokens, PromptEvalDuration: o.promptTime,
		EvalCount: o.evalTokens, EvalDuration: o.evalTime,
	}
}

type debugInfo struct {
	RenderedTemplate string `json:"rendered_template"`
}

type generateRecord struct {
	Model      string    `json:"model"`
	CreatedAt  time.Time `json:"created_at"`
	Response   string    `json:"response"`
	Thinking   string    `json:"thinking,omitempty"`
	Done       bool      `json:"done"`
	DoneReason string    `json:"done_reason,omitempty"`
	Context    []int     `json:"context,omitempty"`
	metrics
	DebugInfo *debugInfo `json:"_debug_info,omitempty"`
	Logprobs  []logprob  `json:"logprobs,omitempty"`
}

var errTopLogprobs = &statusError{http.StatusBadRequest, "top_logprobs must be between 0 and 20"}

// unloads reports whether a request without a prompt asks to unload the model.
func unloads(keepAlive *api.Duration) bool { return keepAlive != nil && keepAlive.Duration == 0 }

// thinking decides whether the model thinks: a model that can does unless it is told not to.
func thinking(m *installed, asked string, think *api.ThinkValue) (*api.ThinkValue, error) {
	if m.can(Thinking) {
		if think == nil {
			return &api.ThinkValue{On: true}, nil
		}
		return think, nil
	}
	if think != nil && think.On {
		return nil, &statusError{http.StatusBadRequest, fmt.Sprintf("%q does not support thinking", asked)}
	}
	return think, nil
}

// A generateWriter writes an answer to a prompt in a dialect.
type generateWriter interface {
	record(generateRecord) // one record of a stream, the last one Done
	whole(generateRecord)  // the whole answer, also on a stream when it is a load or an unload
	refuse(error)          // an error before the model was asked
	fail(err error)        // an error of the model
}

func (n *Node) generate(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	var req api.GenerateRequest
	if !bind(w, r, &req) {
		return
	}
	n.answerGenerate(r.Context(), begun, &req, nativeGenerate{w, &records{w: w, streaming: streams(req.Stream)}})
}

type nativeGenerate struct {
	w   http.ResponseWriter
	out *records
}

func (g nativeGenerate) record(rec generateRecord) { g.out.record(rec) }
func (g nativeGenerate) whole(rec generateRecord)  { sendJSON(g.w, http.StatusOK, rec) }
func (g nativeGenerate) refuse(err error)          { sendFailure(g.w, err) }
func (g nativeGenerate) fail(err error)            { g.out.fail(err) }

// streams tells whether a native request wants a stream: one that does not say does.
func streams(stream *bool) bool { return stream == nil || *stream }

// answerGenerate is a prompt in any dialect, already translated.
func (n *Node) answerGenerate(ctx context.Context, begun time.Time, req *api.GenerateRequest, w generateWriter) {
	if req.TopLogprobs < 0 || req.TopLogprobs > 20 {
		w.refuse(errTopLogprobs)
		return
	}
	if req.Model == "" {
		w.refuse(&statusError{http.StatusNotFound, "model '' not found"})
		return
	}
	m, err := n.find(ctx, req.Model)
	if err != nil {
		w.refuse(err)
		return
	}
	if req.Prompt == "" && unloads(req.KeepAlive) {
		n.expire(m)
		w.whole(generateRecord{Model: req.Model, CreatedAt: now(), Done: true, DoneReason: "unload"})
		return
	}
	if n.newest && m.can(Image) {
		w.refuse(&statusError{http.StatusBadRequest, "image generation models are not currently supported"})
		return
	}
	if req.Raw && (req.Template != "" || req.System != "" || len(req.Context) > 0) {
		w.refuse(&statusError{http.StatusBadRequest, "raw mode does not support template, system, or context"})
		return
	}
	think, err := thinking(m, req.Model, req.Think)
	if err != nil {
		w.refuse(err)
		return
	}
	wanted := []string{Completion}
	if req.Suffix != "" {
		wanted = append(wanted, Insert)
	}
	l, err := n.lease(ctx, begun, m, wanted, req.Options, req.KeepAlive)
	switch {
	case n.left(err):
		return
	case errors.Is(err, errCapability):
		w.refuse(&statusError{http.StatusBadRequest, fmt.Sprintf("%q does not support generate", req.Model)})
		return
	case err != nil:
		w.refuse(err)
		return
	}
	defer l.release()
	if req.Prompt == "" {
		w.whole(generateRecord{Model: req.Model, CreatedAt: now(), Done: true, DoneReason: "load"})
		return
	}
	prompt, obeys, err := generatePrompt(m, req, think)
	if errors.Is(err, errVocabulary) {
		n.Kill()
		return
	}
	if err != nil {
		w.refuse(err)
		return
	}
	if req.DebugRenderOnly {
		w.whole(generateRecord{Model: req.Model, CreatedAt: now(), DebugInfo: &debugInfo{prompt}})
		return
	}
	n.speakGenerate(ctx, l, req, prompt, m.can(Thinking) && !req.Raw && (think.On || !obeys), think != nil && think.On, w)
}

// errVocabulary is a context with a token that is not in the vocabulary. A node dies of it, with every answer it was
// giving: the server itself looks the tokens up, in native code that does not check.
var errVocabulary = errors.New("a token of the context is not in the vocabulary")

// generatePrompt renders the prompt; obeys tells whether the template itself handles the wish not to think.
func generatePrompt(m *installed, req *api.GenerateRequest, think *api.ThinkValue) (prompt string, obeys bool, err error) {
	if req.Raw {
		return req.Prompt, false, nil
	}
	p, err := m.prompter, m.promptErr
	if req.Template != "" {
		p, err = parsePrompt(req.Template)
	}
	if err != nil {
		return "", false, err
	}
	c := conversation{suffix: req.Suffix, think: think}
	if system := req.System; system != "" || m.System != "" {
		if system == "" {
			system = m.System
		}
		c.messages = append(c.messages, api.Message{Role: "system", Content: system})
	}
	if len(req.Context) == 0 {
		c.messages = append(c.messages, m.Messages...)
	}
	c.messages = withImages(append(c.messages, api.Message{Role: "user", Content: req.Prompt, Images: req.Images}))
	before, ok := vocab().decode(req.Context)
	if !ok {
		return "", false, errVocabulary
	}
	text, err := p.render(c)
	return before + text, p.handlesThink(), err
}

// speakGenerate lets the model speak and passes on what it says, thoughts told from text.
func (n *Node) speakGenerate(ctx context.Context, l *lease, req *api.GenerateRequest, prompt string, thinks, split bool, w generateWriter) {
	streaming := streams(req.Stream)
	form, err := parseFormat(req.Format)
	if err != nil {
		w.fail(err)
		return
	}
	a := ask{
		prompt: prompt, opts: l.opts, format: form, thinks: thinks && form == nil,
		truncate: req.Truncate == nil || *req.Truncate, shift: req.Shift == nil || *req.Shift,
		logprobs: req.Logprobs || req.TopLogprobs > 0, top: req.TopLogprobs,
	}
	var probs []logprob
	var said, thought, response strings.Builder // said is what the model really said, tags included: what a next prompt may continue
	var parts splitter
	if !split {
		parts.state = afterThought
	}
	o, err := n.complete(ctx, l.runner, a, func(u utterance) {
		said.WriteString(u.text)
		rec := generateRecord{Model: req.Model, CreatedAt: now(), Logprobs: u.probs}
		rec.Thinking, rec.Response = parts.feed(u.text)
		if streaming {
			w.record(rec)
			return
		}
		thought.WriteString(rec.Thinking)
		response.WriteString(rec.Response)
		probs = append(probs, rec.Logprobs...)
	})
	if n.left(err) {
		return
	}
	if err != nil {
		w.fail(err)
		return
	}
	last := generateRecord{Model: req.Model, CreatedAt: now(), Done: true, DoneReason: o.reason, metrics: l.metrics(o)}
	last.Response = parts.rest()
	if !req.Raw {
		last.Context = vocab().encode(prompt + said.String())
	}
	if streaming {
		w.record(last)
		return
	}
	last.Response, last.Thinking, last.Logprobs = response.String()+last.Response, thought.String(), probs
	w.whole(last)
}

// records writes the records of a native answer: one JSON object when it is not streamed, else a line for each, pushed
// to the client at once. Nothing is sent before the first.
type records struct {
	w         http.ResponseWriter
	streaming bool
	begun     bool
}

func (o *records) record(v any) {
	if !o.streaming {
		sendJSON(o.w, http.StatusOK, v)
		return
	}
	o.begin()
	o.line(v)
}

func (o *records) begin() {
	if !o.begun {
		o.begun = true
		o.w.Header().Set("Content-Type", typeNDJSON)
		o.w.WriteHeader(http.StatusOK)
	}
}

func (o *records) line(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = errorBody(err.Error())
	}
	_, _ = o.w.Write(append(b, '\n')) // an error here means that the client is gone
	flush(o.w)
}

// fail ends the answer with an error: as a line when the stream has begun, else as the whole answer. One that was to
// be a stream is chunked and has no charset.
func (o *records) fail(err error) {
	status, text := failure(err)
	switch {
	case o.begun:
		o.line(json.RawMessage(errorBody(text)))
	case o.streaming:
		send(o.w, status, typeBareJSON, errorBody(text))
		flush(o.w)
	default:
		sendError(o.w, status, text)
	}
}
