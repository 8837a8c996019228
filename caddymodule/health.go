package caddymodule

import (
	"fmt"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(new(HealthHandler))
	httpcaddyfile.RegisterHandlerDirective("ollama_health", parseHealthHandler)
	// Before handle: a probe with a matcher of its own must not drown in a catch-all.
	httpcaddyfile.RegisterDirectiveOrder("ollama_health", httpcaddyfile.Before, "handle")
}

// HealthHandler answers the probes of who runs this process: a service manager, an orchestrator
// or another balancer. The answer is 200 or 503 with a line of text.
type HealthHandler struct {
	// What is asked: `live`, whether the process serves at all, or `ready`, whether requests
	// for models can be answered: a node is up, and the process is not leaving.
	Probe string `json:"probe"`
}

// CaddyModule returns the Caddy module information.
func (*HealthHandler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ollama_health",
		New: func() caddy.Module { return new(HealthHandler) },
	}
}

// Validate refuses other probes.
func (h *HealthHandler) Validate() error {
	if h.Probe != "live" && h.Probe != "ready" {
		return fmt.Errorf("unrecognized probe %q; use live or ready", h.Probe)
	}
	return nil
}

// ServeHTTP answers the probe. It never calls next.
func (h *HealthHandler) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	status, text := http.StatusOK, "ok\n"
	if h.Probe == "ready" {
		switch e, ok := currentEngine(); {
		case caddy.Exiting():
			status, text = http.StatusServiceUnavailable, "leaving\n"
		case !ok || !e.Ready():
			status, text = http.StatusServiceUnavailable, "no Ollama node is up\n"
		}
	}
	w.WriteHeader(status)
	io.WriteString(w, text) // who asks may have left
	return nil
}

func parseHealthHandler(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(HealthHandler)
	if err := handler.UnmarshalCaddyfile(h.Dispenser); err != nil {
		return nil, err
	}
	return handler, nil
}

// UnmarshalCaddyfile sets up the handler from Caddyfile tokens. Syntax:
//
//	ollama_health [<matcher>] live|ready
func (h *HealthHandler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if !d.Args(&h.Probe) || d.NextArg() {
		return d.Err("ollama_health needs one word: live or ready")
	}
	if err := h.Validate(); err != nil {
		return d.WrapErr(err)
	}
	if d.NextBlock(0) {
		return d.Err("ollama_health has no block")
	}
	return nil
}

// Interface guards
var (
	_ caddy.Validator             = (*HealthHandler)(nil)
	_ caddyhttp.MiddlewareHandler = (*HealthHandler)(nil)
	_ caddyfile.Unmarshaler       = (*HealthHandler)(nil)
)
