package caddymodule

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

// cacheOf reads a block of JSON and gives what the engine takes.
func cacheOf(t *testing.T, text string) (*Cache, *cache.Options, error) {
	t.Helper()
	app := new(App)
	if err := json.Unmarshal([]byte(`{"cache":`+text+`}`), app); err != nil {
		t.Fatal(err)
	}
	config, err := app.config()
	return app.Cache, config.Cache, err
}

func TestCache_IsThereOnlyIfWritten(t *testing.T) {
	if _, o, err := cacheOf(t, "null"); o != nil || err != nil {
		t.Errorf("without the word: %+v, %v", o, err)
	}
	if _, o, err := cacheOf(t, "{}"); err != nil || !cmp.Equal(o, new(cache.Options)) {
		t.Errorf("with the word alone: %+v, %v, want the engine's defaults", o, err)
	}
}

func TestCache_JSONIsWhatTheEngineTakes(t *testing.T) {
	_, got, err := cacheOf(t, `{
		"memory": 1048576, "max_entry": 1024, "min": "5s", "max": "7d", "jitter": 0.2,
		"stale_while_revalidate": "10m", "stale_if_error": "24h",
		"ttl": [
			{"ttl": "60s", "prompts": ["*urgent*"]},
			{"off": true, "models": ["*-vision"], "operations": ["chat"], "headers": [{"name": "x-a"}, {"name": "X-B", "glob": "b*"}]},
			{"forever": true, "deterministic": true, "single_turn": true, "tools": true},
			{"ttl": 3600000000000, "sampled": true}
		]
	}`)
	if err != nil {
		t.Fatal(err)
	}
	want := &cache.Options{
		Memory: 1 << 20, MaxEntry: 1 << 10, Min: 5 * time.Second, Max: 7 * 24 * time.Hour, Jitter: 0.2,
		StaleWhileRevalidate: 10 * time.Minute, StaleIfError: 24 * time.Hour,
		Rules: cache.Rules{
			{TTL: time.Minute, Prompts: []string{"*urgent*"}, Text: "ttl 60s prompt *urgent*"},
			{
				Models: []string{"*-vision"}, Operations: []string{"chat"}, Headers: []cache.HeaderCondition{{Name: "X-A", Glob: "*"}, {Name: "X-B", Glob: "b*"}},
				Text: "ttl off model *-vision, operation chat, header X-A, header X-B b*",
			},
			{TTL: call.Forever, Deterministic: true, SingleTurn: true, Tools: true, Text: "ttl forever deterministic, single_turn, tools"},
			{TTL: time.Hour, Sampled: true, Text: "ttl 1h sampled"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, o, err := cacheOf(t, `{"jitter": 0}`); err != nil || o.Jitter >= 0 {
		t.Errorf("no jitter: %+v, %v", o, err)
	}
}

func TestCache_RefusesImpossibleJSON(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`{"memory": 512}`, "cache: memory: 512 bytes are too few; write at least 1MiB"},
		{`{"memory": -1}`, "too few"},
		{`{"max_entry": 8}`, "write at least 1KiB"},
		{`{"memory": 1048576, "max_entry": 1048577}`, "raise memory or lower max_entry"},
		{`{"min": "-5s"}`, "min must not be negative"},
		{`{"max": "-5s"}`, "max must not be negative"},
		{`{"min": "31d"}`, "lower min or raise max"},
		{`{"jitter": -0.1}`, "jitter must be between 0 and 0.5"},
		{`{"jitter": 1}`, "jitter must be between 0 and 0.5"},
		{`{"stale_if_error": "25h"}`, "stale_if_error must be between 0 and 24h"},
		{`{"stale_while_revalidate": "-1s"}`, "stale_while_revalidate must be between"},
		{`{"redis": "redis://redis:6379/0"}`, "openssl rand -hex 32"},
		{`{"secret": "{env.CACHE_SECRET}"}`, "there is no redis"},
		{`{"redis": "redis://redis", "secret": "sesame"}`, "write a placeholder"},
		{`{"redis": "redis://:sesame@redis", "secret": "{env.CACHE_SECRET}"}`, "a password would be saved"},
		{`{"redis": "http://redis", "secret": "{env.CACHE_SECRET}"}`, "must begin with redis://"},
		{`{"ttl": [null]}`, "ttl 1: set one of ttl, off and forever"},
		{`{"ttl": [{"ttl": "1h"}, {"off": true, "forever": true}]}`, "ttl 2: set one of"},
		{`{"ttl": [{"ttl": "1h", "off": true}]}`, "set one of"},
		{`{"ttl": [{"ttl": "-1h"}]}`, "must not be negative"},
		{`{"ttl": [{"ttl": "1h", "operations": ["pull"]}]}`, `unrecognized operation "pull"`},
		{`{"ttl": [{"ttl": "1h"}, {"off": true}]}`, `ttl off: no request reaches this rule, because "ttl 1h" before it takes them all`},
	} {
		_, _, err := cacheOf(t, test.text)
		switch {
		case err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: got %v, want %q", test.text, err, test.want)
		case strings.Contains(err.Error(), "sesame"):
			t.Errorf("%s: a secret is in: %v", test.text, err)
		}
	}
}

func TestCache_SecretsAreResolvedAtLoad(t *testing.T) {
	const long = "0123456789abcdef"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(long+" \n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CACHE_SECRET", long)
	t.Setenv("SHORT_SECRET", "sesame")
	t.Setenv("NO_SECRET", "")
	t.Setenv("REDIS_PASSWORD", "a/b@c:%d +?#é")
	t.Setenv("REDIS_URL", "redis://:sesame@redis:6379/1")
	t.Setenv("BAD_URL", "http://:sesame@redis")
	for _, test := range []struct {
		name, redis, secret string
		wantRedis           string
		wantErr             string // "": it is accepted
	}{
		{"plain", "redis://redis:6379/0", "{env.CACHE_SECRET}", "redis://redis:6379/0", ""},
		{"of a file", "redis://redis:6379/0", "{file." + file + "}", "redis://redis:6379/0", ""},
		{"any password", "redis://me:{env.REDIS_PASSWORD}@redis:6379/0", "{env.CACHE_SECRET}", "redis://me:a%2Fb%40c%3A%25d%20%2B%3F%23%C3%A9@redis:6379/0", ""},
		{"the whole URL", "{env.REDIS_URL}", "{env.CACHE_SECRET}", "redis://:sesame@redis:6379/1", ""},
		{"too short", "redis://redis:6379/0", "{env.SHORT_SECRET}", "", "{env.SHORT_SECRET} stands for is 6 bytes long and must have at least 16"},
		{"empty", "redis://redis:6379/0", "{env.NO_SECRET}", "", "{env.NO_SECRET}"},
		{"no file", "redis://redis:6379/0", "{file./nowhere/secret}", "", "{file./nowhere/secret}"},
		{"unknown", "redis://redis:6379/0", "{nothing.CACHE_SECRET}", "", "{nothing.CACHE_SECRET}"},
		{"no password", "redis://:{env.NO_SECRET}@redis:6379/0", "{env.CACHE_SECRET}", "", "{env.NO_SECRET}"},
		{"no URL", "{env.NO_SECRET}", "{env.CACHE_SECRET}", "", "{env.NO_SECRET}"},
		{"a bad URL", "{env.BAD_URL}", "{env.CACHE_SECRET}", "", "must begin with redis://"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &Cache{Redis: test.redis, Secret: test.secret}
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			var o cache.Options
			switch err := c.resolve(&o); {
			case test.wantErr == "" && err != nil, test.wantErr != "" && (err == nil || !strings.Contains(err.Error(), test.wantErr)):
				t.Fatalf("got %v, want %q", err, test.wantErr)
			case err != nil && strings.Contains(err.Error(), "sesame"):
				t.Errorf("a secret is in: %v", err)
			case err == nil && (o.Redis != test.wantRedis || o.Secret != long):
				t.Errorf("got %q sealed with %q, want %q with %q", o.Redis, o.Secret, test.wantRedis, long)
			}
			if saved, err := json.Marshal(c); err != nil || strings.Contains(string(saved), "sesame") || strings.Contains(string(saved), long) {
				t.Errorf("saved: %s %v", saved, err)
			}
		})
	}
}

