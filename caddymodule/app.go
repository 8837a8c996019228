// Package caddymodule makes the gateway a part of Caddy: the app "ollama" with the fleet's
// settings, the handler "http.handlers.ollama" that mounts it in a site, the Caddyfile words
// of both, and the admin API.
//
// It knows Caddy and turns what Caddy has into what the gateway takes: settings, a
// http.RoundTripper for each node, a logger. It decides nothing about requests. State that
// must survive a reload lives in pools, and each configuration holds what it uses of them.
package caddymodule

import (
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App is the front of a fleet of Ollama nodes: what all sites share. Sites are made with the
// handler `ollama`. Every value has a default; an app without nodes has one, the Ollama
// server of this machine at `http://127.0.0.1:11434`, unless it finds some by name.
//
// What runs survives a reload: streams, the queue, and what is known of the nodes.
type App struct {
	// The Ollama servers that requests are spread over. Names and addresses must be unique.
	// Default: one node at `http://127.0.0.1:11434`.
	Nodes []*Node `json:"nodes,omitempty"`

	// Names by which further nodes are found.
	Discover []*Discover `json:"discover,omitempty"`

	// How nodes are watched.
	Health *Health `json:"health,omitempty"`

	// Where requests wait for a node.
	Queue *Queue `json:"queue,omitempty"`

	// What protects this process from its clients.
	Limits *Limits `json:"limits,omitempty"`

	// How a node is asked, and when another one is tried.
	Attempts *Attempts `json:"attempts,omitempty"`

	// What answers are kept, and for how long. Default: there is no cache.
	Cache *Cache `json:"cache,omitempty"`

	// Which requests share one running answer. Default: each is answered by itself.
	Coalesce *Coalesce `json:"coalesce,omitempty"`

	// What is done with many small pieces of work. Default: each goes its own way.
	Batch *Batch `json:"batch,omitempty"`

	ctx        caddy.Context
	nodes      []*resolvedNode
	engine     *engine
	transports []string       // keys held in the pool
	cache      *cache.Options // nil: there is none
	settings   *gateway.Settings
	attachment *gateway.Attachment
	detachLog  func()
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "ollama",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision checks the configuration and prepares its settings. Nothing of it is felt outside
// before Start: most configurations that are provisioned by a validation or a failing reload
// never start.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	var err error
	if len(a.Nodes) > 0 || len(a.Discover) == 0 {
		if a.nodes, err = resolveNodes(a.Nodes); err != nil {
			return err
		}
	}
	config, err := a.config()
	if err != nil {
		return err
	}
	if err := a.Cache.resolve(config.Cache); err != nil {
		return err
	}
	a.cache = config.Cache
	for _, n := range a.nodes {
		transport, key, err := loadTransport(ctx, n, a.Attempts.dialTimeout())
		if err != nil {
			return fmt.Errorf("node %s: %w", n.name, err)
		}
		a.transports = append(a.transports, key)
		config.Nodes = append(config.Nodes, n.config(transport, key))
		config.Queue.Preloads = append(config.Queue.Preloads, n.preloads...)
	}
	for _, d := range a.Discover {
		discovery, err := d.discovery(ctx, a.Attempts.dialTimeout())
		if err != nil {
			return err
		}
		config.Health.Discover = append(config.Health.Discover, discovery)
	}
	if a.engine, err = loadEngine(); err != nil {
		return err
	}
	// Each configuration has a registry of its own; what it serves is the process's.
	if err := a.engine.metrics.Register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	a.settings = gateway.NewSettings(a.engine.Engine, config)

	events, err := ctx.App("events")
	if err != nil {
		return fmt.Errorf("getting the events app: %w", err)
	}
	return events.(*caddyevents.App).On("stopping", leaving{a.engine})
}

// Start makes this configuration the one that rules.
func (a *App) Start() error {
	if err := a.refuseOwnListeners(); err != nil {
		return err
	}
	a.detachLog = a.engine.log.attach(a.ctx.Slogger().Handler())
	a.attachment = a.settings.Attach()
	return nil
}

// Stop takes nothing away: requests of this configuration may go on for minutes, and Caddy
// stops apps in any order.
func (a *App) Stop() error { return nil }

// Cleanup gives back what was taken. Caddy calls it after a Provision that failed anywhere,
// too, and while requests that began with this configuration still run: they hold what they
// need themselves.
func (a *App) Cleanup() error {
	if a.attachment != nil {
		a.attachment.Detach()
		a.attachment = nil
	}
	if a.detachLog != nil {
		a.detachLog()
	}
	// Each reference is given back once: one too many would be the running configuration's.
	var errs []error
	for _, key := range a.transports {
		_, err := transports.Delete(key)
		errs = append(errs, err)
	}
	a.transports = nil
	if a.engine != nil {
		_, err := engines.Delete(engineKey)
		errs = append(errs, err)
		a.engine = nil
	}
	return errors.Join(errs...)
}

// refuseOwnListeners tells of a node that is this gateway itself. The http app is provisioned
// by now whatever the order of apps, so its addresses are known.
func (a *App) refuseOwnListeners() error {
	app, err := a.ctx.AppIfConfigured("http")
	if errors.Is(err, caddy.ErrNotConfigured) {
		return nil
	}
	if err != nil {
		return err
	}
	own, err := localAddresses()
	if err != nil {
		return fmt.Errorf("reading this machine's addresses: %w", err)
	}
	for name, server := range app.(*caddyhttp.App).Servers {
		for _, listen := range server.Listen {
			for _, n := range a.nodes {
				if own.reaches(n.url, listen) {
					return fmt.Errorf("node %s (%s) is this gateway's own listener %s of server %s; name the Ollama server's address instead",
						n.name, n.url, listen, name)
				}
			}
		}
	}
	return nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
