package web

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
)

// What was asked for, for the Observer.
const (
	kindAsk      = "ask"      // a question on the page for questions
	kindSummary  = "summary"  // of a post
	kindPost     = "post"     // a question about a post
	kindContinue = "continue" // of what an author writes
)

// A question is what somebody wants of a model, and what the page around the answer shows.
type question struct {
	kind   string
	prompt assistant.Prompt
	page   aiPage
}

// An aiPage is what ai.html shows.
type aiPage struct {
	Post     *blog.Post // it is about; nil: none
	Model    string     // that would answer; empty: not known
	Question string     // that was typed
	ReadPart bool       // the post was too long to be read whole
	Draft    bool       // the answer continues what an author writes
	Answer   *generated
	Trouble  string // why there is none, or not the whole
}

// generated is what a model wrote.
type generated struct {
	HTML string // by blog.RenderGenerated
	Text string // as it came
	Note string // by whom
}

// aiRoutes are the pages where a model answers, if there is any.
func (h *Handler) aiRoutes() {
	if h.opts.Assistant == nil {
		return
	}
	h.reader("GET /ai-inference", "ai", h.aiForm)
	h.reader("POST /ai-inference", "ai", h.askAI)
	h.reader("POST /post/{id}/summary", "summary", h.summarise)
	h.reader("POST /post/{id}/ask", "ask", h.askPost)
	h.authorOnly("POST /continue", "continue", h.continueText)
}

// aiForm shows the page where questions can be asked. It asks no model anything.
func (h *Handler) aiForm(w http.ResponseWriter, v *visit) error {
	page := aiPage{}
	var err error
	if page.Model, err = h.modelName(v); err != nil {
		page.Trouble = judge(err).message
	}
	return h.showAI(w, v, http.StatusOK, page)
}

// askAI answers a question.
func (h *Handler) askAI(w http.ResponseWriter, v *visit) error {
	q := question{kind: kindAsk}
	if ok, err := h.readQuestion(w, v, &q); !ok {
		return err
	}
	q.prompt = askPrompt(q.page.Question)
	return h.answer(w, v, q)
}

// summarise answers what a post says.
func (h *Handler) summarise(w http.ResponseWriter, v *visit) error {
	p, err := h.postToRead(v)
	if err != nil {
		return err
	}
	q := question{kind: kindSummary, page: aiPage{Post: &p}}
	q.prompt, q.page.ReadPart = summaryPrompt(p)
	return h.answer(w, v, q)
}

// askPost answers a question about a post.
func (h *Handler) askPost(w http.ResponseWriter, v *visit) error {
	p, err := h.postToRead(v)
	if err != nil {
		return err
	}
	q := question{kind: kindPost, page: aiPage{Post: &p}}
	if ok, err := h.readQuestion(w, v, &q); !ok {
		return err
	}
	q.prompt, q.page.ReadPart = postPrompt(p, q.page.Question)
	return h.answer(w, v, q)
}

// continueText suggests to an author how a text could go on. Nothing is stored.
func (h *Handler) continueText(w http.ResponseWriter, v *visit) error {
	q := question{kind: kindContinue, page: aiPage{Draft: true}}
	v.Body = http.MaxBytesReader(w, v.Body, 4*blog.BodyLimit) // as a form, a text is longer
	if v.ParseForm() != nil {
		return h.refuse(w, v, q, trial{outcome: "refused", status: http.StatusRequestEntityTooLarge, message: "The text is too long."})
	}
	title, body := plainTyped(v.PostForm.Get("title")), plainTyped(v.PostForm.Get("body"))
	if title == "" && body == "" {
		return h.refuse(w, v, q, trial{outcome: "refused", status: http.StatusUnprocessableEntity, message: "Write a beginning first."})
	}
	title, _ = beginning(title, 4*blog.TitleLimit)
	q.prompt = continuePrompt(title, body)
	return h.answer(w, v, q)
}

// postToRead is the post of the path, if who asks may see it: drafts are for authors.
func (h *Handler) postToRead(v *visit) (blog.Post, error) {
	id, err := strconv.ParseInt(v.PathValue("id"), 10, 64)
	if err != nil {
		return blog.Post{}, blog.ErrNotFound
	}
	p, err := h.store.Post(v.Context(), id)
	if err == nil && (!p.Deleted.IsZero() || p.Draft && v.author == nil) {
		err = blog.ErrNotFound
	}
	return p, err
}

// readQuestion takes the question from the form. If it is none, it has answered.
func (h *Handler) readQuestion(w http.ResponseWriter, v *visit, q *question) (ok bool, err error) {
	v.Body = http.MaxBytesReader(w, v.Body, 64<<10) // more than twelve bytes a character
	no := trial{outcome: "refused", status: http.StatusUnprocessableEntity}
	if v.ParseForm() != nil {
		no.status, no.message = http.StatusRequestEntityTooLarge, "The question is too long. It may have 2,000 characters."
		return false, h.refuse(w, v, *q, no)
	}
	q.page.Question = plainTyped(v.PostForm.Get("question"))
	switch n := utf8.RuneCountInString(q.page.Question); {
	case n == 0:
		no.message = "Write a question first."
	case n > questionLimit:
		no.message = "The question is too long. It may have 2,000 characters."
	default:
		return true, nil
	}
	return false, h.refuse(w, v, *q, no)
}

