package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// hostileHTML are texts that run a script when a page has them as they are: each calls xss with its number, which the
// control checks. Those that hide what follows them are the last.
var hostileHTML = []string{
	`<script>xss(1)</script>`,
	`<ScRiPt >xss(1)</sCrIpT >`,
	`<img src=x: onerror=xss(1)>`,
	`"><img src=x: onerror=xss(1)>`,
	`'"><svg/onload=xss(1)>`,
	`<svg><script>xss(1)</script></svg>`,
	`<svg><animate onbegin=xss(1) attributeName=x dur=1s>`,
	`<svg><a xlink:href="javascript:xss(1)"><text y=9>x</text></a></svg>`,
	`<a href="javascript:xss(1)">x</a>`,
	"<a href=\"java\nscript:xss(1)\">x</a>",
	`<a href="&#106;avascript&colon;xss(1)">x</a>`,
	`<form><button formaction="javascript:xss(1)">x</button></form>`,
	`<div onmouseover="xss(1)">x</div>`,
	`<input autofocus onfocus=xss(1)>`,
	`<details open ontoggle=xss(1)>x</details>`,
	`<video><source onerror=xss(1)></video>`,
	`<math><mtext></table></math><img src=x: onerror=xss(1)>`,
	`<iframe srcdoc="<script>parent.xss(1)</script>"></iframe>`,
	`<noscript><p title="</noscript><img src=x: onerror=xss(1)>">`,
	`</title><script>xss(1)</script>`,
	`</textarea><script>xss(1)</script>`,
	`]]><script>xss(1)</script>`,
	`--><script>xss(1)</script><!-- -->`,
}

// hostileMarkdown would become such by Markdown, or by what the pages make of a text.
var hostileMarkdown = []string{
	`[x](javascript:xss(1))`,
	"[x](java\tscript:xss(1))",
	`[x](&#106;avascript&colon;xss(1))`,
	`[x](vbscript:xss(1))`,
	`[x](data:text/html,<script>xss(1)</script>)`,
	`<javascript:xss(1)>`,
	"[y]: javascript:xss(1)\n\n[y]",
	`[a](/about "\" onmouseover=\"xss(1)")`,
	`![" onerror="xss(1)](/favicon.svg)`,
	`![x](javascript:xss(1))`,
	`# heading {onclick=xss(1)}`,
	"```\"><script>xss(1)</script>\ncode\n```",
	"```html onload=xss(1)\n<script>xss(1)</script>\n```",
	"|a|b|\n|-|-|\n|<script>xss(1)</script>|[x](javascript:xss(1))|",
	"{{.Blog.Store}} {{safe `<script>xss(1)</script>`}}",
	"event: done\ndata: {\"html\":\"<img src=x: onerror=xss(1)>\"}\n\n",
	"&lt;script&gt;xss(1)&lt;/script&gt;",
}

func hostileTexts() []string { return append(slices.Clone(hostileHTML), hostileMarkdown...) }

// armed has each of the pages that a tab will show, and each frame in them, tell the browser when xss is called.
func (p *tab) armed() *tab {
	p.t.Helper()
	p.call(p.session, "Runtime.addBinding", map[string]string{"name": "ranScript"}, nil)
	p.call(p.session, "Page.addScriptToEvaluateOnNewDocument", map[string]string{"source": `window.xss = (n) => ranScript("number " + n)`}, nil)
	return p
}

// poke does to a document what a visitor could do, and comes back when what that has started had its turn: an
// image that cannot be loaded is told of in the order of the page.
const poke = `(async (d) => {
	for (const e of d.querySelectorAll("body *")) {
		for (const type of ["mouseover", "focus", "input"]) e.dispatchEvent(new Event(type));
		const to = (e.getAttribute("href") ?? e.getAttribute("xlink:href") ?? e.getAttribute("formaction") ?? "").replace(/[\s\x00-\x1f]/g, "");
		if (/^(javascript|vbscript|data):/i.test(to)) e.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
	}
	for (let turn = 0; turn < 2; turn++) await new Promise((done) => { const i = new Image(); i.onload = i.onerror = done; i.src = "/favicon.svg"; });
	return [...d.links].filter((a) => !/^(https?|mailto):$/.test(a.protocol)).map((a) => a.outerHTML).join();
})`

// inert fails the test if anything on the page ran, or tried to and was held by the policy.
func (p *tab) inert(what string) {
	p.t.Helper()
	if links := p.eval(poke + "(document)"); links != "" {
		p.t.Errorf("%s: there are links to %v", what, links)
	}
	p.forgive("status of 40") // of an address that was made up
	p.wellBehaved(what)
}

// checkControl holds that what the others look for would be seen: on a page without a policy each of the texts
// runs, and on a page of the blog's the policy holds what somebody put there, and says so.
func checkControl(t *testing.T, b *browser, s *blogSite) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if n, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/text/")); err == nil {
			fmt.Fprint(w, "<!doctype html><title>x</title><body>", strings.ReplaceAll(hostileHTML[n], "xss(1)", fmt.Sprintf("xss(%d)", n)))
			return
		}
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "<!doctype html><title>x</title>")
		for n := range hostileHTML {
			fmt.Fprintf(w, "<iframe src=/text/%d></iframe>", n)
		}
	}))
	defer server.Close()
	p := b.openFor(b.visitor(), desk).armed()
	p.visit(server.URL)
	p.eval("Promise.all(Array.from(document.querySelectorAll('iframe'), (f) => " + poke + "(f.contentDocument))).then(() => 1)")
	for n, text := range hostileHTML {
		if p.forgive(fmt.Sprintf(`"payload":"number %d"`, n)) == 0 {
			t.Errorf("in a page without a policy %q does not run: it proves nothing", text)
		}
	}

	p.visit(s.url + "/about")
	p.forgive("") // of the page before
	p.eval(`document.querySelector("main").innerHTML = "<img src=x: onerror=xss(1)>"`)
	p.eval(poke + "(document)")
	if p.forgive("Content Security Policy") == 0 || p.forgive("Runtime.bindingCalled") != 0 {
		t.Error("the policy of the blog does not hold a script that is in its page, or does not say so")
	}
}

