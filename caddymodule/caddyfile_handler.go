package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("ollama", parseHandler)
	// After header, request_body, basic_auth, encode, handle and route.
	httpcaddyfile.RegisterDirectiveOrder("ollama", httpcaddyfile.Before, "reverse_proxy")
}

func parseHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	ollama [<matcher>] {
//		class      interactive|background|batch
//		models     <globs...>
//		manage     deny|allow {
//			to       <nodes...>
//			nodes    client
//			require  all
//			registry <hosts...>
//		}
//		pass       <paths...>
//		keys       <placeholder>
//		guard      on|off
//		num_ctx    pass|keep|max <tokens>
//		keep_alive pass|ignore|max <duration>
//		explain
//		ttl        <duration>|off|forever [<condition>] { ... }
//		tenant     authorization|header <name>|user|shared
//		client_ttl max <duration>
//		tags       header <name>
//	}
//
// The block may be left out. models and pass may stand several times and add up; ttl, too, with
// the conditions of the global option.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if err := alone(d); err != nil {
		return err
	}
	g := grammar{
		name: "ollama",
		options: []word{
			{name: "class", read: choice(&h.Class, "interactive", "background", "batch")},
			{name: "models", read: h.readModels, often: true},
			{name: "manage", read: h.readManage},
			{name: "pass", read: h.readPass, often: true},
			{name: "keys", read: h.readKeys},
			{name: "guard", read: choice(&h.Guard, "on", "off")},
			{name: "num_ctx", read: choiceOrMax(&h.NumCtx, count(&h.MaxNumCtx, 1, maxCount, "8192"), "pass", "keep")},
			{name: "keep_alive", read: choiceOrMax(&h.KeepAlive, duration(&h.MaxKeepAlive, "1h"), "pass", "ignore")},
			{name: "explain", read: mark(&h.Explain)},
			{name: "ttl", read: readRule(&h.TTL), often: true},
			{name: "tenant", read: h.readTenant},
			{name: "client_ttl", read: behind("max", "1h", duration(&h.MaxClientTTL, "1h"))},
			{name: "tags", read: behind("header", "X-Cache-Tags", headerName(&h.TagsHeader, "tags header X-Cache-Tags"))},
		},
		elsewhere: wordsAt("the global option ollama", "node", "discover", "health", "queue", "limits", "attempts", "cache").
			and(wordsAt("the block of cache in the global option ollama", ofCache...)).
			and(ofNode),
	}
	_, err := g.block(d)
	return err
}

func (h *Handler) readModels(d *caddyfile.Dispenser) error {
	found := false
	for d.NextArg() {
		glob := d.Val()
		if glob == "" {
			return d.Errf("models: a glob must not be empty; write * for all models")
		}
		if _, err := gateway.NewSite(gateway.SiteConfig{Models: []string{glob}}); err != nil {
			return d.WrapErr(err)
		}
		h.Models = append(h.Models, glob)
		found = true
	}
	if !found {
		return d.Errf("models needs at least one glob, as in: models llama3* qwen*")
	}
	return nil
}

func (h *Handler) readPass(d *caddyfile.Dispenser) error {
	paths := d.RemainingArgs()
	if len(paths) == 0 {
		return d.Errf("pass needs at least one path, as in: pass /api/new-thing")
	}
	if _, err := gateway.NewSite(gateway.SiteConfig{Pass: paths}); err != nil {
		return d.WrapErr(err)
	}
	h.Pass = append(h.Pass, paths...)
	return nil
}

func (h *Handler) readKeys(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 { // not value(), which would repeat a secret that stands there
		return d.Errf("keys takes one value, as in: keys {file./etc/caddy-ollama/keys}")
	}
	if err := checkKeys(args[0]); err != nil {
		return d.Errf("keys: %v", err)
	}
	h.Keys = args[0]
	return nil
}

// Interface guards
var _ caddyfile.Unmarshaler = (*Handler)(nil)
