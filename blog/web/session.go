package web

import (
	"errors"
	"mime"
	"net"
	"net/http"
	"net/netip"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
)

// sessionCookie is bound to this host and to HTTPS by its prefix. Browsers take localhost by http, too.
const sessionCookie = "__Host-session"

// formLimit is the most bytes of a form: a body of blog.BodyLimit, of which each byte may take three.
const formLimit = 4 << 20

var crossOrigin = http.NewCrossOriginProtection()

// identify refuses what pages of other sites send, bounds what may be sent, and finds out who has signed
// in. A cookie that is no session any more is as none.
func (h *Handler) identify(w http.ResponseWriter, v *visit) error {
	limit := int64(formLimit)
	if v.URL.Path == imagesPath {
		limit = imageFormLimit
	}
	v.Body = http.MaxBytesReader(w, v.Body, limit)
	// SameSite=Lax would do for most; this covers other ports and subdomains of the same site, too.
	if err := crossOrigin.Check(v.Request); err != nil {
		h.opts.Log.InfoContext(v.Context(), "a request from another site was refused", "page", v.name, "origin", v.Header.Get("Origin"))
		return &refusal{http.StatusForbidden, trouble{
			Heading: "This was sent by another site", Advice: "Nothing was changed. Open the blog itself and do it there.",
		}}
	}
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

// remember has the browser keep a session as long as the store does.
func remember(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{
		Name: sessionCookie, Value: token, Path: "/", MaxAge: int(people.SessionLife.Seconds()),
		Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func forget(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

// clientAddress is whom failed logins and questions to a model are counted for. Of IPv6 it is the network: who has one address
// has 2^64.
func (h *Handler) clientAddress(r *http.Request) string {
	address := r.RemoteAddr
	if h.opts.ClientIP != nil {
		address = h.opts.ClientIP(r)
	} else if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "" // a socket file's, for one: all of them are one client
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		network, _ := ip.Prefix(64)
		return network.String()
	}
	return ip.String()
}

// readForm reads a form of at most limit bytes.
func readForm(w http.ResponseWriter, v *visit, limit int64) error {
	v.Body = http.MaxBytesReader(w, v.Body, limit)
	return unreadable(v.ParseForm())
}

// unreadable is the refusal for a body that could not be read.
func unreadable(err error) error {
	var tooLong *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLong):
		return &refusal{http.StatusRequestEntityTooLarge, trouble{
			Heading: "That is too large", Advice: "A text may have 1 MiB, an image 10 MiB. Go back and make it smaller.",
		}}
	}
	return &refusal{http.StatusBadRequest, trouble{Heading: "That could not be read", Advice: "Go back and send it again."}}
}

// typed is the text that a form had, for the page that says why it was not stored.
func typed(v *visit) string {
	// Of an upload there is nothing to show.
	if kind, _, _ := mime.ParseMediaType(v.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		return ""
	}
	return v.PostFormValue("body")
}
