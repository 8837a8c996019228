package gateway

import (
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/batch"
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/coalesce"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// Defaults of Limits.
const (
	DefaultBody        = 100 << 20 // several images, or a long conversation
	DefaultBodies      = 1 << 30
	DefaultBodyTimeout = time.Minute
	DefaultStreams     = 4096
)

// Limits protect the process from its clients. The zero value works.
type Limits struct {
	Body        int64         // bytes of one request body. Default: 100 MiB. Larger ones get 413.
	Bodies      int64         // bytes of all bodies being read or waiting. Default: 1 GiB. Beyond it 503.
	BodyTimeout time.Duration // from the first to the last byte of a body. Default: 60s. Then 408.
	Streams     int           // inference requests on their way. Default: 4096. Further ones get 503.
}

func (l Limits) withDefaults() Limits {
	if l.Body == 0 {
		l.Body = DefaultBody
	}
	if l.Bodies == 0 {
		l.Bodies = DefaultBodies
	}
	if l.BodyTimeout == 0 {
		l.BodyTimeout = DefaultBodyTimeout
	}
	if l.Streams == 0 {
		l.Streams = DefaultStreams
	}
	return l
}

// Config is what a configuration wishes of the engine. The zero value but for Nodes works.
type Config struct {
	Nodes    []fleet.NodeConfig
	Health   fleet.Options
	Queue    schedule.Options
	Limits   Limits
	Attempts attempt.Options
	Cache    *cache.Options // nil: nothing is cached
	Coalesce *Coalesce      // nil: each call is answered by itself
	Embed    *Embed         // nil: embedding requests go to nodes as they are
	Prompts  PromptsConfig
}

// Embed has embedding requests answered text by text: what is known is not asked again, and what is
// not is gathered into few calls. The zero value works.
type Embed struct {
	MaxItems int           // texts in one call to a node. Default: 32.
	MaxBytes int           // of the texts in one call. Default: 128 KiB.
	Window   time.Duration // that a call waits for further texts. Default: only while no slot is free.
}

// Coalesce says which calls share one running answer: deterministic ones and embeddings, and more
// if it is said.
type Coalesce struct {
	Sampled bool // those of different clients whose answers are drawn at random, too
}

// Settings are one configuration's immutable wishes and the steps made of them. A call keeps
// the settings it began with.
type Settings struct {
	engine       *Engine
	config       Config
	limits       Limits
	promptLimits PromptsConfig
	steps        call.Answerer
	tries        *attempt.Step
}

// NewSettings puts the steps of a call together, outermost last.
func NewSettings(e *Engine, c Config) *Settings {
	tries := attempt.New(attempt.Base{
		Context: e.ctx, Queue: e.queue, Fleet: e.fleet, Budget: &e.budget, Suspects: e.suspects, Log: e.observer, Pumps: &e.pumps, Via: e.via,
	}, c.Attempts)
	s := &Settings{engine: e, config: c, limits: c.Limits.withDefaults(), promptLimits: c.Prompts.withDefaults(), tries: tries, steps: tries}
	// Outermost last: what is known is looked up for each call; what is not is asked for once for
	// all who want it; and stored once.
	if c.Cache != nil {
		s.steps = e.cache.Store(c.Cache, s.steps)
	}
	if c.Coalesce != nil {
		s.steps = e.flights.Step(coalesce.Options{}, s.steps)
	}
	if c.Cache != nil {
		s.steps = e.cache.Lookup(c.Cache, s.steps)
	}
	if c.Embed != nil {
		// The calls it gathers are nobody's: they pass the other steps as they are.
		o := batch.Options{
			MaxItems: c.Embed.MaxItems, MaxBytes: c.Embed.MaxBytes, Window: c.Embed.Window, Retries: tries.Retries(), Sent: e.gathered,
		}
		var items batch.Items
		if c.Cache != nil {
			items = e.cache.Items(c.Cache)
		}
		s.steps = e.texts.Step(o, items, s.steps)
	}
	return s
}

// An Attachment is a configuration's hold on the engine.
type Attachment struct {
	engine   *Engine
	settings *Settings
}

// Attach makes the settings rule the fleet and the queue until they are detached or newer
// ones are attached.
func (s *Settings) Attach() *Attachment {
	e := s.engine
	a := &Attachment{engine: e, settings: s}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.attachments = append(e.attachments, a)
	e.obeyLocked(s)
	return a
}

// Ruling are the settings of the newest live attachment, nil while there is none.
func (e *Engine) Ruling() *Settings {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.attachments) == 0 {
		return nil
	}
	return e.attachments[len(e.attachments)-1].settings
}

// Detach gives up the hold. If it ruled, the one before rules again; after the last one the
// engine goes on as it is, so that what runs can finish.
func (a *Attachment) Detach() {
	e := a.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.Index(e.attachments, a)
	if i < 0 {
		return
	}
	ruled := i == len(e.attachments)-1
	e.attachments = slices.Delete(e.attachments, i, i+1)
	if ruled && len(e.attachments) > 0 {
		e.obeyLocked(e.attachments[len(e.attachments)-1].settings)
	}
}

// obeyLocked configures what the engine owns. Under the lock, so that two configurations
// cannot interleave; neither call does I/O.
func (e *Engine) obeyLocked(s *Settings) {
	e.loader.Configure(s.config.Attempts)
	e.queue.Configure(s.config.Queue)
	e.cache.Configure(s.config.Cache)
	e.fleet.Configure(s.config.Nodes, s.config.Health)
}
