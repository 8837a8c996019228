package cache

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

const (
	// mostTarget leaves half of what is given fresh.
	mostTarget = 0.5
	// leastAdaptive: what may change sooner is not worth keeping.
	leastAdaptive = time.Second
)

// checkAdaptive tells whether a change can be told from noise under the rule, and whether its times
// go together.
func (r *Rule) checkAdaptive() error {
	a := r.Adaptive
	switch {
	case r.TTL == 0 || r.TTL == call.Forever:
		return fmt.Errorf("adaptive: the time of the rule is that of an answer of whose changes nothing is known; write it, as in ttl %s, in the place of %s", lifeText(a.Min), lifeText(r.TTL))
	case !(a.Target > 0 && a.Target <= mostTarget):
		return fmt.Errorf("adaptive: target must be more than 0%% and at most %v%%, not %v%%", mostTarget*100, a.Target*100)
	case a.Min < leastAdaptive:
		return fmt.Errorf("adaptive: min must be at least %s, not %s", leastAdaptive, a.Min)
	case a.Max > DefaultMax:
		return fmt.Errorf("adaptive: max must be at most %s, not %s", lifeText(DefaultMax), lifeText(a.Max))
	case a.Min > a.Max:
		return fmt.Errorf("adaptive: min (%s) is longer than max (%s); lower min or raise max", lifeText(a.Min), lifeText(a.Max))
	case r.TTL < a.Min || r.TTL > a.Max:
		return fmt.Errorf("adaptive: the time of the rule is the first one and must be between min (%s) and max (%s)", lifeText(a.Min), lifeText(a.Max))
	case a.SourceHeader != "" && a.SourceTags:
		return errors.New("adaptive: source is a header or tags and never both; leave one out")
	case a.SourceHeader != "" && !isToken(a.SourceHeader):
		return fmt.Errorf("adaptive: source header %q is not a header name; use letters, digits and dashes", a.SourceHeader)
	case !r.Deterministic && a.SourceHeader == "" && !a.SourceTags:
		return errors.New("adaptive: the rule takes sampled answers, too, which differ each time whether or not anything has changed; " +
			"add the condition deterministic, or name what tells of a change: source header X-Source-Version, or source tags")
	}
	return nil
}
