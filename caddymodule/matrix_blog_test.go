package caddymodule

import (
	"database/sql"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "modernc.org/sqlite" // the driver

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

// proxyAnswers holds that requests for a model are answered, whatever the blog's database does.
func (f *blogFront) proxyAnswers() {
	f.Helper()
	resp := post(f, f.http, "http://"+f.address+"/api/chat", matrixChat)
	defer resp.Body.Close()
	frames(f, resp.Body)
}

// unavailable holds that pages say what is the matter, and when to come again.
func (f *blogFront) unavailable() {
	f.Helper()
	resp, err := f.http.Get("http://" + f.address + "/")
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
		f.Errorf("/: %d %v, want a page with 503 and Retry-After", resp.StatusCode, resp.Header)
	}
}

// comesBack waits until pages are shown again.
func (f *blogFront) comesBack() {
	f.Helper()
	eventually(f, "the blog is back", func() bool { status, _ := f.get("/"); return status == http.StatusOK })
	if up := f.scraped("blog_database_up"); up != 1 {
		f.Errorf("the database is up: %v, want 1", up)
	}
}

// lockFile keeps everybody else from an SQLite database, as another program would.
func lockFile(t *testing.T, path string) (unlock func()) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	if _, err := db.Exec("BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	return func() {
		if _, err := db.Exec("ROLLBACK"); err != nil {
			t.Error(err)
		}
		db.Close()
	}
}

// 31, from the start
func TestMatrix_ABlogWithoutItsDatabaseCostsNoRequestOfTheProxy(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, path string) (mend func()){
		"no directory": func(t *testing.T, path string) func() {
			dir := filepath.Dir(path)
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Remove(dir); err != nil {
					t.Error(err)
				}
			}
		},
		"locked": func(t *testing.T, path string) func() {
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			return lockFile(t, path)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "blog", "blog.db")
			mend := prepare(t, path)
			f := newBlogFront(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}", "database sqlite "+path)
			f.ready()
			failed := f.scraped("blog_database_errors_total")
			f.unavailable()
			f.proxyAnswers()
			if n := f.scraped("blog_database_errors_total"); n != failed+1 {
				t.Errorf("errors counted: %v, want %v", n, failed+1)
			}
			if up := f.scraped("blog_database_up"); up != 0 {
				t.Errorf("the database is up: %v, want 0", up)
			}
			mend()
			f.comesBack()
			stop()
			wantNoBlogLeft(t)
		})
	}
}

// 31, in the middle: readers go on, a write says so.
func TestMatrix_ALockedDatabaseOfTheBlogCostsWritesOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blog.db")
	f := newBlogFront(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}", "database sqlite "+path)
	f.ready()
	p := f.write("Before", "Body.")
	unlock := lockFile(t, path)
	if status, _ := f.get(p.Path()); status != http.StatusOK {
		t.Errorf("a post: %d", status)
	}
	f.proxyAnswers()
	if err := f.database().store.DeletePost(t.Context(), p.ID, p.Created); !errors.Is(err, blog.ErrBusy) {
		t.Errorf("a write: %v, want %v", err, blog.ErrBusy)
	}
	f.proxyAnswers()
	unlock()
	if err := f.database().store.DeletePost(t.Context(), p.ID, p.Created); err != nil {
		t.Errorf("a write afterwards: %v", err)
	}
}

// 31, a server that goes and comes back
func TestMatrix_ABlogWhoseDatabaseGoesIsBackWithIt(t *testing.T) {
	server := pgtest.Start(t)
	t.Setenv("BLOG_DATABASE_URL", server.Database())
	f := newBlogFront(t, "ollama {\nnode "+startNode(t, fast("m"))+"\n}", "database postgres {env.BLOG_DATABASE_URL}")
	f.ready()
	p := f.write("Before", "Body.")
	server.Stop()
	f.unavailable()
	f.proxyAnswers()
	server.Start()
	f.comesBack()
	if status, _ := f.get(p.Path()); status != http.StatusOK {
		t.Errorf("the post: %d", status)
	}
	stop()
	wantNoBlogLeft(t)
}
