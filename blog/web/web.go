// Package web shows a blog as pages: to readers, and to authors who have signed in.
//
// It is a plain http.Handler over a blog.Store. Every page is complete without JavaScript, carries
// no inline script or style, and says in the reader's language (English or Chinese) what went
// wrong when something did. It knows nothing of Caddy, of databases, or of how a model is reached.
package web

import (
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
	"github.com/caddy-ollama/caddy-ollama/blog/picture"
)

// Options are what a blog is. Only Store has no default.
type Options struct {
	Store       blog.Store
	Title       string // of the blog. Default: "Blog".
	Description string // one line, for the first page, the feed and search engines
	About       string // Markdown of /about. Default: Title and Description.
	// URL is how readers reach the blog, such as "https://blog.example.com": for the feed, the sitemap
	// and canonical links. Default: the scheme and host of the request.
	URL       string
	Assistant Assistant // answers of a model; nil: no page offers any
	Log       *slog.Logger
	Observer  Observer         // default: nobody
	Now       func() time.Time // default: time.Now
	// ClientIP is the address that failed logins, and questions to a model, are counted for. Default:
	// that of the connection, which is right unless another proxy stands before this server.
	ClientIP func(*http.Request) string
}

// An Observer is told what becomes of requests. Its methods must not block.
type Observer interface {
	// Served is told once a request. page is the name of a route, from a bounded set.
	Served(page string, status int, took time.Duration)
	// DatabaseFailed is told of each request that the database had no answer for.
	DatabaseFailed(page string)
	// Asked is told how each question to a model ended. kind is ask, summary, post or continue; outcome
	// is answered, cached, refused, unavailable, limited, truncated or left.
	Asked(kind, outcome string)
}

// A Handler serves a blog at the root of a site. Safe for concurrent use.
type Handler struct {
	opts   Options
	store  blog.Store
	people *people.People
	mux    *http.ServeMux
	pages  *otter.Cache[pageKey, *keptPage] // readers'

	pictures *picture.Intake
	visitors *visitors // who ask a model
	outages  outages   // of the database

	aboutHTML  string // made of Options.About
	perSitemap int    // addresses in one file; less in tests
}

// New makes the pages of a blog. The error is one of Options.About, which cannot be rendered, or of
// the templates, which are the program's own.
func New(opts Options) (*Handler, error) {
	h := &Handler{
		opts: opts.withDefaults(), store: opts.Store, people: people.New(opts.Store), mux: http.NewServeMux(),
		pages: newPages(), pictures: picture.NewIntake(), visitors: newVisitors(usualLimits), perSitemap: sitemapMost,
	}
	if err := parseTemplates(); err != nil {
		return nil, err
	}
	var err error
	if h.aboutHTML, _, err = blog.Render(opts.About); err != nil {
		return nil, fmt.Errorf("render the text about the blog: %w", err)
	}
	h.routes()
	return h, nil
}

func (o Options) withDefaults() Options {
	if o.Title == "" {
		o.Title = "Blog"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

type nobody struct{}

func (nobody) Served(string, int, time.Duration) {}
func (nobody) DatabaseFailed(string)             {}
func (nobody) Asked(string, string)              {}

// The policy of all pages: only what this server serves, nothing inline, shown in no other page.
// Images may come from elsewhere by https, as posts may show them.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// ServeHTTP answers one request. Paths that nothing is at are 404 pages.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", contentPolicy)
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Referrer-Policy", "same-origin")
	if r.URL.Path == linkPath {
		// The address has a token that still works. Not no-referrer: browsers would send the form with no origin.
		head.Set("Referrer-Policy", "strict-origin")
	}
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.mux.ServeHTTP(w, r)
}
