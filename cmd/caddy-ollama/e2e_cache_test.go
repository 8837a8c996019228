package main

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
)

const cacheSecret = "0f-a-secret-of-more-than-16-bytes"

// keeping is a gateway that keeps answers, in Redis, too. It logs all it can.
const keeping = `{
	admin unix/%s|0600
	debug
	grace_period 5s
	ollama {
		node %s {
			slots 4
		}
		cache {
			redis %s
			secret {env.CACHE_SECRET}
			ttl %s
		}
	}
}

http://127.0.0.1:%s {
	bind 127.0.0.1
	log
	ollama {
		explain
		tenant header X-Team
		tags header X-Cache-Tags
	}
}
`

// A keeper is a running gateway with such a Caddyfile.
type keeper struct {
	*process
	node, redis string
	home, file  string
	env         []string
	port        string
	client      *http.Client
}

// write writes its Caddyfile.
func (k *keeper) write(t *testing.T, ttl string) {
	t.Helper()
	text := fmt.Appendf(nil, keeping, filepath.Join(k.home, "admin.sock"), k.node, k.redis, ttl, k.port)
	if err := os.WriteFile(k.file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startKeeper starts one that keeps answers for an hour and waits until it serves.
func startKeeper(t *testing.T, node, redis string) *keeper {
	t.Helper()
	k := &keeper{node: node, redis: redis, home: t.TempDir(), client: &http.Client{Transport: new(http.Transport), Timeout: patience}}
	t.Cleanup(k.client.CloseIdleConnections)
	k.file = filepath.Join(k.home, "Caddyfile")
	k.env = []string{"HOME=" + k.home, "CACHE_SECRET=" + cacheSecret}
	for range 3 { // somebody else may take a port that was free
		k.port = freePort(t)
		k.write(t, "1h")
		k.process = start(t, k.env, "run", "--config", k.file)
		if k.waitFor("serving initial configuration") {
			return k
		}
		if !strings.Contains(k.output(), "address already in use") {
			break
		}
	}
	t.Fatalf("run ended:\n%s", k.output())
	return nil
}

// A told is an answer of a keeper.
type told struct {
	status int
	cache  string // Cache-Status
	text   string // of all records
	body   string
}

func (a told) hit() bool { return strings.HasPrefix(a.cache, "caddy-ollama; hit; ") }

// part gives a part of Cache-Status, "" if it is not there.
func (a told) part(name string) string {
	for part := range strings.SplitSeq(a.cache, "; ") {
		if value, ok := strings.CutPrefix(part, name+"="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// A wish is a chat that a test asks for.
type wish struct {
	prompt string
	tag    string
	tokens int
	whole  bool // not streamed
	only   bool // if it is cached
}

// ask has one team ask a keeper.
func (k *keeper) ask(w wish) told {
	k.t.Helper()
	more := fmt.Sprintf(`,"options":{"num_predict":%d}`, w.tokens)
	if w.whole {
		more += `,"stream":false`
	}
	r, err := http.NewRequestWithContext(k.t.Context(), http.MethodPost, base("http", "127.0.0.1", k.port)+"/api/chat", strings.NewReader(chatBody("sim-small", w.prompt, more)))
	if err != nil {
		k.t.Fatal(err)
	}
	r.Header.Set("X-Team", team)
	r.Header.Set("X-Cache-Tags", w.tag)
	if w.only {
		r.Header.Set("Cache-Control", "only-if-cached")
	}
	resp, err := k.client.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	a := told{status: resp.StatusCode, cache: resp.Header.Get("Cache-Status"), body: string(body)}
	for line := range strings.Lines(a.body) {
		var record struct{ Message struct{ Content string } }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			k.t.Fatalf("%q: %v", line, err)
		}
		a.text += record.Message.Content
	}
	return a
}

// mustGenerate is ask for what nobody has asked before.
func (k *keeper) mustGenerate(w wish) told {
	k.t.Helper()
	a := k.ask(w)
	if a.status != http.StatusOK || a.text == "" || !strings.Contains(a.cache, "fwd=miss") {
		k.t.Fatalf("%+v: got %+v, want an answer that was generated", w, a)
	}
	return a
}

// mustHit is ask for what is stored.
func (k *keeper) mustHit(w wish, text string) told {
	k.t.Helper()
	a := k.ask(w)
	if a.status != http.StatusOK || !a.hit() || a.text != text {
		k.t.Fatalf("%+v: got %+v, want a hit that says %q", w, a, text)
	}
	return a
}

// waitForAnswer polls until a stored answer is there, without ever having one generated.
func (k *keeper) waitForAnswer(w wish, text string) told {
	k.t.Helper()
	w.only = true
	var a told
	redistest.Until(k.t, "a stored answer to "+w.prompt, func() bool { a = k.ask(w); return a.status == http.StatusOK })
	if !a.hit() || a.text != text {
		k.t.Fatalf("%+v: got %+v, want a hit that says %q", w, a, text)
	}
	return a
}

// waitForRedis polls what "cache stats" says of Redis.
func (k *keeper) waitForRedis(state string) {
	k.t.Helper()
	redistest.Until(k.t, "redis "+state, func() bool { return k.stats().Redis == state })
}

type cacheStats struct {
	On      bool
	Entries int
	Redis   string
}

func (k *keeper) stats() (s cacheStats) {
	k.t.Helper()
	if err := json.Unmarshal([]byte(k.command("stats", "--json")), &s); err != nil {
		k.t.Fatal(err)
	}
	return s
}

// command runs a subcommand of "cache" against it.
func (k *keeper) command(args ...string) string {
	k.t.Helper()
	all := append([]string{"cache", args[0], "--config", k.file}, args[1:]...)
	return mustAsk(k.t, k.env, all...)
}

// generated counts the answers that a simulated node has made.
func generated(t *testing.T, node string) (count int) {
	t.Helper()
	var report struct {
		Stats struct {
			Models map[string]struct{ Answers int }
		}
	}
	_, body := get(t, http.DefaultClient, node+"/_faults", "")
	if err := json.Unmarshal([]byte(body), &report); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	for _, m := range report.Stats.Models {
		count += m.Answers
	}
	return count
}

const team = "team-of-tellers"

// Two gateways with one Redis and one secret. What one generates the other one gives, a purge at one
// holds at the other one, Redis may go and come back, and who reads Redis or the logs reads nothing.
func TestCache_TwoGatewaysShareARedisThatKnowsNothing(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	_, nodes := startSimulate(t, 1, "--models", "sim-small", "--slots", "4", "--scale", "0.05", "--faults-admin")
	node := nodes[0]
	a, b := startKeeper(t, node, redis.URL()), startKeeper(t, node, redis.URL())
	a.waitForRedis("up")
	b.waitForRedis("up")

	// A short answer, which lies in Redis uncompressed, and a long one. Sampled, so that a second
	// generation would say something else.
	short := wish{prompt: "Marzipankartoffel", tag: "tag-of-the-short", tokens: 3}
	long := wish{prompt: "Fliederbeerensuppe", tag: "tag-of-the-long", tokens: 200}
	shortText, longText := a.mustGenerate(short).text, a.mustGenerate(long).text
	first := b.waitForAnswer(short, shortText)
	whole := long
	whole.whole = true
	b.waitForAnswer(whole, longText)
	a.mustHit(whole, longText)
	if n := generated(t, node); n != 2 {
		t.Errorf("%d answers were generated, want 2", n)
	}

	checkRedisKnowsNothing(t, redis, short.prompt, shortText, long.prompt, longText)
	checkCommands(t, a, b, first.part("key"), short)
	checkPurge(t, a, b, short, long, longText)
	checkRedisKnowsNothing(t, redis, short.prompt, shortText, long.prompt, longText)

	// Without Redis each goes on alone. A reload changes the rule and forgets nothing.
	redis.Stop()
	b.mustHit(long, longText)
	alone := wish{prompt: "Kirschkernweitspucken", tokens: 40}
	for _, k := range []*keeper{a, b} {
		k.mustHit(alone, k.mustGenerate(alone).text)
		k.waitForRedis("down")
	}
	a.write(t, "10m")
	mustAsk(t, a.env, "reload", "--config", a.file)
	again := a.mustHit(long, longText)
	if left, err := strconv.Atoi(again.part("ttl")); err != nil || left <= 0 || left > 600 {
		t.Errorf("after the reload: Cache-Status %s, want what the new rule leaves: 10 minutes at most", again.cache)
	}

	// Redis is back, and empty. It hears again what was purged.
	redis.Start()
	a.waitForRedis("up")
	b.waitForRedis("up")
	shared := wish{prompt: "Zwetschgendatschi", tokens: 40}
	sharedText := a.mustGenerate(shared).text
	b.waitForAnswer(shared, sharedText)
	checkRedisKnowsNothing(t, redis, shared.prompt, sharedText)

	for name, k := range map[string]*keeper{"A": a, "B": b} {
		if code := k.end(syscall.SIGTERM); code != 0 {
			t.Errorf("%s: SIGTERM: exit code %d", name, code)
		}
		log := k.output()
		if !strings.Contains(log, `"cache":"hit"`) || !strings.Contains(log, `"cache":"miss"`) {
			t.Errorf("%s: the access log does not tell of hits and misses", name)
		}
		said := []string{short.prompt, long.prompt, alone.prompt, shared.prompt, longText[:30], sharedText[:30], `"content"`, cacheSecret}
		checkNothingIn(t, name+"'s log", log, said)
		checkHome(t, k.home, said)
	}
}

// checkCommands looks at what A has, by the commands.
func checkCommands(t *testing.T, a, b *keeper, key string, asked wish) {
	t.Helper()
	if stats := a.command("stats"); !regexp.MustCompile(`(?m)^entries +2$`).MatchString(stats) || !regexp.MustCompile(`(?m)^redis +up$`).MatchString(stats) {
		t.Errorf("cache stats:\n%s", stats)
	}
	for _, k := range []*keeper{a, b} { // B has it from Redis, and in memory by now
		out := k.command("inspect", "--", key)
		for _, line := range []string{`^key +` + regexp.QuoteMeta(key) + `$`, `^route +/api/chat$`, `^model +sim-small$`, `^rule +ttl 1h$`, `^class +sampled$`, `^tags +` + asked.tag + `$`} {
			if !regexp.MustCompile("(?m)" + line).MatchString(out) {
				t.Errorf("cache inspect: no line %s in\n%s", line, out)
			}
		}
		checkNothingIn(t, "cache inspect", out, []string{asked.prompt, "content"})
	}
	out := a.command("inspect", "--text", "--", key)
	if !strings.Contains(out, asked.prompt) || !strings.Contains(out, `"content"`) {
		t.Errorf("cache inspect --text:\n%s", out)
	}
}

// checkPurge purges a tag at A and sees that B obeys within a second, and keeps the rest. A machine
// that is busy may stop B for that long, so it has three tries.
func checkPurge(t *testing.T, a, b *keeper, tagged, other wish, otherText string) {
	t.Helper()
	for try := 0; ; try++ {
		if out := a.command("purge", "--tag", tagged.tag); out != "Purged, 1 answer was in memory.\n" {
			t.Errorf("cache purge: %s", out)
		}
		purged := time.Now()
		only := tagged
		only.only = true
		redistest.Until(t, "a purge", func() bool { return b.ask(only).status == http.StatusGatewayTimeout })
		took := time.Since(purged)
		if got := a.ask(only); got.status != http.StatusGatewayTimeout {
			t.Errorf("the purged answer is still given where it was purged: %+v", got)
		}
		b.mustHit(other, otherText)
		a.mustHit(other, otherText)
		if took <= time.Second {
			return
		}
		if try == 2 {
			t.Errorf("the other gateway obeys a purge after %s, want a second at most", took)
			return
		}
		b.waitForAnswer(tagged, a.mustGenerate(tagged).text)
	}
}

// checkRedisKnowsNothing reads all there is in Redis, as who has it can.
func checkRedisKnowsNothing(t *testing.T, redis *redistest.Server, said ...string) {
	t.Helper()
	var keys []string
	redistest.Until(t, "answers and what was purged in Redis", func() bool { keys = redis.Keys(); return len(keys) >= 2 })
	var dump strings.Builder
	for _, key := range keys {
		read := []any{"GET", key}
		switch kind := redis.Command("TYPE", key); kind {
		case "string":
		case "hash":
			read[0] = "HGETALL"
		default:
			t.Errorf("Redis: %s is a %s, which this test cannot read", key, kind)
			continue
		}
		fmt.Fprintln(&dump, key, redis.Command(read...))
	}
	if !strings.Contains(dump.String(), "caddy-ollama:") {
		t.Fatalf("Redis: %q, want names of ours", keys)
	}
	secrets := []string{team, "tag-of-the", cacheSecret, "sim-small", "/api/chat", `"content"`, `"role"`}
	for _, text := range said {
		for word := range strings.FieldsSeq(text) {
			if len(word) > 6 { // what is sealed may have a shorter one in it by chance
				secrets = append(secrets, word)
			}
		}
	}
	checkNothingIn(t, "Redis", dump.String(), append(secrets, said...))
}

// checkHome reads all files that a gateway has written, such as the saved configuration.
func checkHome(t *testing.T, home string, said []string) {
	t.Helper()
	saved := false
	if err := filepath.WalkDir(home, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			saved = saved || d.Name() == "autosave.json"
			checkNothingIn(t, path, string(text), said)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
	if !saved {
		t.Error("Caddy has saved no configuration: this test looks at the wrong place")
	}
}

func checkNothingIn(t *testing.T, where, text string, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%s has %q in it", where, secret)
		}
	}
}

// A gateway that cannot seal what it stores in Redis does not start, and says what to do.
func TestCache_RedisWithoutASecretDoesNotStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "Caddyfile")
	for _, test := range []struct {
		name, secret, value string
		want                []string
	}{
		{"no secret", "", "", []string{file + ":5", "redis needs a secret", "openssl rand -hex 32", "secret {env.CACHE_SECRET}"}},
		{"a literal", "secret " + cacheSecret, "", []string{file + ":7", "secret: write a placeholder", "{env.CACHE_SECRET}"}},
		{"a variable that is not there", "secret {env.CACHE_SECRET}", "", []string{"secret", "CACHE_SECRET"}},
		{"a short one", "secret {env.CACHE_SECRET}", "short", []string{"secret", "at least 16"}},
	} {
		text := fmt.Sprintf("{\n\tadmin off\n\tollama {\n\t\tnode 127.0.0.1:1\n\t\tcache {\n\t\t\tredis redis://127.0.0.1:1\n\t\t\t%s\n\t\t}\n\t}\n}\nhttp://127.0.0.1:0 {\n\tollama\n}\n", test.secret)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		env := []string{"HOME=" + t.TempDir()}
		if test.value != "" {
			env = append(env, "CACHE_SECRET="+test.value)
		}
		out, errs, ok := ask(t, env, "run", "--config", file)
		if ok {
			t.Errorf("%s: it has started and ended well", test.name)
		}
		for _, want := range test.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: no %q in\n%s%s", test.name, want, out, errs)
			}
		}
		if strings.Contains(out+errs, cacheSecret) {
			t.Errorf("%s: the secret is in\n%s%s", test.name, out, errs)
		}
	}
}
