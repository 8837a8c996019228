package cache

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
	"github.com/caddy-ollama/caddy-ollama/internal/replica"
)

// A tier is a shared under test, and what it told.
type tier struct {
	*shared
	mu     sync.Mutex
	events []string
}

func tierOf(t testing.TB, url, secret string, limit int64) *tier {
	t.Helper()
	tt := &tier{}
	tt.shared = newShared(clientOf(t, url), sealerOf(t, secret), limit, func(event string) {
		tt.mu.Lock()
		defer tt.mu.Unlock()
		tt.events = append(tt.events, event)
	})
	return tt
}

// told gives what was told since it was last asked.
func (tt *tier) told() string {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	events := strings.Join(tt.events, " ")
	tt.events = nil
	return events
}

func keyOf(n byte) call.Key { return call.Key{n, 31: n} }

func sample(n byte, text string) *Entry {
	return NewEntry(Meta{
		Key: keyOf(n), Route: "/api/chat", Model: "hunter2", Tenant: "hunter2", Tags: []string{"hunter2"},
		Stored: time.Now(), TTL: time.Hour,
	}, Answer{Question: []byte("hunter2"), Frames: []recording.Frame{{Data: []byte(text)}}, ContentType: "application/x-ndjson"})
}

func mustNotShow(t *testing.T, s *redistest.Server, secret string) {
	t.Helper()
	if len(s.Keys()) == 0 {
		t.Error("nothing is in Redis")
	}
	for _, k := range s.Keys() {
		dump, _ := s.Command("DUMP", k).(string)
		if strings.Contains(k+dump, secret) {
			t.Errorf("%q can be read in Redis, at %q", secret, k)
		}
	}
}

const mib = 1 << 20

func TestShared_WhatOneGatewayStoresAnotherFinds(t *testing.T) {
	s := redistest.Start(t)
	a, b := tierOf(t, s.URL(), secretOfTests, mib), tierOf(t, s.URL(), secretOfTests, mib)
	if e, err := a.get(t.Context(), keyOf(1)); e != nil || err != nil {
		t.Fatalf("before: %v, %v", e, err)
	}
	stored := sample(1, `{"message":"hunter2"}`)
	if err := a.put(t.Context(), stored, time.Hour); err != nil {
		t.Fatal(err)
	}
	got, err := b.get(t.Context(), keyOf(1))
	if err != nil || got == nil {
		t.Fatalf("got %v, %v", got, err)
	}
	if answer, err := got.Answer([]byte("hunter2")); err != nil || string(answer.Frames[0].Data) != `{"message":"hunter2"}` {
		t.Errorf("answer %+v, %v", answer, err)
	}
	if e, _ := b.get(t.Context(), keyOf(2)); e != nil {
		t.Error("another key has it, too")
	}
	mustNotShow(t, s, "hunter2")
	if err := b.deleteNamed(t.Context(), b.sealer.KeyName(keyOf(1))); err != nil {
		t.Error(err)
	}
	if e, err := a.get(t.Context(), keyOf(1)); e != nil || err != nil {
		t.Errorf("after delete: %v, %v", e, err)
	}
	if told := a.told() + b.told(); told != "" {
		t.Errorf("told %q of sound entries", told)
	}
}

func TestShared_KeepsAsLongAsItIsOfUse(t *testing.T) {
	s := redistest.Start(t)
	a := tierOf(t, s.URL(), secretOfTests, mib)
	for _, tt := range []struct {
		name string
		keep time.Duration
		want time.Duration // 0: not sent
	}{
		{"an hour", time.Hour, time.Hour},
		{"longer than for ever", 60 * 24 * time.Hour, 60 * 24 * time.Hour},
		{"for ever", call.Forever, 30 * 24 * time.Hour},
		{"no time", 0, 0},
		{"over", -time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Command("FLUSHALL")
			if err := a.put(t.Context(), sample(1, "x"), tt.keep); err != nil {
				t.Fatal(err)
			}
			keys := s.Keys()
			if tt.want == 0 {
				if len(keys) != 0 {
					t.Errorf("sent: %v", keys)
				}
				return
			}
			ttl := time.Duration(s.Command("PTTL", keys[0]).(int64)) * time.Millisecond
			if ttl > tt.want || ttl < tt.want-time.Minute {
				t.Errorf("kept for %v, want %v", ttl, tt.want)
			}
		})
	}
}

