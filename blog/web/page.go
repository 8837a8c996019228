package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"net/http"
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
}

// A frame is what base.html shows around Page, and Page what the page's own template does.
type frame struct {
	Name        string // of the template
	Blog        Options
	Lang        language
	Author      *blog.Author
	Title       string // of the page; empty: the blog's
	Description string
	Canonical   string // address
	Path        string // of this page, for links that come back
	Page        any
}

// T is a text of the interface in the reader's language. args are for fmt's verbs in it.
func (f frame) T(english string, args ...any) string { return f.Lang.text(english, args...) }

// show answers with a page. Readers' pages may be kept but are asked for again, which costs 304 and
// no body; authors' pages are kept by nobody.
func (h *Handler) show(w http.ResponseWriter, v *visit, status int, f frame) error {
	f.Blog, f.Lang, f.Author, f.Path = h.opts, v.lang, v.author, v.URL.Path
	var body bytes.Buffer
	if err := pages[f.Name].Execute(&body, f); err != nil {
		return fmt.Errorf("show %s: %w", f.Name, err)
	}
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Add("Vary", "Accept-Language, Cookie")
	head.Set("Content-Language", string(v.lang))
	if head.Get("Cache-Control") == "" {
		head.Set("Cache-Control", "no-cache")
		if v.author != nil {
			head.Set("Cache-Control", "no-store")
		}
	}
	if status == http.StatusOK && v.author == nil {
		sum := sha256.Sum256(body.Bytes())
		tag := `"` + hex.EncodeToString(sum[:16]) + `"`
		head.Set("ETag", tag)
		if strings.Contains(v.Header.Get("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	w.WriteHeader(status)
	if v.Method != http.MethodHead {
		w.Write(body.Bytes()) // an error is a reader who has left
	}
	return nil
}

// trouble is what the error page says.
type trouble struct {
	Heading, Advice string
	Kept            string // what was typed and could not be stored, so that it is not lost
}

// fail answers with the page that says what went wrong and what to do.
func (h *Handler) fail(w *statusWriter, v *visit, err error) {
	if w.status != 0 || errors.Is(v.Context().Err(), context.Canceled) {
		return // it is too late for a page, or nobody waits
	}
	status, t := http.StatusInternalServerError, trouble{Heading: "Something went wrong", Advice: "It has been logged. Try again, or go back to the first page."}
	switch {
	case errors.Is(err, errSignIn):
		http.Redirect(w, v.Request, "/login", http.StatusSeeOther)
		return
	case errors.Is(err, blog.ErrNotFound):
		status, t = http.StatusNotFound, trouble{Heading: "Nothing is here", Advice: "The post may have been deleted, or the address is wrong."}
	case errors.Is(err, blog.ErrConflict):
		status, t = http.StatusConflict, trouble{Heading: "Somebody else changed it meanwhile", Advice: "Copy what you wrote, open the post again and put both together."}
	case errors.Is(err, blog.ErrBusy):
		h.opts.Observer.DatabaseFailed(v.name)
		w.Header().Set("Retry-After", "5")
		status, t = http.StatusServiceUnavailable, trouble{Heading: "The blog's database is not available", Advice: "Nothing was lost or stored. Try again in a moment."}
	}
	if status >= http.StatusInternalServerError {
		h.opts.Log.ErrorContext(v.Context(), "the blog could not answer", "page", v.name, "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	if v.Method != http.MethodGet && v.Method != http.MethodHead {
		t.Kept = v.PostFormValue("body")
	}
	if err := h.show(w, v, status, frame{Name: "error", Title: t.Heading, Page: t}); err != nil {
		h.opts.Log.ErrorContext(v.Context(), "the blog could not answer", "page", v.name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}
