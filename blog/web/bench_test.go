package web

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// BenchmarkPage is what pages cost with 10,000 posts: kept, made anew as the first time after
// a change, and for an author.
func BenchmarkPage(b *testing.B) {
	s := newBlog(b, Options{URL: "https://blog.example", Description: "of a week"})
	var p blog.Post
	for i := range 10_000 {
		body := "# Part\n\n" + strings.Repeat("Some *words* of a post that says something. ", 40) + fmt.Sprintf("word%d\n\n```go\nfunc main() {}\n```\n", i%100)
		p = s.written(blog.Post{Title: fmt.Sprint("Post ", i), Body: body, Tags: []string{"all", fmt.Sprint("tag ", i%100)}}, noon.Add(time.Duration(i)*time.Second))
	}
	cookie, session := s.signedIn()
	for _, c := range []struct{ name, path string }{
		{"index", "/"},
		{"post", p.Path()},
		{"tag", "/tag/tag%207"},
		{"tags", "/tags"},
		{"search=frequent", "/search?q=words"},
		{"search=rare", "/search?q=word7"},
		{"feed", "/feed.xml"},
		{"sitemap", "/sitemap-posts.xml"},
	} {
		for _, way := range []struct {
			name    string
			headers []string
			forget  bool
		}{{"kept", nil, false}, {"made", nil, true}, {"author", []string{cookie, session}, false}} {
			b.Run(c.name+"/"+way.name, func(b *testing.B) {
				r := httptest.NewRequest(http.MethodGet, c.path, nil)
				for i := 0; i < len(way.headers); i += 2 {
					r.Header.Set(way.headers[i], way.headers[i+1])
				}
				b.ReportAllocs()
				for b.Loop() {
					if way.forget {
						s.pages.InvalidateAll()
					}
					w := httptest.NewRecorder()
					if s.ServeHTTP(w, r); w.Code != http.StatusOK {
						b.Fatalf("%d\n%s", w.Code, w.Body)
					}
				}
			})
		}
	}
}
