package web

import (
	"net/http"
	"net/url"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// queryLimit is in characters: more than the terms that a search looks at.
const queryLimit = 200

// A found page is what a search shows. Without Query it is the form alone.
type found struct {
	Query string
	Hits  []blog.Hit
	Older string // address of the next page
	Later bool   // this is not the first page
}

// search finds posts by words, in any script.
func (h *Handler) search(w http.ResponseWriter, v *visit) error {
	f := frame{Name: "search", Title: "Search", Canonical: "/search"}
	page := found{Query: v.query("q")}
	if runes := []rune(page.Query); len(runes) > queryLimit {
		page.Query = string(runes[:queryLimit])
	}
	after, err := parseCursor(v.query("after"))
	if err != nil {
		return err
	}
	if page.Query != "" {
		f.Named, f.Canonical, f.Hidden = v.lang.text("Search: %s", page.Query), "", true
		result, err := h.store.Search(v.Context(), blog.SearchQuery{Text: page.Query, Limit: listLength, After: after})
		if err != nil {
			return err
		}
		if page.Hits, page.Later = result.Hits, !after.IsZero(); !result.Next.IsZero() {
			page.Older = "/search?q=" + url.QueryEscape(page.Query) + "&after=" + cursorText(result.Next)
		}
	}
	f.Page = page
	return h.show(w, v, http.StatusOK, f)
}
