package caddymodule

import (
	"fmt"
	"net/http"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// cacheInto checks what the site says of the cache and adds it to its wishes.
func (h *Handler) cacheInto(c *gateway.SiteConfig) (err error) {
	if c.TTL, err = cacheRules(h.TTL); err != nil {
		return err
	}
	if err := c.TTL.Check(); err != nil {
		return err
	}
	if err := notNegative("max_client_ttl", h.MaxClientTTL); err != nil {
		return err
	}
	if h.TagsHeader != "" {
		if err := checkRequestHeader("tags_header", h.TagsHeader); err != nil {
			return err
		}
	}
	if h.TenantHeader != "" {
		if err := checkRequestHeader("tenant_header", h.TenantHeader); err != nil {
			return err
		}
	}
	c.ClientTTL, c.Tags = time.Duration(h.MaxClientTTL), http.CanonicalHeaderKey(h.TagsHeader)
	c.Tenant = gateway.TenantConfig{By: h.Tenant, Header: http.CanonicalHeaderKey(h.TenantHeader)}
	return nil
}

// checkRequestHeader tells whether a name can be that of a header that clients send.
func checkRequestHeader(field, name string) error {
	switch {
	case !isToken(name):
		return fmt.Errorf("%s: %q is not a header name; use letters, digits and dashes", field, name)
	case http.CanonicalHeaderKey(name) == "Host":
		return fmt.Errorf("%s: Host is the same for all requests of a site; name another header", field)
	}
	return nil
}

// needsCache tells of words that do nothing without a cache.
func (h *Handler) needsCache(o *cache.Options) error {
	if o != nil {
		return nil
	}
	for _, w := range []struct {
		word string
		set  bool
	}{{"ttl", len(h.TTL) > 0}, {"client_ttl", h.MaxClientTTL != 0}, {"tags", h.TagsHeader != ""}} {
		if w.set {
			return fmt.Errorf("%s is about the cache, and there is none; add the word cache to the global option ollama (in JSON \"cache\": {} to the app), or leave %s out", w.word, w.word)
		}
	}
	return nil
}
