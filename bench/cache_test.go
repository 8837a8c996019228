package main

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strings"
	"testing"
	"time"
)

// servedNode is the address of a node in this process.
func servedNode(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() { // ends with the listener
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go serveNode(c)
		}
	}()
	return ln.Addr().String()
}

func TestClient_TakesAnAnswerThatWasMadeBefore(t *testing.T) {
	p := prompt{words: 3, nonce: 7, deterministic: true}
	for _, stream := range []bool{true, false} {
		for _, c := range []struct {
			name   string
			before time.Duration // from now
			want   error
		}{
			{"made before", time.Hour, nil},
			{"made just now", 0, errFresh},
		} {
			one := &client{ctx: t.Context(), addr: servedNode(t), made: new(clock).appendStamp(nil, time.Now().Add(c.before))}
			t.Cleanup(one.close)
			if err := one.ask(p, stream, new(observer)); !errors.Is(err, c.want) {
				t.Errorf("%s, streamed %t: %v, want %v", c.name, stream, err, c.want)
			}
		}
	}
}

func TestLoad_KnownPromptsComeAgain(t *testing.T) {
	asked := func(known int) map[uint64]int {
		w := worker{load: load{words: 1, known: known, deterministic: true}, nonce: 1 << 32}
		times := make(map[uint64]int)
		for range 12 {
			times[w.next(0).nonce]++
		}
		return times
	}
	for known, want := range map[int]string{
		0: "12 prompts", 1: fmt.Sprintf("map[%d:12]", uint64(firstKnown)), 3: fmt.Sprintf("map[%d:4 %d:4 %d:4]", uint64(firstKnown), uint64(firstKnown+1), uint64(firstKnown+2)),
	} {
		times := asked(known)
		if got := fmt.Sprint(times); got != want && fmt.Sprint(len(times), " prompts") != want {
			t.Errorf("%d known: %s, want %s", known, got, want)
		}
	}
}

