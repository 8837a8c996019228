package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// A page is what clients ask a peer for by GET.
type page struct {
	name string // as the figures have it
	path string
	tag  string // of the page that the client has already; "": it has none
	want []byte // the body; of a client that has it, none comes
}

// blogSearches are what readers look for: how each finds its posts is another way through the
// index. The words are those that blogPost has.
var blogSearches = []struct{ name, text string }{
	{"word", usualWord},
	{"frequent", frequentWord},
	{"prefix", frequentWord[:3]},
	{"two words", usualWord + " " + frequentWord},
	{"Chinese", "北京"},
}

// searchMillis is the most that a search may take: a page that comes within a tenth of a second is
// felt as at once, and the half of it is the way's.
const searchMillis = 50

// blogScenarios are about the blog with 10,000 posts.
func blogScenarios(s settings) []scenario {
	searches, turns := 100, 3
	if s.quick {
		searches, turns = 20, 1
	}
	pages := func(name, about, path string, has bool) scenario {
		figures := []figure{
			perSecond("pages/s").goal(0, 0.5, 0),
			cpuPer1000(),
			callMillis("p99 ms", 0.99),
			rssMax(),
			bodyBytes(),
		}
		return scenario{
			name: name, about: about, profile: true,
			load:  load{clients: 64, lasting: s.lasting, turns: turns},
			setup: blogSetup(gateway, caddy), rows: []string{caddy, gateway}, figures: figures,
			before: func(ctx context.Context, f *fleet) error { return f.samePage(ctx, path, has) },
		}
	}
	search := scenario{
		name: "blog-search", about: "One client searches 10,000 posts, in turn for " + searchesInWords() + "; a page has 20 of what is found",
		load:  load{clients: 1, answers: searches * len(blogSearches), turns: turns},
		setup: blogSetup(gateway), rows: []string{gateway},
		before: func(ctx context.Context, f *fleet) (err error) {
			f.peers[1].pages, err = f.searchPages(ctx)
			return err
		},
	}
	for _, one := range blogSearches {
		search.figures = append(search.figures,
			plain(pageMillis(one.name, 0.5)),
			plain(absolute(pageMillis(one.name, 0.99))).goal(0, searchMillis, 0))
	}
	post := fmt.Sprintf("/post/%d/%s", blogPosts/2, blogSlug(blogPosts/2-1))
	const beside = ", over 64 connections; `caddy` is `file_server` with the same bytes in a file"
	return []scenario{
		pages("blog-index", "The first page of 10,000 posts"+beside, "/", false),
		pages("blog-post", "One of 10,000 posts"+beside, post, false),
		pages("blog-post-known", "The same to browsers that have the post: all answers are 304", post, true),
		search,
	}
}

func searchesInWords() string {
	var all []string
	for _, one := range blogSearches {
		all = append(all, fmt.Sprintf("`%s` (%s)", one.text, one.name))
	}
	return strings.Join(all, ", ")
}

// pageMillis is what pages of one name took.
func pageMillis(name string, q float64) figure {
	return figure{name: fmt.Sprintf("%s p%.0f ms", name, 100*q), value: func(s, _ *sample) float64 { return millis(percentile(s.pages[name], q)) }}
}

// blogSetup has no nodes: readers ask no model. The gateway's binary serves the blog, and files
// beside it.
func blogSetup(proxies ...string) *setup {
	return &setup{
		nodeless: true, proxies: proxies, config: blogCaddyfile,
		furnish: func(ctx context.Context, dir string) error { return fillBlog(ctx, blogFile(dir), blogPosts) },
		answers: func(c *client) error { return c.get(page{path: "/alive"}) },
	}
}

func blogFile(dir string) string { return filepath.Join(dir, "blog", "blog.db") }

// siteDir is where file_server has its files.
func siteDir(dir string) string { return filepath.Join(dir, "site") }

// blogCaddyfile serves the blog, or files.
var blogCaddyfile = template.Must(template.New("").Parse(`{
	admin unix/{{.Admin}}
	persist_config off
	auto_https off
}

http://:{{.Port}} {
	bind 127.0.0.1
	respond /alive "" 200
{{- if .Gateway}}
	ollama_blog {
		database sqlite {{.Dir}}/blog/blog.db
		url https://blog.example.com
	}
{{- else}}
	root {{.Dir}}/site
	file_server
{{- end}}
}
`))

