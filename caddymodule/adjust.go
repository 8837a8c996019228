package caddymodule

import (
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// adjust is what the site changes in requests.
func (h *Handler) adjust() (a wire.Adjust, err error) {
	if a.WithoutNumCtx, err = parseAdjust("num_ctx", h.NumCtx, "keep", h.MaxNumCtx != 0); err != nil {
		return a, err
	}
	if a.WithoutKeepAlive, err = parseAdjust("keep_alive", h.KeepAlive, "ignore", h.MaxKeepAlive != 0); err != nil {
		return a, err
	}
	if err := notNegative("max_num_ctx", h.MaxNumCtx); err != nil {
		return a, err
	}
	if err := notNegative("max_keep_alive", h.MaxKeepAlive); err != nil {
		return a, err
	}
	a.MaxNumCtx, a.MaxKeepAlive = h.MaxNumCtx, time.Duration(h.MaxKeepAlive)
	return a, nil
}

// parseAdjust reads the word of configuration that takes a field out or lets it pass, which "" is.
func parseAdjust(name, value, out string, limited bool) (without bool, err error) {
	switch {
	case value != "" && value != "pass" && value != out:
		return false, fmt.Errorf("unrecognized value %q for %s; use pass or %s, or set max_%s", value, name, out, name)
	case value != "" && limited:
		return false, fmt.Errorf("%s is %s and max_%s is set; leave one of them out", name, value, name)
	}
	return value == out, nil
}

// choiceOrMax reads one of a few words, or max with the value that limit reads.
func choiceOrMax(into *string, limit option, words ...string) option {
	read := choice(into, append(words, "max")...)
	return func(d *caddyfile.Dispenser) error {
		at := *d
		if at.NextArg() && at.Val() == "max" {
			d.NextArg()
			return limit(d)
		}
		return read(d)
	}
}
