package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/web"
)

func init() {
	caddy.RegisterModule(new(BlogHandler))
}

// BlogHandler serves a small blog at the root of its site: posts in Markdown by signed-in authors, and
// pages on which a model answers.
//
// It answers every path of its route itself, unknown ones with a page that says so. Posts, images and
// sign-ins are in a database, which survives reloads; while it cannot be used, pages say so with
// 503, and everything else goes on.
type BlogHandler struct {
	// Where posts, images and sign-ins are kept. Default: the SQLite file `blog.db` in Caddy's
	// data directory.
	Database *BlogDatabase `json:"database,omitempty"`

	// What the blog is called. Default: `Blog`.
	Title string `json:"title,omitempty"`

	// One line about the blog, for its first page, its feed and search engines. Default: none.
	Description string `json:"description,omitempty"`

	// A file of Markdown, shown as the page `/about`. It is read when the configuration is loaded and
	// has at most 1 MiB. Default: title and description.
	About string `json:"about,omitempty"`

	// How readers reach the blog, such as `https://blog.example.com`, for the feed, the sitemap and links.
	// Default: scheme and host of each request.
	URL string `json:"url,omitempty"`

	// The model that answers on the blog's pages, or `off` for a blog without such pages. Needs the app
	// `ollama` in the configuration, or `gateway`. Default: one of the models that there are; none
	// answers where there is no gateway.
	Model string `json:"model,omitempty"`

	// The gateway that is asked. Default: the one of this process, the app `ollama`.
	Gateway *BlogGateway `json:"gateway,omitempty"`

	ctx      caddy.Context
	about    string // the text
	source   blogSource
	key      string // of Gateway
	database *blogDatabase
	held     bool // a reference to it, which Cleanup gives back
	remote   *http.Transport
	pages    func() (*blogPages, error)
}

// BlogDatabase is where a blog is kept.
type BlogDatabase struct {
	// `sqlite` or `postgres`.
	Kind string `json:"kind"`

	// The path of the file for `sqlite`; one that is not absolute lies in Caddy's data directory. The
	// URL (or keywords) for `postgres`, best as a placeholder such as `{env.BLOG_DATABASE_URL}`:
	// a password that stands here itself is refused.
	Source string `json:"source"`
}

// BlogGateway is a gateway elsewhere, or any server with Ollama's API.
type BlogGateway struct {
	// Its address, such as `https://ai.example.com`.
	URL string `json:"url"`

	// The API key that it wants, as a placeholder such as `{env.BLOG_KEY}`. Default: none.
	Key string `json:"key,omitempty"`
}

// blogPages are a blog's two states.
type blogPages struct {
	open   *web.Handler // over the database
	closed *web.Handler // while that has not been brought up to date, or is closed for good
}

// CaddyModule returns the Caddy module information.
func (*BlogHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ollama_blog",
		New: func() caddy.Module { return new(BlogHandler) },
	}
}

// Provision checks the configuration. Database and gateway are not asked: most configurations that are
// provisioned by a validation or a failing reload never start.
func (h *BlogHandler) Provision(ctx caddy.Context) (err error) {
	h.ctx = ctx
	if err := h.check(); err != nil {
		return err
	}
	if h.source, err = h.Database.resolve(); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if h.about, err = readAbout(h.About); err != nil {
		return fmt.Errorf("about: %w", err)
	}
	if h.Gateway != nil {
		if h.key, err = readBlogKey(h.Gateway.Key); err != nil {
			return fmt.Errorf("gateway: key: %w", err)
		}
		h.remote = http.DefaultTransport.(*http.Transport).Clone()
	}
	if h.database, err = holdBlogDatabase(h.source); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	h.held = true
	// Whether there is a gateway beside it is known when all apps are provisioned: at Start, or at the
	// first request, which may come earlier.
	h.pages = sync.OnceValues(h.makePages)
	app, err := ctx.App("ollama_blog")
	if err != nil {
		return err
	}
	app.(*BlogApp).blogs = append(app.(*BlogApp).blogs, h)
	return nil
}