// answer has the model answer, whole or as events while it comes, unless too much is asked.
func (h *Handler) answer(w http.ResponseWriter, v *visit, q question) error {
	leave, no := h.visitors.admit(h.clientAddress(v.Request), h.opts.Now())
	if no != nil {
		t := trial{outcome: "limited", status: http.StatusTooManyRequests, wait: no.wait, message: "You have asked much in a short time. Wait a moment, then ask again."}
		if no.others {
			t.status, t.message = http.StatusServiceUnavailable, "Too many visitors ask at this moment. Wait a moment, then ask again."
		}
		return h.refuse(w, v, q, t)
	}
	defer leave()
	if wantsEvents(v.Request) {
		h.stream(w, v, q)
		return nil
	}
	var text strings.Builder
	reply, err := h.opts.Assistant.Answer(v.Context(), q.prompt, func(s string) error { text.WriteString(s); return nil })
	t := h.settle(v, q.kind, false, reply, err)
	if t.outcome == "left" {
		return nil
	}
	q.page.Model, q.page.Trouble = reply.Model, t.message
	if text.Len() > 0 {
		q.page.Answer = newGenerated(v.lang, text.String(), reply, q.page.ReadPart)
	}
	t.retry(w)
	return h.showAI(w, v, t.status, q.page)
}

// refuse answers without having asked a model.
func (h *Handler) refuse(w http.ResponseWriter, v *visit, q question, t trial) error {
	h.opts.Observer.Asked(q.kind, t.outcome)
	t.retry(w)
	if wantsEvents(v.Request) {
		e := newEvents(w, nil)
		e.start(t.status)
		e.failed(v.lang.text(t.message))
		return nil
	}
	q.page.Trouble = t.message
	q.page.Model, _ = h.modelName(v)
	return h.showAI(w, v, t.status, q.page)
}

func (h *Handler) showAI(w http.ResponseWriter, v *visit, status int, page aiPage) error {
	if v.Method == http.MethodPost {
		w.Header().Set("Cache-Control", "no-store")
	}
	return h.show(w, v, status, frame{Name: "ai", Title: "Ask the model", Page: page})
}

// A trial is how an attempt to get an answer ended.
type trial struct {
	outcome string // for the Observer: answered, cached, refused, unavailable, limited, truncated, left
	status  int
	message string // for the reader, in English; empty: there is an answer
	wait    time.Duration
}

// settle judges the end of an answer, and has it counted, and logged if there was none.
func (h *Handler) settle(v *visit, kind string, left bool, reply assistant.Reply, err error) trial {
	t := judge(err)
	switch {
	case err != nil && (left || v.Context().Err() != nil):
		t = trial{outcome: "left"}
	case err != nil:
		h.opts.Log.WarnContext(v.Context(), "the model gave no whole answer", "page", v.name, "outcome", t.outcome, "error", err)
	case reply.Cached:
		t.outcome = "cached"
	}
	h.opts.Observer.Asked(kind, t.outcome)
	return t
}

// judge says what an end means for the reader. err is nil if there is a whole answer.
func judge(err error) trial {
	t := trial{
		outcome: "unavailable", status: http.StatusServiceUnavailable, wait: 5 * time.Second,
		message: "The model is not available, or too slow at this moment. Try again in a while; the rest of the blog works.",
	}
	switch {
	case err == nil:
		return trial{outcome: "answered", status: http.StatusOK}
	case errors.Is(err, assistant.ErrNoModel):
		t.wait, t.message = 30*time.Second, "There is no model that could answer now. Try again later; the rest of the blog works."
	case errors.Is(err, assistant.ErrRefused):
		return trial{outcome: "refused", status: http.StatusBadGateway, message: "The model gave no answer to this. Try other words."}
	case errors.Is(err, assistant.ErrTruncated):
		return trial{outcome: "truncated", status: http.StatusBadGateway, message: "The answer broke off before its end. Ask again for the whole."}
	}
	var e *assistant.Error
	if errors.As(err, &e) && e.RetryAfter > 0 {
		t.wait = e.RetryAfter
	}
	return t
}

// modelName is the model that would answer. A page does not wait long for a name.
func (h *Handler) modelName(v *visit) (string, error) {
	ctx, cancel := context.WithTimeout(v.Context(), 2*time.Second)
	defer cancel()
	return h.opts.Assistant.Model(ctx)
}

// retry says when asking again is of use.
func (t trial) retry(w http.ResponseWriter) {
	if t.wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(t.wait.Seconds()))))
	}
}
