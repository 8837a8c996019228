package web

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

var listedTitles = regexp.MustCompile(`<h2><a href="[^"]*">([^<]*)</a></h2>`)

func titlesOf(page string) []string {
	var titles []string
	for _, m := range listedTitles.FindAllStringSubmatch(page, -1) {
		titles = append(titles, m[1])
	}
	return titles
}

var nextLink = regexp.MustCompile(`<a rel="next" href="([^"]*)"`)

// follow reads a list page by page, by its links.
func (b *testBlog) follow(path string) (pages [][]string) {
	b.t.Helper()
	for path != "" && len(pages) < 20 {
		page := b.page(path)
		pages = append(pages, titlesOf(page))
		path = ""
		if m := nextLink.FindStringSubmatch(page); m != nil {
			path = strings.ReplaceAll(m[1], "&amp;", "&")
		}
	}
	return pages
}

func TestIndex_ListsNewestFirstByPages(t *testing.T) {
	b := newBlog(t, Options{Title: "Notes", Description: "of a week"})
	wantContains(t, "an empty blog", b.page("/"), "There are no posts yet.", "of a week")
	var want []string
	for i := range 2*listLength + 1 {
		b.written(blog.Post{Title: fmt.Sprint("p", i), Body: "some *text*", Tags: []string{"go"}}, noon.Add(time.Duration(i/2)*time.Second))
		want = append([]string{fmt.Sprint("p", i)}, want...)
	}
	b.written(blog.Post{Title: "hidden", Draft: true}, noon.Add(time.Hour))
	for _, path := range []string{"/", "/tag/go"} {
		pages := b.follow(path)
		if len(pages) != 3 || !slices.Equal(slices.Concat(pages...), want) {
			t.Errorf("%s: pages %q, want %q in three", path, pages, want)
		}
	}
	wantContains(t, "the list", b.page("/"), `<p>some text</p>`, `<a href="/tag/go">go</a>`, `<span>Ann</span>`,
		`<time datetime="2026-11-30T12:00:20Z">2026-11-30 12:00 UTC</time>`)
	for _, cursor := range []string{"x", "1", "1-0", "1--1", "01-1", "1-1-", "99999999999999999999-1", "1-1' OR 1=1", "t"} {
		if w := b.get("/?after=" + strings.ReplaceAll(cursor, " ", "+")); w.Code != http.StatusBadRequest {
			t.Errorf("cursor %q: status %d, want 400", cursor, w.Code)
		}
	}
}

func TestPost_HasOneAddress(t *testing.T) {
	b := newBlog(t, Options{URL: "https://blog.example/"})
	p := b.written(blog.Post{Title: "Größe 大小 about", Body: "# One\n\ntext `code`"}, noon)
	path := "/post/1/gr%C3%B6%C3%9Fe-%E5%A4%A7%E5%B0%8F-about"
	for _, method := range []string{"GET", "HEAD"} {
		for _, other := range []string{"/post/1", "/post/1/", "/post/1/other", "/post/1/x%2Fy", "/post/1/%3Cscript%3E"} {
			w := b.ask(method, other)
			if w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != path {
				if other == "/post/1/" && w.Code == http.StatusNotFound {
					continue // no slug at all is another address
				}
				t.Errorf("%s %s: %d to %q, want 301 to %q", method, other, w.Code, w.Header().Get("Location"), path)
			}
		}
		if w := b.ask(method, path); w.Code != http.StatusOK || (w.Body.Len() == 0) != (method == "HEAD") || w.Header().Get("Content-Length") == "" {
			t.Errorf("%s %s: %d, %d bytes, headers %v", method, path, w.Code, w.Body.Len(), w.Header())
		}
	}
	wantContains(t, "the post", b.page(path), "<h1>Größe 大小 about</h1>", `<h2 id="s-one">One</h2>`, "<code>code</code>",
		`<link rel="canonical" href="https://blog.example`+path+`">`, `<meta name="description" content="One text code">`, "<title>Größe 大小 about · Blog</title>")
	for _, absent := range []string{"/post/2", "/post/0", "/post/-1", "/post/+1", "/post/01", "/post/1e0", "/post/99999999999999999999", "/post/x/y", "/post/"} {
		if w := b.get(absent); w.Code != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", absent, w.Code)
		}
	}
	if err := b.db.DeletePost(t.Context(), p.ID, noon); err != nil {
		t.Fatal(err)
	}
	if w := b.get(path); w.Code != http.StatusNotFound {
		t.Errorf("a deleted post: %d, want 404", w.Code)
	}
}

