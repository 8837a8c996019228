package caddymodule

import (
	"fmt"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/telemetry"
)

func init() {
	caddy.RegisterModule(new(BlogApp))
}

// BlogApp starts the blogs of the sites. It has no settings and needs none: each handler
// `ollama_blog` brings it along.
type BlogApp struct {
	ctx       caddy.Context
	blogs     []*BlogHandler
	detachLog func()
}

var (
	// blogMetrics live as long as the process, so that a reload resets nothing.
	blogMetrics = sync.OnceValue(telemetry.NewBlog)
	// blogLog is the log of what outlives configurations.
	blogLog = newLogRelay()
)

// CaddyModule returns the Caddy module information.
func (*BlogApp) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "ollama_blog",
		New: func() caddy.Module { return new(BlogApp) },
	}
}

// Provision has the metrics of blogs served.
func (a *BlogApp) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	if err := blogMetrics().Register(ctx.GetMetricsRegistry()); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// Start has each blog's database brought up to date. It does not wait for that: a database that is not
// there costs pages of the blog, not the start of the process.
func (a *BlogApp) Start() error {
	for _, b := range a.blogs {
		if _, err := b.pages(); err != nil {
			return err
		}
	}
	a.detachLog = blogLog.attach(a.ctx.Slogger().Handler())
	for _, b := range a.blogs {
		b.database.begin()
	}
	return nil
}

// Stop takes nothing away: requests of this configuration may go on.
func (a *BlogApp) Stop() error { return nil }

// Cleanup gives up the log.
func (a *BlogApp) Cleanup() error {
	if a.detachLog != nil {
		a.detachLog()
	}
	return nil
}

// Interface guards
var (
	_ caddy.App          = (*BlogApp)(nil)
	_ caddy.Provisioner  = (*BlogApp)(nil)
	_ caddy.CleanerUpper = (*BlogApp)(nil)
)
