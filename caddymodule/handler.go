package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/keys"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler answers requests as one Ollama server would, from the nodes of the app `ollama`.
// Without that app in the configuration there is one node, `http://127.0.0.1:11434`.
//
// It answers every path of its route itself, unknown ones with 404 as Ollama does; put
// whatever else a site serves into routes of its own, before it.
//
// If all addresses the server listens on are loopback addresses, requests with a foreign Host
// are refused with 403, as by an Ollama server that listens on 127.0.0.1.
type Handler struct {
	// The rank of this site's requests when all slots are taken: `interactive`, `background`
	// or `batch`. The earlier in this list goes first, always. Default: `interactive`.
	Class string `json:"class,omitempty"`

	// The models this site shows and serves, as globs of names without registry, such as
	// `llama3*`. `*` is any text without a slash, `?` one character, `[a-z]` one of a range. A
	// glob without a tag is for all tags. Other models do not exist here. Default: all.
	Models []string `json:"models,omitempty"`

	// Whether clients may change which models nodes have and which are loaded: `allow` or `deny`.
	// It is about `/api/pull`, `push`, `create`, `copy`, `delete`, `blobs`, and about unloading.
	// Default: `deny`.
	Manage string `json:"manage,omitempty"`

	// The names of the nodes whose models this site's clients change. One that there is not yet may
	// be found later. Default: all.
	ManageTo []string `json:"manage_to,omitempty"`

	// Who says which of these nodes a request is for: with `client`, a request may name them in the
	// header `X-Ollama-Nodes` or as `?nodes=a,b`. Default: it is for all, and one that names nodes is
	// refused.
	ManageNodes string `json:"manage_nodes,omitempty"`

	// On how many nodes it must succeed: with `all`, a pull or a create has failed when it has failed
	// on one node. Default: when it has failed on every node.
	ManageRequire string `json:"manage_require,omitempty"`

	// The hosts that models are pulled from and pushed to, as they stand in their names, with their
	// ports, such as `hf.co`. Default: `registry.ollama.ai` alone.
	ManageRegistries []string `json:"manage_registries,omitempty"`

	// Paths of routes that a newer Ollama has and the gateway does not know, such as
	// `/api/new-thing`. Their requests go to the least busy node as they are, without
	// credentials; nothing in them is judged, and `models` does not apply. Default: none.
	Pass []string `json:"pass,omitempty"`

	// Who may ask: a placeholder such as `{file./etc/caddy-ollama/keys}` for a text with a line
	// for each key, its owner's name and its SHA-256 in hexadecimal, as `caddy-ollama key`
	// prints it. Clients send a key as a bearer token or in `x-api-key`; without one they get
	// 401 on every route. The name is the tenant. It is read when the configuration is loaded,
	// and the keys are in no saved configuration. Default: anybody may ask.
	Keys string `json:"keys,omitempty"`

	// Whether requests that are known to kill an Ollama server are refused with 400: `on` or
	// `off`. Default: `on`.
	Guard string `json:"guard,omitempty"`

	// What becomes of the option `num_ctx` of requests: `pass` sends it on, `keep` takes it out,
	// so that the model's own applies. A request with another `num_ctx` than the one before makes
	// a node load the model anew. Default: `pass`.
	NumCtx string `json:"num_ctx,omitempty"`

	// The greatest `num_ctx` of a request, in tokens; a greater one is lowered to it. Not together
	// with `num_ctx`. 0: no limit. Default: 0.
	MaxNumCtx int `json:"max_num_ctx,omitempty"`

	// What becomes of `keep_alive` of requests: `pass` sends it on, `ignore` takes it out, so that
	// the node's own applies. A request that unloads the model by it is answered and not done,
	// except where `manage` is `allow`. Default: `pass`.
	KeepAlive string `json:"keep_alive,omitempty"`

	// The longest `keep_alive` of a request; a longer one, or one that is for ever, is lowered to
	// it. Not together with `keep_alive`. 0: no limit. Default: 0.
	MaxKeepAlive caddy.Duration `json:"max_keep_alive,omitempty"`

	// Tells in a header of each answer from which node it comes and why that one was chosen, as in
	// `X-Ollama-Route: node=big, reason=prefix`. Clients learn the names of nodes by it.
	// Default: false.
	Explain bool `json:"explain,omitempty"`

	// For how long which answers to this site's requests are kept. These rules are tried before those
	// of the app's cache, which there must be. Default: none.
	TTL []CacheRule `json:"ttl,omitempty"`

	// Whose answers are shared: those of clients that send the same credentials (`authorization`) or
	// the same header (`header`), of a user that Caddy has authenticated (`user`), or of everybody
	// (`shared`). Clients of whom nothing is known are one. With `authorization`, each name of `keys`
	// is one where there are keys. Default: `authorization`.
	Tenant string `json:"tenant,omitempty"`

	// The name of the header that tells the tenant, for the tenant `header`.
	TenantHeader string `json:"tenant_header,omitempty"`

	// The longest time for which a client may have its answer kept, by the header `X-Cache-TTL`.
	// Needs the app's cache. Default: the header is ignored.
	MaxClientTTL caddy.Duration `json:"max_client_ttl,omitempty"`

	// The name of the request header with tags, by which answers can be purged. Needs the app's
	// cache. Default: there are no tags.
	TagsHeader string `json:"tags_header,omitempty"`

	settings *gateway.Settings
	site     *gateway.Site
	listens  atomic.Pointer[listening]
}

