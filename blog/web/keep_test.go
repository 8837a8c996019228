package web

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

// countingStore counts what pages are made of.
type countingStore struct {
	blog.Store
	reads atomic.Int64
}

func (s *countingStore) Posts(ctx context.Context, q blog.Query) (blog.Page, error) {
	s.reads.Add(1)
	return s.Store.Posts(ctx, q)
}

func (s *countingStore) Post(ctx context.Context, id int64) (blog.Post, error) {
	s.reads.Add(1)
	return s.Store.Post(ctx, id)
}

func TestKept_PagesAreMadeOnceUntilSomethingChanges(t *testing.T) {
	b := newBlog(t, Options{})
	p := b.written(blog.Post{Title: "one", Tags: []string{"go"}}, noon)
	counting := &countingStore{Store: b.db}
	var err error
	if b.Handler, err = New(Options{Store: counting}); err != nil {
		t.Fatal(err)
	}
	reads := func(what string, want int64, do func()) {
		t.Helper()
		before := counting.reads.Load()
		do()
		if got := counting.reads.Load() - before; got != want {
			t.Errorf("%s: %d reads, want %d", what, got, want)
		}
	}
	for _, path := range []string{"/", p.Path(), "/tag/go", "/feed.xml"} {
		first := b.get(path)
		reads(path+" again", 0, func() {
			again := b.get(path)
			if again.Body.String() != first.Body.String() || again.Header().Get("ETag") != first.Header().Get("ETag") || again.Header().Get("Content-Type") != first.Header().Get("Content-Type") {
				t.Errorf("%s: another page the second time", path)
			}
			if head := b.ask("HEAD", path+"?utm=1"); head.Body.Len() != 0 || head.Header().Get("Content-Length") != first.Header().Get("Content-Length") {
				t.Errorf("%s: HEAD %v", path, head.Header())
			}
		})
	}
	reads("another language", 1, func() { wantContains(t, "it", b.page("/", "Accept-Language", "zh"), "标签") })
	reads("another host", 1, func() {
		if strings.Contains(b.page("/feed.xml", "Accept-Language", "en", "X-Forwarded-Host", "evil.example"), "evil.example") {
			t.Error("a client's header is in the feed")
		}
		wantContains(t, "it", b.page("http://other.example/feed.xml"), "http://other.example/post/1")
	})
	cookie, session := b.signedIn()
	reads("an author", 1, func() { wantContains(t, "it", b.page("/", cookie, session), "Sign out") })
	reads("a reader after the author", 0, func() { wantContains(t, "it", b.page("/"), "Sign in") })

	other, err := store.OpenSQLite(b.path) // another process would do it the same way
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.Title = "changed"
	if err := p.Prepare(noon); err != nil {
		t.Fatal(err)
	}
	if _, err := other.UpdatePost(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	reads("after a change", 2, func() {
		wantContains(t, "the list", b.page("/"), "changed")
		wantContains(t, "the post", b.page(p.Path()), "changed")
	})
	b.ann.Shown = "Anna"
	if err := other.UpdateAuthor(t.Context(), b.ann); err != nil {
		t.Fatal(err)
	}
	wantContains(t, "after another name", b.page("/"), "Anna")
	if err := other.DeletePost(t.Context(), p.ID, noon); err != nil {
		t.Fatal(err)
	}
	wantContains(t, "after a deletion", b.page("/"), "There are no posts yet.")
}