func TestSite_SaysWhatIsCachedForIt(t *testing.T) {
	h := &Handler{
		TTL: []CacheRule{{Off: true, Models: []string{"*-vision"}}}, Tenant: "header", TenantHeader: "x-team",
		MaxClientTTL: caddy.Duration(time.Hour), TagsHeader: "x-cache-tags",
	}
	var got gateway.SiteConfig
	if err := h.cacheInto(&got); err != nil {
		t.Fatal(err)
	}
	want := gateway.SiteConfig{
		TTL:    cache.Rules{{Models: []string{"*-vision"}, Text: "ttl off model *-vision"}},
		Tenant: gateway.TenantConfig{By: "header", Header: "X-Team"}, ClientTTL: time.Hour, Tags: "X-Cache-Tags",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSite_RefusesImpossibleCacheJSON(t *testing.T) {
	for _, test := range []struct{ cache, handler, want string }{
		{"", `"ttl":[{"ttl":"1h"}]`, "ttl is about the cache, and there is none; add the word cache to the global option ollama"},
		{"", `"max_client_ttl":"1h"`, "client_ttl is about the cache"},
		{"", `"tags_header":"X-Cache-Tags"`, "tags is about the cache"},
		{`"cache":{}`, `"ttl":[{"ttl":"1h"},{"off":true}]`, "no request reaches this rule"},
		{`"cache":{}`, `"ttl":[{}]`, "ttl 1: set one of ttl, off and forever"},
		{`"cache":{}`, `"max_client_ttl":"-1h"`, "max_client_ttl must not be negative"},
		{`"cache":{}`, `"tags_header":"X Tags"`, "tags_header"},
		{`"cache":{}`, `"tenant":"everybody"`, "authorization, header, user or shared"},
		{`"cache":{}`, `"tenant":"header"`, "header"},
		{`"cache":{}`, `"tenant":"header","tenant_header":"host"`, "tenant_header"},
		{`"cache":{}`, `"tenant_header":"X-Team"`, "X-Team"},
		{`"cache":{"redis":"redis://redis","secret":"{env.NOT_SET_ANYWHERE}"}`, `"class":"batch"`, "{env.NOT_SET_ANYWHERE}"},
	} {
		err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},"apps":{"ollama":{`+test.cache+`},"http":{"servers":{"s":{
			"listen":["127.0.0.1:0"],"routes":[{"handle":[{"handler":"ollama",`+test.handler+`}]}]}}}}}`), true)
		t.Cleanup(stop)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s, %s: got %v, want %q", test.cache, test.handler, err, test.want)
		}
		wantReferences(t, 0)
	}
}
