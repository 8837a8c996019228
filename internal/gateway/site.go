package gateway

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/keys"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Site is what concerns who asks: one place where the gateway is mounted.
type Site struct {
	class      call.Class
	models     []string // globs of normalised short names; none: all
	manage     bool
	management managing
	passed     []string // paths

	keys      *keys.Keys // nil: anybody may ask
	unguarded bool
	adjust    wire.Adjust
	explain   bool

	ttl       cache.Rules
	tenancy   tenancy
	clientTTL time.Duration
	tags      string

	nobody atomic.Pointer[anonymity]
}

// SiteConfig is what an operator wishes of a site. The zero value works.
type SiteConfig struct {
	Class    string       // interactive (default), background or batch
	Models   []string     // globs of normalised short names. Default: all
	Manage   bool         // allows what changes which models nodes have, and which are loaded
	Managing ManageConfig // how, where it is allowed
	Pass     []string     // further paths, whose requests go unseen to one node. Default: none

	// Keys are who may ask; the name of a key is the tenant. Default: anybody may, unnamed.
	Keys *keys.Keys
	// Unguarded lets requests through that are known to kill a node. Default: they get 400.
	Unguarded bool
	// Adjust is what of a request's options is not for its client to say. Default: nothing.
	Adjust wire.Adjust
	// Explain tells in a header of each answer which node it came from and why. Default: clients
	// learn nothing of nodes.
	Explain bool

	TTL    cache.Rules  // tried before those of all sites. Default: none
	Tenant TenantConfig // whose answers are shared. Default: by the credential a client sends
	// ClientTTL is the longest that X-Cache-TTL of a request may say. Default: it is ignored.
	ClientTTL time.Duration
	// Tags names the request header whose tags an answer can be purged by. Default: none
	Tags string
}

// A TenantConfig says how to tell whose answers may be shared, where no key tells it.
type TenantConfig struct {
	By     string // authorization (default), header, user or shared
	Header string // the name of the header
}

// NewSite checks the wishes.
func NewSite(c SiteConfig) (*Site, error) {
	class, err := call.ParseClass(c.Class)
	if err != nil {
		return nil, err
	}
	if err := checkAdjust(c.Adjust); err != nil {
		return nil, err
	}
	tenancy, err := newTenancy(c.Tenant)
	if err != nil {
		return nil, err
	}
	managing, err := newManaging(c.Managing)
	if err != nil {
		return nil, err
	}
	s := &Site{
		management: managing,
		class:      class, manage: c.Manage, keys: c.Keys, unguarded: c.Unguarded, adjust: c.Adjust, explain: c.Explain,
		ttl: c.TTL, tenancy: tenancy, clientTTL: c.ClientTTL, tags: c.Tags,
	}
	for _, glob := range c.Models {
		if _, err := path.Match(glob, ""); err != nil {
			return nil, fmt.Errorf("models: %q is not a glob; use *, ? and [...] as in llama3*", glob)
		}
		s.models = append(s.models, strings.ToLower(glob))
	}
	for _, p := range c.Pass {
		if err := passable(p); err != nil {
			return nil, err
		}
		s.passed = append(s.passed, p)
	}
	return s, nil
}

// passable tells why requests for a path cannot be sent on unseen: it could never be asked
// for, or what is asked there is judged.
func passable(p string) error {
	switch m := find(http.MethodPost, p); {
	case !strings.HasPrefix(p, "/") || strings.ContainsAny(p, "*?#"):
		return fmt.Errorf("pass: %q is not a path; write it whole and without a query, as in /api/new-thing", p)
	case m.Status == http.StatusTemporaryRedirect:
		return fmt.Errorf("pass: requests for %q are redirected to %q, as at a node", p, m.Redirect)
	case m.Status != http.StatusNotFound:
		return fmt.Errorf("pass: %q is a route of the gateway itself", p)
	}
	return nil
}

// passes tells whether requests for a path go unseen to a node.
func (s *Site) passes(path string) bool { return slices.Contains(s.passed, path) }

// passRoute is the route of a path that is passed: what is known of it is how errors are
// spelt there.
func passRoute(path string) wire.Route {
	dialect := wire.OpenAI
	if strings.HasPrefix(path, "/api/") {
		dialect = wire.Ollama
	}
	return wire.Route{Path: path, Dialect: dialect, Access: wire.Infer}
}

// allows tells whether the site serves a model, by its normalised short name. A glob without
// a tag means every tag: "llama3" is not "llama3:latest" alone.
func (s *Site) allows(short string) bool {
	return len(s.models) == 0 || slices.ContainsFunc(s.models, func(glob string) bool { return cache.MatchModel(glob, short) })
}