// checkHostile has everything that somebody can write into a blog be hostile, and looks at all pages that show it.
func checkHostile(t *testing.T, s *blogSite, b *browser, ann *tab) {
	checkControl(t, b, s)
	texts := hostileTexts()
	backwards := slices.Clone(texts)
	slices.Reverse(backwards)
	dir := t.TempDir()
	for n, text := range texts {
		short := []rune(strings.Join(strings.Fields(text), " "))
		title, tag := string(short[:min(len(short), 100)]), string(short[:min(len(short), 40)])
		body := text
		switch n {
		case 0:
			body = strings.Join(texts, "\n\n")
		case 1:
			body = strings.Join(backwards, "\n\n")
		}
		file := fmt.Sprintf("---\ntitle: %s\nid: %d\nauthor: %s\ntags: [%s]\npublished: 2026-01-02T03:%02d:00Z\n---\nword\n\n%s\n", strconv.Quote(title), 1000+n, strconv.Quote(title), strconv.Quote(tag), n, body)
		if err := os.MkdirAll(filepath.Join(dir, "posts"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "posts", fmt.Sprintf("%03d.md", n)), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mustAsk(t, s.env, "blog", "import", dir)

	reader := b.openFor(b.visitor(), desk).armed()
	look := func(p *tab, path string) {
		t.Helper()
		p.visit(s.url + path)
		p.inert(path)
	}
	look(reader, "/")
	if n := reader.eval(`document.querySelectorAll("article").length`); n != 20.0 {
		t.Fatalf("the first page has %v posts", n)
	}
	for reader.eval(`document.querySelector("a[rel=next]") !== null`) == true {
		reader.follow("a[rel=next]")
		reader.inert("older posts")
	}
	for _, path := range []string{"/post/1000", "/post/1001", "/tags", "/search?q=word", "/feed.xml"} {
		look(reader, path)
	}
	for _, text := range []string{hostileHTML[3], `" autofocus onfocus="xss(1)`, `</title><script>xss(1)</script>`, `word <script>xss(1)</script>`} {
		look(reader, "/search?q="+url.QueryEscape(text))
		look(reader, "/tag/"+url.PathEscape(text))
		look(reader, "/"+url.PathEscape(text))
		look(reader, "/login?next="+url.QueryEscape(text))
	}
	look(reader, "/login?next=javascript:xss(1)")
	reader.eval("xss(7)")
	if reader.forgive(`"payload":"number 7"`) != 1 {
		t.Error("on pages of the blog nobody would learn that a script has run")
	}

	reader.visit(s.url + "/ai-inference")
	reader.write("#ai-question", "hostile "+hostileHTML[3])
	reader.click(`form[action="/ai-inference"] button`)
	reader.answered()
	reader.inert("an answer that is hostile")
	if reader.eval(`document.querySelector("[data-ai-text]").innerText.includes("heading")`) != true {
		t.Error("the answer is not the hostile one")
	}
	reader.leave("by the same question as a form", func() {
		reader.eval(`HTMLFormElement.prototype.submit.call(document.querySelector('form[action="/ai-inference"]'))`)
	})
	reader.says("Written by a model")
	reader.inert("a page with an answer that is hostile")

	ann.armed()
	look(ann, "/post/1001/edit")
	ann.until("the preview is there", `document.querySelector("#preview").innerText.includes("heading")`)
	ann.inert("the editor with a hostile post")
	for _, text := range []string{`<img src=x: onerror=xss(1)>`, `"><script>xss(1)</script>`, `](javascript:xss(1))`, "`*_[x](javascript:xss(1))", `" onerror="xss(1)`} {
		ann.write("#body", "")
		ann.eval(fmt.Sprintf(pasteImage, text+".png"))
		ann.until("the image is in the text", `document.getElementById("body").value.includes("](/images/")`)
		ann.until("the image is in the preview", `document.querySelectorAll("#preview img").length === 1`)
		ann.inert("an image called " + text)
	}
	look(ann, "/drafts")
	look(ann, "/post/1001/edit")
	ann.follow(`form[action$="/delete"] button`)
	ann.inert("deleted posts")
}

// pasteImage puts a picture of four pixels, whose file has a name, into the text as from the clipboard.
const pasteImage = `(async (name) => {
	const canvas = new OffscreenCanvas(2, 2);
	canvas.getContext("2d").fillRect(0, 0, 1, 1);
	const clipboardData = new DataTransfer();
	clipboardData.items.add(new File([await canvas.convertToBlob()], name, {type: "image/png"}));
	document.getElementById("body").dispatchEvent(new ClipboardEvent("paste", {clipboardData, cancelable: true}));
})(%q)`

// Whoever needs no eyes, no mouse, or means harm. A first gateway's visitors have asked what they may for a while, so
// this is another one.
func TestBlog_IsForEverybodyAndRunsNothing(t *testing.T) {
	node := startBlogNode(t, strings.Join(hostileTexts(), "\n\n"))
	s := startBlogSite(t, node.url)
	b := startBrowser(t)
	ann := b.openFor(b.visitor(), desk)
	s.signIn(ann)
	t.Run("axe", func(t *testing.T) { inspectBlog(t, s, b, ann) })
	t.Run("nothing runs", func(t *testing.T) { checkHostile(t, s, b, ann) })
}
