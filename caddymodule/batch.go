package caddymodule

import (
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// Batch says what is done with many small pieces of work.
type Batch struct {
	// Has embedding requests answered text by text. Default: they go to nodes as they are.
	Embed *BatchEmbed `json:"embed,omitempty"`
}

// BatchEmbed has embedding requests answered text by text: texts that are stored are not asked
// again, equal ones that are on their way are waited for, and the rest is gathered into few calls
// to the nodes. At an idle node nobody waits for anybody.
type BatchEmbed struct {
	// How many texts one call to a node may have. Default: 32.
	MaxItems int `json:"max_items,omitempty"`

	// How large the texts of one call may be together, in bytes; a longer text goes alone.
	// Default: 131072 (128 KiB).
	MaxBytes int64 `json:"max_bytes,omitempty"`

	// How long a call waits for further texts, even at an idle node, unless it is full before.
	// Default: a call only gathers texts while it waits for a slot.
	Window caddy.Duration `json:"window,omitempty"`
}

// batchMost bounds max_items: more were not seen to work in one call.
const batchMost = 3000

func (b *Batch) check() error {
	if b == nil || b.Embed == nil {
		return nil
	}
	return inBlock("batch embed",
		notNegative("max_items", b.Embed.MaxItems), notNegative("max_bytes", b.Embed.MaxBytes), notNegative("window", b.Embed.Window))
}

func (b *Batch) into(c *gateway.Config) {
	if b == nil || b.Embed == nil {
		return
	}
	c.Embed = &gateway.Embed{
		MaxItems: min(b.Embed.MaxItems, batchMost), MaxBytes: int(b.Embed.MaxBytes), Window: time.Duration(b.Embed.Window),
	}
}

// readBatch reads the word and what is gathered. It stands once for each of that.
func (a *App) readBatch(d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.Errf("batch is written as in: batch embed")
	}
	if a.Batch == nil {
		a.Batch = new(Batch)
	}
	switch what := d.Val(); what {
	case "embed":
		if a.Batch.Embed != nil {
			return d.Errf("batch embed is set already; leave one out")
		}
		a.Batch.Embed = new(BatchEmbed)
		return a.Batch.Embed.read(d)
	default:
		return d.Errf("unrecognized batch %q; %s", what, insteadOf(what, []string{"embed"}))
	}
}

func (b *BatchEmbed) read(d *caddyfile.Dispenser) error {
	if err := alone(d); err != nil {
		return err
	}
	g := grammar{name: "batch embed", options: []word{
		{name: "max_items", read: count(&b.MaxItems, 1, batchMost, "32")},
		{name: "max_bytes", read: size(&b.MaxBytes, "128KiB")},
		{name: "window", read: duration(&b.Window, "2s")},
	}}
	_, err := g.block(d)
	return err
}
