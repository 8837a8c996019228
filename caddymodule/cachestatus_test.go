package caddymodule

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
)

func TestWriteStats(t *testing.T) {
	for name, test := range map[string]struct {
		stats cache.Stats
		want  string
	}{
		"off":   {cache.Stats{Redis: "off"}, "There is no cache: the global option ollama does not have the word cache.\n"},
		"empty": {cache.Stats{On: true, Limit: 256 << 20, Redis: "off"}, "entries  0\nmemory   0 B of 256 MiB\nredis    off\n"},
		"full": {
			cache.Stats{On: true, Entries: 123456, Bytes: 255 << 20, Limit: 256 << 20, Redis: "down"},
			"entries  123456\nmemory   255 MiB of 256 MiB\nredis    down\n",
		},
	} {
		var b strings.Builder
		if err := writeStats(&b, test.stats); err != nil || b.String() != test.want {
			t.Errorf("%s: got\n%s%v, want\n%s", name, b.String(), err, test.want)
		}
	}
}

func TestWriteInspected(t *testing.T) {
	var b strings.Builder
	err := writeInspected(&b, cache.Inspected{
		Key: "jA-_", Backend: "redis", Route: "/v1/chat/completions", Model: "registry.ollama.ai/library/llama3:latest",
		Identity: "sha256:1", Version: "0.24.0", Tags: []string{"prices", "news"},
		Stored: time.Date(2026, 11, 24, 17, 0, 0, 5, time.FixedZone("", 3600)),
		Age:    190, TTL: 3600, Left: 3410,
		Rule: "ttl 1h prompt *\x1b[2J*", Reason: "adaptive 12/3", Class: "sampled", Size: 2150, Tokens: 312,
		Question: "caddy-ollama request 1\ns\x05hello \u202e\ufffd世　界", Answer: []string{`{"response":"a\tb` + "\u009b" + `"}` + "\n", `{"done":true}` + "\n"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `
key        jA-_
route      /v1/chat/completions
model      llama3
version    0.24.0
stored     2026-11-24 16:00:00 UTC, in redis
age        3m
time left  56m of 1h
rule       ttl 1h prompt *·[2J*
reason     adaptive 12/3
class      sampled
tokens     312
size       2.1 KiB
tags       prices news

asked:
caddy-ollama request 1
s·hello ··世　界

answered:
{"response":"a\tb·"}
{"done":true}
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWriteInspected_SaysForHowLongItIsGiven(t *testing.T) {
	for want, i := range map[string]cache.Inspected{
		"until it is evicted":       {TTL: -1, Left: -1},
		"23h of 24h":                {TTL: 24 * 3600, Left: 24*3600 - 60},
		"none of 1m, over since 2h": {TTL: 60, Left: -7200},
		"none, it was purged":       {TTL: -1, Left: -1, Purged: true},
	} {
		var b strings.Builder
		if err := writeInspected(&b, i); err != nil || !strings.Contains(b.String(), "time left  "+want+"\n") {
			t.Errorf("got\n%s%v, want %q", b.String(), err, want)
		}
	}
}
