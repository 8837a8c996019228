package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

//go:embed templates/*.html
var templateFiles embed.FS

// pages are the templates by name, each with the frame in base.html around it. Files whose name begins
// with "_" are no pages: every page may use the templates that they define.
var pages map[string]*template.Template

var parseTemplates = sync.OnceValue(func() error {
	names, err := templateFiles.ReadDir("templates")
	if err != nil {
		return err
	}
	pages = map[string]*template.Template{}
	for _, n := range names {
		name := strings.TrimSuffix(n.Name(), ".html")
		if name == "base" || strings.HasPrefix(name, "_") {
			continue
		}
		t := template.New("base.html").Funcs(functions)
		if pages[name], err = t.ParseFS(templateFiles, "templates/base.html", "templates/_*.html", "templates/"+n.Name()); err != nil {
			return fmt.Errorf("template %s: %w", name, err)
		}
	}
	return nil
})

// functions that templates call.
var functions = template.FuncMap{
	// safe marks HTML that blog.Render or blog.RenderGenerated made. Nothing else may be passed.
	"safe":    func(sanitised string) template.HTML { return template.HTML(sanitised) },
	"instant": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"day":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") },
	"asset":   assetPath,
	"excerpt": func(text string) string { return blog.Excerpt(text, excerptLength) },
	"tagged":  tagPath,
}

// excerptLength is in characters: some three lines on a desk, six on a phone.
const excerptLength = 280

// tagPath is the address of the posts with a tag.
func tagPath(tag string) string { return "/tag/" + url.PathEscape(tag) }

// A frame is what base.html shows around Page, and Page what the page's own template does.
type frame struct {
	Name        string // of the template
	Blog        Options
	Lang        language
	Author      *blog.Author
	Title       string // of the page, a text of the interface; empty: the blog's
	Named       string // instead of Title: what somebody called it, which is never translated
	Description string
	Canonical   string // path of the page, if readers may come by another one
	Path        string // of this page, for links that come back
	Hidden      bool   // search engines shall not list it
	Page        any
}

// T is a text of the interface in the reader's language. args are for fmt's verbs in it.
func (f frame) T(english string, args ...any) string { return f.Lang.text(english, args...) }

// show answers with a page. Readers' pages may be kept but are asked for again, which costs 304 and
// no body; authors' pages are kept by nobody.
func (h *Handler) show(w http.ResponseWriter, v *visit, status int, f frame) error {
	f.Blog, f.Lang, f.Author, f.Path = h.opts, v.lang, v.author, v.URL.Path
	if f.Canonical != "" {
		f.Canonical = h.address(v.Request) + f.Canonical
	}
	var body bytes.Buffer
	if err := pages[f.Name].Execute(&body, f); err != nil {
		return fmt.Errorf("show %s: %w", f.Name, err)
	}
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("Vary", "Accept-Language, Cookie")
	head.Set("Content-Language", string(v.lang))
	if head.Get("Cache-Control") == "" {
		head.Set("Cache-Control", "no-cache")
		if v.author != nil {
			head.Set("Cache-Control", "no-store")
		}
	}
	h.send(w, v, status, body.Bytes())
	return nil
}

// send writes a whole body, or 304 if the reader's browser has it.
func (h *Handler) send(w http.ResponseWriter, v *visit, status int, body []byte) {
	var tag string
	if status == http.StatusOK && w.Header().Get("Cache-Control") != "no-store" {
		sum := sha256.Sum256(body)
		tag = `"` + hex.EncodeToString(sum[:16]) + `"`
		if v.keep != nil {
			v.keep(body, tag)
		}
	}
	sendTagged(w, v, status, body, tag)
}

// sendTagged is send for a body whose entity tag is known; empty: it has none.
func sendTagged(w http.ResponseWriter, v *visit, status int, body []byte, tag string) {
	head := w.Header()
	if tag != "" {
		head.Set("ETag", tag)
		if hasTag(v.Header.Values("If-None-Match"), tag) {
			head.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	head.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if v.Method != http.MethodHead {
		_, _ = w.Write(body) // an error is a reader who has left
	}
}

// hasTag reports whether one of the entity tags that a browser has is tag, by the weak comparison
// of RFC 9110, 8.8.3.2: the same page packed in another way is the same.
func hasTag(ifNoneMatch []string, tag string) bool {
	for _, field := range ifNoneMatch {
		for one := range strings.SplitSeq(field, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}

// address is how readers reach the blog, without a slash at the end.
func (h *Handler) address(r *http.Request) string {
	if h.opts.URL != "" {
		return strings.TrimSuffix(h.opts.URL, "/")
	}
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}
