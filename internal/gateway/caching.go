package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// caching finds out what the cache needs to know of a request. There is a cache.
func (q *request) caching(r *wire.Request, m *fleet.Model) *call.Caching {
	c := &call.Caching{
		Identity: m.Identity,
		Version:  q.engine.fleet.Snapshot().VersionOf(m),
		Control:  cache.ParseControl(q.r.Header),
	}
	if c.Verdict.Why = uncacheable(r, c); c.Verdict.Why != "" {
		return c
	}
	now := time.Now()
	facts := cache.Facts{
		Model: r.Model.Short(), Operation: r.Route.Operation.String(), Embedding: r.Route.Operation == wire.Embed,
		Prompt: r.LastPrompt, Header: q.r.Header, Deterministic: r.Sampling().Over(m.Sampling).Deterministic(),
		SingleTurn: r.SingleTurn(), Tools: r.HasTools(), Dated: m.Dated || r.PrintsDate(), Now: now,
	}
	if q.site.clientTTL > 0 {
		facts.ClientTTL = cache.ClientTTL(q.r.Header, q.site.clientTTL)
	}
	c.Verdict = q.config.Cache.Judge(q.site.ttl, &facts)
	if c.Verdict.TTL == 0 {
		return c
	}
	if facts.Dated {
		c.Until = cache.MidnightAfter(now)
	}
	c.Tenant = q.scope()
	if q.site.tags != "" {
		c.Tags = cache.Tags(q.r.Header.Values(q.site.tags))
	}
	c.Question = cache.QuestionOf(c, r)
	if native, ok := r.NativeChat(); ok {
		equal := cache.QuestionOf(c, native)
		c.Native = &equal
	}
	return c
}

// uncacheable says in a word why no rule can have a request cached, "" if one can.
func uncacheable(r *wire.Request, c *call.Caching) string {
	switch {
	case r.Task != wire.Answer:
		return "command"
	case r.KeepAlive != nil && *r.KeepAlive == 0:
		return "keep_alive" // it also says to unload the model
	case c.Identity == "":
		return "identity" // not known yet
	case c.Version == "":
		return "version"
	}
	return ""
}

// A tenancy is how a site tells whose answers may be shared.
type tenancy struct {
	by, header string
}

func newTenancy(c TenantConfig) (tenancy, error) {
	switch c.By {
	case "", "authorization", "user", "shared":
		if c.Header != "" {
			return tenancy{}, fmt.Errorf("tenant: the header %s is for: tenant header %[1]s", c.Header)
		}
	case "header":
		if c.Header == "" {
			return tenancy{}, errors.New("tenant: header needs the name of a header, as in: tenant header X-Team")
		}
	default:
		return tenancy{}, fmt.Errorf("tenant: unrecognized %q; use authorization, header, user or shared", c.By)
	}
	return tenancy{by: c.By, header: c.Header}, nil
}

// scope is whose answers the request may share. What it is made of never leaves the process but
// sealed.
func (q *request) scope() string {
	t := q.site.tenancy
	switch h := q.r.Header; {
	case t.by == "shared":
		return cache.TenantShared
	case q.tenant != "":
		return cache.TenantKey + q.tenant
	case t.by == "user":
		if q.user != "" {
			return cache.TenantUser + q.user
		}
	case t.by == "header":
		if values := h.Values(t.header); len(values) > 0 {
			return cache.TenantHeader + strings.Join(values, "\x00")
		}
	default:
		// Nobody verified it: what counts is that another one is another tenant.
		sent := sha256.New()
		known := false
		for _, name := range [...]string{"Authorization", "X-Api-Key", "Proxy-Authorization", "Cookie"} {
			for _, value := range h.Values(name) {
				fmt.Fprintf(sent, "%s %d %s\n", name, len(value), value)
				known = true
			}
		}
		if known {
			return cache.TenantCredential + base64.RawURLEncoding.EncodeToString(sent.Sum(nil))
		}
	}
	return cache.TenantAnonymous + q.siteName + " " + strings.ToLower(q.r.Host)
}

// cached tells the client what the cache did: Cache-Status (RFC 9211) and Age.
func (q *request) cached(c *call.Call) {
	if c.Caching == nil {
		return
	}
	r := c.Cached.Result()
	h := q.w.Header()
	status := append(make([]byte, 0, 128), "caddy-ollama"...)
	switch r.Status {
	case call.Hit, call.Stale:
		status = append(status, "; hit"...)
		if r.TTL != call.Forever {
			status = strconv.AppendInt(append(status, "; ttl="...), int64(r.TTL.Seconds()), 10)
		}
		h["Age"] = []string{strconv.FormatInt(int64(r.Age.Seconds()), 10)}
	case call.Miss:
		switch r.Detail {
		case "request", "stale": // words of the RFC
			status = append(append(status, "; fwd="...), r.Detail...)
		default:
			status = append(status, "; fwd=miss"...)
		}
		if r.Stored {
			status = append(status, "; stored"...)
		}
	case call.Bypass:
		status = append(status, "; fwd=bypass"...)
	}
	if r.Detail != "" && r.Status != call.Miss {
		status = append(append(status, "; detail="...), r.Detail...)
	}
	if q.site.explain && c.Caching.Verdict.TTL > 0 {
		status = fmt.Appendf(status, "; key=%q", q.engine.cache.KeyName(c.Caching.Key))
	}
	h["Cache-Status"] = []string{string(status)}
}

// excusable tells of an error whether an answer whose time is over is better than it: the fleet is
// to blame, not the request, and not that the gateway is leaving.
func excusable(err error) bool {
	status := meaning(err).status
	var refused *call.StatusError
	if errors.As(err, &refused) {
		status = refused.Code
	}
	switch outcomeOf(err, status) {
	case UpstreamError, Timeout, Overloaded:
		return !errors.Is(err, errClosing) && !errors.Is(err, schedule.ErrStopping)
	}
	return false
}
