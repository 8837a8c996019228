package gateway

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Every recorded request, asked twice: the answer from the store is the one that a real server gave.
func TestGoldens_HoldFromTheCache(t *testing.T) {
	asItIs, textByText := (*Embed)(nil), &Embed{}
	least := map[string]int{ // answers that come from the store
		"generate": 60, "chat": 26, "embed": 13, "embeddings": 1, "openai-chat": 46, "openai-completions": 9, "openai-embeddings": 8,
		"openai-responses": 18, "anthropic": 33,
	}
	for file := range least {
		hold := func(t *testing.T, embed *Embed) {
			synctest.Test(t, func(t *testing.T) {
				rules := cache.Rules{{TTL: time.Hour, Tools: true}, {TTL: time.Hour}}
				r := newCacheRig(t, cache.Options{Rules: rules, Jitter: -1}, rigOptions{
					host: true, site: SiteConfig{Manage: true}, config: Config{Embed: embed},
				})
				for _, m := range []string{"tinyembed:latest", "tinytool:latest", "tinythink:latest", "tinyslow:latest", "tiny2:latest"} {
					r.known(m)
				}
				hits := 0
				for _, rec := range golden.Load(t, file) {
					path, _, _ := strings.Cut(rec.Request.Path, "?")
					m := wire.Find(rec.Request.Method, path)
					if rec.Response.Status == 0 || m.Route == nil || m.Route.Access != wire.Infer || differences[file+"/"+rec.ID] != "" {
						continue
					}
					for range 2 {
						got, err := golden.Replay(t.Context(), r.front.Dial, rec)
						if err != nil {
							t.Fatalf("%s: %v", rec.ID, err)
						}
						if diffs := golden.Compare(rec.Response, got, golden.Options{IgnoreHeaders: cacheHeaders}); len(diffs) > 0 {
							t.Errorf("%s/%s\n  %.200s\n  %s", file, rec.ID, rec.Request.Body, strings.Join(diffs, "\n  "))
						}
						for _, line := range got.Headers {
							if line[0] == "Cache-Status" && strings.Contains(line[1], "; hit") {
								hits++
							}
						}
					}
				}
				if hits < least[file] {
					t.Errorf("only %d answers came from the store, want %d", hits, least[file])
				}
			})
		}
		t.Run(file, func(t *testing.T) { hold(t, asItIs) })
		if strings.Contains(file, "embed") {
			t.Run(file+", text by text", func(t *testing.T) { hold(t, textByText) })
		}
	}
}
