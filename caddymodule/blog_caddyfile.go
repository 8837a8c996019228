package caddymodule

import (
	"path/filepath"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("ollama_blog", parseBlog)
	// Behind ollama and reverse_proxy: with a matcher, one of them goes first in the same site.
	httpcaddyfile.RegisterDirectiveOrder("ollama_blog", httpcaddyfile.Before, "file_server")
}

func parseBlog(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(BlogHandler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	ollama_blog [<matcher>] {
//		database    sqlite <path>|postgres <source>
//		title       <text>
//		description <text>
//		about       <file>
//		url         <address>
//		model       <name>|off
//		gateway     <address> {
//			key <placeholder>
//		}
//	}
//
// The block may be left out. The file of about is looked for beside the Caddyfile.
func (h *BlogHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if err := alone(d); err != nil {
		return err
	}
	g := grammar{
		name: "ollama_blog",
		options: []word{
			{name: "database", read: h.readDatabase},
			{name: "title", read: text(&h.Title, `"My blog"`)},
			{name: "description", read: text(&h.Description, `"What it is about"`)},
			{name: "about", read: h.readAboutFile},
			{name: "url", read: h.readURL},
			{name: "model", read: text(&h.Model, "llama3.2")},
			{name: "gateway", read: h.readGateway},
		},
		elsewhere: wordsAt("the block of gateway", "key").
			and(wordsAt("the directive ollama", "class", "models", "manage", "keys", "ttl", "tenant")).
			and(wordsAt("the global option ollama", "node", "queue", "cache")),
	}
	if _, err := g.block(d); err != nil {
		return err
	}
	if err := h.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (h *BlogHandler) readDatabase(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 2 { // it does not say what stands there, which may be a password
		return d.Errf("database takes a kind and a source, as in: database sqlite %s, or: database postgres {env.BLOG_DATABASE_URL}", blogFile)
	}
	h.Database = &BlogDatabase{Kind: args[0], Source: args[1]}
	if err := h.Database.check(); err != nil {
		return d.Errf("database: %v", err)
	}
	return nil
}

func (h *BlogHandler) readAboutFile(d *caddyfile.Dispenser) error {
	if err := text(&h.About, "about.md")(d); err != nil {
		return err
	}
	if !filepath.IsAbs(h.About) && !hasPlaceholder(h.About) {
		h.About = filepath.Join(filepath.Dir(d.File()), h.About)
	}
	return nil
}

func (h *BlogHandler) readURL(d *caddyfile.Dispenser) error {
	if err := text(&h.URL, "https://blog.example.com")(d); err != nil {
		return err
	}
	if err := checkOrigin(h.URL, "https://blog.example.com"); err != nil {
		return d.Errf("url: %v", err)
	}
	return nil
}

func (h *BlogHandler) readGateway(d *caddyfile.Dispenser) error {
	h.Gateway = new(BlogGateway)
	if err := text(&h.Gateway.URL, "https://ai.example.com")(d); err != nil {
		return err
	}
	if err := checkOrigin(h.Gateway.URL, "https://ai.example.com"); err != nil {
		return d.Errf("gateway: %v", err)
	}
	g := grammar{name: "gateway", options: []word{{name: "key", read: h.readKey}}}
	_, err := g.block(d)
	return err
}

func (h *BlogHandler) readKey(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 { // not value(), which would repeat a secret that stands there
		return d.Errf("key takes one value, as in: key {env.BLOG_KEY}")
	}
	if err := checkBlogKey(args[0]); err != nil {
		return d.Errf("key: %v", err)
	}
	h.Gateway.Key = args[0]
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*BlogHandler)(nil)
