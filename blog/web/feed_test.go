package web

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

func TestFeed_IsAtomWithWholePosts(t *testing.T) {
	b := newBlog(t, Options{Title: "Notes & <more>", URL: "https://blog.example", Description: "of a week"})
	b.written(blog.Post{Title: "first", Body: "old"}, noon)
	p := b.written(blog.Post{Title: `<b>&"]]>`, Body: "# Größe\n\n![x](/images/00112233445566778899aabbccddeeff.png) a < b && c ]]>\x0b", Tags: []string{"c++ & <b>", "日记"}}, noon.Add(time.Second))
	b.written(blog.Post{Title: "hidden", Draft: true}, noon)
	w := b.get("/feed.xml")
	if kind := w.Header().Get("Content-Type"); kind != "application/atom+xml; charset=utf-8" {
		t.Errorf("type %q", kind)
	}
	var feed struct {
		XMLName  xml.Name `xml:"http://www.w3.org/2005/Atom feed"`
		Base     string   `xml:"http://www.w3.org/XML/1998/namespace base,attr"`
		ID       string   `xml:"id"`
		Title    string   `xml:"title"`
		Subtitle string   `xml:"subtitle"`
		Updated  string   `xml:"updated"`
		Links    []struct {
			Rel  string `xml:"rel,attr"`
			Href string `xml:"href,attr"`
		} `xml:"link"`
		Entries []struct {
			ID        string `xml:"id"`
			Title     string `xml:"title"`
			Published string `xml:"published"`
			Updated   string `xml:"updated"`
			Author    string `xml:"author>name"`
			Link      struct {
				Href string `xml:"href,attr"`
			} `xml:"link"`
			Categories []struct {
				Term string `xml:"term,attr"`
			} `xml:"category"`
			Content struct {
				Type string `xml:"type,attr"`
				Text string `xml:",chardata"`
			} `xml:"content"`
		} `xml:"entry"`
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &feed); err != nil {
		t.Fatalf("%v\n%s", err, w.Body)
	}
	if feed.ID != "https://blog.example/" || feed.Base != feed.ID || feed.Title != "Notes & <more>" || feed.Subtitle != "of a week" || feed.Updated != "2026-11-30T12:00:01Z" {
		t.Errorf("feed: %+v", feed)
	}
	if len(feed.Links) != 2 || feed.Links[0].Rel != "self" || feed.Links[0].Href != "https://blog.example/feed.xml" {
		t.Errorf("links: %+v", feed.Links)
	}
	if len(feed.Entries) != 2 || feed.Entries[1].Title != "first" {
		t.Fatalf("entries: %+v", feed.Entries)
	}
	e := feed.Entries[0]
	if e.ID != "https://blog.example/post/2" || e.Title != p.Title || e.Author != "Ann" || e.Published != "2026-11-30T12:00:01Z" || e.Updated != e.Published ||
		e.Link.Href != "https://blog.example"+p.Path() || e.Content.Type != "html" || e.Content.Text != p.HTML {
		t.Errorf("entry: %+v, want post %+v", e, p)
	}
	if len(e.Categories) != 2 || e.Categories[0].Term != "c++ & <b>" {
		t.Errorf("categories: %+v", e.Categories)
	}
}

func TestFeed_EmptyIsValidAndLongIsBounded(t *testing.T) {
	b := newBlog(t, Options{})
	wantContains(t, "an empty feed", b.page("/feed.xml"), "<updated>1970-01-01T00:00:00Z</updated>")
	for i := range 4 {
		b.written(blog.Post{Title: fmt.Sprint("long ", i), Body: strings.Repeat("word ", 180_000)}, noon.Add(time.Duration(i)*time.Second))
	}
	page := b.page("/feed.xml")
	if len(page) > feedContent+1<<20 || strings.Count(page, "<content ") != 2 || strings.Count(page, "<summary>") != 4 {
		t.Errorf("%d bytes, %d whole posts, %d beginnings", len(page), strings.Count(page, "<content "), strings.Count(page, "<summary>"))
	}
}

var locations = regexp.MustCompile(`<loc>([^<]*)</loc>`)

func locationsOf(t *testing.T, document string) (all []string) {
	t.Helper()
	if err := xml.Unmarshal([]byte(document), new(struct{})); err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	for _, m := range locations.FindAllStringSubmatch(document, -1) {
		all = append(all, strings.ReplaceAll(m[1], "&amp;", "&"))
	}
	return all
}

func TestSitemap_HasEachPostOnceInFilesOfItsLimit(t *testing.T) {
	b := newBlog(t, Options{URL: "https://blog.example"})
	if got := locationsOf(t, b.page("/sitemap.xml")); !slices.Equal(got, []string{"https://blog.example/sitemap-posts.xml"}) {
		t.Errorf("files of an empty blog: %q", got)
	}
	want := []string{"https://blog.example/"}
	for i := range 7 {
		p := b.written(blog.Post{Title: fmt.Sprint("p & ", i), Body: "x"}, noon.Add(-time.Duration(i)*time.Second))
		want = append(want, "https://blog.example"+p.Path())
	}
	b.written(blog.Post{Title: "hidden", Draft: true}, noon)
	for _, limit := range []int{1, 2, 3, 7, sitemapMost} {
		b.perSitemap = limit
		b.pages.InvalidateAll() // the limit never changes but here
		files := locationsOf(t, b.page("/sitemap.xml"))
		var got []string
		for _, file := range files {
			part := locationsOf(t, b.page(strings.TrimPrefix(file, "https://blog.example")))
			if len(part) > limit+1 {
				t.Errorf("%s has %d addresses, want %d at most", file, len(part), limit)
			}
			got = append(got, part...)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d in a file: %q, want %q", limit, got, want)
		}
	}
	wantContains(t, "a sitemap", b.page("/sitemap-posts.xml"), "<lastmod>2026-11-30T12:00:00Z</lastmod>")
	if w := b.ask("HEAD", "/sitemap-posts.xml"); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
	wantContains(t, "robots.txt", b.page("/robots.txt"), "Sitemap: https://blog.example/sitemap.xml\n", "User-agent: *")
}
