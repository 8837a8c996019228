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
// the addresses that its server listens on, what a request must match to get there, and what it is
// told to do. Of several that are alike in all that the place counts. A client can change none of
// it.
func (h *Handler) siteName(server *caddyhttp.Server) string {
	way := "in no route of the server's own" // but in a named one, or one for errors
	seen := make(map[string]int)
	findHandler(h, server.Routes, "", func(to string, found bool) {
		if found {
			way = fmt.Sprintf("%s %d", to, seen[to])
		}
		seen[to]++
	})
	listen := slices.Sorted(slices.Values(server.Listen))
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %s %s", listen, way, said(h)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// findHandler visits the handlers of this kind in their order, each with the way to it and what it
// is told to do; found: it is h.
func findHandler(h *Handler, routes caddyhttp.RouteList, way string, visit func(to string, found bool)) {
	for _, route := range routes {
		way := way + "/"
		for _, set := range route.MatcherSets {
			for _, matcher := range set {
				way += fmt.Sprintf("%T %s,", matcher, said(matcher))
			}
			way += ";"
		}
		for _, handler := range route.Handlers {
			switch handler := handler.(type) {
			case *Handler:
				visit(way+said(handler), handler == h)
			case *caddyhttp.Subroute:
				findHandler(h, handler.Routes, way, visit)
			}
		}
	}
}

// said is what a part of a configuration was made from, as far as it still tells.
func said(part any) string {
	text, err := json.Marshal(part)
	if err != nil {
		return err.Error()
	}
	return string(text)
}
