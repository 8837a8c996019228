package web

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// elements of a page by name, in order.
func elements(t *testing.T, page string) map[string][]*html.Node {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]*html.Node{}
	for n := range doc.Descendants() {
		if n.Type == html.ElementNode {
			all[n.Data] = append(all[n.Data], n)
			if len(n.Data) == 2 && n.Data[0] == 'h' && n.Data[1] >= '1' && n.Data[1] <= '6' {
				all["headings"] = append(all["headings"], n)
			}
		}
	}
	return all
}

func TestMarkup_CanBeReadWithoutSeeing(t *testing.T) {
	b := newBlog(t, Options{Description: "of a week", About: "### Me\n\n#### More"})
	p := b.written(blog.Post{Title: "one", Body: "## Part\n\n- [x] done\n- [ ] open\n\n### Smaller\n\n![a cat](/images/x.png)", Tags: []string{"go"}}, noon)
	for range listLength {
		b.written(blog.Post{Title: "two", Body: "done", Tags: []string{"go"}}, noon)
	}
	for _, path := range []string{"/", p.Path(), "/tag/go", "/tags", "/about", "/search", "/search?q=done", "/search?q=absent", "/absent"} {
		w := b.get(path, "Accept-Language", "zh")
		all := elements(t, w.Body.String())
		if len(all["h1"]) != 1 || len(all["main"]) != 1 || len(all["title"]) != 1 || attribute(all["html"][0], "lang") != "zh" {
			t.Errorf("%s: not one of h1, main, title, or no language:\n%s", path, w.Body)
		}
		level := byte('0')
		for _, h := range all["headings"] {
			if h.Data[1] > level+1 {
				t.Errorf("%s: %s follows a heading of level %c", path, h.Data, level)
			}
			level = h.Data[1]
		}
		if skip := all["a"][0]; attribute(skip, "href") != "#main" || attribute(all["main"][0], "id") != "main" {
			t.Errorf("%s: the first link does not lead to the text", path)
		}
		names := map[string]bool{}
		for _, n := range all["nav"] {
			if name := attribute(n, "aria-label"); name == "" || names[name] {
				t.Errorf("%s: navigations cannot be told apart: %q", path, name)
			} else {
				names[name] = true
			}
		}
		labels := map[string]bool{}
		for _, n := range all["label"] {
			labels[attribute(n, "for")] = true
		}
		for _, n := range append(append(all["input"], all["textarea"]...), all["select"]...) {
			if !labels[attribute(n, "id")] && attribute(n, "aria-label") == "" && attribute(n, "type") != "hidden" {
				t.Errorf("%s: a field has no label: %v", path, n.Attr)
			}
		}
		for _, n := range all["img"] {
			if attribute(n, "alt") == "" {
				t.Errorf("%s: an image says nothing: %v", path, n.Attr)
			}
		}
	}
	if w := b.get("/absent"); w.Code != http.StatusNotFound {
		t.Errorf("a page that is not there: %d", w.Code)
	}
}
