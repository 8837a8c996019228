package web

import (
	"net/http"
	"strconv"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// A shelf is a list of posts that readers do not see.
type shelf struct {
	blog.Page
	More    string     // address of the next page; empty: there is none
	Removed *blog.Post // the one that has just been deleted
}

func (h *Handler) drafts(w http.ResponseWriter, v *visit) error {
	s, err := h.shelf(v, blog.Drafts)
	if err != nil {
		return err
	}
	return h.show(w, v, http.StatusOK, frame{Name: "drafts", Title: "Drafts", Page: s})
}

func (h *Handler) deleted(w http.ResponseWriter, v *visit) error {
	s, err := h.shelf(v, blog.Deleted)
	if err != nil {
		return err
	}
	removed, _ := strconv.ParseInt(v.URL.Query().Get("post"), 10, 64)
	for i := range s.Posts {
		if s.Posts[i].ID == removed {
			s.Removed = &s.Posts[i]
		}
	}
	return h.show(w, v, http.StatusOK, frame{Name: "deleted", Title: "Deleted posts", Page: s})
}

func (h *Handler) shelf(v *visit, which blog.Show) (s shelf, err error) {
	after, err := parseCursor(v.FormValue("after"))
	if err != nil {
		return shelf{}, err
	}
	if s.Page, err = h.store.Posts(v.Context(), blog.Query{Show: which, Limit: 50, After: after}); err != nil {
		return shelf{}, err
	}
	if !s.Next.IsZero() {
		s.More = v.URL.Path + "?after=" + cursorText(s.Next)
	}
	return s, nil
}

// remove deletes a post, and goes to where that can be undone.
func (h *Handler) remove(w http.ResponseWriter, v *visit) error {
	id, err := pathID(v)
	if err != nil {
		return err
	}
	if err := h.store.DeletePost(v.Context(), id, h.opts.Now()); err != nil {
		return err
	}
	h.opts.Log.InfoContext(v.Context(), "a post was deleted", "post", id, "author", v.author.Name)
	http.Redirect(w, v.Request, "/deleted?post="+strconv.FormatInt(id, 10), http.StatusSeeOther)
	return nil
}

// restore undoes remove: what was published is so again.
func (h *Handler) restore(w http.ResponseWriter, v *visit) error {
	id, err := pathID(v)
	if err != nil {
		return err
	}
	if err := h.store.RestorePost(v.Context(), id); err != nil {
		return err
	}
	h.opts.Log.InfoContext(v.Context(), "a post was restored", "post", id, "author", v.author.Name)
	http.Redirect(w, v.Request, "/post/"+strconv.FormatInt(id, 10), http.StatusSeeOther)
	return nil
}
