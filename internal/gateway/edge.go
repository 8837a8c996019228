package gateway

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// pageNotFound is what a node says of a route that it does not know.
const pageNotFound = "404 page not found"

// enter does what a node does before any handler: redirects of odd paths, Origin, Host,
// unknown paths and wrong methods, in that order. It tells whether the request goes on.
func (q *request) enter() bool {
	h := q.w.Header()
	h.Del("Server") // a node names none
	m := find(q.r.Method, q.r.URL.Path)
	if m.Redirect != "" && m.Redirect+"/" != q.r.URL.Path { // not clean: before all else
		return q.redirect(m)
	}
	if m.Allow != "" && m.Route == nil {
		h.Set("Allow", m.Allow)
	}
	if !q.crossOrigin() || !q.host() {
		return false
	}
	switch {
	case m.Redirect != "":
		return q.redirect(m)
	case m.Status == http.StatusNotFound && q.site.passes(q.r.URL.Path):
		q.route, q.passes = passRoute(q.r.URL.Path), true
		return true
	case m.Status != http.StatusOK:
		text := pageNotFound
		if m.Status == http.StatusMethodNotAllowed {
			text = "405 method not allowed"
		}
		q.answer(m.Status, "text/plain", []byte(text))
		return false
	}
	q.route, q.param = *m.Route, m.Param
	return true
}

// find looks a request up as a node does, and then among the routes of the gateway's own.
func find(method, path string) wire.Match {
	m := wire.Find(method, path)
	if m.Status != http.StatusNotFound || path != promptsRoute.Path {
		return m
	}
	if method != http.MethodPost {
		return wire.Match{Allow: http.MethodPost, Status: http.StatusMethodNotAllowed}
	}
	return wire.Match{Route: &promptsRoute, Status: http.StatusOK}
}

func (q *request) redirect(m wire.Match) bool {
	h := q.w.Header()
	location := m.Redirect
	if query := q.r.URL.RawQuery; query != "" {
		location += "?" + query
	}
	h.Set("Location", location)
	contentType, body := wire.RedirectBody(q.r.Method, location, m.Status)
	q.answer(m.Status, contentType, body)
	return false
}

// crossOrigin judges the Origin of a request as a node does and answers preflights.
func (q *request) crossOrigin() bool {
	origin := q.r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	allowed, sameHost := wire.OriginAllowed(origin, q.r.Host)
	switch {
	case sameHost:
		return true
	case !allowed:
		q.record.Reason = BadOrigin
		q.head(http.StatusForbidden)
		return false
	}
	headers := wire.OriginHeaders(origin)
	preflight := q.r.Method == http.MethodOptions
	if preflight {
		headers = wire.PreflightHeaders(origin)
	}
	for name, values := range headers {
		q.w.Header()[name] = values
	}
	if preflight {
		q.head(http.StatusNoContent)
	}
	return !preflight
}

// host applies the Host rule of a node that is bound to a loopback address.
func (q *request) host() bool {
	if !q.hostRule {
		return true
	}
	switch {
	case !wire.HostAllowed(q.r.Host, q.engine.host):
		q.record.Reason = BadHost
		q.head(http.StatusForbidden)
		return false
	case q.r.Method == http.MethodOptions && !isAddress(q.r.Host):
		q.head(http.StatusNoContent)
		return false
	}
	return true
}

// answer writes a whole answer. Its length is left to the server, which frames it just as a
// node's server does.
func (q *request) answer(status int, contentType string, body []byte) {
	if contentType != "" {
		q.w.Header().Set("Content-Type", contentType)
	} else {
		q.w.Header()["Content-Type"] = nil // or the server would guess one
	}
	q.head(status)
	q.w.Write(body) // a client that has left is not an error of ours
}

// isAddress tells whether a Host header holds an IP literal instead of a name.
func isAddress(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}
