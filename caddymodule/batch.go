package caddymodule

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

const (
	// maxPromptConcurrency bounds the goroutines and the results in memory that one client can make.
	maxPromptConcurrency = 1024
	// maxBatchTexts bounds max_items of embeddings: more were not seen to work in one call.
	maxBatchTexts = 3000
)

// Batch says what is done with many small pieces of work.
type Batch struct {
	// Has embedding requests answered text by text. Default: they go to nodes as they are.
	Embed *BatchEmbed `json:"embed,omitempty"`

	// Batches of prompts, which clients send to `/api/batch`.
	Prompts *BatchPrompts `json:"prompts,omitempty"`
}

// BatchEmbed has embedding requests answered text by text: texts that are stored are not asked
// again, equal ones that are on their way are waited for, and the rest is gathered into few calls
// to the nodes. At an idle node nobody waits for anybody.
type BatchEmbed struct {
	// How many texts one call to a node may have: 1 to 3000. Default: 32.
	MaxItems int `json:"max_items,omitempty"`

	// How large the texts of one call may be together, in bytes; a longer text goes alone.
	// Default: 131072 (128 KiB).
	MaxBytes int64 `json:"max_bytes,omitempty"`

	// How long a call waits for further texts, even at an idle node, unless it is full before.
	// Default: a call only gathers texts while it waits for a slot.
	Window caddy.Duration `json:"window,omitempty"`
}

// BatchPrompts bound one batch of prompts. The route `/api/batch` is there without them, too.
type BatchPrompts struct {
	// How many requests one batch may have; one with more gets 413. Default: 10000.
	MaxItems int `json:"max_items,omitempty"`

	// How many requests of one batch may be on their way at once, those that wait for a slot too:
	// 1 to 1024. More than all nodes have slots only helps the scheduler to choose. Default: 16.
	Concurrency int `json:"concurrency,omitempty"`
}

func (b *Batch) check() error {
	if b == nil {
		return nil
	}
	if err := b.Embed.check(); err != nil {
		return err
	}
	return b.Prompts.check()
}

func (b *Batch) into(c *gateway.Config) {
	if b == nil {
		return
	}
	b.Embed.into(c)
	b.Prompts.into(c)
}

func (e *BatchEmbed) check() error {
	if e == nil {
		return nil
	}
	if e.MaxItems > maxBatchTexts {
		return inBlock("batch embed", fmt.Errorf("max_items must be between 1 and %d, not %d", maxBatchTexts, e.MaxItems))
	}
	return inBlock("batch embed", notNegative("max_items", e.MaxItems), notNegative("max_bytes", e.MaxBytes), notNegative("window", e.Window))
}

func (e *BatchEmbed) into(c *gateway.Config) {
	if e != nil {
		c.Embed = &gateway.Embed{MaxItems: e.MaxItems, MaxBytes: int(e.MaxBytes), Window: time.Duration(e.Window)}
	}
}

func (p *BatchPrompts) check() error {
	if p == nil {
		return nil
	}
	if p.Concurrency > maxPromptConcurrency {
		return inBlock("batch prompts", fmt.Errorf("concurrency must be between 1 and %d, not %d", maxPromptConcurrency, p.Concurrency))
	}
	return inBlock("batch prompts", notNegative("max_items", p.MaxItems), notNegative("concurrency", p.Concurrency))
}

func (p *BatchPrompts) into(c *gateway.Config) {
	if p != nil {
		c.Prompts = gateway.PromptsConfig{MaxItems: p.MaxItems, Concurrency: p.Concurrency}
	}
}

// readBatch reads the word, which stands once for each kind of batch.
func (a *App) readBatch(d *caddyfile.Dispenser) error {
	if a.Batch == nil {
		a.Batch = new(Batch)
	}
	kinds := []string{"embed", "prompts"}
	if !d.NextArg() {
		return d.Errf("batch needs to know of what; use %s, as in: batch embed", oneOf(kinds))
	}
	switch d.Val() {
	case "embed":
		return a.Batch.readEmbed(d)
	case "prompts":
		return a.Batch.readPrompts(d)
	}
	return d.Errf("unrecognized batch %q; %s", d.Val(), insteadOf(d.Val(), kinds))
}

// readEmbed reads a block that may be left out.
func (b *Batch) readEmbed(d *caddyfile.Dispenser) error {
	if b.Embed != nil {
		return d.Errf("batch embed is set already; leave one out")
	}
	if err := alone(d); err != nil {
		return err
	}
	e := new(BatchEmbed)
	b.Embed = e
	g := grammar{name: "batch embed", options: []word{
		{name: "max_items", read: count(&e.MaxItems, 1, maxBatchTexts, "32")},
		{name: "max_bytes", read: size(&e.MaxBytes, "128KiB")},
		{name: "window", read: duration(&e.Window, "2s")},
	}}
	_, err := g.block(d)
	return err
}

func (b *Batch) readPrompts(d *caddyfile.Dispenser) error {
	if b.Prompts != nil {
		return d.Errf("batch prompts is set already; leave one out")
	}
	p := new(BatchPrompts)
	b.Prompts = p
	return settingsBlock(d, p, "batch prompts",
		word{name: "max_items", read: count(&p.MaxItems, 1, maxCount, "10000")},
		word{name: "concurrency", read: count(&p.Concurrency, 1, maxPromptConcurrency, "16")})
}
