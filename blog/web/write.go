package web

import (
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// A draft is a post as its author writes it: the fields of the form, and what the page says to them.
// The form carries everything, so that what was typed comes back when the database does not.
type draft struct {
	ID        int64 // 0: a new post
	Version   int64 // that the author began with
	Published bool  // readers see it now
	Title     string
	Body      string
	Tags      string // separated by commas

	// Key is what the browser keeps an unsent text under; the script makes it.
	Key string

	Field, Problem string // what is wrong, and in which field; ready to show
	Notice         string // ready to show
	Stored         *blog.Post
	Preview        *preview
}

type preview struct{ HTML string }

// Action is where the form is sent.
func (d draft) Action() string {
	if d.ID == 0 {
		return "/create"
	}
	return postPath(d.ID, "edit")
}

func postPath(id int64, do string) string { return "/post/" + strconv.FormatInt(id, 10) + "/" + do }

func draftOf(p blog.Post) draft {
	return draft{ID: p.ID, Version: p.Version, Published: !p.Draft, Title: p.Title, Body: p.Body, Tags: strings.Join(p.Tags, ", ")}
}

var draftKey = regexp.MustCompile(`^[0-9a-f-]{36}$`)

// readDraft is what a form sent.
func readDraft(w http.ResponseWriter, v *visit) (draft, error) {
	if err := readForm(w, v, formLimit); err != nil {
		return draft{}, err
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(v.PostFormValue(name), 10, 64)
		if err != nil || n < 0 {
			return 0
		}
		return n
	}
	d := draft{
		ID: number("id"), Version: number("version"), Published: v.PostFormValue("published") == "true",
		Title: v.PostFormValue("title"), Body: v.PostFormValue("body"), Tags: v.PostFormValue("tags"),
	}
	if key := v.PostFormValue("key"); draftKey.MatchString(key) {
		d.Key = key
	}
	return d, nil
}

// isComma is true for commas of Chinese and Japanese, too.
func isComma(r rune) bool { return strings.ContainsRune(",，、", r) }

// into puts what was written into a post. do is the button: publish, draft, or neither, which
// leaves a post what it is and makes a new one a draft.
func (d draft) into(p *blog.Post, do string) {
	p.Title, p.Body, p.Tags, p.Version = d.Title, d.Body, strings.FieldsFunc(d.Tags, isComma), d.Version
	switch {
	case do == "publish":
		p.Draft = false
	case do == "draft" || p.ID == 0:
		p.Draft = true
	}
	if p.Published.IsZero() {
		p.Slug = "" // nobody links to it yet: it follows the title
	}
}

func (h *Handler) showDraft(w http.ResponseWriter, v *visit, status int, d draft) error {
	title := "Edit"
	if d.ID == 0 {
		title = "Write"
	}
	return h.show(w, v, status, frame{Name: "edit", Title: title, Page: d})
}

func (h *Handler) createForm(w http.ResponseWriter, v *visit) error {
	return h.showDraft(w, v, http.StatusOK, draft{})
}

func (h *Handler) create(w http.ResponseWriter, v *visit) error {
	d, err := readDraft(w, v)
	if err != nil {
		return err
	}
	d.ID = 0
	p := blog.Post{Author: v.author.ID}
	d.into(&p, v.PostFormValue("do"))
	if err = p.Prepare(h.opts.Now()); err == nil {
		p, err = h.store.CreatePost(v.Context(), p)
	}
	if err != nil {
		return h.notStored(w, v, d, err)
	}
	return h.stored(w, v, d, p, !p.Draft)
}

// editable is the post of a path, unless it is deleted.
func (h *Handler) editable(v *visit) (blog.Post, error) {
	id, err := pathID(v)
	if err != nil {
		return blog.Post{}, err
	}
	p, err := h.store.Post(v.Context(), id)
	if err == nil && !p.Deleted.IsZero() {
		err = blog.ErrNotFound
	}
	return p, err
}

func pathID(v *visit) (int64, error) {
	id, err := strconv.ParseInt(v.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, blog.ErrNotFound
	}
	return id, nil
}

func (h *Handler) editForm(w http.ResponseWriter, v *visit) error {
	p, err := h.editable(v)
	if err != nil {
		return err
	}
	d := draftOf(p)
	if v.URL.Query().Has("saved") {
		d.Notice = v.lang.text("Saved. Only authors see it.")
	}
	return h.showDraft(w, v, http.StatusOK, d)
}

func (h *Handler) edit(w http.ResponseWriter, v *visit) error {
	d, err := readDraft(w, v)
	if err != nil {
		return err
	}
	if d.ID, err = pathID(v); err != nil {
		return err
	}
	p, err := h.editable(v)
	wasDraft := p.Draft
	if err == nil {
		d.into(&p, v.PostFormValue("do"))
		err = p.Prepare(h.opts.Now())
	}
	if err == nil {
		p, err = h.store.UpdatePost(v.Context(), p)
	}
	if err != nil {
		return h.notStored(w, v, d, err)
	}
	return h.stored(w, v, d, p, wasDraft && !p.Draft)
}

// stored goes on to the post, or to its form again while it is a draft.
func (h *Handler) stored(w http.ResponseWriter, v *visit, d draft, p blog.Post, published bool) error {
	if d.Key != "" {
		// Only the script of the form reads it, which then forgets the text that it kept.
		http.SetCookie(w, &http.Cookie{Name: "stored", Value: d.Key, Path: "/", MaxAge: 24 * 60 * 60, Secure: true, SameSite: http.SameSiteStrictMode})
	}
	if published {
		h.opts.Log.InfoContext(v.Context(), "a post was published", "post", p.ID, "author", v.author.Name)
	}
	next := p.Path()
	if p.Draft {
		next = postPath(p.ID, "edit") + "?saved"
	}
	http.Redirect(w, v.Request, next, http.StatusSeeOther)
	return nil
}

// notStored shows the form again, with all that was typed and what is in the way.
func (h *Handler) notStored(w http.ResponseWriter, v *visit, d draft, err error) error {
	invalid, isInvalid := blog.IsInvalid(err)
	status := http.StatusInternalServerError
	switch {
	case isInvalid:
		status = http.StatusUnprocessableEntity
		d.Field, d.Problem = invalid.Field, advice(v.lang, invalid)
	case errors.Is(err, blog.ErrConflict) && d.ID != 0:
		stored, readErr := h.store.Post(v.Context(), d.ID)
		if readErr != nil {
			return readErr
		}
		// What is stored now has been shown: who saves again means it.
		status, d.Stored, d.Version, d.Published = http.StatusConflict, &stored, stored.Version, !stored.Draft
		d.Problem = v.lang.text("Somebody else changed this post meanwhile, and yours was not saved. Below is what is stored now: put both together, and save again.")
	case errors.Is(err, blog.ErrNotFound):
		status = http.StatusNotFound
		d.Problem = v.lang.text("This post is not there any more. Restore it among the deleted ones, or copy what you wrote into a new one.")
	case errors.Is(err, blog.ErrBusy):
		status = http.StatusServiceUnavailable
		h.busy(w, v, err)
		d.Problem = v.lang.text("The blog's database is not available, and this was not saved. It is still in this form: try again in a moment.")
	default:
		return err
	}
	return h.showDraft(w, v, status, d)
}

// advice says what to change, in the language of who has to.
func advice(lang language, e *blog.InvalidError) string {
	if e.Limit == 0 {
		return lang.text("A post needs a title.")
	}
	text := map[string]string{
		"title characters":                         "The title has more than %d characters.",
		"body bytes":                               "The text has more than %d bytes.",
		"body quotes and lists in each other":      "The text has more than %d quotes and lists in each other.",
		"body links without an end in a paragraph": "The text has more than %d links without an end in a paragraph.",
		"tags tags":                                "There are more than %d tags.",
		"tags characters":                          "A tag has more than %d characters.",
	}[e.Field+" "+e.Unit]
	if text == "" {
		return e.Error()
	}
	return lang.text(text, e.Limit)
}

// preview shows what a text will look like: the form with it, or for the script that alone.
func (h *Handler) preview(w http.ResponseWriter, v *visit) error {
	d, err := readDraft(w, v)
	if err != nil {
		return err
	}
	html, _, err := blog.Render(d.Body)
	invalid, isInvalid := blog.IsInvalid(err)
	alone := v.PostFormValue("alone") != ""
	switch {
	case isInvalid && alone:
		http.Error(w, advice(v.lang, invalid), http.StatusUnprocessableEntity)
		return nil
	case isInvalid:
		return h.notStored(w, v, d, invalid)
	case err != nil:
		return err
	case !alone:
		d.Preview = &preview{HTML: html}
		return h.showDraft(w, v, http.StatusOK, d)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, err = w.Write([]byte(html))
	return err
}
