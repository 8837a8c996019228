package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestAI_GetGeneratesNothing(t *testing.T) {
	model := &scripted{name: "tiny"}
	r := newAIRig(t, model)
	w := r.do(httptest.NewRequest(http.MethodGet, "/ai-inference?question=x", nil))
	contains(t, w.Body.String(), `<form method="post" action="/ai-inference"`, `name="question"`, "The model tiny answers.")
	for _, p := range []string{"/", r.post.Path(), below(r.post, "/summary"), below(r.post, "/ask"), "/continue"} {
		r.do(httptest.NewRequest(http.MethodGet, p, nil))
	}
	if n := len(model.prompts()); w.Code != http.StatusOK || n != 0 {
		t.Errorf("status %d, the model was asked %d times", w.Code, n)
	}
}

func TestAI_NoModelNoPages(t *testing.T) {
	r := newAIRig(t, nil)
	for _, q := range []*http.Request{
		httptest.NewRequest(http.MethodGet, "/ai-inference", nil), postForm("/ai-inference", foxes, nil),
		postForm(below(r.post, "/summary"), nil, nil), postForm("/continue", nil, r.asAuthor),
	} {
		if w := r.do(q); w.Code != http.StatusNotFound && w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s: status %d", q.Method, q.URL, w.Code)
		}
	}
	if got := r.fragment("ai-post"); strings.TrimSpace(got) != "" {
		t.Errorf("the post's page offers %s", got)
	}
}

// fragment is a template that pages of others include.
func (r *aiRig) fragment(name string) string {
	r.Helper()
	var b strings.Builder
	if err := pages["post"].ExecuteTemplate(&b, name, frame{Blog: r.handler.opts, Lang: english}); err != nil {
		r.Fatal(err)
	}
	return b.String()
}

func TestAI_FragmentsLeadToPagesThatAreThere(t *testing.T) {
	r := newAIRig(t, &scripted{says: []string{"x"}})
	post := r.fragment("ai-post")
	base, _ := url.Parse(r.post.Path())
	actions := regexp.MustCompile(`(?:form)?action="([^"]+)"`).FindAllStringSubmatch(post+r.fragment("ai-continue"), -1)
	if len(actions) != 3 {
		t.Fatalf("forms %v", actions)
	}
	for _, a := range actions {
		to, err := base.Parse(a[1])
		if err != nil {
			t.Fatal(err)
		}
		w := r.do(postForm(to.Path, url.Values{"question": {"x"}, "body": {"x"}}, r.asAuthor))
		if w.Code != http.StatusOK {
			t.Errorf("%s: status %d", to, w.Code)
		}
	}
}

func TestAI_AnswersWithoutScript(t *testing.T) {
	model := &scripted{says: []string{"They are ", "**red**."}, reply: assistant.Reply{Model: "tiny"}}
	r := newAIRig(t, model)
	w := r.do(postForm("/ai-inference", foxes, nil))
	contains(t, w.Body.String(), "They are <strong>red</strong>.", "Written by a model (tiny). It may be wrong.", `class="generated"`,
		`aria-live="polite"`, ">What colour are foxes?</textarea>")
	if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-store" || r.observer.last() != "ask answered" {
		t.Errorf("status %d, head %v, observed %v", w.Code, w.Header(), r.observer.all)
	}
	if strings.Contains(w.Body.String(), "Answered from the cache") {
		t.Error("the page speaks of the cache")
	}

	model.reply = assistant.Reply{Model: "tiny", Cached: true, Cut: true}
	w = r.do(postForm("/ai-inference", foxes, func(q *http.Request) { q.Header.Set("Accept-Language", "zh-CN") }))
	contains(t, w.Body.String(), "由模型（tiny）生成，可能有误。", "此回答来自缓存。", "已达到长度上限。")
	if got := r.observer.last(); got != "ask cached" {
		t.Errorf("observed %q", got)
	}
}

func TestAI_AboutPosts(t *testing.T) {
	model := &scripted{says: []string{"Red."}, reply: assistant.Reply{Model: "tiny"}}
	r := newAIRig(t, model)
	for p, want := range map[string]string{"/summary": "summary answered", "/ask": "post answered"} {
		w := r.do(postForm(below(r.post, p), foxes, nil))
		contains(t, w.Body.String(), "<p>Red.</p>", `<a href="`+r.post.Path()+`">On foxes</a>`, `action="`+below(r.post, "/ask")+`"`)
		if w.Code != http.StatusOK || r.observer.last() != want {
			t.Errorf("%s: status %d, observed %q", p, w.Code, r.observer.last())
		}
	}
	for _, p := range model.prompts() {
		contains(t, p.User, "On foxes\n\nFoxes are red.")
		if strings.Contains(p.User, "not for readers") {
			t.Errorf("the model is told what readers do not see: %s", p.User)
		}
	}
}

