package web

import (
	"errors"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// routes lists everything there is, in one place. A page returns an error instead of answering, and
// gets the page that says so.
func (h *Handler) routes() {
	h.reader("GET /{$}", "index", h.kept(h.index))
	h.reader("GET /post/{id}", "post", h.kept(h.post))
	h.reader("GET /post/{id}/{slug}", "post", h.kept(h.post))
	h.reader("GET /tag/{tag}", "tag", h.kept(h.tag))
	h.reader("GET /tags", "tags", h.kept(h.tags))
	h.reader("GET /search", "search", h.search)
	h.reader("GET /about", "about", h.about)
	h.reader("GET /feed.xml", "feed", h.kept(h.feed))
	h.reader("GET /sitemap.xml", "sitemap", h.kept(h.sitemap))
	h.reader("GET /sitemap-posts.xml", "sitemap", h.sitemapPosts)
	h.reader("GET /robots.txt", "robots", h.robots)
	h.reader("GET /assets/{name}", "asset", h.asset)
	h.reader("GET /favicon.svg", "asset", h.favicon)
	h.reader("GET /favicon.ico", "asset", h.favicon) // beside the feed and images, which name none
	h.authorRoutes()
	h.aiRoutes()
	h.reader(everywhere, "missing", h.missing)
}

// A visit is a request with who makes it.
type visit struct {
	*http.Request
	name   string       // of the page
	lang   language     // of the interface
	author *blog.Author // who has signed in; nil: a reader
	began  time.Time
	keep   func(body []byte, tag string) // of kept; nil: the page is not kept
}

// query is a parameter of the address. A body is never looked at for it.
func (v *visit) query(name string) string {
	if v.URL.RawQuery == "" {
		return ""
	}
	return v.URL.Query().Get(name)
}

// reader has everybody see a page. name is for metrics.
func (h *Handler) reader(pattern, name string, page func(http.ResponseWriter, *visit) error) {
	h.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		v := &visit{Request: r, name: name, lang: languageOf(r), began: time.Now()}
		seen := &statusWriter{ResponseWriter: w}
		err := h.identify(seen, v)
		if err == nil {
			err = page(seen, v)
		}
		if err != nil {
			h.fail(seen, v, err)
		}
		h.opts.Observer.Served(name, seen.status, time.Since(v.began))
	})
}

// authorOnly has only who has signed in see a page; others are sent to sign in.
func (h *Handler) authorOnly(pattern, name string, page func(http.ResponseWriter, *visit) error) {
	h.reader(pattern, name, func(w http.ResponseWriter, v *visit) error {
		if v.author == nil {
			return errSignIn
		}
		w.Header().Set("Cache-Control", "no-store")
		return page(w, v)
	})
}

var errSignIn = errors.New("only for authors who have signed in")

// statusWriter remembers the status for the Observer.
type statusWriter struct {
	http.ResponseWriter
	status int // 0: nothing was written yet
}

func (s *statusWriter) WriteHeader(status int) {
	if s.status == 0 {
		s.status = status
	}
	s.ResponseWriter.WriteHeader(status)
}

func (s *statusWriter) Write(b []byte) (int, error) {
	if s.status == 0 {
		s.status = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (s *statusWriter) Unwrap() http.ResponseWriter { return s.ResponseWriter }
