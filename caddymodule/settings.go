package caddymodule

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// defaultDialTimeout is long enough for one lost packet of the handshake.
const defaultDialTimeout = 2 * time.Second

// Health says how nodes are watched: each is asked for its version, its models and what it has
// loaded, all the time. A node that fails gets no requests until it has recovered.
type Health struct {
	// How often each node is asked for its version, give or take a tenth; a node whose state is
	// about to change every second, if that is sooner. Default: 5s.
	Interval caddy.Duration `json:"interval,omitempty"`

	// How long a node may take to answer such a question. Default: 2s.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many answers in a row bring a node back that was down. The first one of a node that
	// is new counts alone. Default: 2.
	Passes int `json:"passes,omitempty"`

	// How many failures in a row take a node out. A refused connection does at once. Default: 3.
	Fails int `json:"fails,omitempty"`
}

// Queue says how requests wait for a free slot. The queue is shared by all sites.
type Queue struct {
	// How many requests may wait; further ones are refused at once with 503 and Retry-After.
	// Default: 512.
	MaxLength int `json:"max_length,omitempty"`

	// How long a request may wait for a free slot before it is refused with 503 and
	// Retry-After. Default: 10m.
	MaxWait caddy.Duration `json:"max_wait,omitempty"`
}

// Limits protect this process from its clients.
type Limits struct {
	// How large one request body may be, in bytes; larger ones get 413. Default: 104857600
	// (100 MiB).
	Body int64 `json:"body,omitempty"`

	// How large all bodies that are being read or waiting may be together, in bytes; beyond
	// it requests get 503. Default: 1073741824 (1 GiB).
	Bodies int64 `json:"bodies,omitempty"`

	// How long a client may take to send its body; then it gets 408. Default: 60s.
	BodyTimeout caddy.Duration `json:"body_timeout,omitempty"`

	// How many inference requests may be on their way, waiting ones too; further ones get
	// 503. Default: 4096.
	Streams int `json:"streams,omitempty"`
}

// Attempts say how a node is asked, and when another one is tried.
type Attempts struct {
	// How long connecting to a node may take. Default: 2s.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How long a node may take from the request to the first byte of the answer. A model that
	// is not loaded takes minutes. Default: 5m.
	FirstByteTimeout caddy.Duration `json:"first_byte_timeout,omitempty"`

	// How long an answer may pause once it has begun. Default: 60s.
	StallTimeout caddy.Duration `json:"stall_timeout,omitempty"`

	// How long one try may take as a whole. Default: no limit.
	TotalTimeout caddy.Duration `json:"total_timeout,omitempty"`

	// How many further nodes are tried after one failed before its first byte. Tries that
	// certainly did no work, such as a refused connection, do not count. 0: none. Default: 2.
	Retries *int `json:"retries,omitempty"`
}

func (a *Attempts) dialTimeout() time.Duration {
	if a == nil || a.DialTimeout == 0 {
		return defaultDialTimeout
	}
	return time.Duration(a.DialTimeout)
}

// settings are one block of the configuration. A nil block is one that was left out.
type settings interface {
	check() error         // whether they are possible, together too
	into(*gateway.Config) // as the engine takes them
}

// config checks all settings but the nodes and turns them into the engine's.
func (a *App) config() (gateway.Config, error) {
	var c gateway.Config
	for _, block := range []settings{a.Health, a.Queue, a.Limits, a.Attempts, a.Cache, a.Coalesce, a.Batch} {
		if err := block.check(); err != nil {
			return gateway.Config{}, err
		}
		block.into(&c)
	}
	return c, nil
}

func (h *Health) into(c *gateway.Config) {
	if h == nil {
		return
	}
	c.Health = fleet.Options{
		Interval: time.Duration(h.Interval), Timeout: time.Duration(h.Timeout),
		Passes: h.Passes, Fails: h.Fails,
	}
}

func (q *Queue) into(c *gateway.Config) {
	if q == nil {
		return
	}
	c.Queue = schedule.Options{MaxLength: q.MaxLength, MaxWait: time.Duration(q.MaxWait)}
}

func (l *Limits) into(c *gateway.Config) {
	if l == nil {
		return
	}
	c.Limits = gateway.Limits{
		Body: l.Body, Bodies: l.Bodies,
		BodyTimeout: time.Duration(l.BodyTimeout), Streams: l.Streams,
	}
}

func (a *Attempts) into(c *gateway.Config) {
	if a == nil {
		return
	}
	c.Attempts = attempt.Options{
		FirstByteTimeout: time.Duration(a.FirstByteTimeout),
		StallTimeout:     time.Duration(a.StallTimeout),
		TotalTimeout:     time.Duration(a.TotalTimeout),
	}
	if a.Retries != nil {
		c.Attempts.Retries = *a.Retries
		if *a.Retries == 0 {
			c.Attempts.Retries = -1 // in the engine 0 is the default
		}
	}
}

func (h *Health) check() error {
	if h == nil {
		return nil
	}
	return inBlock("health",
		notNegative("interval", h.Interval), notNegative("timeout", h.Timeout),
		notNegative("passes", h.Passes), notNegative("fails", h.Fails))
}

func (q *Queue) check() error {
	if q == nil {
		return nil
	}
	return inBlock("queue", notNegative("max_length", q.MaxLength), notNegative("max_wait", q.MaxWait))
}

func (l *Limits) check() error {
	if l == nil {
		return nil
	}
	if err := inBlock("limits",
		notNegative("body", l.Body), notNegative("bodies", l.Bodies),
		notNegative("body_timeout", l.BodyTimeout), notNegative("streams", l.Streams)); err != nil {
		return err
	}
	body, bodies := l.Body, l.Bodies
	if body == 0 {
		body = gateway.DefaultBody
	}
	if bodies == 0 {
		bodies = gateway.DefaultBodies
	}
	if body > bodies {
		return fmt.Errorf("limits: body (%d bytes) is more than bodies (%d bytes), which all bodies share; raise bodies or lower body", body, bodies)
	}
	return nil
}

func (a *Attempts) check() error {
	if a == nil {
		return nil
	}
	retries := 0
	if a.Retries != nil {
		retries = *a.Retries
	}
	if err := inBlock("attempts",
		notNegative("dial_timeout", a.DialTimeout), notNegative("first_byte_timeout", a.FirstByteTimeout),
		notNegative("stall_timeout", a.StallTimeout), notNegative("total_timeout", a.TotalTimeout),
		notNegative("retries", retries)); err != nil {
		return err
	}
	if a.TotalTimeout == 0 {
		return nil
	}
	return inBlock("attempts",
		notLonger("first_byte_timeout", a.FirstByteTimeout, a.TotalTimeout),
		notLonger("stall_timeout", a.StallTimeout, a.TotalTimeout))
}

func notLonger(name string, part, total caddy.Duration) error {
	if part > total {
		return fmt.Errorf("%s (%s) is longer than total_timeout (%s) and could never end a try; lower it or raise total_timeout",
			name, time.Duration(part), time.Duration(total))
	}
	return nil
}

// inBlock gives the first error, with the block it is about.
func inBlock(block string, errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", block, err)
		}
	}
	return nil
}

func notNegative[N caddy.Duration | int | int64](name string, n N) error {
	if n < 0 {
		return fmt.Errorf("%s must not be negative", name)
	}
	return nil
}