func TestAI_WhatReadersMayNotSeeIsNotTold(t *testing.T) {
	model := &scripted{says: []string{"Grey."}}
	r := newAIRig(t, model)
	gone := r.create(blog.Post{Title: "Gone", Body: "Gone.", Author: r.post.Author})
	if err := r.store.DeletePost(t.Context(), gone.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{below(r.draft, "/summary"), below(r.draft, "/ask"), below(gone, "/summary"), "/post/999/ask", "/post/x/summary"} {
		if w := r.do(postForm(p, foxes, nil)); w.Code != http.StatusNotFound {
			t.Errorf("%s: status %d", p, w.Code)
		}
	}
	if n := len(model.prompts()); n != 0 {
		t.Errorf("the model was asked %d times", n)
	}
	if w := r.do(postForm(below(r.draft, "/summary"), nil, r.asAuthor)); w.Code != http.StatusOK {
		t.Errorf("a draft, for an author: status %d", w.Code)
	}
}

func TestAI_ContinueIsForAuthorsAndStoresNothing(t *testing.T) {
	model := &scripted{says: []string{"And *then*."}, reply: assistant.Reply{Model: "tiny"}}
	r := newAIRig(t, model)
	fields := url.Values{"title": {"T"}, "body": {"Once upon a time"}}
	if w := r.do(postForm("/continue", fields, nil)); w.Code != http.StatusSeeOther && w.Code != http.StatusForbidden || len(model.prompts()) != 0 {
		t.Errorf("a reader: status %d, asked %v", w.Code, model.prompts())
	}
	// The editor's script shows what the stream says, so an author whose session ended learns that.
	w := r.do(postForm("/continue", fields, asScript))
	contains(t, w.Body.String(), "event: failed", "Sign in in another tab")
	if w.Code != http.StatusForbidden || w.Header().Get("Content-Type") != "text/event-stream" {
		t.Errorf("a script without a session: status %d, %v", w.Code, w.Header())
	}
	w = r.do(postForm("/continue", fields, r.asAuthor))
	contains(t, w.Body.String(), "<p>And <em>then</em>.</p>", "And *then*.</textarea>")
	if w.Code != http.StatusOK || r.observer.last() != "continue answered" {
		t.Errorf("status %d, observed %q", w.Code, r.observer.last())
	}
	contains(t, model.prompts()[0].User, "T\n\nOnce upon a time")
	for what, fields := range map[string]url.Values{"nothing": {"body": {" "}}, "too much": {"body": {strings.Repeat("中", 5<<20/9)}}} {
		if w := r.do(postForm("/continue", fields, r.asAuthor)); w.Code != http.StatusUnprocessableEntity && w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: status %d", what, w.Code)
		}
	}
	if err := r.store.EachPost(t.Context(), func(p blog.Post) error {
		if strings.Contains(p.Body, "then") {
			t.Errorf("stored: %q", p.Body)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func TestAI_BadQuestionsAskNothing(t *testing.T) {
	model := &scripted{says: []string{"x"}}
	r := newAIRig(t, model)
	for name, c := range map[string]struct {
		question string
		status   int
	}{
		"empty":      {" \r\n\x00", http.StatusUnprocessableEntity},
		"too long":   {strings.Repeat("中", questionLimit+1), http.StatusUnprocessableEntity},
		"absurd":     {strings.Repeat("x", 100<<10), http.StatusRequestEntityTooLarge},
		"just right": {strings.Repeat("😀", questionLimit), http.StatusOK},
	} {
		w := r.do(postForm("/ai-inference", url.Values{"question": {c.question}}, nil))
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.status)
		}
		if name == "too long" {
			contains(t, w.Body.String(), c.question+"</textarea>", `role="alert"`)
		}
	}
	if n := len(model.prompts()); n != 1 {
		t.Errorf("the model was asked %d times, want once", n)
	}
}

func TestAI_TroubleIsSaidAndTheQuestionKept(t *testing.T) {
	unavailable := &assistant.Error{Kind: assistant.ErrUnavailable, RetryAfter: 7 * time.Second}
	for name, c := range map[string]struct {
		err     error
		says    []string
		status  int
		retry   string
		message string
		outcome string
	}{
		"down":           {unavailable, nil, 503, "7", "The model is not available", "ask unavailable"},
		"slow":           {&assistant.Error{Kind: assistant.ErrUnavailable}, nil, 503, "5", "The model is not available", "ask unavailable"},
		"no model":       {&assistant.Error{Kind: assistant.ErrNoModel}, nil, 503, "30", "There is no model", "ask unavailable"},
		"refused":        {&assistant.Error{Kind: assistant.ErrRefused}, nil, 502, "", "The model gave no answer", "ask refused"},
		"broken off":     {&assistant.Error{Kind: assistant.ErrTruncated}, []string{"They are"}, 502, "", "The answer broke off", "ask truncated"},
		"something else": {errors.New("oops"), nil, 503, "5", "The model is not available", "ask unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newAIRig(t, &scripted{name: "tiny", says: c.says, err: c.err})
			w := r.do(postForm("/ai-inference", foxes, nil))
			contains(t, w.Body.String(), c.message, `role="alert"`, ">What colour are foxes?</textarea>")
			contains(t, w.Body.String(), c.says...)
			if w.Code != c.status || w.Header().Get("Retry-After") != c.retry || r.observer.last() != c.outcome {
				t.Errorf("status %d, retry %q, observed %q", w.Code, w.Header().Get("Retry-After"), r.observer.last())
			}
			w = r.do(postForm("/ai-inference", foxes, asScript))
			contains(t, w.Body.String(), "event: failed\ndata: {\"message\":\""+c.message)
			if want := c.status; len(c.says) == 0 && w.Code != want || len(c.says) > 0 && w.Code != 200 {
				t.Errorf("to a script: status %d, want %d", w.Code, want)
			}
			if w := r.do(httptest.NewRequest(http.MethodGet, r.post.Path(), nil)); w.Code != http.StatusOK {
				t.Errorf("the post: status %d", w.Code)
			}
			if log := r.log.String(); !strings.Contains(log, "the model gave no whole answer") || strings.Contains(log, "foxes") || strings.Contains(log, "They are") {
				t.Errorf("log %s", log)
			}
		})
	}
}

func TestAI_FormIsShownWhenTheModelIsDown(t *testing.T) {
	r := newAIRig(t, &scripted{nameless: &assistant.Error{Kind: assistant.ErrUnavailable}})
	w := r.do(httptest.NewRequest(http.MethodGet, "/ai-inference", nil))
	contains(t, w.Body.String(), "The model is not available", "<form")
	if w.Code != http.StatusOK || r.log.Len() > 0 {
		t.Errorf("status %d, log %s", w.Code, r.log)
	}
}

func TestAI_WhoAsksTooMuchHasToWait(t *testing.T) {
	model := &scripted{says: []string{"x"}, name: "tiny"}
	r := newAIRig(t, model)
	for i := range usualLimits.burst + 1 {
		w := r.do(postForm("/ai-inference", foxes, nil))
		if i < usualLimits.burst {
			continue
		}
		contains(t, w.Body.String(), "You have asked much", ">What colour are foxes?</textarea>")
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "6" || r.observer.last() != "ask limited" {
			t.Errorf("status %d, retry %q, observed %q", w.Code, w.Header().Get("Retry-After"), r.observer.last())
		}
		w = r.do(postForm("/ai-inference", foxes, asScript))
		contains(t, w.Body.String(), "event: failed\n")
		if w.Code != http.StatusTooManyRequests {
			t.Errorf("to a script: status %d", w.Code)
		}
	}
	if n := len(model.prompts()); n != usualLimits.burst {
		t.Errorf("the model was asked %d times, want %d", n, usualLimits.burst)
	}
	other := postForm("/ai-inference", foxes, func(q *http.Request) { q.RemoteAddr = "198.51.100.7:1" })
	if w := r.do(other); w.Code != http.StatusOK {
		t.Errorf("another visitor: status %d", w.Code)
	}
}

// tapped keeps the requests to a gateway that make text, as they stand.
type tapped struct {
	http.RoundTripper
	mu   sync.Mutex // guards sent
	sent []string
}

func (s *tapped) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/api/chat" {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		var head bytes.Buffer
		if err := r.Header.Write(&head); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.sent = append(s.sent, r.URL.String()+"\n"+head.String()+string(body))
		s.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return s.RoundTripper.RoundTrip(r)
}

