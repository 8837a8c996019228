package caddymodule

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// siteName tells this handler from all others, the same on every replica and after a reload: by
// the addresses that its server listens on, its place among the server's handlers of this kind, and
// what it is told to do. A client can change none of it, other than the Host that it sends.
func (h *Handler) siteName(server *caddyhttp.Server) string {
	place, _ := placeOf(h, server.Routes, 0)
	wishes, _ := json.Marshal(h) // it was made from JSON
	listen := slices.Sorted(slices.Values(server.Listen))
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %d %s", listen, place, wishes))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// placeOf counts the handlers of this kind before h, in routes that come after n of them. ok is
// false if h is not there, as in a named route.
func placeOf(h *Handler, routes caddyhttp.RouteList, n int) (place int, ok bool) {
	for _, route := range routes {
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				if handler == h {
					return n, true
				}
				n++
			case *caddyhttp.Subroute:
				if n, ok = placeOf(h, handler.Routes, n); ok {
					return n, true
				}
			}
		}
	}
	return n, false
}