// Row 29 of the fault matrix.
func TestShared_WhatIsNotSoundIsAMissAndDeleted(t *testing.T) {
	s := redistest.Start(t)
	const limit = 64 << 10
	sealer := sealerOf(t, secretOfTests)
	name := sealer.KeyName(keyOf(1))
	key := answerPrefix + name
	soon := time.Now().Add(time.Hour)
	sound := sealer.Seal(name, sample(1, "x").Marshal(), soon)
	changed := func(i int) []byte {
		b := bytes.Clone(sound)
		b[(i+len(b))%len(b)] ^= 1
		return b
	}
	set := func(value []byte) []any { return []any{"SET", key, value} }
	for _, tt := range []struct {
		name  string
		plant []any
		event string
	}{
		{"one byte", set([]byte{0}), "corrupt"},
		{"text", set([]byte("OK")), "corrupt"},
		{"its first byte only", set(sound[:1]), "corrupt"},
		{"cut short", set(sound[:len(sound)-1]), "corrupt"},
		{"half of it", set(sound[:len(sound)/2]), "corrupt"},
		{"something behind it", set(append(bytes.Clone(sound), 0)), "corrupt"},
		{"another version", set(changed(0)), "corrupt"},
		{"a changed nonce", set(changed(1)), "corrupt"},
		{"a changed middle", set(changed(len(sound) / 2)), "corrupt"},
		{"a changed end", set(changed(-1)), "corrupt"},
		{"another key's entry, moved", set(sealer.Seal(sealer.KeyName(keyOf(2)), sample(2, "x").Marshal(), soon)), "corrupt"},
		{"another key's entry, sealed for this one", set(sealer.Seal(name, sample(2, "x").Marshal(), soon)), "corrupt"},
		{"of another secret", set(sealerOf(t, "another secret, as long").Seal(name, sample(1, "x").Marshal(), soon)), "corrupt"},
		{"sealed, but no entry", set(sealer.Seal(name, []byte("junk"), soon)), "corrupt"},
		{"sealed nothing", set(sealer.Seal(name, nil, soon)), "corrupt"},
		{"prolonged", set(sealer.Seal(name, sample(1, "x").Marshal(), time.Now().Add(-time.Second))), ""},
		{"a hash", []any{"HSET", key, "a", "b"}, "corrupt"},
		{"a list", []any{"RPUSH", key, "a"}, "corrupt"},
		{"a set", []any{"SADD", key, "a"}, "corrupt"},
		{"a sorted set", []any{"ZADD", key, "1", "a"}, "corrupt"},
		{"a stream", []any{"XADD", key, "*", "a", "b"}, "corrupt"},
		{"huge", []any{"SETRANGE", key, 16 * mib, "x"}, "corrupt"},
		{"a little too long", set(make([]byte, limit+sharedOverhead+1)), "corrupt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Command("FLUSHALL")
			s.Command(tt.plant...)
			before := netOutput(t, s)
			a := tierOf(t, s.URL(), secretOfTests, limit)
			if e, err := a.get(t.Context(), keyOf(1)); e != nil || err != nil {
				t.Errorf("got %v, %v; want a miss", e, err)
			}
			if sent := netOutput(t, s) - before; sent > limit+sharedOverhead+32<<10 { // and INFO twice
				t.Errorf("%d bytes were read", sent)
			}
			if keys := s.Keys(); len(keys) != 0 {
				t.Errorf("it is still there: %v", keys)
			}
			if told := a.told(); told != tt.event {
				t.Errorf("told %q, want %q", told, tt.event)
			}
		})
	}
	s.Command(set(sound)...)
	if e, err := tierOf(t, s.URL(), secretOfTests, limit).get(t.Context(), keyOf(1)); e == nil || err != nil {
		t.Errorf("the sound one: %v, %v; the cases show nothing", e, err)
	}
}

func netOutput(t *testing.T, s *redistest.Server) int {
	n, err := strconv.Atoi(s.Info("stats")["total_net_output_bytes"])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestShared_WhatIsTooLargeIsNotSent(t *testing.T) {
	s := redistest.Start(t)
	large := sample(1, incompressible(100<<10))
	for _, tt := range []struct {
		name  string
		limit int64
		sent  bool
	}{
		{"of the limit", int64(large.Size()), true},
		{"above it", int64(large.Size()) - 1, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.Command("FLUSHALL")
			a := tierOf(t, s.URL(), secretOfTests, tt.limit)
			if err := a.put(t.Context(), large, time.Hour); err != nil {
				t.Error(err)
			}
			if e, err := a.get(t.Context(), keyOf(1)); (e != nil) != tt.sent || err != nil {
				t.Errorf("got %v, %v; want sent %v", e != nil, err, tt.sent)
			}
		})
	}
}