// newTapped is the real assistant before a simulated node.
func newTapped(t *testing.T) (*tapped, Assistant) {
	t.Helper()
	node := simnode.New(simnode.Options{Models: simnode.SimModels(), Scale: 0.001})
	t.Cleanup(node.Close)
	pipe := simnode.NewPipe(node)
	t.Cleanup(pipe.Close)
	tap := &tapped{RoundTripper: pipe}
	a, err := assistant.New(assistant.Options{URL: "http://blog.internal", Transport: tap})
	if err != nil {
		t.Fatal(err)
	}
	return tap, a
}

func TestAI_TwoVisitorsShareOneCacheEntry(t *testing.T) {
	tap, model := newTapped(t)
	r := newAIRig(t, model)
	visitor := func(number int, lang string) func(*http.Request) {
		return func(q *http.Request) {
			q.RemoteAddr = "192.0.2." + strconv.Itoa(number) + ":4711"
			q.Header.Set("Accept-Language", lang)
			q.Header.Set("User-Agent", "browser "+lang)
			q.Header.Set("Referer", "https://blog.example.com/?"+lang)
			if number == 2 {
				r.asAuthor(q)
				asScript(q)
			}
		}
	}
	for _, p := range []string{"/ai-inference", below(r.post, "/summary"), below(r.post, "/ask")} {
		tap.sent = nil
		for i, typed := range []string{"What is a café?\nTell me.", " What is a cafe\u0301?\r\nTell me.\r\n"} {
			w := r.do(postForm(p, url.Values{"question": {typed}}, visitor(i+1, []string{"en", "zh"}[i])))
			if w.Code != http.StatusOK {
				t.Fatalf("%s: status %d: %s", p, w.Code, w.Body)
			}
		}
		if len(tap.sent) != 2 || tap.sent[0] != tap.sent[1] {
			t.Errorf("%s: the requests differ: %q", p, tap.sent)
		}
	}
}

