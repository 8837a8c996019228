package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/batch"
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// share finds out what the steps that share answers need to know of a call. There is one of them.
func (q *request) share(c *call.Call, m *fleet.Model) {
	w := &q.caching
	w.Identity = m.Identity
	w.Version = q.engine.fleet.Snapshot().VersionOf(m)
	w.Control = cache.ParseControl(q.r.Header)
	c.Cached = &q.cached
	embeds := c.Request.Route.Operation == wire.Embed
	gathers := embeds && q.config.Embed != nil
	if q.config.Cache != nil || gathers {
		c.Caching = w
	}
	if w.Verdict.Why = unshareable(c.Request, w); w.Verdict.Why != "" {
		return
	}
	deterministic := c.Request.Sampling().Over(m.Sampling).Deterministic()
	if q.config.Cache != nil {
		q.judge(c.Request, w, m, deterministic)
	}
	joins := q.config.Coalesce != nil && (deterministic || embeds || q.config.Coalesce.Sampled)
	if w.Verdict.TTL == 0 && !joins && !gathers {
		return
	}
	w.Tenant = q.scope()
	if gathers {
		if c.Vectors = batch.Apart(c.Request); c.Vectors != nil {
			return // each text has its own question
		}
	}
	w.Question = cache.QuestionOf(w, c.Request)
	if native, ok := c.Request.NativeChat(); ok {
		equal := cache.QuestionOf(w, native)
		w.Native = &equal
	}
	if joins {
		c.Joining = &call.Joining{Key: w.Key, Alone: w.Control.NoCache}
		if w.Native != nil {
			c.Joining.Native = &w.Native.Key
		}
		if !deterministic && !embeds {
			c.Joining.Client, _, _ = net.SplitHostPort(q.r.RemoteAddr)
		}
	}
}

// judge has the rules decide whether and for how long an answer is kept.
func (q *request) judge(r *wire.Request, w *call.Caching, m *fleet.Model, deterministic bool) {
	facts := cache.Facts{
		Model: r.Model.Short(), Operation: r.Route.Operation.String(), Embedding: r.Route.Operation == wire.Embed,
		Prompt: r.LastPrompt, Header: q.r.Header, Deterministic: deterministic,
		SingleTurn: r.SingleTurn, Tools: r.HasTools,
	}
	if q.site.tags != "" {
		facts.Tagged = q.r.Header.Get(q.site.tags) != ""
	}
	if q.site.clientTTL > 0 {
		facts.ClientTTL = cache.ClientTTL(q.r.Header, q.site.clientTTL)
	}
	if w.Verdict = q.config.Cache.Judge(q.site.ttl, &facts); w.Verdict.TTL == 0 {
		return
	}
	if m.Dated || r.PrintsDate() {
		w.Until = cache.MidnightAfter(time.Now())
	}
	if q.site.tags != "" {
		w.Tags = cache.Tags(q.r.Header.Values(q.site.tags))
	}
}

// settleShared writes down what came of a call that may have shared an answer.
func (q *request) settleShared(rec *Record) {
	c := q.call
	rec.Cache = c.Cached.Result()
	if lead := rec.Cache.Lead; lead != nil {
		rec.Coalesced = true
		if c.Vectors == nil { // else the texts have told
			rec.Cache.Saved = lead.Totals()
		}
	}
	if q.keyed(c) {
		rec.key, rec.keyName = c.Caching.Key, q.engine.cache.KeyName
	}
}

// keyed tells whether the answer to a call is looked up and stored as one.
func (q *request) keyed(c *call.Call) bool {
	return q.config.Cache != nil && c.Vectors == nil && c.Caching.Verdict.TTL > 0
}

// unshareable says in a word why nobody else is given the answer to a request, "" if somebody may.
func unshareable(r *wire.Request, c *call.Caching) string {
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
		var sent hash.Hash
		for _, name := range [...]string{"Authorization", "X-Api-Key", "Proxy-Authorization", "Cookie"} {
			for _, value := range h[name] { // names as the server spells them

				if sent == nil {
					sent = sha256.New()
				}
				fmt.Fprintf(sent, "%s %d %s\n", name, len(value), value)
			}
		}
		if sent != nil {
			return cache.TenantCredential + base64.RawURLEncoding.EncodeToString(sent.Sum(nil))
		}
	}
	return q.site.anonymous(q.siteName, q.r.Host)
}

// An anonymity is the scope of the clients of a site that show no credential.
type anonymity struct{ site, host, scope string }

// anonymous is that scope. It is made anew only when the host is another one than before.
func (s *Site) anonymous(name, host string) string {
	a := s.nobody.Load()
	if a == nil || a.site != name || a.host != host {
		a = &anonymity{name, host, cache.TenantAnonymous + name + " " + strings.ToLower(host)}
		s.nobody.Store(a)
	}
	return a.scope
}

// shared tells the client what the cache did, and whether the answer was another call's:
// Cache-Status (RFC 9211) and Age.
func (q *request) shared(c *call.Call) {
	if c.Cached == nil {
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
		case "request", "stale", "partial": // words of the RFC
			status = append(append(status, "; fwd="...), r.Detail...)
		default:
			status = append(status, "; fwd=miss"...)
		}
		if r.Stored {
			status = append(status, "; stored"...)
		}
	case call.Bypass:
		status = append(status, "; fwd=bypass"...)
	case "":
		if r.Lead != nil {
			status = append(status, "; fwd=miss"...) // there is no cache
		}
	}
	if r.Lead != nil {
		status = append(status, "; collapsed"...)
	}
	switch {
	case r.Detail != "" && r.Status != call.Miss:
		status = append(append(status, "; detail="...), r.Detail...)
	case q.site.explain && r.Status == call.Hit:
		status = append(append(status, "; detail="...), strconv.Quote(cache.Reason(&r))...)
	}
	if q.site.explain && q.keyed(c) {
		status = fmt.Appendf(status, "; key=%q", q.engine.cache.KeyName(c.Caching.Key))
	}
	if q.config.Cache != nil || r.Lead != nil {
		h["Cache-Status"] = []string{string(status)}
	}
	if r.Texts.Shared {
		h["X-Ollama-Usage"] = []string{"apportioned"}
	}
}

// excusable tells of an error whether an answer whose time is over is better than it: the fleet is
// to blame, not the request, and not that the gateway is leaving.
func excusable(err error) bool {
	switch outcomeOf(err, statusOf(err)) {
	case UpstreamError, Timeout, Overloaded:
		return !errors.Is(err, errClosing) && !errors.Is(err, schedule.ErrStopping)
	}
	return false
}

// statusOf is what a client is answered because of an error.
func statusOf(err error) int {
	var refused *call.StatusError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return meaning(err).status
}