// Cleanup gives back what was taken; requests that still run hold the database themselves.
func (h *BlogHandler) Cleanup() error {
	if h.remote != nil {
		h.remote.CloseIdleConnections()
	}
	if !h.held {
		return nil
	}
	h.held = false
	_, err := blogDatabases.Delete(h.source.key())
	return err
}

// ServeHTTP answers the request. It never calls next and never returns an error of a page: those are
// pages of their own.
func (h *BlogHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	pages, err := h.pages()
	if err != nil {
		return caddyhttp.Error(http.StatusInternalServerError, err) // Start refuses such a configuration
	}
	if !h.database.enter() {
		pages.closed.ServeHTTP(w, r)
		return nil
	}
	defer h.database.leave()
	if !h.database.usable(r.Context()) {
		pages.closed.ServeHTTP(w, r)
		return nil
	}
	pages.open.ServeHTTP(w, r)
	return nil
}

func (h *BlogHandler) makePages() (*blogPages, error) {
	assistant, err := h.assistant()
	if err != nil {
		return nil, err
	}
	options := web.Options{
		Title: h.Title, Description: h.Description, About: h.about, URL: strings.TrimSuffix(h.URL, "/"),
		Log: blogLog.logger(), Observer: blogMetrics(), Assistant: assistant, ClientIP: blogClient,
	}
	var p blogPages
	options.Store = h.database.store
	if p.open, err = web.New(options); err != nil {
		return nil, err
	}
	options.Store = goneStore{}
	p.closed, err = web.New(options)
	return &p, err
}

// blogClient is the address of who asks, as Caddy knows it: behind a trusted proxy that proxy's word.
func blogClient(r *http.Request) string {
	ip, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	return ip
}

// assistant is who answers on the blog's pages, nil for nobody.
func (h *BlogHandler) assistant() (web.Assistant, error) {
	model := h.Model
	if model == modelOff {
		return nil, nil
	}
	if h.Gateway != nil {
		return newAssistant(h.remote, h.Gateway.URL, model, h.key)
	}
	if _, err := h.ctx.AppIfConfigured("ollama"); errors.Is(err, caddy.ErrNotConfigured) {
		if model != "" {
			return nil, fmt.Errorf("the model %s needs a gateway; add the global option ollama, or write: gateway https://ai.example.com", model)
		}
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	inside, err := blogGateway()
	if err != nil {
		return nil, err
	}
	return newAssistant(inside, insideURL, model, "")
}

// modelOff is the word for a blog without answers of a model.
const modelOff = "off"

// check tells what of the configuration cannot be.
func (h *BlogHandler) check() error {
	if h.Gateway != nil {
		switch {
		case h.Model == modelOff:
			return errors.New("model off asks no gateway; leave out one of model and gateway")
		case h.Gateway.URL == "":
			return errors.New("gateway needs an address, as in https://ai.example.com")
		}
		if err := checkOrigin(h.Gateway.URL, "https://ai.example.com"); err != nil {
			return fmt.Errorf("gateway: %w", err)
		}
		if err := checkBlogKey(h.Gateway.Key); err != nil {
			return fmt.Errorf("gateway: key: %w", err)
		}
	}
	if h.URL != "" {
		if err := checkOrigin(h.URL, "https://blog.example.com"); err != nil {
			return fmt.Errorf("url: %w", err)
		}
	}
	return nil
}

// readAbout reads the file of the page /about; none is the empty text.
func readAbout(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	path, err := caddy.NewReplacer().ReplaceOrErr(path, true, true)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Size() > blog.BodyLimit {
		return "", fmt.Errorf("%s has more than %d bytes", filepath.Base(path), blog.BodyLimit)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(text) {
		return "", fmt.Errorf("%s is not a text in UTF-8", filepath.Base(path))
	}
	return strings.TrimPrefix(string(text), "\ufeff"), nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*BlogHandler)(nil)
	_ caddy.CleanerUpper          = (*BlogHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*BlogHandler)(nil)
)
