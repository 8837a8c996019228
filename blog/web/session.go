package web

import (
	"errors"
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// sessionCookie is bound to this host and to HTTPS by its prefix. Browsers take localhost by http, too.
const sessionCookie = "__Host-session"

// identify finds out who has signed in. A cookie that is no session any more is as none.
func (h *Handler) identify(_ http.ResponseWriter, v *visit) error {
	cookie, err := v.Cookie(sessionCookie)
	if err != nil {
		return nil
	}
	author, err := h.people.SignedIn(v.Context(), cookie.Value, h.opts.Now())
	switch {
	case errors.Is(err, blog.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	v.author = &author
	return nil
}
