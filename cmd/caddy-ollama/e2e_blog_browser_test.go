package main

import (
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A blogNode is a simulated node that counts what it generates. To questions with the word hostile it says
// what a test has put.
type blogNode struct {
	url         string
	generations atomic.Int64
}

func startBlogNode(t *testing.T, hostile string) *blogNode {
	t.Helper()
	_, urls := startSimulate(t, 1, "--models", "sim-small", "--slots", "2")
	node, err := url.Parse(urls[0])
	if err != nil {
		t.Fatal(err)
	}
	n := &blogNode{}
	pass := httputil.NewSingleHostReverseProxy(node)
	pass.FlushInterval = -1
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/chat" {
			pass.ServeHTTP(w, r)
			return
		}
		n.generations.Add(1)
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(body), "hostile") {
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			pass.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		answer := json.NewEncoder(w)
		message := func(text string, more map[string]any) {
			more["model"], more["created_at"], more["message"] = "sim-small", time.Now(), map[string]string{"role": "assistant", "content": text}
			answer.Encode(more)
		}
		message(hostile, map[string]any{"done": false})
		message("", map[string]any{"done": true, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 9, "total_duration": 9, "eval_duration": 9})
	}))
	t.Cleanup(server.Close)
	n.url = server.URL
	return n
}

// A blogSite is `up` with a blog, which a browser looks at.
type blogSite struct {
	*gateway
	url  string
	link string // that signs in once
}

func startBlogSite(t *testing.T, node string) *blogSite {
	t.Helper()
	s := &blogSite{gateway: startUp(t, []string{"OLLAMA_NODES=" + node})}
	s.url = base("https", "localhost", s.tlsPort)
	s.link = s.url + "/login/link?token=" + s.rests("  "+s.url+"/login/link?token=", 1)[0]
	return s
}

var desk = look{1280, 900, "light", false}

const (
	travelTitle = "A week in Beijing"
	travelTags  = "travel, go"
	travelText  = `The night train takes **five hours**, and nobody on it is in a hurry. Behind the hills the fields begin: I drank tea, and wrote this.

## How I counted the stations

` + "```go" + `
// stations is how often the train stops, without the last one, where everybody leaves anyway and takes a taxi.
func stations(line []string) int {
	return max(len(line)-1, 0)
}
` + "```" + `

| Day | Kilometres | Tea |
|---|---:|---|
| Monday | 12 | green |
| Tuesday | 8 | jasmine |

- [x] the Temple of Heaven
- [ ] the wall, when it rains less
`
)

