package status

import (
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/contrast"
)

func TestPage_ColoursAreToldApart(t *testing.T) {
	css := string(assets["page.css"].body)
	for _, scheme := range contrast.Schemes(t, css) {
		check := func(mark, ground string, least float64) { t.Helper(); scheme.Check(t, mark, ground, least) }
		for _, text := range []string{"text", "dim", "ok", "warn", "bad", "focus"} {
			check(text, "ground", 4.5)
			check(text, "card", 4.5)
		}
		for _, notice := range []string{"ok", "warn", "bad"} {
			check(notice, notice+"-bg", 4.5)
		}
		for _, mark := range []string{"answered", "cache", "overloaded", "failed", "clients", "p50", "p95", "tokens", "waiting"} {
			check(mark, "card", 3)
		}
	}
}
