package web

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// hostile is what somebody may write wherever a text is taken.
var hostile = []string{
	`<script>alert(1)</script>`,
	`"><script src=//evil.example></script>`,
	`'"><img src=x onerror=alert(1)>`,
	`" onmouseover="alert(1)`,
	`' onfocus='alert(1)' autofocus='`,
	"` onfocus=alert(1) autofocus ",
	`</title><script>alert(1)</script>`,
	`</textarea><svg/onload=alert(1)>`,
	`--><script>alert(1)</script><!--`,
	`]]><script>alert(1)</script>`,
	`<iframe srcdoc="<script>alert(1)</script>">`,
	`<a href="javascript:alert(1)">x</a>`,
	`[x](javascript:alert(1))`,
	`javascript:alert(1)`,
	`JaVaScRiPt:alert(1)//`,
	`data:text/html,<script>alert(1)</script>`,
	`<meta http-equiv=refresh content="0;url=javascript:alert(1)">`,
	`<base href=//evil.example>`,
	`<style>*{background:url(javascript:alert(1))}</style>`,
	`{{.Blog.Store}} {{safe "<b>"}}`,
	`%3Cscript%3Ealert(1)%3C/script%3E`,
	`&lt;script&gt;alert(1)&lt;/script&gt;`,
	"\u202e<script>\u2028alert(1)</script>",
	"x\r\nSet-Cookie: a=b",
}

var harmlessLink = regexp.MustCompile(`(?i)^(https?://|mailto:|[/#?]|[^:]*$)`)

// checkInert parses a page as a browser does and fails if anything in it could run, or comes from elsewhere.
func checkInert(t *testing.T, what, page string) {
	t.Helper()
	doc, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		switch n.Data {
		case "script":
			if !strings.HasPrefix(attribute(n, "src"), "/assets/") || n.FirstChild != nil {
				t.Errorf("%s: a script came out:\n%s", what, page)
			}
		case "style", "iframe", "object", "embed", "base", "svg", "math", "template", "noscript":
			t.Errorf("%s: <%s> came out:\n%s", what, n.Data, page)
		case "meta":
			if attribute(n, "http-equiv") != "" {
				t.Errorf("%s: a meta element acts:\n%s", what, page)
			}
		}
		for _, a := range n.Attr {
			key := strings.ToLower(a.Key)
			switch {
			case strings.HasPrefix(key, "on"), key == "style", key == "srcdoc", key == "autofocus":
				t.Errorf("%s: the attribute %s came out:\n%s", what, a.Key, page)
			case (key == "href" || key == "src" || key == "action" || key == "formaction") && !harmlessLink.MatchString(a.Val):
				t.Errorf("%s: the link %q came out:\n%s", what, a.Val, page)
			case (key == "src" || n.Data == "link" && key == "href") && strings.HasPrefix(a.Val, "//"):
				t.Errorf("%s: %q comes from elsewhere:\n%s", what, a.Val, page)
			}
		}
	}
}

func TestXSS_NothingThatAnybodyWritesRuns(t *testing.T) {
	for _, text := range hostile {
		b := newBlog(t, Options{Title: text, Description: text, About: text})
		b.ann.Shown = text
		if err := b.db.UpdateAuthor(t.Context(), b.ann); err != nil {
			t.Fatal(err)
		}
		title, tag := text, text
		if runes := []rune(text); len(runes) > blog.TagLimit {
			tag = string(runes[:blog.TagLimit])
		}
		p := b.written(blog.Post{Title: title, Slug: text, Body: "word " + text + "\n\n# " + text + "\n\n![" + text + "](/images/x)", Tags: []string{tag}}, noon)
		asked := url.QueryEscape(text)
		for _, path := range []string{
			"/", p.Path(), "/tags", tagPath(p.Tags[0]), "/about", "/search?q=word", "/search?q=" + asked, "/search?q=" + url.QueryEscape("word "+text),
			"/?after=" + asked, "/post/" + url.PathEscape(text), "/post/1/" + url.PathEscape(text), "/tag/" + url.PathEscape(text), "/" + url.PathEscape(text),
		} {
			w := b.get(path, "Referer", text, "User-Agent", text)
			if w.Code >= http.StatusInternalServerError || w.Header().Get("Set-Cookie") != "" {
				t.Errorf("%s: %d, %v", path, w.Code, w.Header())
			}
			if to := w.Header().Get("Location"); to != "" && (!strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//")) {
				t.Errorf("%s leads to %q", path, to)
			}
			if strings.HasPrefix(w.Header().Get("Content-Type"), "text/html") {
				checkInert(t, text+" at "+path, w.Body.String())
			}
		}
		for _, path := range []string{"/feed.xml", "/sitemap.xml", "/sitemap-posts.xml"} {
			checkFeed(t, text+" at "+path, b.page(path))
		}
	}
}

// checkFeed reads XML with an XML parser, and what a reader of feeds shows as a browser does.
func checkFeed(t *testing.T, what, document string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(document))
	var in []string
	for {
		token, err := d.Token()
		if err != nil {
			if err.Error() != "EOF" {
				t.Errorf("%s: %v\n%s", what, err, document)
			}
			return
		}
		switch token := token.(type) {
		case xml.StartElement:
			in = append(in, token.Name.Local)
			if !strings.Contains("feed id title subtitle updated link entry published author name category summary content sitemapindex sitemap loc urlset url lastmod", token.Name.Local) {
				t.Errorf("%s: the element %s came out:\n%s", what, token.Name.Local, document)
			}
			for _, a := range token.Attr {
				if a.Name.Local == "href" && !strings.HasPrefix(a.Value, "http://example.com/") {
					t.Errorf("%s: the link %q came out", what, a.Value)
				}
			}
		case xml.EndElement:
			in = in[:len(in)-1]
		case xml.CharData:
			if len(in) > 0 && in[len(in)-1] == "content" {
				checkInert(t, what, string(token))
			}
		}
	}
}
