package caddymodule

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/replica"
)

const (
	// Less would keep nothing: who writes so little has forgotten the unit.
	leastMemory = 1 << 20
	leastEntry  = 1 << 10

	// leastSecret is the length of the shortest secret, in bytes.
	leastSecret = 16

	// mostJitter leaves a TTL half of what it says.
	mostJitter = 0.5
)

// Cache keeps answers and gives them to whoever asks the same again, as long as the rules say. It
// is used by all sites; whose answers are shared, each of them says with `tenant`.
type Cache struct {
	// How much memory stored answers may take, in bytes. At least 1 MiB. Default: 268435456 (256 MiB).
	Memory int64 `json:"memory,omitempty"`

	// How large one answer may be to be stored, in bytes, at least 1 KiB and at most `memory`.
	// Default: a 64th of `memory`, but not more than 8388608 (8 MiB).
	MaxEntry int64 `json:"max_entry,omitempty"`

	// The URL of a Redis server that is a second store, shared by all gateways that use it, as in
	// `redis://redis:6379/0`; `rediss` is over TLS. Placeholders are replaced when the configuration
	// is loaded; a password must be one, as in `redis://:{env.REDIS_PASSWORD}@redis:6379/0`, and is
	// escaped then. Needs `secret`. Default: none.
	Redis string `json:"redis,omitempty"`

	// A placeholder such as `{env.CACHE_SECRET}` for what seals that which lies in Redis, at least
	// 16 bytes. Gateways that share answers have the same. It is read when the configuration is
	// loaded, and is in no saved configuration.
	Secret string `json:"secret,omitempty"`

	// The shortest time for which an answer is kept that is kept at all; a shorter one is raised to
	// it. Default: none.
	Min caddy.Duration `json:"min,omitempty"`

	// The longest time for which an answer is kept, but for those that are kept for ever; a longer
	// one is lowered to it. Default: 30d.
	Max caddy.Duration `json:"max,omitempty"`

	// By which part of it each time is shortened at most, at random, so that what was stored
	// together does not end together: 0.1 is a tenth. 0: none. At most 0.5. Default: 0.1.
	Jitter *float64 `json:"jitter,omitempty"`

	// How long after its time an answer is still given while a new one is made, where a slot is
	// idle. At most 24h. Default: not at all.
	StaleWhileRevalidate caddy.Duration `json:"stale_while_revalidate,omitempty"`

	// How long after its time an answer is still given where the fleet has none. At most 24h.
	// Default: not at all.
	StaleIfError caddy.Duration `json:"stale_if_error,omitempty"`

	// For how long which answers are kept. The first rule whose conditions all hold decides; those
	// of a site come before these. Where none holds, embeddings are kept until there is no more room,
	// deterministic answers for 24h, and others not at all.
	TTL []CacheRule `json:"ttl,omitempty"`
}

// CacheRule says for how long answers are kept, in one of `ttl`, `off` and `forever`. All conditions
// that are set must hold; of several values of one, one must.
type CacheRule struct {
	// For how long.
	TTL caddy.Duration `json:"ttl,omitempty"`

	// Not at all, whatever the client wishes.
	Off bool `json:"off,omitempty"`

	// Until there is no more room.
	Forever bool `json:"forever,omitempty"`

	// Models, as globs like those of a site's `models`.
	Models []string `json:"models,omitempty"`

	// What is asked: `chat`, `generate`, `embed` or `responses`.
	Operations []string `json:"operations,omitempty"`

	// What the user wrote last, as globs, in any case: `*` is any text, `?` one character.
	Prompts []string `json:"prompts,omitempty"`

	// Headers of the request, which must all be there.
	Headers []CacheHeader `json:"headers,omitempty"`

	// The temperature is 0 or there is a seed, so that one answer is as good as another.
	Deterministic bool `json:"deterministic,omitempty"`

	// The answer is not deterministic and no embedding.
	Sampled bool `json:"sampled,omitempty"`

	// There is no conversation before what the user wrote.
	SingleTurn bool `json:"single_turn,omitempty"`

	// The request has tools. Only with this are answers kept that call some.
	Tools bool `json:"tools,omitempty"`

	// Has the time follow how often the answer changes; `ttl` is the first one then. Needs
	// `deterministic` or a source. Default: the time stays.
	Adaptive *CacheAdaptive `json:"adaptive,omitempty"`
}

// CacheAdaptive says how the time for which an answer is kept follows how often it changes: after
// it the answer is made anew and compared with the one before.
type CacheAdaptive struct {
	// The share of given answers that may be out of date, as in 0.05. At most 0.5. Default: 0.05.
	Target float64 `json:"target,omitempty"`

	// The shortest time. At least 1s. Default: 60s.
	Min caddy.Duration `json:"min,omitempty"`

	// The longest time. At most 30d. Default: 7d.
	Max caddy.Duration `json:"max,omitempty"`

	// The header in which a request tells the version of what its answer is made from, such as an
	// ETag or a time. It is compared and nothing is fetched. Default: what was said is compared.
	SourceHeader string `json:"source_header,omitempty"`

	// Takes a purge by one of the answer's tags for its change, and nothing else. Default: false.
	SourceTags bool `json:"source_tags,omitempty"`
}

