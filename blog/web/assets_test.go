package web

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/internal/contrast"
)

func TestAssets_AreKeptForEverByTheirHash(t *testing.T) {
	b := newBlog(t, Options{})
	for _, name := range []string{"style.css", "blog.js", "favicon.svg"} {
		path := assetPath(name)
		if !regexp.MustCompile(`^/assets/[a-z]+\.[0-9a-f]{16}\.[a-z]+$`).MatchString(path) {
			t.Errorf("address %q", path)
		}
		w := b.get(path)
		if w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || w.Body.Len() == 0 {
			t.Errorf("%s: %d, %v", path, w.Code, w.Header())
		}
		if w := b.get(path, "If-None-Match", w.Header().Get("ETag")); w.Code != http.StatusNotModified {
			t.Errorf("%s again: %d, want 304", path, w.Code)
		}
		if w := b.get("/assets/" + name); w.Code != http.StatusOK || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s without its hash: %d, %v", name, w.Code, w.Header())
		}
	}
	for _, absent := range []string{"/assets/", "/assets/style.0000000000000000.css", "/assets/..%2fweb.go", "/assets/.", "/assets/x/y"} {
		if w := b.get(absent); w.Code == http.StatusOK {
			t.Errorf("%s: %d", absent, w.Code)
		}
	}
	wantContains(t, "the icon", b.page("/favicon.svg"), "<svg")
}

// loaded is the size of a page with all that it asks for, and fails if that is from elsewhere.
func (b *testBlog) loaded(path string) int {
	b.t.Helper()
	page := b.page(path)
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		b.t.Fatal(err)
	}
	size := len(page)
	for n := range doc.Descendants() {
		for _, a := range n.Attr {
			asks := a.Key == "src" || a.Key == "href" && n.Data == "link" && regexp.MustCompile(`stylesheet|icon`).MatchString(attribute(n, "rel"))
			if asks {
				size += len(b.page(a.Val))
			}
		}
	}
	return size
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func TestFirstLoad_IsSmallAndFromHere(t *testing.T) {
	b := newBlog(t, Options{Description: "of a week"})
	var p blog.Post
	for range listLength + 1 {
		p = b.written(blog.Post{Title: strings.Repeat("title ", 16), Body: strings.Repeat("Some words of a post that is rather long. ", 300), Tags: []string{"go", "caddy", "ollama"}}, noon)
	}
	for _, path := range []string{"/", p.Path()} {
		size := b.loaded(path)
		if size < 10_000 || size > 100_000 {
			t.Errorf("%s loads %d bytes, want fewer than 100,000", path, size)
		}
	}
	css := string(assets()["style.css"].content)
	if len(css) > 20_000 || strings.Contains(css, "url(") || strings.Contains(css, "@import") {
		t.Errorf("the stylesheet has %d bytes, or asks for more", len(css))
	}
}

func TestStyle_ColoursAreReadInBothSchemes(t *testing.T) {
	css := string(assets()["style.css"].content)
	for _, scheme := range contrast.Schemes(t, css) {
		check := func(mark, ground string, least float64) { t.Helper(); scheme.Check(t, mark, ground, least) }
		grounds := map[string]bool{"ground": true, "card": true, "mark": true, "line": true, "edge": true, "on-link": true}
		for name := range scheme {
			if !grounds[name] { // a text, which may stand on either
				check(name, "ground", 4.5)
				check(name, "card", 4.5)
			}
		}
		check("text", "mark", 4.5)
		check("on-link", "link", 4.5)
		check("on-link", "link-hover", 4.5)
		check("edge", "ground", 3) // WCAG 2, 1.4.11: what shows where a field is
	}
	if strays := regexp.MustCompile(`(?m)^(?:[^-\n]|-[^-\n])*:[^;\n]*#[0-9a-f]{3,8}\b.*$`).FindAllString(css, -1); strays != nil {
		t.Errorf("colours that are no variables: %q", strays)
	}
}
