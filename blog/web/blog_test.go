package web

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 123456000, time.UTC)

// A testBlog is one with a real database and an author.
type testBlog struct {
	*Handler
	t    testing.TB
	db   *store.SQLite
	path string // of the database
	ann  blog.Author
}

func newBlog(t testing.TB, opts Options) *testBlog {
	t.Helper()
	b := &testBlog{t: t, path: filepath.Join(t.TempDir(), "blog.db")}
	var err error
	if b.db, err = store.OpenSQLite(b.path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.db.Close() })
	if err := b.db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.ann, err = b.db.CreateAuthor(t.Context(), blog.Author{Name: "ann", Shown: "Ann", Created: noon}); err != nil {
		t.Fatal(err)
	}
	opts.Store = b.db
	if opts.Now == nil {
		opts.Now = func() time.Time { return noon }
	}
	if b.Handler, err = New(opts); err != nil {
		t.Fatal(err)
	}
	return b
}

// written stores a post of ann's that was written at a time.
func (b *testBlog) written(p blog.Post, at time.Time) blog.Post {
	b.t.Helper()
	if p.Author == 0 {
		p.Author = b.ann.ID
	}
	if err := p.Prepare(at); err != nil {
		b.t.Fatal(err)
	}
	stored, err := b.db.CreatePost(b.t.Context(), p)
	if err != nil {
		b.t.Fatal(err)
	}
	return stored
}

// get asks as a browser does. headers are pairs.
func (b *testBlog) get(path string, headers ...string) *httptest.ResponseRecorder {
	return b.ask(http.MethodGet, path, headers...)
}

func (b *testBlog) ask(method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

// page is get for what has to be there.
func (b *testBlog) page(path string, headers ...string) string {
	b.t.Helper()
	w := b.get(path, headers...)
	if w.Code != http.StatusOK {
		b.t.Fatalf("GET %s: %d\n%s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

// signedIn is the header of ann's requests.
func (b *testBlog) signedIn() (name, value string) {
	b.t.Helper()
	token, err := b.people.NewLink(b.t.Context(), b.ann.ID, noon)
	if err != nil {
		b.t.Fatal(err)
	}
	session, err := b.people.UseLink(b.t.Context(), token, noon)
	if err != nil {
		b.t.Fatal(err)
	}
	return "Cookie", sessionCookie + "=" + session
}

func wantContains(t *testing.T, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s does not have %q:\n%s", what, w, got)
		}
	}
}
