package cache

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func sealerOf(t testing.TB, secret string) *Sealer {
	t.Helper()
	s, err := NewSealer([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const secretOfTests = "a secret of more than 16 bytes"

func TestPurges_InvalidateWhatIsInTheScopeAndNothingElse(t *testing.T) {
	answers := map[string][]Scope{
		"a": {scopeAll(), scopeModel("m1"), scopeIdentity("i1"), scopeTenant("t1"), scopeTag("x"), scopeTag("y")},
		"b": {scopeAll(), scopeModel("m2"), scopeIdentity("i1"), scopeTenant("t2"), scopeTag("x")},
		"c": {scopeAll(), scopeModel("m1"), scopeIdentity("i2"), scopeTenant("t1")},
	}
	for _, tt := range []struct {
		name  string
		purge []Scope
		left  string
	}{
		{"nothing", nil, "abc"},
		{"all", []Scope{scopeAll()}, ""},
		{"a model", []Scope{scopeModel("m1")}, "b"},
		{"an identity", []Scope{scopeIdentity("i1")}, "c"},
		{"a tenant", []Scope{scopeTenant("t1")}, "b"},
		{"a tag", []Scope{scopeTag("x")}, "c"},
		{"a tag of one", []Scope{scopeTag("y")}, "bc"},
		{"a tag nobody has", []Scope{scopeTag("z")}, "abc"},
		{"a tag named as a model", []Scope{scopeTag("m1")}, "abc"},
		{"a tag named all", []Scope{scopeTag("all"), scopeTag("")}, "abc"},
		{"two", []Scope{scopeTag("y"), scopeModel("m2")}, "c"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPurges(sealerOf(t, secretOfTests))
			marks := map[string][]uint64{}
			for name, scopes := range answers {
				marks[name] = p.marks(scopes)
			}
			for _, s := range tt.purge {
				p.bump(s)
			}
			var left string
			for _, name := range []string{"a", "b", "c"} {
				if p.valid(answers[name], marks[name]) {
					left += name
				}
				if !p.valid(answers[name], p.marks(answers[name])) {
					t.Errorf("%s is invalid when it is made after the purge", name)
				}
			}
			if left != tt.left {
				t.Errorf("left %q, want %q", left, tt.left)
			}
		})
	}
}

func TestPurges_MarksOfOthersAreNotGood(t *testing.T) {
	p := newPurges(sealerOf(t, secretOfTests))
	scopes := []Scope{scopeAll(), scopeTag("x")}
	for _, bumped := range []bool{false, true} {
		if bumped {
			p.bump(scopeTag("other"))
		}
		for _, marks := range [][]uint64{nil, {0}, {0, 0, 0}, {0, 1}, {1, 0}} {
			if p.valid(scopes, marks) {
				t.Errorf("bumped %v: marks %v are taken", bumped, marks)
			}
		}
		if !p.valid(scopes, []uint64{0, 0}) {
			t.Errorf("bumped %v: what was never purged is invalid", bumped)
		}
	}
}

func TestPurges_VersionsOnlyRiseWhateverTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPurges(sealerOf(t, secretOfTests))
		first := p.bump(scopeTag("x"))
		if now := uint64(time.Now().UnixMilli()); first < now {
			t.Errorf("version %d, want the time in ms at least, %d", first, now)
		}
		if second := p.bump(scopeTag("x")); second != first+1 {
			t.Errorf("at the same moment: %d after %d", second, first)
		}
		time.Sleep(time.Hour)
		if third := p.bump(scopeTag("x")); third < first+3_600_000 {
			t.Errorf("an hour later: %d after %d", third, first)
		}
		// From a gateway whose clock is far ahead.
		ahead := uint64(time.Now().Add(1000 * time.Hour).UnixMilli())
		p.merge(map[string]uint64{p.nameOf(scopeTag("x")): ahead}, 0)
		fourth := p.bump(scopeTag("x"))
		if fourth <= ahead {
			t.Errorf("after one from the future: %d after %d", fourth, ahead)
		}
		p.merge(map[string]uint64{p.nameOf(scopeTag("x")): 5}, 0)
		if marks := p.marks([]Scope{scopeTag("x")}); marks[0] < fourth {
			t.Errorf("it went back to %d", marks[0])
		}
	})
}

