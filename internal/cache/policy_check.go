package cache

import (
	"errors"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// cached are the operations whose answers can be kept.
var cached = []string{wire.Chat.String(), wire.Generate.String(), wire.Embed.String(), wire.Responses.String()}

// credentials are headers whose values must not stand in a rule, which is shown.
var credentials = []string{"Authorization", "Proxy-Authorization", "Cookie", "X-Api-Key"}

// Check tells of the first rule that is not possible, or that no call can reach because of one
// before it in the list. Each list is checked by itself: that the rules of a site hide those of
// all is what they are for.
func (r Rules) Check() error {
	for i := range r {
		if err := r[:i+1].CheckLast(); err != nil {
			return err
		}
	}
	return nil
}

// CheckLast is Check for the last rule alone, as for one that is read after the others.
func (r Rules) CheckLast() error {
	last := &r[len(r)-1]
	if err := last.check(); err != nil {
		return fmt.Errorf("ttl %s: %w", lifeText(last.TTL), err) // no more of it: it may hold a credential
	}
	for i := range r[:len(r)-1] {
		if r[i].covers(last) {
			return fmt.Errorf("%s: no request reaches this rule, because %q before it takes them all; move it up or leave it out", last.name(), r[i].name())
		}
	}
	return nil
}

func (r *Rule) name() string {
	if r.Text == "" {
		return r.String()
	}
	return r.Text
}

// check tells whether the rule is possible by itself.
func (r *Rule) check() error {
	if r.TTL < 0 {
		return errors.New("the time must not be negative; write off for none at all")
	}
	for _, glob := range r.Models {
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return fmt.Errorf("model: %q is not a glob; use *, ? and [...] as in llama3*", glob)
		}
	}
	for _, word := range r.Operations {
		if !slices.Contains(cached, word) {
			return fmt.Errorf("unrecognized operation %q; use %s or %s", word, strings.Join(cached[:len(cached)-1], ", "), cached[len(cached)-1])
		}
	}
	if slices.Contains(r.Prompts, "") {
		return errors.New("prompt: a glob must not be empty; write * for every prompt")
	}
	for _, h := range r.Headers {
		if err := h.check(); err != nil {
			return err
		}
	}
	embeds := len(r.Operations) > 0 && !slices.ContainsFunc(r.Operations, func(word string) bool { return word != wire.Embed.String() })
	switch {
	case r.Deterministic && r.Sampled:
		return errors.New("an answer is deterministic or sampled and never both; leave one out")
	case embeds && (r.Deterministic || r.Sampled):
		return errors.New("an embedding is neither deterministic nor sampled; leave that out")
	case r.Adaptive != nil && embeds:
		return errors.New("adaptive: an embedding changes with its model only, and then it is another one; write forever")
	case r.Adaptive != nil:
		return r.checkAdaptive()
	}
	return nil
}

func (h HeaderCondition) check() error {
	name := http.CanonicalHeaderKey(h.Name)
	switch {
	case !isToken(h.Name):
		return fmt.Errorf("header %q is not a header name; use letters, digits and dashes", h.Name)
	case name == "Host":
		return errors.New("header Host is not a condition; each site has rules of its own")
	case h.Glob == "":
		return fmt.Errorf("header %s: a glob must not be empty; write * for every value", name)
	case slices.Contains(credentials, name) && !onlyStars(h.Glob):
		// The glob is not repeated: it may be the secret.
		return fmt.Errorf("header %s: the rule is shown, so it must not hold a credential; leave the glob out, or make a site with rules of its own", name)
	}
	return nil
}

// isToken tells whether s is a token of RFC 9110 5.6.2.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	})
}

// covers tells whether the rule takes each call that the other would take. It may miss that, where
// globs are hard to compare or several rules do it together, and is never wrong.
func (r *Rule) covers(other *Rule) bool {
	return (!r.Deterministic || other.Deterministic) &&
		(!r.Sampled || other.Sampled) &&
		(!r.SingleTurn || other.SingleTurn) &&
		(!r.Tools || other.Tools) &&
		(everyOperation(r.Operations) || allCovered(r.Operations, other.Operations, func(a, b string) bool { return a == b })) &&
		(len(r.Models) == 0 || allCovered(r.Models, other.Models, modelCovers)) &&
		(len(r.Prompts) == 0 || slices.ContainsFunc(r.Prompts, onlyStars) || allCovered(r.Prompts, other.Prompts, globCovers)) &&
		headersCovered(r.Headers, other.Headers)
}

func everyOperation(words []string) bool {
	return len(words) == 0 || !slices.ContainsFunc(cached, func(word string) bool { return !slices.Contains(words, word) })
}

// allCovered tells whether each value of others, of which there must be one, is covered.
func allCovered(values, others []string, covers func(a, b string) bool) bool {
	for _, other := range others {
		if !slices.ContainsFunc(values, func(v string) bool { return covers(v, other) }) {
			return false
		}
	}
	return len(others) > 0
}

// headersCovered tells whether each of the conditions follows from one of the others.
func headersCovered(conditions, others []HeaderCondition) bool {
	for _, c := range conditions {
		if !slices.ContainsFunc(others, func(o HeaderCondition) bool {
			return strings.EqualFold(c.Name, o.Name) && globCovers(c.Glob, o.Glob)
		}) {
			return false
		}
	}
	return true
}
