package web

import (
	"bytes"
	"database/sql"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

func TestPage_Headers(t *testing.T) {
	b := newBlog(t, Options{})
	p := b.written(blog.Post{Title: "one"}, noon)
	for _, path := range []string{"/", p.Path(), "/tags", "/search?q=one", "/about", "/feed.xml", "/sitemap.xml", "/sitemap-posts.xml", "/robots.txt", "/favicon.svg", assetPath("style.css"), "/absent", "/?after=x"} {
		head := b.get(path).Header()
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin",
			"Content-Security-Policy": contentPolicy,
		} {
			if got := head.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if head.Get("Content-Type") == "" || head.Get("Cache-Control") == "" || head.Get("Set-Cookie") != "" {
			t.Errorf("%s: headers %v", path, head)
		}
		if strings.HasPrefix(head.Get("Content-Type"), "text/html") && (head.Get("Vary") != "Accept-Language, Cookie" || head.Get("Content-Language") != "en") {
			t.Errorf("%s: a page does not say that it depends on the language: %v", path, head)
		}
	}
	for _, forbidden := range []string{"unsafe", "*", "data:"} {
		if strings.Contains(contentPolicy, forbidden) {
			t.Errorf("the policy allows %s", forbidden)
		}
	}
}

func TestPage_IsSentOnce(t *testing.T) {
	b := newBlog(t, Options{})
	p := b.written(blog.Post{Title: "one"}, noon)
	for _, path := range []string{"/", p.Path(), "/tags", "/search?q=one", "/feed.xml", "/sitemap.xml"} {
		first := b.get(path)
		tag := first.Header().Get("ETag")
		if tag == "" || first.Header().Get("Cache-Control") != "no-cache" {
			t.Fatalf("%s: headers %v", path, first.Header())
		}
		for _, has := range []string{tag, "W/" + tag, `"other", W/` + tag + ` , "more"`, "*"} {
			w := b.get(path, "If-None-Match", has)
			if w.Code != http.StatusNotModified || w.Body.Len() != 0 || w.Header().Get("ETag") != tag {
				t.Errorf("%s: a browser that has %s: %d, %d bytes, %v", path, has, w.Code, w.Body.Len(), w.Header())
			}
		}
		for _, has := range []string{`"other"`, strings.Trim(tag, `"`), tag[:len(tag)-2] + `"`, ""} {
			if w := b.get(path, "If-None-Match", has); w.Code != http.StatusOK || w.Body.String() != first.Body.String() {
				t.Errorf("%s: a browser that has %s: %d, want 200 and the same", path, has, w.Code)
			}
		}
		if w := b.get(path, "If-None-Match", `"x"`, "If-None-Match", tag); w.Code != http.StatusNotModified {
			t.Errorf("%s: a second header was not read: %d", path, w.Code)
		}
	}
	if w := b.get("/absent", "If-None-Match", "*"); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" {
		t.Errorf("a page that is not there: %d, %v", w.Code, w.Header())
	}
}

