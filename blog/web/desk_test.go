package web

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

const (
	deskPassword = "correct horse"
	deskHost     = "https://blog.example.com"
)

var deskNoon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

// A desk is a blog on a real database with an author, ann, and what it has logged.
type desk struct {
	*testing.T
	store   *flakyStore
	people  *people.People
	ann     blog.Author
	handler *Handler
	log     bytes.Buffer
}

// A flakyStore has no answer while busy.
type flakyStore struct {
	blog.Store
	busy bool
}

func (f *flakyStore) CreatePost(ctx context.Context, p blog.Post) (blog.Post, error) {
	if f.busy {
		return blog.Post{}, blog.ErrBusy
	}
	return f.Store.CreatePost(ctx, p)
}

func (f *flakyStore) Post(ctx context.Context, id int64) (blog.Post, error) {
	if f.busy {
		return blog.Post{}, blog.ErrBusy
	}
	return f.Store.Post(ctx, id)
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	s, err := store.OpenSQLite(filepath.Join(t.TempDir(), "blog.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := &desk{T: t, store: &flakyStore{Store: s}, people: people.New(s)}
	if d.ann, err = d.people.Create(t.Context(), "ann", "Ann", deskPassword, deskNoon); err != nil {
		t.Fatal(err)
	}
	d.handler, err = New(Options{
		Store: d.store, Now: func() time.Time { return deskNoon },
		Log: slog.New(slog.NewTextHandler(&d.log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// A browser has cookies. Its requests come from the blog's own pages.
type browser struct {
	*desk
	cookies map[string]string
}

func (d *desk) reader() *browser { return &browser{desk: d, cookies: map[string]string{}} }

// author is a browser in which ann has signed in.
func (d *desk) author() *browser {
	d.Helper()
	token, err := d.people.Begin(d.Context(), d.ann.ID, deskNoon)
	if err != nil {
		d.Fatal(err)
	}
	b := d.reader()
	b.cookies[sessionCookie] = token
	return b
}

func (b *browser) send(r *http.Request) *http.Response {
	b.Helper()
	for name, value := range b.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	answer := w.Result()
	for _, c := range answer.Cookies() {
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		} else {
			b.cookies[c.Name] = c.Value
		}
	}
	return answer
}

func (b *browser) get(path string) *http.Response {
	b.Helper()
	return b.send(httptest.NewRequest("GET", deskHost+path, nil))
}

// post sends a form of names and values.
func (b *browser) post(path string, fields ...string) *http.Response {
	b.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	r := httptest.NewRequest("POST", deskHost+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return b.send(r)
}

// want checks status and texts of an answer, and returns its body.
func (d *desk) want(answer *http.Response, status int, texts ...string) string {
	d.Helper()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		d.Fatal(err)
	}
	body := string(content)
	if answer.StatusCode != status {
		d.Fatalf("got status %d, want %d: %.800s", answer.StatusCode, status, body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) {
			d.Errorf("the page does not have %q: %.4000s", text, body)
		}
	}
	return body
}

// wantRedirect checks where an answer leads.
func (d *desk) wantRedirect(answer *http.Response, location string) {
	d.Helper()
	d.want(answer, http.StatusSeeOther)
	if got := answer.Header.Get("Location"); got != location {
		d.Errorf("it leads to %q, want %q", got, location)
	}
}

// written is a post by ann, as the store has it.
func (d *desk) written(title, body string, isDraft bool) blog.Post {
	d.Helper()
	p := blog.Post{Title: title, Body: body, Draft: isDraft, Author: d.ann.ID}
	if err := p.Prepare(deskNoon); err != nil {
		d.Fatal(err)
	}
	p, err := d.store.CreatePost(d.Context(), p)
	if err != nil {
		d.Fatal(err)
	}
	return p
}

func (d *desk) stored(id int64) blog.Post {
	d.Helper()
	p, err := d.store.Post(d.Context(), id)
	if err != nil {
		d.Fatal(err)
	}
	return p
}

// A readOnlyStore is for who may change nothing.
type readOnlyStore struct {
	blog.Store
	t *testing.T
}

func (s readOnlyStore) CreatePost(context.Context, blog.Post) (blog.Post, error) {
	s.t.Error("a post was created")
	return blog.Post{}, blog.ErrBusy
}

func (s readOnlyStore) UpdatePost(context.Context, blog.Post) (blog.Post, error) {
	s.t.Error("a post was changed")
	return blog.Post{}, blog.ErrBusy
}

func (s readOnlyStore) DeletePost(context.Context, int64, time.Time) error {
	s.t.Error("a post was deleted")
	return blog.ErrBusy
}

func (s readOnlyStore) RestorePost(context.Context, int64) error {
	s.t.Error("a post was restored")
	return blog.ErrBusy
}

func (s readOnlyStore) UpdateAuthor(context.Context, blog.Author) error {
	s.t.Error("an author was changed")
	return blog.ErrBusy
}

func (s readOnlyStore) CreateImage(context.Context, blog.Image) error {
	s.t.Error("an image was stored")
	return blog.ErrBusy
}