func TestAI_EditedPostIsAnotherQuestion(t *testing.T) {
	tap, model := newTapped(t)
	r := newAIRig(t, model)
	for _, body := range []string{r.post.Body, "Foxes are blue."} {
		p, err := r.store.Post(t.Context(), r.post.ID)
		if err != nil {
			t.Fatal(err)
		}
		p.Body = body
		if err := p.Prepare(time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := r.store.UpdatePost(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if w := r.do(postForm(below(r.post, "/summary"), nil, nil)); w.Code != http.StatusOK {
			t.Fatalf("status %d", w.Code)
		}
	}
	if len(tap.sent) != 2 || tap.sent[0] == tap.sent[1] {
		t.Errorf("sent %q", tap.sent)
	}
}

func TestAI_WhoLeavesEndsTheAnswer(t *testing.T) {
	for name, change := range map[string]func(*http.Request){"with script": asScript, "without": nil} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			r := newAIRig(t, &scripted{says: []string{"a"}, during: func(asked context.Context) { cancel(); <-asked.Done() }})
			w := r.do(postForm("/ai-inference", foxes, change).WithContext(ctx))
			if r.observer.last() != "ask left" || r.log.Len() > 0 {
				t.Errorf("observed %q, log %s, status %d", r.observer.last(), r.log, w.Code)
			}
			leave, no := r.handler.visitors.admit(r.handler.clientAddress(httptest.NewRequest("GET", "/", nil)), time.Now())
			if no != nil || r.handler.visitors.running != 1 {
				t.Errorf("the place is not free: %v", no)
			}
			leave()
		})
	}
}

// The messages of these pages are in Chinese, too.
func TestAI_EveryTextIsTranslated(t *testing.T) {
	texts := regexp.MustCompile(`(?:message[:]? =? ?|add\(|lang\.text\(|Title: )"([^"]+)"|\{\{\$?\.T "([^"]+)"`)
	found := 0
	for _, pattern := range []string{"ai*.go", "templates/*ai*.html"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			for _, match := range texts.FindAllStringSubmatch(string(source), -1) {
				text := match[1] + match[2]
				found++
				if chineseTexts()[text] == "" {
					t.Errorf("%s: %q has no Chinese", file, text)
				}
			}
		}
	}
	if found < 25 {
		t.Errorf("only %d texts were found", found)
	}
}