// samePage has the blog's page be a file, and clients ask both for it.
func (f *fleet) samePage(ctx context.Context, path string, has bool) error {
	blog, files := f.among([]string{gateway})[0], f.among([]string{caddy})[0]
	of, err := blog.fetch(ctx, path)
	if err != nil {
		return err
	}
	// By the name of an index file Caddy would redirect, and a name without an ending has no type.
	name := "/"
	file := "index.html"
	if path != "/" {
		file = "post.html"
		name += file
	}
	if err := os.MkdirAll(siteDir(f.dir), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(siteDir(f.dir), file), of.want, 0o600); err != nil {
		return err
	}
	same, err := files.fetch(ctx, name)
	if err != nil {
		return err
	}
	if string(same.want) != string(of.want) {
		return fmt.Errorf("%s: the file that is served is not the page", path)
	}
	for p, one := range map[*peer]page{blog: of, files: same} {
		if !has {
			one.tag = ""
		}
		p.pages = []page{one}
	}
	return nil
}

// searchPages are what searches show, and must find at least one post each.
func (f *fleet) searchPages(ctx context.Context) ([]page, error) {
	var all []page
	for _, one := range blogSearches {
		p, err := f.peers[1].fetch(ctx, "/search?q="+url.QueryEscape(one.text))
		if err != nil {
			return nil, err
		}
		if !strings.Contains(string(p.want), `href="/post/`) {
			return nil, fmt.Errorf("a search for %s finds nothing", one.text)
		}
		p.name, p.tag = one.name, ""
		all = append(all, p)
	}
	return all, nil
}

// fetch gets a page as clients will be given it.
func (p *peer) fetch(ctx context.Context, path string) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addrs[0]+path, nil)
	if err != nil {
		return page{}, err
	}
	resp, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(r)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || resp.Header.Get("ETag") == "") {
		err = fmt.Errorf("%s of %s: status %d, ETag %q", path, p.name, resp.StatusCode, resp.Header.Get("ETag"))
	}
	return page{path: path, tag: resp.Header.Get("ETag"), want: body}, err
}

// visit asks for the next page.
func (w *worker) visit(ctx context.Context) {
	p := w.pages[w.visits%len(w.pages)]
	w.visits++
	begun := time.Now()
	err := w.client.get(p)
	took := time.Since(begun)
	if ctx.Err() != nil {
		return
	}
	s := &w.sample
	if err != nil {
		s.fail(err, false)
		time.Sleep(failurePause)
		return
	}
	s.answers++
	s.calls = append(s.calls, took)
	if p.tag == "" {
		s.bytes += len(p.want)
	}
	if p.name != "" {
		s.tookFor(p.name, took)
	}
}

// tookFor notes what a page took.
func (s *sample) tookFor(page string, took ...time.Duration) {
	if s.pages == nil {
		s.pages = make(map[string][]time.Duration)
	}
	s.pages[page] = append(s.pages[page], took...)
}

// get asks for a page and compares it with what is expected. After an error the connection is
// closed, and the next request dials again.
func (c *client) get(p page) (err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.dial(); err != nil {
		return err
	}
	c.out = append(append(append(c.out[:0], "GET "...), p.path...), " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.addr...), "\r\nUser-Agent: bench\r\nAccept: text/html\r\n"...)
	expected := http.StatusOK
	if p.tag != "" {
		expected = http.StatusNotModified
		c.out = append(append(append(c.out, "If-None-Match: "...), p.tag...), "\r\n"...)
	}
	c.out = append(c.out, "\r\n"...)
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return err
	}
	status, length, err := readHead(c.r)
	if err != nil {
		return err
	}
	if status != expected {
		return fmt.Errorf("%s: status %d, want %d", p.path, status, expected)
	}
	if p.tag != "" {
		return nil // it has no body, whatever its header says
	}
	c.body.open(c.r, length)
	return c.body.equals(p.want)
}

// equals reads to the end and compares.
func (b *bodyReader) equals(want []byte) error {
	rest := want
	for {
		line, err := b.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the page: %w", err)
		}
		var same bool
		if rest, same = bytes.CutPrefix(rest, line); !same {
			return fmt.Errorf("another page than before, from %.100q on", line)
		}
		rest = bytes.TrimPrefix(rest, []byte("\n"))
	}
	if len(rest) > 0 {
		return fmt.Errorf("the last %d bytes of the page are missing", len(rest))
	}
	return nil
}