func TestPost_DraftIsForAuthorsOnly(t *testing.T) {
	b := newBlog(t, Options{})
	d := b.written(blog.Post{Title: "Not yet", Draft: true}, noon)
	bob, err := b.db.CreateAuthor(t.Context(), blog.Author{Name: "bob", Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	other := b.written(blog.Post{Title: "Bob's", Draft: true, Author: bob.ID}, noon)
	cookie, session := b.signedIn()
	if w := b.get(d.Path()); w.Code != http.StatusNotFound || strings.Contains(w.Body.String(), "Not yet") {
		t.Errorf("a reader of a draft: %d, want 404", w.Code)
	}
	w := b.get(d.Path(), cookie, session)
	wantContains(t, "a draft", w.Body.String(), "Not yet", `content="noindex"`)
	if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("ETag") != "" {
		t.Errorf("an author's page may be kept: %v", w.Header())
	}
	if w := b.get(other.Path(), cookie, session); w.Code != http.StatusOK {
		t.Errorf("another author's draft: %d, want 200", w.Code)
	}
	if w := b.get(d.Path()); w.Code != http.StatusNotFound {
		t.Errorf("a reader after the author: %d, want 404", w.Code)
	}
}

// The way to a draft has its title in it, and changes with it: who keeps it tells others the title, or goes round
// in circles once the title is what it was.
func TestPost_WayToItsAddressIsKeptByNobody(t *testing.T) {
	b := newBlog(t, Options{})
	draft := b.written(blog.Post{Title: "Not yet", Draft: true}, noon)
	public := b.written(blog.Post{Title: "Now"}, noon)
	cookie, session := b.signedIn()
	for name, c := range map[string]struct {
		post    blog.Post
		headers []string
		want    string
	}{
		"a draft, for its author": {draft, []string{cookie, session}, "no-store"},
		"a post, for its author":  {public, []string{cookie, session}, "no-store"},
		"a post, for its readers": {public, nil, "no-cache"},
	} {
		w := b.get(fmt.Sprintf("/post/%d", c.post.ID), c.headers...)
		if w.Code != http.StatusMovedPermanently || w.Header().Get("Cache-Control") != c.want {
			t.Errorf("%s: %d with Cache-Control %q, want 301 with %q", name, w.Code, w.Header().Get("Cache-Control"), c.want)
		}
		if vary := w.Header().Get("Vary"); vary != "Cookie" {
			t.Errorf("%s: Vary is %q, want Cookie", name, vary)
		}
	}
}

func TestPost_IsReadWhateverItsTitle(t *testing.T) {
	b := newBlog(t, Options{})
	for _, title := range []string{"Edit", "edit!", "Delete", "Restore", "Summary", "Ask"} {
		p := b.written(blog.Post{Title: title, Body: "text of " + title}, noon)
		if w := b.get(p.Path()); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "text of "+title) {
			t.Errorf("a reader of %q at %s: %d to %q, want 200", title, p.Path(), w.Code, w.Header().Get("Location"))
		}
	}
}

func TestPost_TitleIsNeverTranslated(t *testing.T) {
	b := newBlog(t, Options{})
	p := b.written(blog.Post{Title: "About"}, noon)
	wantContains(t, "a post", b.page(p.Path(), "Accept-Language", "zh"), "<title>About · Blog</title>", "<h1>About</h1>")
	wantContains(t, "the page", b.page("/about", "Accept-Language", "zh"), "<title>关于 · Blog</title>", "<h1>关于</h1>")
}

func TestPost_OwnImagesHaveTheirSize(t *testing.T) {
	b := newBlog(t, Options{})
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 30, 20))); err != nil {
		t.Fatal(err)
	}
	stored, err := blog.NewImage(file.Bytes(), b.ann.ID, noon)
	if err != nil {
		t.Fatal(err)
	}
	body := "![one](/images/" + stored.Name + ") ![gone](/images/00112233445566778899aabbccddeeff.png) ![far](https://example.com/x.png)"
	p := b.written(blog.Post{Title: "Pictures", Body: body}, noon)
	wantContains(t, "the post", b.page(p.Path()), `<img src="/images/`+stored.Name+`" alt="one" loading="lazy" width="30" height="20"/>`,
		`<img src="https://example.com/x.png" alt="far" loading="lazy"/>`)
}