func incompressible(n int) string {
	var b strings.Builder
	sealer := RandomSealer()
	for i := 0; b.Len() < n; i++ {
		b.WriteString(sealer.Name("filler", fmt.Sprint(i)))
	}
	return b.String()[:n]
}

// Rows 28 and 30 of the fault matrix.
func TestShared_ARedisThatTakesNothingStillGives(t *testing.T) {
	for _, tt := range []struct {
		name  string
		refus []any
		heal  []any
	}{
		{"a replica of a dead master", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
		{"full", []any{"CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1mb"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t)
			a := tierOf(t, s.URL(), secretOfTests, mib)
			if err := a.put(t.Context(), sample(1, "x"), time.Hour); err != nil {
				t.Fatal(err)
			}
			s.Command("SET", answerPrefix+a.sealer.KeyName(keyOf(3)), "junk")
			s.Command(tt.refus...)
			for range 10 {
				if err := a.put(t.Context(), sample(2, incompressible(10<<10)), time.Hour); !refused(err) {
					t.Fatalf("put: %v, want a refusal", err)
				}
			}
			if e, err := a.get(t.Context(), keyOf(1)); e == nil || err != nil {
				t.Errorf("get: %v, %v; want it to go on", e, err)
			}
			if e, err := a.get(t.Context(), keyOf(3)); e != nil || err != nil {
				t.Errorf("get of junk: %v, %v; want a miss, whether or not it can be deleted", e, err)
			}
			if !a.client.Up() {
				t.Error("a refusal took Redis for down")
			}
			s.Command(tt.heal...)
			if err := a.put(t.Context(), sample(2, "x"), time.Hour); err != nil {
				t.Errorf("put after that: %v", err)
			}
		})
	}
}

// Rows 25 and 26.
func TestShared_ARedisThatIsDownOrSlowIsAnErrorInNoTime(t *testing.T) {
	for _, tt := range []struct {
		name        string
		begin, heal func(p *redistest.Proxy)
	}{
		{"down", (*redistest.Proxy).Stop, (*redistest.Proxy).Start},
		{"slow", func(p *redistest.Proxy) { p.Delay(time.Second) }, func(p *redistest.Proxy) { p.Delay(0) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t)
			p := s.Proxy()
			client, err := replica.Open(replica.Options{URL: p.URL()}, slog.New(slog.DiscardHandler), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			a := newShared(client, sealerOf(t, secretOfTests), mib, func(event string) { t.Errorf("told %q", event) })
			redistest.Until(t, "stored", func() bool { return a.put(t.Context(), sample(1, "x"), time.Hour) == nil })
			tt.begin(p)
			start, errs := time.Now(), 0
			for range 1000 {
				if e, err := a.get(t.Context(), keyOf(1)); e != nil || err == nil {
					t.Fatalf("got %v, %v", e, err)
				} else if !errors.Is(err, replica.ErrDown) {
					errs++
				}
			}
			if took := time.Since(start); errs > 3 || took > 3*replica.DefaultBudget+100*time.Millisecond {
				t.Errorf("1000 gets took %v, %d of them tried", took, errs)
			}
			tt.heal(p)
			redistest.Until(t, "found again", func() bool {
				e, err := a.get(t.Context(), keyOf(1))
				return e != nil && err == nil
			})
		})
	}
}

// Row 27, as far as it is the store's.
func TestShared_AFlushUnderLoadIsMissesAndNoErrors(t *testing.T) {
	s := redistest.Start(t)
	a := tierOf(t, s.URL(), secretOfTests, mib)
	var load sync.WaitGroup
	for n := range byte(8) {
		load.Go(func() {
			for range 100 {
				if err := a.put(t.Context(), sample(n, "x"), time.Hour); err != nil {
					t.Error(err)
				}
				if e, err := a.get(t.Context(), keyOf(n)); err != nil || e != nil && e.Meta.Key != keyOf(n) {
					t.Errorf("get: %v, %v", e, err)
				}
			}
		})
	}
	for range 20 {
		s.Command("FLUSHALL")
	}
	load.Wait()
	if told := a.told(); told != "" {
		t.Errorf("told %q", told)
	}
}