func TestPurges_AreCurrentForTwoSecondsAfterASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPurges(sealerOf(t, secretOfTests))
		if p.current() {
			t.Error("current before any sync")
		}
		time.Sleep(time.Minute)
		p.synced.Store(int64(time.Since(p.born)))
		for _, tt := range []struct {
			later time.Duration
			want  bool
		}{{0, true}, {1900 * time.Millisecond, true}, {200 * time.Millisecond, false}, {time.Hour, false}} {
			time.Sleep(tt.later)
			if p.current() != tt.want {
				t.Errorf("%v later: current %v", tt.later, p.current())
			}
		}
	})
}

func TestPurges_RememberABoundedNumberAndThenForgetSafely(t *testing.T) {
	p := newPurges(sealerOf(t, secretOfTests))
	p.limit = 100
	var purged []Scope
	var marks [][]uint64 // of answers made before each purge
	for i := range 250 {
		s := scopeTag(fmt.Sprint(i))
		scopes := []Scope{scopeAll(), s}
		purged, marks = append(purged, s), append(marks, p.marks(scopes))
		p.bump(s)
		if n := len(p.versions); n > 101 {
			t.Fatalf("%d versions are remembered", n)
		}
	}
	for i, s := range purged {
		if p.valid([]Scope{scopeAll(), s}, marks[i]) {
			t.Errorf("%d: what was purged is valid again", i)
		}
	}
	if !p.valid([]Scope{scopeAll(), scopeTag("3")}, p.marks([]Scope{scopeAll(), scopeTag("3")})) {
		t.Error("nothing new is valid")
	}
	if p.pending() == 0 {
		t.Error("nothing is pending, though others know nothing of it")
	}
}

// Between the purge of all and Redis's forgetting, others may have told Redis of purges that it
// drops then.
func TestPurges_AnswersMadeWhileRedisForgetsAreInvalid(t *testing.T) {
	p := newPurges(sealerOf(t, secretOfTests))
	p.limit = 1
	p.bump(scopeTag("x"))
	p.bump(scopeTag("y")) // one too many
	all, _, ok := p.forgets()
	if !ok {
		t.Fatal("nothing is to be forgotten")
	}
	p.bump(scopeAll())
	scopes := []Scope{scopeAll(), scopeTag("z")}
	marks := p.marks(scopes)
	p.forgotten(all+1, 1)
	if p.valid(scopes, marks) {
		t.Error("such an answer is valid")
	}
}

// An operator may go over to another Redis, where others have forgotten what this gateway never
// told them.
func TestPurges_ForgettingByAnotherRedisIsSafeToo(t *testing.T) {
	p := newPurges(sealerOf(t, secretOfTests))
	scopes := []Scope{scopeAll(), scopeTag("x")}
	p.bump(scopeAll())
	marks := p.marks(scopes)
	p.bump(scopeTag("x"))
	batch, _ := p.batch(10)
	p.pushed(batch)
	p.merge(map[string]uint64{p.all: 7}, 1)
	if p.valid(scopes, marks) {
		t.Error("what was purged is valid again")
	}
}

func TestNames_AreTheSealersHoweverMany(t *testing.T) {
	p := newPurges(sealerOf(t, secretOfTests))
	for i := range 2 * namesLimit {
		s := scopeTag(fmt.Sprint(i % (namesLimit + 100)))
		if got, want := p.nameOf(s), p.sealer.Name("scope", string(s)); got != want {
			t.Fatalf("%q is named %s, want %s", s, got, want)
		}
	}
	if n := len(p.names.known); n > namesLimit {
		t.Errorf("%d names are remembered", n)
	}
}

func BenchmarkValid(b *testing.B) {
	scopes := []Scope{scopeAll(), scopeModel("llama3.2:latest"), scopeIdentity("sha256:0123456789"), scopeTenant("key:someone"), scopeTag("x")}
	for _, tt := range []struct {
		name  string
		purge []Scope
	}{{"never purged", nil}, {"purged", []Scope{scopeTag("other")}}} {
		b.Run(tt.name, func(b *testing.B) {
			p := newPurges(sealerOf(b, secretOfTests))
			for _, s := range tt.purge {
				p.bump(s)
			}
			marks := p.marks(scopes)
			b.ReportAllocs()
			for b.Loop() {
				if !p.valid(scopes, marks) {
					b.Fatal("invalid")
				}
			}
		})
	}
}