func TestTags_AreCountedAndHaveOneAddress(t *testing.T) {
	b := newBlog(t, Options{})
	wantContains(t, "no tags", b.page("/tags"), "No post has a tag yet.")
	b.written(blog.Post{Title: "a", Tags: []string{"日记", "c++ & <b>"}}, noon)
	b.written(blog.Post{Title: "b", Tags: []string{"日记"}}, noon)
	page := b.page("/tags")
	wantContains(t, "tags", page, `<a href="/tag/%E6%97%A5%E8%AE%B0">日记 <span>2</span></a>`, `<a href="/tag/c&#43;&#43;%20&amp;%20%3Cb%3E">c&#43;&#43; &amp; &lt;b&gt; <span>1</span></a>`)
	if got := titlesOf(b.page("/tag/c++%20&%20%3Cb%3E")); !slices.Equal(got, []string{"a"}) {
		t.Errorf("posts of a tag: %q", got)
	}
	if w := b.get("/tag/%20C++%20%20&%20%3CB%3E"); w.Code != http.StatusMovedPermanently || w.Header().Get("Location") != "/tag/c++%20&%20%3Cb%3E" {
		t.Errorf("another spelling: %d to %q", w.Code, w.Header().Get("Location"))
	}
	// Lower case puts letter and mark together that upper case has apart.
	b.written(blog.Post{Title: "c", Tags: []string{"J\u030cAN"}}, noon)
	if got := titlesOf(b.page("/tag/" + url.PathEscape("\u01f0an"))); !slices.Equal(got, []string{"c"}) {
		t.Errorf("posts of a tag with a mark: %q", got)
	}
	for _, absent := range []string{"/tag/absent", "/tag/", "/tag/%2F", "/tag/" + strings.Repeat("x", 5000), "/tag/%ff%00"} {
		if w := b.get(absent); w.Code != http.StatusNotFound && w.Code != http.StatusMovedPermanently {
			t.Errorf("%.40s: %d, want 404", absent, w.Code)
		}
	}
}

func TestSearch_ShowsWhereItWasFound(t *testing.T) {
	b := newBlog(t, Options{})
	for i := range listLength + 2 {
		b.written(blog.Post{Title: fmt.Sprint("p", i), Body: "we deploy a <b>gateway</b> & more in 北京"}, noon.Add(time.Duration(i)*time.Second))
	}
	page := b.page("/search")
	wantContains(t, "the form", page, `<input id="q" name="q" type="search" value=""`, `<label for="q">`)
	if strings.Contains(page, "Nothing was found") || strings.Contains(page, "noindex") {
		t.Errorf("the form alone says that nothing was found:\n%s", page)
	}
	wantContains(t, "a search", b.page("/search?q=gate"), "<mark>gateway</mark> &amp; more", `value="gate"`, `content="noindex"`, "<title>Search: gate · Blog</title>")
	wantContains(t, "a Chinese search", b.page("/search?q=北京"), "<mark>北京</mark>")
	wantContains(t, "no hits", b.page("/search?q=absent"), "Nothing was found")
	if pages := b.follow("/search?q=gate+%E5%8C%97%E4%BA%AC"); len(pages) != 2 || len(pages[0]) != listLength || len(pages[1]) != 2 {
		t.Errorf("pages of a search: %q", pages)
	}
	if w := b.get("/search?q=" + strings.Repeat("x+", 50_000)); w.Code != http.StatusOK || w.Body.Len() > 10_000 {
		t.Errorf("a long query: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func TestAbout_IsMarkdownOrTheDescription(t *testing.T) {
	wantContains(t, "about", newBlog(t, Options{About: "I am *Ann*. <script>x</script>"}).page("/about"), "<h1>About</h1>", "I am <em>Ann</em>.")
	wantContains(t, "about by default", newBlog(t, Options{Title: "Notes", Description: "of <a> week"}).page("/about"), "Notes", "of &lt;a&gt; week")
	if _, err := New(Options{About: strings.Repeat(">", 1000)}); err == nil {
		t.Error("a text that cannot be rendered was taken")
	}
}