// listening is what is known of the server that requests come from.
type listening struct {
	server   *caddyhttp.Server
	loopback bool
	name     string // of this handler there
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.ollama",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision finds the app and prepares the site.
func (h *Handler) Provision(ctx caddy.Context) error {
	guard, err := parseGuard(h.Guard)
	if err != nil {
		return err
	}
	adjust, err := h.adjust()
	if err != nil {
		return err
	}
	known, err := readKeys(h.Keys)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	config := gateway.SiteConfig{
		Class: h.Class, Models: h.Models, Pass: h.Pass, Keys: known, Unguarded: !guard,
		Adjust: adjust, Explain: h.Explain,
	}
	if err := h.cacheInto(&config); err != nil {
		return err
	}
	if err := h.manageInto(&config); err != nil {
		return err
	}
	if h.site, err = gateway.NewSite(config); err != nil {
		return err
	}
	app, err := ctx.App("ollama")
	if err != nil {
		return err
	}
	if err := h.needsCache(app.(*App).cache); err != nil {
		return err
	}
	h.settings = app.(*App).settings
	return nil
}

// ServeHTTP answers the request. It never calls next and never returns an error: errors are
// answered in the client's dialect. It may panic with http.ErrAbortHandler to cut an answer
// that cannot be ended in order.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	record := h.settings.Serve(w, r, h.entry(r))
	addToAccessLog(r, record)
	return nil
}

// entry says where a request came in.
func (h *Handler) entry(r *http.Request) gateway.Entry {
	e := gateway.Entry{Site: h.site}
	if at := h.listeningFor(r); at != nil {
		e.HostRule, e.Name = at.loopback, at.name
	}
	if h.Tenant == "user" || h.Manage == "allow" { // for the audit
		if replacer, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
			e.User, _ = replacer.GetString("http.auth.user.id")
		}
	}
	return e
}

// listeningFor is what is known of the server that a request came in on, nil if there is none.
func (h *Handler) listeningFor(r *http.Request) *listening {
	server, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok || server == nil {
		return nil
	}
	// An instance belongs to one server's routes, so one answer is remembered.
	if known := h.listens.Load(); known != nil && known.server == server {
		return known
	}
	found := &listening{server: server, loopback: loopbackOnly(server), name: h.siteName(server)}
	h.listens.Store(found)
	return found
}

// parseManage reads the word of configuration; "" is deny.
func parseManage(word string) (allow bool, err error) {
	switch word {
	case "", "deny":
		return false, nil
	case "allow":
		return true, nil
	}
	return false, fmt.Errorf("unrecognized value %q for manage; use allow or deny", word)
}

// parseGuard reads the word of configuration; "" is on.
func parseGuard(word string) (on bool, err error) {
	switch word {
	case "", "on":
		return true, nil
	case "off":
		return false, nil
	}
	return false, fmt.Errorf("unrecognized value %q for guard; use on or off", word)
}

// readKeys reads the text that a placeholder stands for; "" is no keys. Its errors name the
// placeholder or a line and repeat nothing of the text.
func readKeys(placeholder string) (*keys.Keys, error) {
	if placeholder == "" {
		return nil, nil
	}
	if err := checkKeys(placeholder); err != nil {
		return nil, err
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(placeholder, true, true)
	if err != nil {
		return nil, err
	}
	return keys.Parse(text)
}

// checkKeys refuses what is no placeholder without repeating it: it would be saved with the
// configuration.
func checkKeys(placeholder string) error {
	if !isPlaceholder(placeholder) {
		return errors.New("write a placeholder that stands for the text of the keys, as in {file./etc/caddy-ollama/keys}")
	}
	return nil
}

// isPlaceholder tells whether a text is one placeholder and nothing else.
func isPlaceholder(text string) bool {
	return strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") && strings.Count(text, "{") == 1
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
