package main

import (
	"bufio"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

func TestBlogPosts_AreWhatTheSearchesAreAbout(t *testing.T) {
	const posts = 200
	file := filepath.Join(t.TempDir(), "blog", "blog.db")
	for range 2 { // the second time it is there
		if err := fillBlog(t.Context(), file, posts); err != nil {
			t.Fatal(err)
		}
	}
	s, err := store.OpenSQLite(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count := func(text string) (n int) {
		for q := (blog.SearchQuery{Text: text}); ; {
			page, err := s.Search(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			n += len(page.Hits)
			if q.After = page.Next; q.After.IsZero() {
				return n
			}
		}
	}
	want := map[string]int{"word": posts / 50, "frequent": posts*9/10 + posts/100, "prefix": posts*9/10 + posts/100, "two words": posts / 100, "Chinese": posts/7 + 1}
	for _, one := range blogSearches {
		if got := count(one.text); got != want[one.name] {
			t.Errorf("%s finds %d posts, want %d", one.name, got, want[one.name])
		}
	}
	p, err := s.Post(t.Context(), posts/2)
	if err != nil || p.Slug != blogSlug(posts/2-1) || p.Body != blogPost(posts/2-1).Body {
		t.Errorf("post %d has the slug %q, want %q and the same text each time; %v", posts/2, p.Slug, blogSlug(posts/2-1), err)
	}
	words := map[string]bool{}
	for n := range blogWords {
		words[blogWord(n)] = true
	}
	if len(words) != blogWords {
		t.Errorf("%d different words, want %d", len(words), blogWords)
	}
}

func TestClient_ComparesPages(t *testing.T) {
	const body = "<p>one\ntwo\n\nthree</p>\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") == `"a"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Write([]byte(body))
	}))
	defer srv.Close()
	c := &client{ctx: t.Context(), addr: strings.TrimPrefix(srv.URL, "http://")}
	defer c.close()
	for _, p := range []page{{path: "/", want: []byte(body)}, {path: "/", tag: `"a"`}, {path: "/", want: []byte(body)}} {
		if err := c.get(p); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, wrong := range []page{
		{path: "/", want: []byte(body + "x")},
		{path: "/", want: []byte(body[:len(body)-3])},
		{path: "/", want: []byte(strings.Replace(body, "two", "TWO", 1))},
		{path: "/", tag: `"b"`},
		{path: "/", want: nil},
	} {
		if err := c.get(wrong); err == nil {
			t.Errorf("%+v: no error", wrong)
		}
	}
}

func TestBodyReader_ComparesABodyThatIsCut(t *testing.T) {
	b := new(bodyReader)
	b.open(bufio.NewReader(strings.NewReader("one\n")), 8)
	if err := b.equals([]byte("one\ntwo\n")); err == nil {
		t.Error("no error")
	}
}

func TestGoals_OfTheValueItself(t *testing.T) {
	f := plain(absolute(figure{name: "p99 ms", value: func(s, _ *sample) float64 { return float64(s.answers) }})).goal(0, 50, 0)
	var report strings.Builder
	all := results{scenarios: []result{{
		scenario: scenario{name: "search", figures: []figure{f}, rows: []string{gateway}},
		rounds:   []round{{gateway: &sample{answers: 40}}, {gateway: &sample{answers: 60}}, {gateway: &sample{answers: 70}}},
	}}}
	if err := writeReport(&report, "", all); err != nil {
		t.Fatal(err)
	}
	if want := "search | p99 ms | **60.0** (40.0..70.0) | <= 50.0 |  | MISSED |"; !strings.Contains(report.String(), want) {
		t.Errorf("no %q in\n%s", want, report.String())
	}
}
