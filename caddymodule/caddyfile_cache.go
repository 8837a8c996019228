package caddymodule

import (
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// ofCache are words that stand in the block of cache and nowhere else.
var ofCache = []string{
	"memory", "max_entry", "redis", "secret", "min", "max", "jitter", "stale_while_revalidate", "stale_if_error",
}

func (a *App) readCache(d *caddyfile.Dispenser) error {
	if err := alone(d); err != nil {
		return err
	}
	c := new(Cache)
	a.Cache = c
	start := *d
	g := grammar{
		name: "cache",
		options: []word{
			{name: "memory", read: size(&c.Memory, "512MiB")},
			{name: "max_entry", read: size(&c.MaxEntry, "8MiB")},
			{name: "redis", read: c.readRedis},
			{name: "secret", read: c.readSecret},
			{name: "min", read: duration(&c.Min, "5s")},
			{name: "max", read: duration(&c.Max, "30d")},
			{name: "jitter", read: c.readJitter},
			{name: "stale_while_revalidate", read: duration(&c.StaleWhileRevalidate, "10m")},
			{name: "stale_if_error", read: duration(&c.StaleIfError, "1h")},
			{name: "ttl", read: readRule(&c.TTL), often: true},
		},
		elsewhere: wordsAt("the ollama directive of a site", "tenant", "client_ttl", "tags").
			and(wordsAt("a line of ttl, behind the time", conditions...)),
	}
	if _, err := g.block(d); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return start.WrapErr(err)
	}
	return nil
}

func (c *Cache) readRedis(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 || args[0] == "" { // not text(), which would repeat a password that stands there
		return d.Errf("redis takes one value, as in: redis redis://redis:6379/0")
	}
	c.Redis = args[0]
	if err := checkRedis(c.Redis); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (c *Cache) readSecret(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) != 1 { // not value(), which would repeat a secret that stands there
		return d.Errf("secret takes one value, as in: secret {env.CACHE_SECRET}")
	}
	if err := checkPlaceholder(args[0]); err != nil {
		return d.Errf("secret: %v", err)
	}
	c.Secret = args[0]
	return nil
}

// percentage reads one as a part of 1; false if it is none.
func percentage(v string) (part float64, ok bool) {
	number, ok := strings.CutSuffix(v, "%")
	percent, err := strconv.ParseFloat(number, 64)
	return percent / 100, ok && err == nil
}

// readJitter reads a percentage, or off for none.
func (c *Cache) readJitter(d *caddyfile.Dispenser) error {
	v, err := value(d, "10%")
	if err != nil {
		return err
	}
	part := 0.0
	if v != "off" {
		var ok bool
		if part, ok = percentage(v); !ok {
			return d.Errf("jitter: %q is not a percentage; write it as in 10%%, or off", v)
		}
		if !(part > 0 && part <= mostJitter) {
			return d.Errf("jitter must be more than 0%% and at most %v%%, not %s; write off for none", mostJitter*100, v)
		}
	}
	c.Jitter = &part
	return nil
}

// readRule reads a line of ttl with its block and adds it to the rules, which it must go together
// with.
func readRule(rules *[]CacheRule) option {
	return func(d *caddyfile.Dispenser) error {
		start, r := *d, new(CacheRule)
		if err := r.read(d); err != nil {
			return err
		}
		made, err := cacheRules(append(*rules, *r))
		if err == nil {
			err = made.CheckLast()
		}
		if err != nil {
			return start.WrapErr(err)
		}
		*rules = append(*rules, *r)
		return nil
	}
}

func (r *CacheRule) read(d *caddyfile.Dispenser) error {
	const example = "ttl 60s prompt *urgent*"
	if !d.NextArg() {
		return d.Errf("ttl needs a duration, off or forever, as in: %s", example)
	}
	switch v := d.Val(); v {
	case "off":
		r.Off = true
	case "forever":
		r.Forever = true
	default:
		t, err := caddy.ParseDuration(v)
		switch {
		case err != nil:
			return d.Errf("ttl: %q is not a duration; write it as in %s, or off or forever", v, example)
		case t <= 0:
			return d.Errf("ttl must be longer than 0, not %s; write off for not at all", v)
		}
		r.TTL = caddy.Duration(t)
	}
	g := grammar{name: "ttl", kind: "condition", options: []word{
		{name: "model", read: values(&r.Models, "llama3* qwen*")},
		{name: "operation", read: values(&r.Operations, "chat generate")},
		{name: "prompt", read: values(&r.Prompts, "*urgent*")},
		{name: "header", read: r.readHeader, often: true},
		{name: "deterministic", read: condition(&r.Deterministic)},
		{name: "sampled", read: condition(&r.Sampled)},
		{name: "single_turn", read: condition(&r.SingleTurn)},
		{name: "tools", read: condition(&r.Tools)},
		{name: "adaptive", read: r.readAdaptive},
	}, elsewhere: wordsAt("the block of adaptive", "target", "source")}
	seen := make(map[string]int)
	if d.NextArg() {
		if err := g.option(d, seen); err != nil {
			return err
		}
	}
	_, err := g.rest(d, seen)
	return err
}

// conditions are the words that must not be taken for a value of the condition before them.
var conditions = []string{"model", "operation", "prompt", "header", "deterministic", "sampled", "single_turn", "tools", "adaptive"}

const oneALine = "write further conditions into a block, one a line"

// values reads the values of a condition, of which one must hold.
func values(into *[]string, example string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		for d.NextArg() {
			v := d.Val()
			if len(*into) > 0 && v == d.ValRaw() && slices.Contains(conditions, v) {
				return d.Errf("%q stands among the values of %s; %s, or put quotes around it", v, name, oneALine)
			}
			*into = append(*into, v)
		}
		if len(*into) == 0 {
			return d.Errf("%s needs a value, as in: %s %s", name, name, example)
		}
		return nil
	}
}

// condition reads a condition that says all by itself.
func condition(into *bool) option {
	return func(d *caddyfile.Dispenser) error {
		*into = true
		name := d.Val()
		if d.NextArg() {
			return d.Errf("unexpected %q after %s; %s", d.Val(), name, oneALine)
		}
		return nil
	}
}

func (r *CacheRule) readHeader(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	switch len(args) {
	case 0:
		return d.Errf("header needs a name, as in: header X-Source wiki*")
	case 1:
		args = append(args, "")
	case 2:
		if args[1] == "" {
			return d.Errf("header %s: a glob must not be empty; leave it out for every value", args[0])
		}
	default:
		return d.Errf("header takes a name and a glob; put quotes around a glob with blanks in it, and %s", oneALine)
	}
	r.Headers = append(r.Headers, CacheHeader{Name: args[0], Glob: args[1]})
	return nil
}

// readTenant reads one of a few words, one of which is followed by the name of a header.
func (h *Handler) readTenant(d *caddyfile.Dispenser) error {
	at := *d
	if at.NextArg() && at.Val() == "header" {
		d.NextArg()
		h.Tenant = "header"
		return headerName(&h.TenantHeader, "tenant header X-Team")(d)
	}
	return choice(&h.Tenant, "authorization", "header", "user", "shared")(d)
}

// headerName reads the name of a request header, the last word of the example.
func headerName(into *string, example string) option {
	return func(d *caddyfile.Dispenser) error {
		args := d.RemainingArgs()
		if len(args) != 1 {
			return d.Errf("write one name of a header, as in: %s", example)
		}
		*into = args[0]
		if err := checkRequestHeader(example[:strings.LastIndexByte(example, ' ')], *into); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
}
