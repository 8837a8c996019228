package cache

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// Defaults of Options.
const (
	DefaultMemory = 256 << 20
	DefaultMax    = 30 * 24 * time.Hour
	DefaultJitter = 0.1

	// StaleLimit bounds both stale options.
	StaleLimit = 24 * time.Hour
)

// Options are what a configuration wishes of the cache. The zero value works.
type Options struct {
	Memory   int64 // bytes of answers kept in memory. Default: 256 MiB
	MaxEntry int64 // bytes of one answer; larger ones are not stored. Default: a 64th of Memory, 8 MiB at most

	// Redis is the URL of the second tier, shared by replicas; "": none. With it Secret seals
	// what lies there, 16 bytes at least.
	Redis  string
	Secret string

	Rules Rules // of all sites, tried after those of the site
	// Min and Max are what a TTL is raised or lowered to, other than for ever. Default: none, 30 days.
	Min, Max time.Duration
	// Jitter is by which part of itself a TTL is shortened at most, at random, so that what was
	// stored at once does not end at once. Default: 0.1. Negative: none.
	Jitter float64

	// StaleWhileRevalidate is for how long after its time an answer is still given while a new
	// one is generated, if a slot is idle. Default: not at all.
	StaleWhileRevalidate time.Duration
	// StaleIfError is for how long after its time an answer is given rather than an error of the
	// fleet. Default: not at all.
	StaleIfError time.Duration
}

// Rules are tried in their order: the first whose conditions all hold decides.
type Rules []Rule

// A Rule says for how long an answer is kept. Of several values of one condition one must hold.
type Rule struct {
	TTL time.Duration // call.Forever: until evicted; 0: not at all

	Models     []string // globs of the normalised short name, as in gateway.SiteConfig
	Operations []string // words of wire.Operation: chat, generate, embed, responses
	// Prompts are globs of what the user wrote last, in any case: * is any text, ? one character.
	Prompts []string
	Headers []HeaderCondition // all of them must hold

	Deterministic bool // temperature 0 or a seed: one valid answer is as good as another
	Sampled       bool // not so
	SingleTurn    bool // a question without a conversation before it
	// Tools: the request has tools. Only with it are answers stored that call some.
	Tools bool

	// Adaptive has the TTL follow how often the answer changes; TTL is the first one then, and
	// First is not set. nil: it is TTL.
	Adaptive *call.Adaptive

	Text string // as it is written, for who asks why: "ttl 60s prompt *urgent*"
}

// A HeaderCondition holds if a header of the request has a value that the glob matches.
type HeaderCondition struct {
	Name string
	Glob string // "*": it is there
}

func (o Options) withDefaults() Options {
	if o.Memory == 0 {
		o.Memory = DefaultMemory
	}
	if o.MaxEntry == 0 {
		o.MaxEntry = min(o.Memory/64, 8<<20)
	}
	if o.Max == 0 {
		o.Max = DefaultMax
	}
	if o.Jitter == 0 {
		o.Jitter = DefaultJitter
	}
	return o
}

// stale is how long after its time an answer may be of use.
func (o *Options) stale() time.Duration { return max(o.StaleWhileRevalidate, o.StaleIfError) }
