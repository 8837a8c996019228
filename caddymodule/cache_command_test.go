package caddymodule

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

// runCache runs the command as it stands below `ollama`.
func runCache(args ...string) (out string, err error) {
	root := &cobra.Command{Use: "ollama", SilenceErrors: true, SilenceUsage: true}
	cmd := &cobra.Command{Use: "cache " + cacheCommand.Usage}
	cacheCommand.CobraFunc(cmd)
	root.AddCommand(cmd)
	var o bytes.Buffer
	root.SetOut(&o)
	root.SetErr(&o)
	root.SetArgs(append([]string{"cache"}, args...))
	err = root.Execute()
	return o.String(), err
}

// run runs it for a gateway.
func (g *cachingGateway) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := runCache(append([]string{args[0], "--address", g.address}, args[1:]...)...)
	if err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return out
}

func TestCacheCommand_ShowsAndPurges(t *testing.T) {
	g := startCaching(t, "cache {\nmemory 8MiB\n}")
	key := g.stored(t, "m", "one", "X-Tags: prices", "X-Team: red")

	out := g.run(t, "stats")
	if !strings.HasPrefix(out, "entries  1\nmemory   ") || !strings.HasSuffix(out, " of 8.0 MiB\nredis    off\n") {
		t.Errorf("stats: got\n%s", out)
	}
	var s cache.Stats
	if out := g.run(t, "stats", "--json"); json.Unmarshal([]byte(out), &s) != nil || s.Entries != 1 {
		t.Errorf("stats --json: got %s", out)
	}

	out = g.run(t, "inspect", "--", key)
	for _, part := range []string{
		"key        " + key + "\n", "route      /api/generate\n", "model      m\n", ", in memory\n", "time left  ", "class      deterministic\n", "tags       prices\n",
	} {
		if !strings.Contains(out, part) || strings.Contains(out, "asked:") {
			t.Errorf("inspect: want %q in\n%s", part, out)
		}
	}
	if out := g.run(t, "inspect", "--text", "--", key); !strings.Contains(out, "asked:\n") || !strings.Contains(out, "one") || !strings.Contains(out, `"done":true`) {
		t.Errorf("inspect --text: got\n%s", out)
	}
	var i cache.Inspected
	if out := g.run(t, "inspect", "--json", "--", key); json.Unmarshal([]byte(out), &i) != nil || i.Key != key || i.Question != "" {
		t.Errorf("inspect --json: got %s", out)
	}

	for _, target := range [][]string{{"--tag", "prices"}, {"--model", "m"}, {"--tenant", "red"}, {"--key", key}, {"--all"}} {
		if out, want := g.run(t, append([]string{"purge"}, target...)...), "Purged, 1 answer was in memory.\n"; out != want {
			t.Errorf("purge %q: got %q, want %q", target, out, want)
		}
		if out, want := g.run(t, append([]string{"purge", "--json"}, target...)...), `{"memory":0,"pending":false}`+"\n"; out != want {
			t.Errorf("purge --json %q: got %q, want %q", target, out, want)
		}
		g.stored(t, "m", "one", "X-Tags: prices", "X-Team: red")
	}
}

