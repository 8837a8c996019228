package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// Coalesce has equal requests that come while one is being answered hear that answer, as it is
// generated, instead of having it generated again: deterministic ones and embeddings, of those who
// share answers (`tenant`).
type Coalesce struct {
	// Whether requests whose answers are drawn at random share one, too. Several of one client at
	// once are several draws all the same. Default: false.
	Sampled bool `json:"sampled,omitempty"`
}

func (c *Coalesce) check() error { return nil }

func (c *Coalesce) into(config *gateway.Config) {
	if c != nil {
		config.Coalesce = &gateway.Coalesce{Sampled: c.Sampled}
	}
}

// readCoalesce reads the word, which may be followed by sampled.
func (a *App) readCoalesce(d *caddyfile.Dispenser) error {
	a.Coalesce = new(Coalesce)
	if !d.NextArg() {
		return nil
	}
	if d.Val() != "sampled" {
		return d.Errf("unexpected %q after coalesce; leave it out, or write: coalesce sampled", d.Val())
	}
	a.Coalesce.Sampled = true
	return alone(d)
}
