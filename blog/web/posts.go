package web

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// listLength is how many posts a page lists: a screen or four, and one query.
const listLength = 20

// A list is a page of posts.
type list struct {
	Tag   string // of all of them; empty: any
	Posts []blog.Post
	Older string // address of the next page; empty: this is the last
	Later bool   // this is not the first page
}

// index lists posts, the newest first.
func (h *Handler) index(w http.ResponseWriter, v *visit) error {
	l, err := h.list(v, "/", blog.Query{})
	if err != nil {
		return err
	}
	f := frame{Name: "index", Description: h.opts.Description, Canonical: "/", Page: l}
	if l.Later {
		f.Title, f.Canonical = "Older posts", ""
	}
	return h.show(w, v, http.StatusOK, f)
}

// tag lists the posts that have one.
func (h *Handler) tag(w http.ResponseWriter, v *visit) error {
	asked := v.PathValue("tag")
	tags := blog.NormalizeTags([]string{asked})
	if len(tags) != 1 || len(asked) > 4*blog.TagLimit {
		return blog.ErrNotFound
	}
	path := tagPath(tags[0])
	if tags[0] != asked {
		http.Redirect(w, v.Request, path, http.StatusMovedPermanently)
		return nil
	}
	l, err := h.list(v, path, blog.Query{Tag: asked})
	if err != nil {
		return err
	}
	if len(l.Posts) == 0 && !l.Later {
		return blog.ErrNotFound
	}
	l.Tag = asked
	return h.show(w, v, http.StatusOK, frame{Name: "index", Named: v.lang.text("Tag: %s", asked), Page: l})
}

func (h *Handler) list(v *visit, path string, q blog.Query) (l list, err error) {
	if q.After, err = parseCursor(v.query("after")); err != nil {
		return list{}, err
	}
	q.Limit, l.Later = listLength, !q.After.IsZero()
	page, err := h.store.Posts(v.Context(), q)
	if err != nil {
		return list{}, err
	}
	if l.Posts = page.Posts; !page.Next.IsZero() {
		l.Older = path + "?after=" + cursorText(page.Next)
	}
	return l, nil
}

// cursorText is a cursor in an address.
func cursorText(c blog.Cursor) string {
	text := fmt.Sprintf("%d-%d", c.At.UnixMicro(), c.ID)
	if c.InTitle {
		text = "t" + text
	}
	return text
}

// parseCursor reads what cursorText wrote, and nothing else; empty is the beginning.
func parseCursor(text string) (c blog.Cursor, err error) {
	if text == "" {
		return c, nil
	}
	rest, inTitle := strings.CutPrefix(text, "t")
	at := strings.LastIndexByte(rest, '-')
	if at < 0 {
		return c, errAddress
	}
	micros, err := strconv.ParseInt(rest[:at], 10, 64)
	id, err2 := strconv.ParseInt(rest[at+1:], 10, 64)
	c = blog.Cursor{InTitle: inTitle, At: time.UnixMicro(micros).UTC(), ID: id}
	if err != nil || err2 != nil || id <= 0 || cursorText(c) != text {
		return blog.Cursor{}, errAddress
	}
	return c, nil
}

// tags shows all of them.
func (h *Handler) tags(w http.ResponseWriter, v *visit) error {
	tags, err := h.store.Tags(v.Context())
	if err != nil {
		return err
	}
	return h.show(w, v, http.StatusOK, frame{Name: "tags", Title: "Tags", Canonical: "/tags", Page: tags})
}

// post shows one, at its canonical path only.
func (h *Handler) post(w http.ResponseWriter, v *visit) error {
	p, err := h.visible(v)
	if err != nil {
		return err
	}
	if v.URL.Path != p.Path() {
		// A 301 may be kept by anybody who is not told otherwise: the slug of a draft is its title, and one that
		// was changed and changed back would lead round in circles.
		w.Header().Set("Vary", "Cookie")
		w.Header().Set("Cache-Control", "no-cache")
		if v.author != nil {
			w.Header().Set("Cache-Control", "no-store")
		}
		http.Redirect(w, v.Request, (&url.URL{Path: p.Path()}).EscapedPath(), http.StatusMovedPermanently)
		return nil
	}
	return h.show(w, v, http.StatusOK, frame{Name: "post", Named: p.Title, Description: blog.Excerpt(p.Text, 160), Canonical: (&url.URL{Path: p.Path()}).EscapedPath(), Hidden: p.Draft, Page: p})
}

// visible is the post of the id in the path, if the visitor may see it: drafts are for authors.
func (h *Handler) visible(v *visit) (blog.Post, error) {
	text := v.PathValue("id")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 || strconv.FormatInt(id, 10) != text {
		return blog.Post{}, blog.ErrNotFound
	}
	p, err := h.store.Post(v.Context(), id)
	if err != nil {
		return blog.Post{}, err
	}
	if !p.Deleted.IsZero() || p.Draft && v.author == nil {
		return blog.Post{}, blog.ErrNotFound
	}
	return p, nil
}

// about shows what the blog says of itself.
func (h *Handler) about(w http.ResponseWriter, v *visit) error {
	return h.show(w, v, http.StatusOK, frame{Name: "about", Title: "About", Description: h.opts.Description, Canonical: "/about", Page: h.aboutHTML})
}
