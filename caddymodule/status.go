package caddymodule

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-ollama/caddy-ollama/internal/status"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func init() {
	caddy.RegisterModule(new(StatusHandler))
}

// StatusHandler serves a read-only page that shows what the gateway does: nodes, queue, the last
// minutes of traffic, the cache and what it saved. It has names of nodes and models on it, but no
// prompts, answers, keys, tenants or addresses.
//
// Clients of this machine may see it, unless their Host is a foreign one or a proxy that is not
// among the server's `trusted_proxies` has forwarded their request: nobody knows then who asks.
type StatusHandler struct {
	// Where the page is, such as `/status`; what it consists of is below. Default: at the root,
	// as for a site of its own or below `strip_path_prefix`.
	Path string `json:"path,omitempty"`

	// Who may see it besides clients of this machine: addresses and CIDR ranges, or `any`. With
	// `trusted_proxies` it is the client's address that counts, not that of the proxy.
	// Default: nobody else.
	Allow []string `json:"allow,omitempty"`

	page    *status.Page
	any     bool
	allowed []netip.Prefix
	host    string // of this machine
}

// CaddyModule returns the Caddy module information.
func (*StatusHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ollama_status",
		New: func() caddy.Module { return new(StatusHandler) },
	}
}

// Provision reads who is allowed, and has the streams end before the server waits for them.
func (h *StatusHandler) Provision(ctx caddy.Context) error {
	if err := checkStatusPath(h.Path); err != nil {
		return err
	}
	if err := h.readAllow(); err != nil {
		return err
	}
	h.host, _ = os.Hostname() // without it one name less is known
	h.page = status.NewPage(currentReport, status.Options{})
	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	// A reload tells of it too: the page then opens its stream at the new configuration.
	return events.(*caddyevents.App).On("stopping", closing{h.page})
}

// readAllow reads the words of Allow.
func (h *StatusHandler) readAllow() error {
	for _, text := range h.Allow {
		if text == "any" {
			h.any = true
			continue
		}
		prefix, err := parsePrefix(text)
		if err != nil {
			return err
		}
		h.allowed = append(h.allowed, prefix)
	}
	return nil
}

// Cleanup ends the streams of a configuration that never ran or that ends without an event.
func (h *StatusHandler) Cleanup() error {
	if h.page != nil {
		h.page.Close()
	}
	return nil
}

// checkStatusPath refuses what could not be found below the address of a site.
func checkStatusPath(p string) error {
	if p != "" && (!strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || path.Clean(p) != p || strings.ContainsAny(p, "*{}")) {
		return fmt.Errorf("path %q: write it as in /status, without a slash at its end", p)
	}
	return nil
}

// parsePrefix reads an address or a CIDR range.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("allow %q: write an address, a range as in 10.0.0.0/8, or any", text)
	}
	return prefix.Masked(), nil
}

// ServeHTTP serves the page. It never calls next.
func (h *StatusHandler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if !h.allows(r) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		http.Error(w, "this page is for clients of this machine; `allow` of ollama_status says who else may see it", http.StatusForbidden)
		return nil
	}
	below, ok := h.below(r.URL.Path)
	switch asked := originalPath(r); {
	case !ok:
		below = "?" // of no file
	case below == "" || below == "/":
		below = "/"
		// The page's addresses are relative: without the slash they would be those of its parent.
		if !strings.HasSuffix(asked, "/") {
			w.Header().Set("Location", "./"+path.Base(asked)+"/")
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusTemporaryRedirect)
			return nil
		}
	}
	h.page.Serve(w, r, below)
	return nil
}

// below is what of a path stands behind that of the page. Caddy's matchers fold case.
func (h *StatusHandler) below(asked string) (string, bool) {
	if len(asked) < len(h.Path) || !strings.EqualFold(asked[:len(h.Path)], h.Path) {
		return "", false
	}
	rest := asked[len(h.Path):]
	return rest, rest == "" || rest[0] == '/'
}

// originalPath is the path that the client wrote, escaped, before anything was stripped of it.
func originalPath(r *http.Request) string {
	if original, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok && original.URL != nil {
		return original.URL.EscapedPath()
	}
	return r.URL.EscapedPath()
}

// allows tells whether a client may see the page.
func (h *StatusHandler) allows(r *http.Request) bool {
	if h.any {
		return true
	}
	client, ok := clientAddress(r)
	if !ok {
		return false
	}
	for _, prefix := range h.allowed {
		if prefix.Contains(client) {
			return true
		}
	}
	if !client.IsLoopback() || !wire.HostAllowed(r.Host, h.host) {
		return false // a foreign Host may be a web page that has rebound its name to this machine
	}
	trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool)
	return trusted || !forwarded(r.Header)
}

// clientAddress is whom Caddy takes for the client.
func clientAddress(r *http.Request) (netip.Addr, bool) {
	text, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	addr, err := netip.ParseAddr(text)
	return addr.Unmap().WithZone(""), err == nil
}

// forwarded tells whether a proxy says that it asks for somebody else.
func forwarded(h http.Header) bool {
	for _, name := range [...]string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"} {
		if len(h[name]) > 0 {
			return true
		}
	}
	return false
}

// closing ends the streams of a page when its configuration stops: the server would wait for them.
type closing struct{ page *status.Page }

func (c closing) Handle(context.Context, caddy.Event) error {
	c.page.Close()
	return nil
}

// MarshalJSON keeps the event app's debug log from looking inside.
func (closing) MarshalJSON() ([]byte, error) { return []byte(`"ollama_status"`), nil }

// Interface guards
var (
	_ caddy.Provisioner           = (*StatusHandler)(nil)
	_ caddy.CleanerUpper          = (*StatusHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*StatusHandler)(nil)
)
