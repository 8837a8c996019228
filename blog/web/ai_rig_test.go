package web

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

// A scripted model says what a test has put, and remembers what it was asked.
type scripted struct {
	name     string
	nameless error // of Model
	says     []string
	reply    assistant.Reply
	err      error
	during   func(context.Context) // before the first word

	mu    sync.Mutex // guards asked
	asked []assistant.Prompt
}

func (s *scripted) Model(context.Context) (string, error) { return s.name, s.nameless }

func (s *scripted) Answer(ctx context.Context, p assistant.Prompt, piece func(string) error) (assistant.Reply, error) {
	s.mu.Lock()
	s.asked = append(s.asked, p)
	s.mu.Unlock()
	if s.during != nil {
		s.during(ctx)
	}
	for _, text := range s.says {
		if err := piece(text); err != nil {
			return s.reply, err
		}
	}
	if ctx.Err() != nil {
		return s.reply, ctx.Err()
	}
	return s.reply, s.err
}

func (s *scripted) prompts() []assistant.Prompt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

// told is an Observer that remembers how questions ended.
type told struct {
	nobody
	mu  sync.Mutex // guards all
	all []string
}

func (o *told) Asked(kind, outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, kind+" "+outcome)
}

func (o *told) last() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.all) == 0 {
		return ""
	}
	return o.all[len(o.all)-1]
}

// An aiRig is a blog with a model, one published post, and one draft of its author.
type aiRig struct {
	*testing.T
	handler     *Handler
	observer    *told
	log         *bytes.Buffer
	store       *store.SQLite
	author      string // cookie
	post, draft blog.Post
}

func newAIRig(t *testing.T, model Assistant) *aiRig {
	t.Helper()
	r := &aiRig{T: t, observer: &told{}, log: &bytes.Buffer{}}
	var err error
	if r.store, err = store.OpenSQLite(filepath.Join(t.TempDir(), "blog.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.store.Close() })
	if err := r.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	who := people.New(r.store)
	author, err := who.Create(t.Context(), "ann", "Ann", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	link, err := who.NewLink(t.Context(), author.ID, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	token, err := who.UseLink(t.Context(), link, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.author = sessionCookie + "=" + token
	r.post = r.create(blog.Post{Title: "On foxes", Body: "Foxes are **red**.\n\n<!-- not for readers -->", Author: author.ID})
	r.draft = r.create(blog.Post{Title: "On wolves", Body: "Wolves are grey.", Author: author.ID, Draft: true})
	r.handler, err = New(Options{
		Store: r.store, Assistant: model, Observer: r.observer, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *aiRig) create(p blog.Post) blog.Post {
	r.Helper()
	if err := p.Prepare(time.Now()); err != nil {
		r.Fatal(err)
	}
	p, err := r.store.CreatePost(r.Context(), p)
	if err != nil {
		r.Fatal(err)
	}
	return p
}

// postForm is a request as a browser sends a form. change may be nil.
func postForm(path string, fields url.Values, change func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(fields.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if change != nil {
		change(r)
	}
	return r
}

func (r *aiRig) do(q *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, q)
	return w
}

func asScript(r *http.Request) { r.Header.Set("Accept", "text/event-stream") }

func (r *aiRig) asAuthor(q *http.Request) { q.Header.Set("Cookie", r.author) }

func below(p blog.Post, rest string) string {
	return "/post/" + strconv.FormatInt(p.ID, 10) + rest
}

var foxes = url.Values{"question": {"What colour are foxes?"}}

func contains(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}