func TestRespondBody_IsTakenForTheAnswerAndHasNoPlaceholders(t *testing.T) {
	body := respondBody(8)
	if strings.ContainsAny(body, "{}`") {
		t.Errorf("%s", body)
	}
	var node nodeConn
	node.whole(prompt{words: 8, nonce: 1}) // that of another prompt is as large
	if len(node.record) != len(body) {
		t.Errorf("%d bytes, want %d", len(body), len(node.record))
	}
	c := answering(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	var o observer
	if err := c.ask(prompt{words: 8, nonce: firstKnown}, false, &o); err != nil || o.bytes != len(body) {
		t.Errorf("%d bytes of %d, %v", o.bytes, len(body), err)
	}
}

func TestCacheCaddyfile_HasWhatThePeerIs(t *testing.T) {
	for _, c := range []struct {
		name            string
		fields          caddyfileFields
		has, hasNothing []string
	}{
		{"proxy", caddyfileFields{}, []string{"reverse_proxy"}, []string{"ollama", "respond"}},
		{"respond", caddyfileFields{Body: "[1]"}, []string{"respond `[1]`"}, []string{"ollama", "reverse_proxy"}},
		{"cached", caddyfileFields{Gateway: true, Cache: []string{"ttl 1h"}, Body: "[1]"}, []string{"cache {\n\t\t\tttl 1h\n\t\t}"}, []string{"respond", "tenant"}},
		{"uncached", caddyfileFields{Gateway: true}, []string{"\tollama\n"}, []string{"cache", "reverse_proxy"}},
		{"shared", caddyfileFields{Gateway: true, Cache: []string{"ttl 1h"}, Shared: true}, []string{"tenant shared"}, nil},
	} {
		var text strings.Builder
		if err := cacheCaddyfile.Execute(&text, c.fields); err != nil {
			t.Fatal(err)
		}
		for _, part := range c.has {
			if !strings.Contains(text.String(), part) {
				t.Errorf("%s: no %q in\n%s", c.name, part, text.String())
			}
		}
		for _, part := range c.hasNothing {
			if strings.Contains(text.String(), part) {
				t.Errorf("%s: %q in\n%s", c.name, part, text.String())
			}
		}
	}
}

func TestSumOf_AddsWhatHasTheLabels(t *testing.T) {
	const text = `# TYPE hits counter
hits{backend="memory",result="hit"} 3
hits{backend="redis",result="hit"} 1e+02
hits{backend="redis",result="stale"} 7
hits_total{backend="redis",result="hit"} 9
`
	for labels, want := range map[string]float64{`result="hit"`: 103, `backend="redis"`: 107, `result="miss"`: 0} {
		if got, err := sumOf([]byte(text), "hits", []string{labels}); got != want || err != nil {
			t.Errorf("%s: %g, %v, want %g", labels, got, err, want)
		}
	}
	if _, err := sumOf([]byte("hits{} x\n"), "hits", nil); err == nil {
		t.Error("no number: no error")
	}
}

func TestParseHeap_TakesWhatIsInUse(t *testing.T) {
	got, err := parseHeap([]byte("heap profile: 1: 2 [3: 4]\n\n# runtime.MemStats\n# Alloc = 9\n# HeapAlloc = 17825792\n# HeapSys = 1\n"))
	if got != 17<<20 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := parseHeap([]byte("nothing")); err == nil {
		t.Error("nothing: no error")
	}
}

func TestRedisSize_IsTheNumberOfKeys(t *testing.T) {
	for reply, want := range map[string]int{":42\r\n": 42, "-LOADING\r\n": -1, ":\r\n": -1} {
		got, err := redisSize(t.Context(), answering(t, reply).addr)
		if (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", reply, got, err)
		}
	}
}

func TestVerdict_OfWhatHasNoBarIsMustAtBest(t *testing.T) {
	for _, c := range []struct {
		figure figure
		got    float64
		want   string
	}{
		{figure{must: 1.05}, 0.5, "must"},
		{figure{must: 1.05}, 1.06, "MISSED"},
		{figure{must: 0.95, more: true}, 1.2, "must"},
		{figure{must: 0.95, more: true}, 0.9, "MISSED"},
		{figure{must: 0.5, bar: 0.8, more: true}, 0.8, "bar"},
		{figure{must: 0.5}, math.NaN(), "noise"},
	} {
		if got := c.figure.verdict(c.got); got != c.want {
			t.Errorf("%+v, %g: %s, want %s", c.figure, c.got, got, c.want)
		}
	}
}

func TestCacheScenarios_AreOneGroup(t *testing.T) {
	s := everything(settings{lasting: time.Second, words: 8})
	if err := s.choose("cache"); err != nil || len(s.scenarios) > 0 || len(s.caches) != len(cacheScenarios(settings{})) || len(s.hoards) != 1 {
		t.Errorf("-scenarios cache leaves %q: %v", s.names(), err)
	}
	for _, sc := range s.caches {
		if !sc.load.deterministic {
			t.Errorf("%s: no answer of it is stored by default", sc.name)
		}
		for _, f := range sc.figures {
			if !f.plain && !strings.Contains(strings.Join(sc.rows, " "), f.against()) {
				t.Errorf("%s: %s is a ratio to %s, which is not measured", sc.name, f.name, f.against())
			}
		}
	}
}

func TestHoard_GoalsAreOfWhatTheCacheAdds(t *testing.T) {
	const mib = 1 << 20
	r := hoardResult{hoard{name: "cache-memory", limit: 16 * mib}, map[string]*hoardSample{
		uncached: {rss: 60 * mib, heap: 10 * mib}, gateway: {rss: 100 * mib, heap: 26 * mib},
	}}
	var text strings.Builder
	out := &printer{w: &text}
	r.writeGoals(out)
	lines := strings.Split(strings.TrimSpace(text.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], "**1.00** | <= 1.10 | | must") || !strings.Contains(lines[1], "**2.50** | <= 2.20 | | MISSED") {
		t.Errorf("%s", text.String())
	}
}

func TestRedis_IsWaitedForUntilItHoldsWhatWasStored(t *testing.T) {
	if why := noRedis(); why != "" {
		t.Fatal(why) // else what it promises would stay unproven
	}
	f := &fleet{dir: t.TempDir(), lost: func(err error) { t.Error(err) }}
	defer f.Close()
	if err := f.startRedis(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", f.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { // ends with the connection
		_, _ = conn.Write([]byte("SET a 1\r\nSET b 2\r\n"))
	}()
	if err := f.redisHolds(t.Context(), 2); err != nil {
		t.Error(err)
	}
}
