package caddymodule

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// readAdaptive reads the word with its block, which may be left out:
//
//	adaptive {
//		target 5%
//		min    60s
//		max    7d
//		source header X-Source-Version|tags
//	}
func (r *CacheRule) readAdaptive(d *caddyfile.Dispenser) error {
	if err := alone(d); err != nil {
		return err
	}
	a := new(CacheAdaptive)
	r.Adaptive = a
	g := grammar{
		name: "adaptive",
		options: []word{
			{name: "target", read: a.readTarget},
			{name: "min", read: duration(&a.Min, "60s")},
			{name: "max", read: duration(&a.Max, "7d")},
			{name: "source", read: a.readSource},
		},
		elsewhere: wordsAt("the block of ttl, outside of that of adaptive", conditions...),
	}
	_, err := g.block(d)
	return err
}

func (a *CacheAdaptive) readTarget(d *caddyfile.Dispenser) error {
	v, err := value(d, "5%")
	if err != nil {
		return err
	}
	part, ok := percentage(v)
	if !ok || part <= 0 {
		return d.Errf("target: %q is not a percentage of more than 0%%; write it as in 5%%", v)
	}
	a.Target = part
	return nil
}

// readSource reads one of two words, one of which is followed by the name of a header.
func (a *CacheAdaptive) readSource(d *caddyfile.Dispenser) error {
	if at := *d; at.NextArg() && at.Val() == "header" {
		d.NextArg()
		return headerName(&a.SourceHeader, "source header X-Source-Version")(d)
	}
	var what string
	if err := choice(&what, "header", "tags")(d); err != nil {
		return err
	}
	a.SourceTags = true
	return nil
}