// What CacheAdaptive does not say.
const (
	adaptiveTarget = 0.05
	adaptiveMin    = time.Minute
	adaptiveMax    = 7 * 24 * time.Hour
)

// adaptive is it as the engine takes it, unchecked; first is the time of its rule.
func (a *CacheAdaptive) adaptive(first time.Duration) *call.Adaptive {
	if a == nil {
		return nil
	}
	made := &call.Adaptive{
		Target: a.Target, First: first, Min: time.Duration(a.Min), Max: time.Duration(a.Max),
		SourceHeader: http.CanonicalHeaderKey(a.SourceHeader), SourceTags: a.SourceTags,
	}
	if made.Target == 0 {
		made.Target = adaptiveTarget
	}
	if made.Min == 0 {
		made.Min = adaptiveMin
	}
	if made.Max == 0 {
		made.Max = adaptiveMax
	}
	return made
}

// CacheHeader is a header that a request must have.
type CacheHeader struct {
	// Its name.
	Name string `json:"name"`

	// What one of its values must be, as a glob, in any case: `*` is any text, `?` one character.
	// Default: `*`.
	Glob string `json:"glob,omitempty"`
}

// rule is the rule as the engine takes it, unchecked.
func (r *CacheRule) rule() (cache.Rule, error) {
	life := time.Duration(r.TTL)
	switch {
	case r.TTL < 0:
		return cache.Rule{}, errors.New("ttl must not be negative")
	case r.Off && r.Forever || (r.Off || r.Forever) == (r.TTL != 0):
		return cache.Rule{}, errors.New("set one of ttl, off and forever")
	case r.Forever:
		life = call.Forever
	}
	rule := cache.Rule{
		TTL: life, Models: r.Models, Operations: r.Operations, Prompts: r.Prompts,
		Deterministic: r.Deterministic, Sampled: r.Sampled, SingleTurn: r.SingleTurn, Tools: r.Tools,
		Adaptive: r.Adaptive.adaptive(life),
	}
	for _, h := range r.Headers {
		if h.Glob == "" {
			h.Glob = "*"
		}
		rule.Headers = append(rule.Headers, cache.HeaderCondition{Name: http.CanonicalHeaderKey(h.Name), Glob: h.Glob})
	}
	rule.Text = rule.String()
	return rule, nil
}

// cacheRules turns rules into those of the engine. Whether they go together it does not check.
func cacheRules(rules []CacheRule) (cache.Rules, error) {
	var made cache.Rules
	for i := range rules {
		rule, err := rules[i].rule()
		if err != nil {
			return nil, fmt.Errorf("ttl %d: %w", i+1, err)
		}
		made = append(made, rule)
	}
	return made, nil
}

// Errors that Caddyfile and JSON share.
var (
	errNoSecret = errors.New("redis needs a secret, which seals what lies there; make one with `openssl rand -hex 32`, " +
		"put it into the environment of each gateway, and write: secret {env.CACHE_SECRET}")
	errNoRedis = errors.New("secret is for what lies in Redis, and there is no redis; add it, or leave secret out")
	errPlain   = errors.New("redis: a password would be saved with the configuration; write a placeholder, " +
		"as in redis://:{env.REDIS_PASSWORD}@redis:6379/0")
)

func (c *Cache) check() error {
	if c == nil {
		return nil
	}
	if err := inBlock("cache",
		notNegative("min", c.Min), notNegative("max", c.Max),
		atLeast("memory", c.Memory, leastMemory, "1MiB"), atLeast("max_entry", c.MaxEntry, leastEntry, "1KiB"),
		notStaler("stale_while_revalidate", c.StaleWhileRevalidate), notStaler("stale_if_error", c.StaleIfError),
		c.checkTogether(), c.checkStore()); err != nil {
		return err
	}
	rules, err := cacheRules(c.TTL)
	if err != nil {
		return inBlock("cache", err)
	}
	return inBlock("cache", rules.Check())
}

// checkTogether tells what values exclude each other.
func (c *Cache) checkTogether() error {
	memory, longest := c.Memory, time.Duration(c.Max)
	if memory == 0 {
		memory = cache.DefaultMemory
	}
	if longest == 0 {
		longest = cache.DefaultMax
	}
	switch j := c.Jitter; {
	case j != nil && !(*j >= 0 && *j <= mostJitter):
		return fmt.Errorf("jitter must be between 0 and %v, not %v", mostJitter, *j)
	case c.MaxEntry > memory:
		return fmt.Errorf("max_entry (%d bytes) is more than memory (%d bytes), which holds all answers; raise memory or lower max_entry", c.MaxEntry, memory)
	case time.Duration(c.Min) > longest:
		return fmt.Errorf("min (%s) is longer than max (%s); lower min or raise max", time.Duration(c.Min), longest)
	}
	return nil
}

