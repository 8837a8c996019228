package caddymodule

import (
	"encoding/json"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterDirective("ollama_status", parseStatus)
	// As ollama_health: it must not drown in a catch-all.
	httpcaddyfile.RegisterDirectiveOrder("ollama_status", httpcaddyfile.Before, "handle")
}

// parseStatus makes the route of a page. Syntax:
//
//	ollama_status [<matcher>|<path>] {
//		allow <address|cidr>...|private_ranges|any
//	}
//
// A path is where the page is; what it consists of lies below and is matched with it.
func parseStatus(h httpcaddyfile.Helper) ([]httpcaddyfile.ConfigValue, error) {
	if !h.Next() {
		return nil, h.ArgErr()
	}
	handler := new(StatusHandler)
	matchers, err := h.ExtractMatcherSet() // takes the matcher out, and begins again
	if err != nil {
		return nil, err
	}
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	if handler.Path = onlyPath(matchers); handler.Path != "" {
		if err := checkStatusPath(handler.Path); err != nil {
			return nil, h.WrapErr(err)
		}
		both, err := json.Marshal(caddyhttp.MatchPath{handler.Path, handler.Path + "/*"})
		if err != nil {
			return nil, err
		}
		matchers = caddy.ModuleMap{"path": both}
	}
	return h.NewRoute(matchers, handler), nil
}

// onlyPath is the path of a matcher that has nothing else, as in /status, /status/* and /status*.
func onlyPath(matchers caddy.ModuleMap) string {
	var paths []string
	if len(matchers) != 1 || json.Unmarshal(matchers["path"], &paths) != nil || len(paths) != 1 {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(paths[0], "*"), "/")
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens, without the matcher.
func (h *StatusHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("ollama_status takes a path or a matcher and a block; found %q", d.Val())
	}
	for d.NextBlock(0) {
		if d.Val() != "allow" {
			return d.Errf("unrecognized option %q of ollama_status; use allow", d.Val())
		}
		words := d.RemainingArgs()
		if len(words) == 0 {
			return d.Err("allow needs addresses or ranges, as in 10.0.0.0/8, or any")
		}
		for _, word := range words {
			switch word {
			case "any":
			case "private_ranges":
				h.Allow = append(h.Allow, caddyhttp.PrivateRangesCIDR()...)
				continue
			default:
				if _, err := parsePrefix(word); err != nil {
					return d.WrapErr(err)
				}
			}
			h.Allow = append(h.Allow, word)
		}
	}
	return nil
}

// Interface guard
var _ caddyfile.Unmarshaler = (*StatusHandler)(nil)
