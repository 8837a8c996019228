package caddymodule

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver

	"github.com/caddy-ollama/caddy-ollama/blog/people"
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

// signIn is the cookie of the first author.
func (f *blogFront) signIn() string {
	f.Helper()
	s := f.database().store
	authors, err := s.Authors(f.Context())
	if err != nil || len(authors) == 0 {
		f.Fatalf("authors: %v, %v", authors, err)
	}
	p := people.New(s)
	token, err := p.NewLink(f.Context(), authors[0].ID, time.Now())
	if err != nil {
		f.Fatal(err)
	}
	resp, text := f.send("", "/login/link", url.Values{"token": {token}})
	if len(resp.Cookies()) == 0 {
		f.Fatalf("signing in: %d %s", resp.StatusCode, text)
	}
	return resp.Cookies()[0].Name + "=" + resp.Cookies()[0].Value
}

// send sends a form as a browser does, and follows no redirect.
func (f *blogFront) send(cookie, path string, form url.Values) (*http.Response, string) {
	f.Helper()
	r, err := http.NewRequestWithContext(f.Context(), http.MethodPost, "http://"+f.address+path, strings.NewReader(form.Encode()))
	if err != nil {
		f.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if cookie != "" {
		r.Header.Set("Cookie", cookie)
	}
	c := *f.http
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(r)
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp, string(text)
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
	session := f.signIn()
	unlock := lockFile(t, path)
	if status, _ := f.get(p.Path()); status != http.StatusOK {
		t.Errorf("a post: %d", status)
	}
	f.proxyAnswers()
	for path, form := range map[string]url.Values{
		"/create":                          {"do": {"publish"}, "title": {"Amid"}, "body": {"What was *typed*."}},
		fmt.Sprintf("/post/%d/edit", p.ID): {"version": {fmt.Sprint(p.Version)}, "title": {"Amid"}, "body": {"What was *typed*."}},
	} {
		failed := f.scraped("blog_database_errors_total")
		resp, text := f.send(session, path, form)
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
			!strings.Contains(text, "Amid") || !strings.Contains(text, "What was *typed*.") {
			t.Errorf("%s: %d %v %s, want 503, Retry-After and what was typed", path, resp.StatusCode, resp.Header, text)
		}
		if n := f.scraped("blog_database_errors_total"); n != failed+1 {
			t.Errorf("%s: errors counted: %v, want %v", path, n, failed+1)
		}
	}
	f.proxyAnswers()
	unlock()
	if status, text := f.get(p.Path()); status != http.StatusOK || strings.Contains(text, "Amid") {
		t.Errorf("the post afterwards: %d %s", status, text)
	}
	resp, text := f.send(session, "/create", url.Values{"do": {"publish"}, "title": {"Afterwards"}, "body": {"Body."}})
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("a write afterwards: %d %s", resp.StatusCode, text)
	}
	if status, text := f.get(resp.Header.Get("Location")); status != http.StatusOK || !strings.Contains(text, "Afterwards") {
		t.Errorf("what was written afterwards: %d %s", status, text)
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
