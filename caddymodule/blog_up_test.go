package caddymodule

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

func newStore(t *testing.T) *store.SQLite {
	t.Helper()
	s := openBlog(t, filepath.Join(t.TempDir(), "blog.db"))
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func posts(t *testing.T, s blog.Store) []blog.Post {
	t.Helper()
	page, err := s.Posts(t.Context(), blog.Query{Full: true})
	if err != nil {
		t.Fatal(err)
	}
	return page.Posts
}

func TestUpBlog_ANewOneHasAnAuthorAndAPost(t *testing.T) {
	s, now := newStore(t), time.Now()
	token, err := seedBlog(t.Context(), s, now)
	if err != nil || token == "" {
		t.Fatalf("%q, %v", token, err)
	}
	found := posts(t, s)
	if len(found) != 1 || !strings.Contains(found[0].HTML, `<pre`) || !strings.Contains(found[0].HTML, "<table>") {
		t.Fatalf("posts: %+v, want one with code and a table", found)
	}
	p := people.New(s)
	session, err := p.UseLink(t.Context(), token, now)
	if err != nil {
		t.Fatal(err)
	}
	author, err := p.SignedIn(t.Context(), session, now)
	if err != nil || author.Name != firstAuthor || author.ID != found[0].Author {
		t.Fatalf("signed in: %+v, %v", author, err)
	}

	// The next start makes nothing anew; who has no password gets another link.
	if err := s.DeletePost(t.Context(), found[0].ID, now); err != nil {
		t.Fatal(err)
	}
	again, err := seedBlog(t.Context(), s, now)
	if err != nil || again == "" || again == token || len(posts(t, s)) != 0 {
		t.Errorf("a second start: link %v, %d posts, %v", again != "", len(posts(t, s)), err)
	}
	if err := p.SetPassword(t.Context(), author.ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	if token, err := seedBlog(t.Context(), s, now); token != "" || err != nil {
		t.Errorf("an author with a password gets a link: %v", err)
	}
}

func TestUpBlog_SaysWhereAndHow(t *testing.T) {
	plan := upPlanOf(t, nil, nil, defaultListen, defaultHTTPS)
	path := filepath.Join(t.TempDir(), "blog.db")
	f := newBlogFront(t, "", "database sqlite "+path)
	var out bytes.Buffer
	announceBlog(context.Background(), &out, plan)
	if text := out.String(); !strings.Contains(text, "blog: https://localhost:8443\n") || !strings.Contains(text, "https://localhost:8443/login/link?token=") {
		t.Errorf("got %s", text)
	}
	if status, body := f.get("/"); status != 200 || !strings.Contains(body, "Welcome") {
		t.Errorf("/: %d %s", status, body)
	}
	authors, err := f.database().store.Authors(t.Context())
	if err != nil || len(authors) != 1 {
		t.Fatalf("authors: %v, %v", authors, err)
	}
	if err := people.New(f.database().store).SetPassword(t.Context(), authors[0].ID, "correct horse"); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	announceBlog(context.Background(), &out, plan)
	if text := out.String(); strings.Contains(text, "token=") || !strings.Contains(text, "https://localhost:8443/login\n") {
		t.Errorf("with a password: %s", text)
	}
	plan.blog = false
	out.Reset()
	if announceBlog(context.Background(), &out, plan); out.Len() > 0 {
		t.Errorf("without a blog: %s", &out)
	}
}
