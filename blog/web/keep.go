package web

import (
	"net/http"

	"github.com/maypok86/otter/v2"
)

const (
	keptBytes = 16 << 20 // of all pages that are kept
	keptMost  = 1 << 20  // of one; a longer one is made anew each time
)

// A pageKey is all that a reader's page depends on, but for the program and its options.
type pageKey struct {
	changes int64 // of the store, so that no page is older than what is stored
	address string
	path    string
	after   string // in lists
	lang    language
}

// A keptPage is one as it was sent.
type keptPage struct {
	body                   []byte
	tag, kind, vary, spoke string
}

func newPages() *otter.Cache[pageKey, *keptPage] {
	return otter.Must(&otter.Options[pageKey, *keptPage]{
		MaximumWeight: keptBytes,
		Weigher: func(k pageKey, p *keptPage) uint32 {
			return uint32(len(p.body) + len(k.address) + len(k.path) + len(k.after) + 512) // 512: for what is around it
		},
	})
}

// kept has a page that is the same for all readers be made once, until something changes in the
// store. Asking whether it did costs one short query, and keeps the pages right when another
// process writes; authors get theirs made.
func (h *Handler) kept(page func(http.ResponseWriter, *visit) error) func(http.ResponseWriter, *visit) error {
	return func(w http.ResponseWriter, v *visit) error {
		if v.author != nil {
			return page(w, v)
		}
		changes, err := h.store.Changes(v.Context())
		if err != nil {
			return err
		}
		key := pageKey{changes: changes, address: h.address(v.Request), path: v.URL.Path, after: v.query("after"), lang: v.lang}
		if p, ok := h.pages.GetIfPresent(key); ok {
			head := w.Header()
			head.Set("Content-Type", p.kind)
			head.Set("Vary", p.vary)
			head.Set("Cache-Control", "no-cache")
			if p.spoke != "" {
				head.Set("Content-Language", p.spoke)
			}
			sendTagged(w, v, http.StatusOK, p.body, p.tag)
			return nil
		}
		v.keep = func(body []byte, tag string) {
			if len(body) <= keptMost {
				head := w.Header()
				h.pages.Set(key, &keptPage{body: body, tag: tag, kind: head.Get("Content-Type"), vary: head.Get("Vary"), spoke: head.Get("Content-Language")})
			}
		}
		return page(w, v)
	}
}
