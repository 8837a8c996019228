package web

import (
	"net/http"
	"strconv"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// index lists posts, the newest first.
func (h *Handler) index(w http.ResponseWriter, v *visit) error {
	page, err := h.store.Posts(v.Context(), blog.Query{Limit: 20})
	if err != nil {
		return err
	}
	return h.show(w, v, http.StatusOK, frame{Name: "index", Page: page})
}

// post shows one, at its canonical path only.
func (h *Handler) post(w http.ResponseWriter, v *visit) error {
	id, err := strconv.ParseInt(v.PathValue("id"), 10, 64)
	if err != nil {
		return blog.ErrNotFound
	}
	p, err := h.store.Post(v.Context(), id)
	if err != nil {
		return err
	}
	if !p.Deleted.IsZero() || p.Draft && v.author == nil {
		return blog.ErrNotFound
	}
	if v.URL.Path != p.Path() {
		http.Redirect(w, v.Request, p.Path(), http.StatusMovedPermanently)
		return nil
	}
	return h.show(w, v, http.StatusOK, frame{Name: "post", Title: p.Title, Description: blog.Excerpt(p.Text, 160), Page: p})
}
