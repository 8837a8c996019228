package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// trouble is what the error page says, in English: the page has it in the reader's language.
type trouble struct {
	Heading, Advice string
	Kept            string // what was typed and could not be stored, so that it is not lost
}

// A refusal is an error that is the asker's, with the page that tells what to change.
type refusal struct {
	status int
	trouble
}

func (r *refusal) Error() string { return r.Heading }

var errAddress = &refusal{http.StatusBadRequest, trouble{Heading: "The address is not right", Advice: "A part of it is missing or was changed. Start from the first page."}}

// fail answers with the page that says what went wrong and what to do.
func (h *Handler) fail(w *statusWriter, v *visit, err error) {
	if w.status != 0 || errors.Is(v.Context().Err(), context.Canceled) {
		return // it is too late for a page, or nobody waits
	}
	if errors.Is(err, errSignIn) && v.Method != http.MethodPost {
		http.Redirect(w, v.Request, signInPath(v.URL.RequestURI()), http.StatusSeeOther)
		return
	}
	status, t := describe(err)
	switch {
	case errors.Is(err, blog.ErrBusy):
		h.busy(w, v, err)
	case status >= http.StatusInternalServerError:
		h.opts.Log.ErrorContext(v.Context(), "the blog could not answer", "page", v.name, "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	if wantsEvents(v.Request) { // the script has a place for it, and the page keeps what was typed
		e := newEvents(w, nil)
		e.start(status)
		e.failed(v.lang.text(t.Advice))
		return
	}
	if v.Method != http.MethodGet && v.Method != http.MethodHead {
		t.Kept = typed(v)
	}
	if err := h.show(w, v, status, frame{Name: "error", Title: t.Heading, Hidden: true, Page: t}); err != nil {
		h.opts.Log.ErrorContext(v.Context(), "the blog could not answer", "page", v.name, "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// busy counts a request that the database had no answer for, and says when to come again.
func (h *Handler) busy(w http.ResponseWriter, v *visit, err error) {
	h.opts.Observer.DatabaseFailed(v.name)
	w.Header().Set("Retry-After", "5")
	if h.outages.due(v.name, h.opts.Now()) {
		h.opts.Log.WarnContext(v.Context(), "the blog's database has no answer for a page", "page", v.name, "error", err)
	}
}

// outages are told to the log once a second for each page: every request meets them, and the
// Observer counts all.
type outages struct {
	mu   sync.Mutex // guards told
	told map[string]time.Time
}

func (o *outages) due(page string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if last, ok := o.told[page]; ok && now.Sub(last) < time.Second {
		return false
	}
	if o.told == nil {
		o.told = map[string]time.Time{}
	}
	o.told[page] = now
	return true
}

// describe is what an error means to a reader.
func describe(err error) (status int, t trouble) {
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		return refused.status, refused.trouble
	case errors.Is(err, errSignIn):
		return http.StatusForbidden, signInFirst
	case errors.Is(err, blog.ErrNotFound):
		return http.StatusNotFound, trouble{Heading: "Nothing is here", Advice: "The post may have been deleted, or the address is wrong."}
	case errors.Is(err, blog.ErrConflict):
		return http.StatusConflict, trouble{Heading: "Somebody else changed it meanwhile", Advice: "Copy what you wrote, open the post again and put both together."}
	case errors.Is(err, blog.ErrBusy):
		return http.StatusServiceUnavailable, trouble{Heading: "The blog's database is not available", Advice: "Nothing was lost or stored. Try again in a moment."}
	}
	return http.StatusInternalServerError, trouble{Heading: "Something went wrong", Advice: "It has been logged. Try again, or go back to the first page."}
}

// missing answers what no other route does: there is no such page, or it is not asked for that way.
func (h *Handler) missing(w http.ResponseWriter, v *visit) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		other := v.Request.Clone(v.Context())
		other.Method = method
		if _, pattern := h.mux.Handler(other); pattern != everywhere {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) == 0 {
		return blog.ErrNotFound
	}
	w.Header().Set("Allow", strings.Join(allowed, ", "))
	return &refusal{http.StatusMethodNotAllowed, trouble{Heading: "That cannot be done here", Advice: "Go back and use the page's own buttons and links."}}
}

// everywhere is the pattern of what no other matches.
const everywhere = "/"