func TestCacheCommand_SaysWhatIsWrong(t *testing.T) {
	g := startCaching(t, "cache")
	at := func(args ...string) []string { return append(args, "--address", g.address) }
	nobody := "unix/" + socket(t)
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"nothing to purge", at("purge"), "say what to purge with one of --all,"},
		{"two things to purge", at("purge", "--tag", "a", "--model", "m"), "say what to purge with one of --all,"},
		{"all and one", at("purge", "--all", "--key", noKey), "say what to purge with one of --all,"},
		{"not all", at("purge", "--all=false"), "say what to purge with one of --all,"},
		{"an empty tag", at("purge", "--tag", ""), "asking the gateway at " + g.address + ": an empty text names no answers"},
		{"no name of a model", at("purge", "--model", "a:b:c"), "llama3 or team/llama3:8b"},
		{"a word behind", at("purge", "--all", "m"), "unknown command"},
		{"an unknown verb", []string{"clear"}, "unknown command"},
		{"no key", at("inspect"), "inspect KEY"},
		{"two keys", at("inspect", noKey, noKey), "inspect KEY"},
		{"what is no key", at("inspect", "../purge"), "43 letters"},
		{"a key like a flag", at("inspect", "-x"+noKey[2:]), "cache inspect -- KEY"},
		{"a key of nothing", at("inspect", noKey), "asking the gateway at " + g.address + ": no answer is stored under this key"},
		{"nobody there", []string{"stats", "--address", nobody}, "is it running? --address or --config says where"},
		{"nobody there to purge", []string{"purge", "--all", "--address", nobody}, "is it running? --address or --config says where"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if out, err := runCache(test.args...); err == nil || !strings.Contains(err.Error(), test.want) || out != "" {
				t.Errorf("%q: got %q, %v, want an error with %q", test.args, out, err, test.want)
			}
		})
	}
	if out, err := runCache(); err != nil || !strings.Contains(out, "inspect") {
		t.Errorf("without a word: got %q, %v, want the help", out, err)
	}
}

// An answer that only Redis has is found by its key, too.
func TestCacheCommand_FindsWhatRedisHas(t *testing.T) {
	t.Setenv("CACHE_TEST_SECRET", strings.Repeat("s", 32))
	server := redistest.Start(t)
	config := "cache {\nredis " + server.URL() + "\nsecret {env.CACHE_TEST_SECRET}\n}"
	g := startCaching(t, config)
	key := g.stored(t, "m", "one")
	eventually(t, "the answer is in Redis", func() bool {
		if names, _ := server.Command("KEYS", "*"+key).([]any); len(names) == 1 {
			return true
		}
		g.ask(t, "m", "one", "Cache-Control: no-cache") // it did not get there in its time: on a busy machine
		return false
	})
	stop() // with what it has in memory
	g = startCaching(t, config)
	eventually(t, "the answer is found", func() bool {
		out, err := runCache("inspect", "--address", g.address, "--text", "--", key)
		return err == nil && strings.Contains(out, ", in redis\n") && strings.Contains(out, "one")
	})
	if out, want := g.run(t, "purge", "--key", key), "Purged, none was in memory.\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if out, err := runCache("inspect", "--address", g.address, "--", key); err == nil {
		t.Errorf("after the purge there is still\n%s", out)
	}
}

// Redis that is not there keeps a purge from nobody but the other gateways.
func TestCacheCommand_PurgeSaysThatOthersDoNotKnowYet(t *testing.T) {
	t.Setenv("CACHE_TEST_SECRET", strings.Repeat("s", 32))
	g := startCaching(t, "cache {\nredis unix://"+socket(t)+"\nsecret {env.CACHE_TEST_SECRET}\n}")
	key := g.stored(t, "m", "one")
	eventually(t, "Redis is down", func() bool { return strings.Contains(g.run(t, "stats"), "redis    down") })
	for _, test := range []struct {
		target []string
		want   string
	}{
		{[]string{"--all"}, "Purged, 1 answer was in memory.\nRedis could not be told: the other gateways do not know yet. This gateway tells them as soon as it can.\n"},
		{[]string{"--key", key}, "Purged, 1 answer was in memory.\nRedis could not be told: the other gateways do not know yet. This gateway tells them as soon as it can.\n"},
	} {
		if out := g.run(t, append([]string{"purge"}, test.target...)...); out != test.want {
			t.Errorf("%q: got %q, want %q", test.target, out, test.want)
		}
		g.stored(t, "m", "one")
	}
	if out, want := g.run(t, "purge", "--tag", "x", "--json"), `{"memory":0,"pending":true}`+"\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if log, err := os.ReadFile(g.log); err != nil || strings.Contains(string(log), `"tag"`) {
		t.Errorf("%v; a body is in the log:\n%s", err, log)
	}
}