func TestPage_RefusesOtherMethods(t *testing.T) {
	b := newBlog(t, Options{})
	p := b.written(blog.Post{Title: "one"}, noon)
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"} {
		for _, path := range []string{"/tags", p.Path(), "/search?q=x", "/feed.xml", "/about"} {
			w := b.ask(method, path)
			if w.Code != http.StatusMethodNotAllowed || !strings.HasPrefix(w.Header().Get("Allow"), "GET, HEAD") {
				t.Errorf("%s %s: %d, Allow %q, want 405 and GET, HEAD", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		if w := b.ask(method, "/no/such/page"); w.Code != http.StatusNotFound {
			t.Errorf("%s of nothing: %d, want 404", method, w.Code)
		}
	}
	wantContains(t, "the page", b.ask("POST", "/tags").Body.String(), "That cannot be done here", `<a href="/">To the first page</a>`)
}

func TestHead_IsCountedAsAnswered(t *testing.T) {
	seen := &observed{}
	b := newBlog(t, Options{Observer: seen})
	for _, path := range []string{"/", "/robots.txt", "/sitemap.xml", "/sitemap-posts.xml", "/feed.xml", "/favicon.svg"} {
		if w := b.ask("HEAD", path); w.Code != http.StatusOK || w.Body.Len() > 0 {
			t.Errorf("HEAD %s: %d with %d bytes, want 200 with none", path, w.Code, w.Body.Len())
		}
		if last := seen.served[len(seen.served)-1]; !strings.HasSuffix(last, " OK") {
			t.Errorf("HEAD %s is counted as %q, want OK", path, last)
		}
	}
}

// observed remembers what an Observer is told.
type observed struct{ served, failed []string }

func (o *observed) Served(page string, status int, _ time.Duration) {
	o.served = append(o.served, page+" "+http.StatusText(status))
}
func (o *observed) DatabaseFailed(page string) { o.failed = append(o.failed, page) }
func (*observed) Asked(string, string)         {}

// Row 31 of the failure matrix, where not even reading goes on.
func TestPage_LockedDatabaseIsAClearPage(t *testing.T) {
	b := newBlog(t, Options{})
	b.written(blog.Post{Title: "one"}, noon)
	b.db.Close()
	other, err := sql.Open("sqlite", "file:"+b.path+"?_pragma=locking_mode(EXCLUSIVE)")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.SetMaxOpenConns(1)
	if _, err := other.Exec("UPDATE changes SET n = n + 1"); err != nil { // exclusive mode keeps what it locked
		t.Fatal(err)
	}
	db, err := store.OpenSQLite(b.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var told observed
	var log bytes.Buffer
	if b.Handler, err = New(Options{Store: db, Observer: &told, Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	w := b.get("/", "Accept-Language", "zh-CN,zh;q=0.9")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, headers %v, want 503 with Retry-After", w.Code, w.Header())
	}
	wantContains(t, "the page", w.Body.String(), "博客的数据库暂时不可用", `<html lang="zh">`)
	if len(told.failed) != 1 || told.failed[0] != "index" || len(told.served) != 1 || told.served[0] != "index Service Unavailable" {
		t.Errorf("the observer was told %+v", told)
	}
	wantContains(t, "the log", log.String(), "level=WARN", "the blog's database has no answer", "page=index")
	if w := b.get(assetPath("style.css")); w.Code != http.StatusOK {
		t.Errorf("the stylesheet: %d, want it without a database", w.Code)
	}
	other.Close()
	if w := b.get("/"); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d, want 200", w.Code)
	}
}

func TestOutages_AreLoggedOnceASecondForEachPage(t *testing.T) {
	var o outages
	var got []bool
	for _, c := range []struct {
		page string
		at   time.Duration
	}{
		{"index", 0}, {"index", 0}, {"post", 0}, {"index", 999 * time.Millisecond}, {"index", time.Second}, {"post", time.Second}, {"post", 1500 * time.Millisecond},
	} {
		got = append(got, o.due(c.page, noon.Add(c.at)))
	}
	if want := []bool{true, false, true, false, true, true, false}; !slices.Equal(got, want) {
		t.Errorf("logged %v, want %v", got, want)
	}
}

// All requests of a flood are counted and get their page; the log has one line of them.
func TestPage_AFloodWithoutADatabaseIsOneLineOfTheLog(t *testing.T) {
	b := newBlog(t, Options{})
	b.db.Close()
	db, err := store.OpenSQLite(filepath.Join(t.TempDir(), "none.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var told observed
	var log bytes.Buffer
	if b.Handler, err = New(Options{Store: db, Observer: &told, Now: func() time.Time { return noon }, Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if w := b.get("/"); w.Code != http.StatusServiceUnavailable {
			t.Fatalf("status %d, want 503", w.Code)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || len(told.failed) != 20 || strings.Contains(log.String(), "ERROR") {
		t.Errorf("%d requests were counted, and the log has\n%s", len(told.failed), log.String())
	}
}

func TestDescribe_GivesEachErrorItsPage(t *testing.T) {
	for err, want := range map[error]int{
		blog.ErrNotFound: 404, blog.ErrConflict: 409, blog.ErrBusy: 503, errAddress: 400, errors.New("bug"): 500,
	} {
		if status, about := describe(errors.Join(errors.New("outer"), err)); status != want || about.Heading == "" || about.Advice == "" {
			t.Errorf("%v: %d %+v, want %d", err, status, about, want)
		}
	}
}