// checkStore tells what is wrong with the second store, as far as its placeholders do not hide it.
func (c *Cache) checkStore() error {
	switch {
	case c.Redis == "" && c.Secret != "":
		return errNoRedis
	case c.Redis == "":
		return nil
	case c.Secret == "":
		return errNoSecret
	}
	if err := checkPlaceholder(c.Secret); err != nil {
		return fmt.Errorf("secret: %w", err)
	}
	return checkRedis(c.Redis)
}

// checkPlaceholder refuses what is no placeholder without repeating it: it would be saved with the
// configuration.
func checkPlaceholder(secret string) error {
	if !isPlaceholder(secret) {
		return errors.New("write a placeholder that stands for it, as in {env.CACHE_SECRET}")
	}
	return nil
}

// checkRedis refuses a URL that has its password in it, and one that cannot be, if that can be seen.
func checkRedis(address string) error {
	user, _, _ := redisUser(address)
	if _, password, _ := strings.Cut(user, ":"); password != "" && !hasPlaceholder(password) {
		return errPlain
	}
	if hasPlaceholder(address) {
		return nil
	}
	if err := replica.Check(address); err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// redisUser cuts a URL into its user and password, what is before them and what is behind.
func redisUser(address string) (user, before, behind string) {
	start := strings.Index(address, "://")
	end := strings.LastIndexByte(address, '@')
	if start += len("://"); start < len("://") || end < start {
		return "", address, ""
	}
	return address[start:end], address[:start], address[end:]
}

func atLeast(name string, n, least int64, example string) error {
	if n != 0 && n < least {
		return fmt.Errorf("%s: %d bytes are too few; write at least %s", name, n, example)
	}
	return nil
}

func notStaler(name string, d caddy.Duration) error {
	if d < 0 || time.Duration(d) > cache.StaleLimit {
		return fmt.Errorf("%s must be between 0 and 24h, not %s: older answers are not given for want of new ones", name, time.Duration(d))
	}
	return nil
}

func (c *Cache) into(config *gateway.Config) {
	if c == nil {
		return
	}
	rules, _ := cacheRules(c.TTL) // it has been checked
	config.Cache = &cache.Options{
		Memory: c.Memory, MaxEntry: c.MaxEntry, Rules: rules,
		Min: time.Duration(c.Min), Max: time.Duration(c.Max),
		StaleWhileRevalidate: time.Duration(c.StaleWhileRevalidate),
		StaleIfError:         time.Duration(c.StaleIfError),
	}
	if c.Jitter != nil {
		config.Cache.Jitter = *c.Jitter
		if *c.Jitter == 0 {
			config.Cache.Jitter = -1 // in the engine 0 is the default
		}
	}
}

// resolve replaces the placeholders of the second store. Its errors name them and never what they
// stand for.
func (c *Cache) resolve(o *cache.Options) error {
	if c == nil || c.Redis == "" {
		return nil
	}
	repl := caddy.NewReplacer()
	secret, err := repl.ReplaceOrErr(c.Secret, true, true)
	if err != nil {
		return fmt.Errorf("cache: secret: %w", err)
	}
	// A file may end in a line break where a variable does not.
	if secret = strings.TrimSpace(secret); len(secret) < leastSecret {
		return fmt.Errorf("cache: secret: what %s stands for is %d bytes long and must have at least %d; make one with `openssl rand -hex 32`",
			c.Secret, len(secret), leastSecret)
	}
	user, before, behind := redisUser(c.Redis)
	if before, err = repl.ReplaceOrErr(before, true, true); err == nil {
		behind, err = repl.ReplaceOrErr(behind, true, true)
	}
	if err == nil {
		user, err = escaped(repl, user)
	}
	if err != nil {
		return fmt.Errorf("cache: redis: %w", err)
	}
	address := before + user + behind
	if err := replica.Check(address); err != nil {
		return fmt.Errorf("cache: redis: %w", err)
	}
	o.Secret, o.Redis = secret, address
	return nil
}

// escaped replaces the placeholders of a URL's user and password. A password may be of any signs.
func escaped(repl *caddy.Replacer, user string) (string, error) {
	if _, err := repl.ReplaceOrErr(user, true, true); err != nil {
		return "", err
	}
	return repl.ReplaceFunc(user, func(_ string, value any) (any, error) {
		return strings.ReplaceAll(url.QueryEscape(caddy.ToString(value)), "+", "%20"), nil
	})
}