// paint is a picture for a post: hills in the evening.
func paint(t *testing.T) (file string) {
	t.Helper()
	const width, height = 960, 420
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for x := range width {
		for y := range height {
			high := float64(y) / height
			c := color.RGBA{uint8(250 - 40*high), uint8(170 + 60*high), uint8(120 + 90*high), 255}
			for hill := range 3 {
				h := float64(hill)
				top := 200 + 70*h + (46-9*h)*math.Sin(float64(x)/(150-30*h)+2*h)
				if float64(y) > top {
					c = color.RGBA{uint8(96 - 28*h), uint8(124 - 26*h), uint8(128 - 30*h), 255}
				}
			}
			if math.Hypot(float64(x-700), float64(y-110)) < 42 && high < .6 {
				c = color.RGBA{255, 244, 214, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	file = filepath.Join(t.TempDir(), "hills.png")
	out, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := png.Encode(out, m); err != nil {
		t.Fatal(err)
	}
	return file
}

// signIn uses the link by the keyboard alone, and sets a password.
func (s *blogSite) signIn(p *tab) {
	s.t.Helper()
	p.visit(s.link)
	if n := p.eval(`document.querySelectorAll("main button").length`); n != 1.0 {
		s.t.Fatalf("the page of the link has %v buttons", n)
	}
	for range 30 {
		if p.eval(`document.activeElement === document.querySelector("main button")`) == true {
			break
		}
		p.key("Tab")
	}
	p.leave("by the link's button", func() { p.key("Enter") })
	p.says("You are signed in.")
}

// compose fills in the form of a post, with an image at its end.
func (s *blogSite) compose(p *tab, title, text, tags, image string) {
	s.t.Helper()
	p.visit(s.url + "/create")
	p.write("#title", title)
	p.write("#tags", tags)
	p.write("#body", text)
	p.choose("#image", image)
	p.click("#uploader button")
	p.until("the image is in the text", `document.getElementById("body").value.includes("](/images/")`)
}

// watch has the page write down how long the answer of the model is, each time that it grows.
const watch = `(() => {
	window.grown = [];
	const text = document.querySelector("[data-ai-text]");
	new MutationObserver(() => {
		const coming = text.querySelector(".coming");
		if (coming?.textContent) grown.push(coming.textContent.length);
	}).observe(text, {subtree: true, childList: true, characterData: true});
})()`

// answered waits for the whole answer of a model on a post's page, and is what is said about it.
func (p *tab) answered() (note string) {
	p.t.Helper()
	p.until("there is an answer", `document.querySelector("[data-ai-note]").innerText.includes("Written by a model (")`)
	if p.eval(`document.querySelector("[data-ai-text]").innerText.trim() === ""`) == true {
		p.t.Error("the answer is empty")
	}
	return p.eval(`document.querySelector("[data-ai-note]").innerText`).(string)
}

const fromCache = "Answered from the cache."

// A person comes by the first link, writes, and asks; another one asks the same.
func TestBlog_InABrowser(t *testing.T) {
	node := startBlogNode(t, "")
	s := startBlogSite(t, node.url)
	b := startBrowser(t)

	// The browser is told to take the certificate; a client that knows the authority finds it good.
	resp, _ := s.fetch("GET", "", "/", html)
	if resp.TLS == nil || len(resp.TLS.VerifiedChains) == 0 || resp.TLS.PeerCertificates[0].VerifyHostname("localhost") != nil {
		t.Errorf("the certificate of localhost: %+v", resp.TLS)
	}

	who := b.visitor()
	ann := b.openFor(who, desk)
	s.signIn(ann)
	ann.write("#password", "a long enough password")
	ann.write("#again", "a long enough password")
	ann.follow(`main button`)
	ann.says("The password was changed.")

	s.compose(ann, travelTitle, travelText, travelTags, paint(t))
	ann.until("the preview has code in colours and the image", `document.querySelector("#preview pre .kd, #preview pre .k") !== null && document.querySelector("#preview img") !== null`)
	if ann.eval(`document.getElementById("preview-side").getBoundingClientRect().left >= document.getElementById("body").getBoundingClientRect().right`) != true {
		t.Error("the preview is not beside the text")
	}
	ann.wellBehaved("while a post is written")
	save(t, ann, "blog-editor", "")
	ann.follow("button[value=publish]")
	if at, title := ann.eval("location.pathname"), ann.eval(`document.querySelector("h1").innerText`); at != "/post/2/a-week-in-beijing" || title != travelTitle {
		t.Fatalf("after publishing the page is at %v, with the title %v", at, title)
	}
	path := ann.eval("location.pathname").(string)
	ann.eval(`document.querySelector("article img").scrollIntoView()`)
	ann.until("the image is there in its size", `(() => { const i = document.querySelector("article img"); return i.complete && i.naturalWidth === 960 && i.getAttribute("width") === "960"; })()`)

	finds := func(word string) {
		t.Helper()
		ann.follow(`nav a[href="/search"]`)
		ann.write("#q", word)
		ann.leave("by Enter in the search", func() { ann.key("Enter") })
		if hit, marked := ann.eval(`document.querySelector("main article a")?.getAttribute("href")`), ann.eval(`document.querySelector("main mark")?.innerText`); hit != path || marked != word {
			t.Errorf("a search for %s finds %v with %v", word, hit, marked)
		}
		ann.visit(s.url + path)
	}
	finds("stations")

	const question = "How many hours does the train take?"
	asks := func(p *tab) string {
		p.visit(s.url + path)
		p.eval(watch)
		p.write("#ai-question", question)
		p.click("form[action=ask] button")
		return p.answered()
	}
	if note := asks(ann); strings.Contains(note, fromCache) {
		t.Errorf("the first one to ask is told %s", note)
	}
	if n := ann.eval("new Set(grown).size").(float64); n < 3 {
		t.Errorf("the answer was seen to grow %v times before it was whole", n)
	}
	first := ann.eval(`document.querySelector("[data-ai-text]").innerText`)
	made := node.generations.Load()
	bob := b.openFor(b.visitor(), desk)
	bob.visit(s.url + "/")
	bob.says(travelTitle)
	save(t, bob, "blog-index", "")
	if note := asks(bob); !strings.Contains(note, fromCache) {
		t.Errorf("the second one to ask is told %s", note)
	}
	if got := bob.eval(`document.querySelector("[data-ai-text]").innerText`); got != first || node.generations.Load() != made || made != 1 {
		t.Errorf("%d answers were generated, then %d: got\n%s\nwant\n%s", made, node.generations.Load(), got, first)
	}
	save(t, bob, "blog-answer", "section.ai")
	bob.show(look{390, 844, "dark", false})
	save(t, bob, "blog-phone", "article")
	if bob.eval(`document.querySelector('a[href$="/edit"]') === null && document.cookie === ""`) != true {
		t.Error("another visitor is taken for the author")
	}

	summarise := func() string {
		bob.visit(s.url + path)
		bob.click("form[action=summary] button")
		return bob.answered()
	}
	if note := summarise(); strings.Contains(note, fromCache) {
		t.Errorf("the first summary: %s", note)
	}
	ann.follow(`article a[href$="/edit"]`)
	ann.write("#body", travelText+"\n我们在北京写了一个小博客。\n")
	ann.follow("button[value=publish]")
	ann.says("我们在北京写了一个小博客")
	finds("北京")
	if note := summarise(); strings.Contains(note, fromCache) || node.generations.Load() != made+2 {
		t.Errorf("the summary of the edited post: %s, and %d generated", note, node.generations.Load()-made)
	}
	bob.wellBehaved("after the answers of a model")
	ann.wellBehaved("after a post was edited")

	t.Run("without JavaScript", func(t *testing.T) {
		plain := desk
		plain.plain = true
		eve := b.openFor(b.visitor(), plain)
		eve.visit(s.url + "/ai-inference")
		eve.write("#ai-question", "What is a train?")
		eve.follow(`form[action="/ai-inference"] button`)
		eve.says("Written by a model (sim-small:latest).")
		if eve.eval(`document.querySelector("section.generated").innerText.length > 80`) != true {
			t.Error("there is no answer on the page")
		}
		eve.wellBehaved("with an answer, without JavaScript")
	})
	t.Run("looks", func(t *testing.T) { checkLooks(t, s, ann, bob, path) })
	t.Run("keyboard", func(t *testing.T) {
		bob.show(desk)
		bob.speaks("en")
		for _, at := range []string{"/", path, "/search?q=train", "/ai-inference", "/login"} {
			bob.visit(s.url + at)
			bob.checkTabOrder(at)
		}
		ann.show(desk)
		ann.speaks("en")
		for _, at := range []string{path, "/post/2/edit", "/drafts", "/password"} {
			ann.visit(s.url + at)
			ann.until("the preview is there, if any", `document.querySelector("#editor") === null || document.querySelector("#preview pre") !== null`)
			ann.checkTabOrder(at)
		}
		bob.visit(s.url + path)
		bob.key("Tab")
		bob.key("Enter")
		bob.until("the first link leads to the text", `document.activeElement.id === "main"`)
	})

	late := b.openFor(who, desk)
	late.visit(s.url + "/create")
	late.write("#body", "Once upon a time")
	ann.follow("body > footer button")
	late.click("[data-ai-continue]")
	late.says("Sign in in another tab")
	if late.forgive("status of 403"); late.eval(`document.getElementById("body").value`) != "Once upon a time" {
		t.Error("what was typed is lost with the session")
	}
	late.wellBehaved("after the session has ended")
	ann.visit(s.url + "/drafts")
	if at := ann.eval("location.pathname"); at != "/login" {
		t.Errorf("after signing out the drafts are at %v", at)
	}
	ann.wellBehaved("at the end")
}

// checkLooks shows all pages in all the ways that there are.
func checkLooks(t *testing.T, s *blogSite, author, reader *tab, path string) {
	t.Helper()
	pages := func(p *tab, paths ...string) {
		for _, at := range paths {
			for _, language := range []string{"en", "zh"} {
				p.speaks(language)
				p.visit(s.url + at)
				if got := p.eval("document.documentElement.lang"); got != language {
					t.Errorf("%s, asked for in %s, is in %v", at, language, got)
				}
				for _, width := range []int{1280, 390, 320} {
					for _, scheme := range []string{"light", "dark"} {
						p.show(look{width, 844, scheme, false})
						if at == "/absent" {
							p.forgive("status of 404")
						}
						p.wellBehaved(fmt.Sprintf("%s in %s, %s, %d pixels wide", at, language, scheme, width))
					}
				}
			}
		}
	}
	pages(reader, "/", path, "/tags", "/tag/travel", "/search?q=train", "/search?q=nothing-like-that", "/about", "/ai-inference", "/login", "/absent")
	pages(author, "/create", "/post/2/edit", "/drafts", "/deleted", "/password", "/images")
}
