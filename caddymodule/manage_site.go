package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// readManage reads whether clients may change models, and how:
//
//	manage deny|allow {
//		to       <nodes...>
//		nodes    client
//		require  all
//		registry <hosts...>
//	}
//
// The block may be left out, and deny has none. to and registry may stand several times and add up.
func (h *Handler) readManage(d *caddyfile.Dispenser) error {
	if err := choice(&h.Manage, "deny", "allow")(d); err != nil {
		return err
	}
	g := grammar{
		name: "manage",
		options: []word{
			{name: "to", read: list(&h.ManageTo, "big small"), often: true},
			{name: "nodes", read: choice(&h.ManageNodes, "client")},
			{name: "require", read: choice(&h.ManageRequire, "all")},
			{name: "registry", read: list(&h.ManageRegistries, gateway.DefaultRegistry), often: true},
		},
	}
	words, err := g.block(d)
	if err != nil {
		return err
	}
	if words > 0 && h.Manage == "deny" {
		return d.Errf("manage deny takes no block; write manage allow, or leave the block out")
	}
	return nil
}

// list reads one value or several, which add up, and checks them as part of a site.
func list(into *[]string, example string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		values := d.RemainingArgs()
		if len(values) == 0 {
			return d.Errf("%s needs a value, as in: %s %s", name, name, example)
		}
		check := gateway.ManageConfig{To: values}
		if name == "registry" {
			check = gateway.ManageConfig{Registries: values}
		}
		if _, err := gateway.NewSite(gateway.SiteConfig{Managing: check}); err != nil {
			return d.WrapErr(err)
		}
		*into = append(*into, values...)
		return nil
	}
}

// manageInto adds what the handler says of changing models to what it wishes of its site.
func (h *Handler) manageInto(c *gateway.SiteConfig) (err error) {
	if c.Manage, err = parseManage(h.Manage); err != nil {
		return err
	}
	if !c.Manage && (len(h.ManageTo) > 0 || h.ManageNodes != "" || h.ManageRequire != "" || len(h.ManageRegistries) > 0) {
		return errors.New("manage_to, manage_nodes, manage_require and manage_registries need manage to be allow")
	}
	switch h.ManageNodes {
	case "", "client":
	default:
		return fmt.Errorf("unrecognized value %q for manage_nodes; use client", h.ManageNodes)
	}
	switch h.ManageRequire {
	case "", "all":
	default:
		return fmt.Errorf("unrecognized value %q for manage_require; use all", h.ManageRequire)
	}
	c.Managing = gateway.ManageConfig{
		To: h.ManageTo, ByClient: h.ManageNodes == "client", RequireAll: h.ManageRequire == "all", Registries: h.ManageRegistries,
	}
	return nil
}
