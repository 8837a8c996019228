package cache

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/redistest"
	"github.com/caddy-ollama/caddy-ollama/internal/replica"
)

// clientOf has time enough for a machine that does other things beside.
func clientOf(t testing.TB, url string) *replica.Client {
	t.Helper()
	c, err := replica.Open(replica.Options{URL: url, Budget: 5 * time.Second}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// running has the purges of a gateway run until stop is called.
func running(t *testing.T, url string) (p *purges, stop func()) {
	t.Helper()
	p = newPurges(sealerOf(t, secretOfTests))
	c := clientOf(t, url)
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { p.run(ctx, c) }) // ends with ctx
	stop = sync.OnceFunc(func() {
		cancel()
		loop.Wait()
		c.Close()
	})
	t.Cleanup(stop)
	redistest.Until(t, "the first sync", p.current)
	return p, stop
}

var someScopes = []Scope{scopeAll(), scopeModel("m"), scopeTag("x")}

func TestPurges_AnotherGatewayObeysWithinASecond(t *testing.T) {
	s := redistest.Start(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	a, stopA := running(t, s.URL())
	b, stopB := running(t, s.URL())
	for range 3 {
		marks := b.marks(someScopes)
		start := time.Now()
		a.bump(scopeTag("x"))
		if a.valid(someScopes, marks) {
			t.Error("valid where it was purged")
		}
		redistest.Until(t, "obeyed", func() bool { return !b.valid(someScopes, marks) })
		if took := time.Since(start); took > time.Second {
			t.Errorf("obeyed after %v", took)
		}
		redistest.Until(t, "told", func() bool { return a.pending() == 0 })
		if got := b.marks(someScopes); !a.valid(someScopes, got) {
			t.Errorf("they disagree: %v there, %v here", got, a.marks(someScopes))
		}
	}
	stopA()
	stopB()
}

func TestPurges_AreKnownToAGatewayThatStartsLater(t *testing.T) {
	s := redistest.Start(t)
	a, _ := running(t, s.URL())
	marks := a.marks(someScopes)
	a.bump(scopeModel("m"))
	redistest.Until(t, "told", func() bool { return a.pending() == 0 })
	b, _ := running(t, s.URL())
	if b.valid(someScopes, marks) {
		t.Error("valid at a gateway that started after the purge")
	}
}

// Who is told has nobody join what runs, so it must not be told of nothing.
func TestPurges_ThoseOfOthersAreNews(t *testing.T) {
	s := redistest.Start(t)
	c := clientOf(t, s.URL())
	here, there := newPurges(sealerOf(t, secretOfTests)), newPurges(sealerOf(t, secretOfTests))
	news := 0
	here.told = func() { news++ }
	for _, step := range []struct {
		what   string
		do     func()
		by     *purges // who syncs, before here does
		expect int
	}{
		{"nothing was ever purged", func() {}, there, 0},
		{"nothing yet", func() {}, there, 0},
		{"purged there", func() { there.bump(scopeTag("x")) }, there, 1},
		{"nothing more", func() {}, there, 0},
		{"purged here", func() { here.bump(scopeTag("x")) }, here, 0},
		{"known there", func() {}, there, 0},
		{"flushed", func() { s.Command("FLUSHALL") }, there, 0},
		{"flushed, and purged there before that was noticed", func() { s.Command("FLUSHALL"); there.bump(scopeTag("y")) }, there, 1},
	} {
		step.do()
		news = 0
		for _, p := range [...]*purges{step.by, here} {
			if err := p.sync(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
		if news != step.expect {
			t.Errorf("%s: told %d times, want %d", step.what, news, step.expect)
		}
	}
}

func TestPurges_SurviveAFlush(t *testing.T) {
	for _, tt := range []struct {
		name  string
		flush func(t *testing.T, s *redistest.Server)
	}{
		{"flushed", func(t *testing.T, s *redistest.Server) { s.Command("FLUSHALL") }},
		{"restarted empty", func(t *testing.T, s *redistest.Server) { s.Stop(); s.Start() }},
		{"our hash deleted", func(t *testing.T, s *redistest.Server) { s.Command("DEL", s.Keys()[0]) }},
		{"flushed, and purged before it was noticed", func(t *testing.T, s *redistest.Server) {
			s.Command("FLUSHALL")
			c := newPurges(sealerOf(t, secretOfTests))
			c.bump(scopeTag("other"))
			if err := c.sync(t.Context(), clientOf(t, s.URL())); err != nil {
				t.Error(err)
			}
		}},
		{"a string instead", func(t *testing.T, s *redistest.Server) {
			s.Command("SET", s.Keys()[0], "junk")
		}},
		{"junk in the hash", func(t *testing.T, s *redistest.Server) {
			key := s.Keys()[0]
			s.Command("DEL", key)
			s.Command("HSET", key, markField, "\x00.junk", "a", "b", "c", "-1", "d", "1e300", "e", "99999999999999999999")
		}},
		{"our versions made junk", func(t *testing.T, s *redistest.Server) {
			key := s.Keys()[0]
			for _, f := range s.Command("HKEYS", key).([]any) {
				s.Command("HSET", key, f, "18446744073709551615")
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := redistest.Start(t)
			a, _ := running(t, s.URL())
			marks := a.marks(someScopes)
			a.bump(scopeTag("x"))
			redistest.Until(t, "told", func() bool { return a.pending() == 0 })
			purged := a.marks(someScopes)
			tt.flush(t, s)
			redistest.Until(t, "told again", func() bool {
				b := newPurges(sealerOf(t, secretOfTests))
				return b.sync(t.Context(), clientOf(t, s.URL())) == nil && b.valid(someScopes, purged)
			})
			if a.valid(someScopes, marks) || !a.valid(someScopes, purged) {
				t.Error("the gateway itself forgot")
			}
			redistest.Until(t, "nothing pending", func() bool { return a.pending() == 0 && a.current() })
		})
	}
}

func TestPurges_WhileRedisIsDownHoldHereAndAreToldLater(t *testing.T) {
	s := redistest.Start(t)
	a, _ := running(t, s.URL())
	b, _ := running(t, s.URL())
	marks := b.marks(someScopes)
	s.Stop()
	a.bump(scopeTag("x"))
	if a.valid(someScopes, marks) || a.pending() != 1 {
		t.Errorf("valid %v, pending %d; want it to hold here and to be pending", a.valid(someScopes, marks), a.pending())
	}
	redistest.Until(t, "not current", func() bool { return !a.current() && !b.current() })
	s.Start()
	redistest.Until(t, "obeyed", func() bool { return !b.valid(someScopes, marks) })
	redistest.Until(t, "current", func() bool { return a.current() && b.current() && a.pending() == 0 })
}

func TestPurges_AReadOnlyRedisStillTellsOfOthers(t *testing.T) {
	s := redistest.Start(t)
	client := clientOf(t, s.URL())
	a, b := newPurges(sealerOf(t, secretOfTests)), newPurges(sealerOf(t, secretOfTests))
	a.bump(scopeTag("x"))
	if err := a.sync(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	s.Command("REPLICAOF", "127.0.0.1", "1")
	marks := b.marks(someScopes)
	b.bump(scopeTag("y"))
	if err := b.sync(t.Context(), client); err == nil || !b.current() || b.pending() != 1 {
		t.Errorf("sync: %v, current %v, pending %d; want an error, and others' purges known", err, b.current(), b.pending())
	}
	if b.valid(someScopes, marks) {
		t.Error("what the other purged is valid")
	}
	s.Command("REPLICAOF", "NO", "ONE")
	if err := b.sync(t.Context(), client); err != nil || b.pending() != 0 {
		t.Errorf("on the new master: %v, pending %d", err, b.pending())
	}
}

func TestPurges_AreToldEvenToAFullRedis(t *testing.T) {
	s := redistest.Start(t)
	s.Command("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1mb")
	a := newPurges(sealerOf(t, secretOfTests))
	a.bump(scopeTag("x"))
	if err := a.sync(t.Context(), clientOf(t, s.URL())); err != nil || a.pending() != 0 {
		t.Errorf("sync: %v, pending %d", err, a.pending())
	}
}

func TestPurges_NothingChangedIsOneCommand(t *testing.T) {
	s := redistest.Start(t)
	client := clientOf(t, s.URL())
	a := newPurges(sealerOf(t, secretOfTests))
	for _, bumped := range []bool{false, true} {
		if bumped {
			a.bump(scopeTag("x"))
		}
		for range 2 { // to come to rest
			if err := a.sync(t.Context(), client); err != nil {
				t.Fatal(err)
			}
		}
		s.Command("CONFIG", "RESETSTAT")
		if err := a.sync(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		if got := s.Info("commandstats"); got["cmdstat_hget"] == "" || len(got) > 2 { // and CONFIG itself
			t.Errorf("bumped %v: commands %v, want one HGET", bumped, got)
		}
	}
}

func TestPurges_NoNameIsInRedis(t *testing.T) {
	s := redistest.Start(t)
	a := newPurges(sealerOf(t, secretOfTests))
	for _, scope := range []Scope{scopeAll(), scopeModel("hunter2"), scopeTenant("hunter2"), scopeTag("hunter2"), scopeIdentity("hunter2")} {
		a.bump(scope)
	}
	if err := a.sync(t.Context(), clientOf(t, s.URL())); err != nil {
		t.Fatal(err)
	}
	mustNotShow(t, s, "hunter2")
}

func TestPurges_ThousandsGoInPages(t *testing.T) {
	s := redistest.Start(t)
	client := clientOf(t, s.URL())
	a, b := newPurges(sealerOf(t, secretOfTests)), newPurges(sealerOf(t, secretOfTests))
	for i := range 5*pageSize + 1 {
		a.bump(scopeTag(fmt.Sprint(i)))
	}
	for _, p := range []*purges{a, b} {
		if err := p.sync(t.Context(), client); err != nil || p.pending() != 0 {
			t.Fatalf("sync: %v, pending %d", err, p.pending())
		}
	}
	if len(b.versions) != 5*pageSize+1 {
		t.Errorf("%d versions known, want %d", len(b.versions), 5*pageSize+1)
	}
}

func TestPurges_WhatOneForgetsNobodyBringsBack(t *testing.T) {
	s := redistest.Start(t)
	client := clientOf(t, s.URL())
	a, b := newPurges(sealerOf(t, secretOfTests)), newPurges(sealerOf(t, secretOfTests))
	sync := func(gateways ...*purges) {
		t.Helper()
		for _, p := range gateways {
			if err := p.sync(t.Context(), client); err != nil {
				t.Fatal(err)
			}
		}
	}
	a.limit = 10
	scopes := []Scope{scopeAll(), scopeTag("late")}
	for i := range 10 {
		a.bump(scopeTag(fmt.Sprint(i)))
	}
	sync(a, b)
	old := b.marks(scopes)
	a.bump(scopeTag("one too many"))
	// a has forgotten, Redis has not. Meanwhile b purges what a answers.
	between := a.marks(scopes)
	b.bump(scopeTag("late"))
	sync(b, a, b)
	for _, p := range []*purges{a, b} {
		if p.valid(scopes, old) || p.valid(scopes, between) {
			t.Error("an answer from before the purge is valid")
		}
		if len(p.versions) != 1 || p.pending() != 0 {
			t.Errorf("%d versions are remembered, %d pending; want that of all and none", len(p.versions), p.pending())
		}
	}
	if n := s.Command("HLEN", a.key()); n != int64(2) {
		t.Errorf("%d fields in Redis, want one version and the mark", n)
	}
}

// Whatever gateways purge and answer, and however their syncs, flushes of Redis and its forgetting
// fall among that: once all have synced, no answer is valid that is older than a purge of one of
// its scopes, and all agree on new ones.
func TestPurges_NoOrderOfEventsBringsAnAnswerBack(t *testing.T) {
	s := redistest.Start(t)
	client := clientOf(t, s.URL())
	type answer struct {
		scopes []Scope
		marks  []uint64
		purged bool
	}
	start, forgot := time.Now(), 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 0))
		s.Command("FLUSHALL")
		gateways := make([]*purges, 3)
		skews := random.Perm(len(gateways))
		unsynced := map[int]bool{} // since the last flush
		join := func(i int) {
			gateways[i] = newPurges(sealerOf(t, secretOfTests))
			gateways[i].limit = 3 + 3*int(seed%4) // of 8 tags: some forget often, some never
			// Clocks that are minutes apart, and stand: each order of versions comes about.
			at := start.Add(time.Duration(skews[i]) * time.Minute)
			gateways[i].now = func() time.Time { return at }
		}
		for i := range gateways {
			join(i)
		}
		flushes := seed%2 == 0 // restarts otherwise: both together may lose what nobody knows any more
		tag := func() Scope { return scopeTag(fmt.Sprint(random.IntN(8))) }
		var answers []*answer
		var story []string
		for range 60 {
			i := random.IntN(len(gateways))
			g := gateways[i]
			switch random.IntN(10) {
			case 0, 1, 2:
				scope := tag()
				if random.IntN(15) == 0 {
					scope = scopeAll()
				}
				story = append(story, fmt.Sprintf("%d purges %q", i, scope))
				g.bump(scope)
				for _, a := range answers {
					for _, in := range a.scopes {
						a.purged = a.purged || in == scope
					}
				}
			case 3, 4, 5:
				story = append(story, fmt.Sprintf("%d answers", i))
				scopes := []Scope{scopeAll(), tag(), tag()}
				answers = append(answers, &answer{scopes: scopes, marks: g.marks(scopes)})
			case 6, 7, 8:
				story = append(story, fmt.Sprintf("%d syncs", i))
				if err := g.sync(t.Context(), client); err != nil {
					t.Fatal(err)
				}
				delete(unsynced, i)
			case 9:
				switch {
				// What a gateway purged with a late clock may be lost if Redis is flushed twice
				// before another with an early clock, that purged the same, has synced once.
				case flushes && len(unsynced) == 0:
					story = append(story, "flush")
					s.Command("FLUSHALL")
					for k := range gateways {
						unsynced[k] = true
					}
				case !flushes && g.pending() == 0:
					story = append(story, fmt.Sprintf("%d restarts", i))
					join(i)
				}
			}
		}
		for range 4 { // what one learns last the others learn in the next round
			for _, g := range gateways {
				if err := g.sync(t.Context(), client); err != nil {
					t.Fatal(err)
				}
			}
		}
		if gateways[0].epoch > 0 {
			forgot++
		}
		for i, g := range gateways {
			for n, a := range answers {
				if a.purged && g.valid(a.scopes, a.marks) {
					t.Fatalf("seed %d: answer %d is valid at gateway %d: %v", seed, n, i, story)
				}
			}
			for k := range 8 {
				scopes := []Scope{scopeAll(), scopeTag(fmt.Sprint(k))}
				if !g.valid(scopes, gateways[0].marks(scopes)) {
					t.Fatalf("seed %d: gateways 0 and %d disagree on a new answer: %v", seed, i, story)
				}
			}
			if len(g.versions) > g.limit+1 || g.pending() != 0 {
				t.Fatalf("seed %d: gateway %d remembers %d, pending %d", seed, i, len(g.versions), g.pending())
			}
		}
	}
	if forgot == 0 {
		t.Error("it never came to forgetting: the test shows less than it should")
	}
}
