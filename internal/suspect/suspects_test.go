package suspect

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// die lets a node work on some requests at once and die of it: every connection tells.
func die(s *Suspects, node string, running ...Fingerprint) {
	var runs []*Run
	for _, f := range running {
		runs = append(runs, s.Running(node, f))
	}
	for _, r := range runs {
		r.Died()
		r.Done()
	}
}

func TestFingerprint_DependsOnBytesAndModelOnly(t *testing.T) {
	s := New()
	whole := s.Fingerprint("m", [][]byte{[]byte("abc")})
	for name, other := range map[string]struct {
		f     Fingerprint
		equal bool
	}{
		"cut":           {s.Fingerprint("m", [][]byte{[]byte("a"), nil, []byte("bc")}), true},
		"another body":  {s.Fingerprint("m", [][]byte{[]byte("abd")}), false},
		"another model": {s.Fingerprint("n", [][]byte{[]byte("abc")}), false},
		"shifted":       {s.Fingerprint("ma", [][]byte{[]byte("bc")}), false},
		"elsewhere":     {New().Fingerprint("m", [][]byte{[]byte("abc")}), false},
	} {
		if (other.f == whole) != other.equal {
			t.Errorf("%s: equal %v, want %v", name, other.f == whole, other.equal)
		}
	}
}

func TestSuspects_OnlyTheOnlyCommonOneIsRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		deaths  [][]Fingerprint
		refused []Fingerprint
	}{
		{"none", nil, nil},
		{"one death, alone", [][]Fingerprint{{1}}, nil},
		{"two deaths, alone", [][]Fingerprint{{1}, {1}}, []Fingerprint{1}},
		{"strangers around it", [][]Fingerprint{{1, 2, 3}, {4, 1}}, []Fingerprint{1}},
		{"two in common", [][]Fingerprint{{1, 2}, {1, 2}}, nil},
		{"two in common, then one", [][]Fingerprint{{1, 2}, {1, 2}, {2, 3}}, []Fingerprint{2}},
		{"nothing in common", [][]Fingerprint{{1}, {2}, {3}}, nil},
		{"the same request twice at once", [][]Fingerprint{{1, 1}, {1, 1}}, []Fingerprint{1}},
		{"two killers", [][]Fingerprint{{1, 5}, {2, 6}, {1, 7}, {2, 8}}, []Fingerprint{1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New()
			for i, running := range c.deaths {
				die(s, fmt.Sprint(i), running...)
			}
			for f := range Fingerprint(10) {
				if got, want := s.Refused(f), slices.Contains(c.refused, f); got != want {
					t.Errorf("%d refused: %v, want %v", f, got, want)
				}
			}
		})
	}
}

func TestSuspects_OneDeathCountsOnceHoweverManyTellIt(t *testing.T) {
	s := New()
	a, b := s.Running("n", 1), s.Running("n", 1)
	a.Died()
	a.Died()
	fresh := s.Running("n", 2) // on the node that has come back
	b.Died()
	if s.Refused(1) {
		t.Error("one death was counted twice")
	}
	if !s.Suspect(1) || s.Suspect(2) {
		t.Errorf("suspects: 1 %v, 2 %v; want those that ran at the death", s.Suspect(1), s.Suspect(2))
	}
	fresh.Died()
	if !s.Suspect(2) {
		t.Error("the second death of the node was not seen")
	}
}

func TestSuspects_WhatEndedBeforeIsNotSuspected(t *testing.T) {
	s := New()
	s.Running("n", 1).Done()
	other := s.Running("m", 2)
	die(s, "n", 3)
	if s.Suspect(1) || s.Suspect(2) || !s.Suspect(3) {
		t.Errorf("suspects: %v %v %v, want only the third", s.Suspect(1), s.Suspect(2), s.Suspect(3))
	}
	other.Done()
	if len(s.running) != 0 {
		t.Errorf("%d nodes are still said to work", len(s.running))
	}
}

func TestSuspects_AreForgottenAfterTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New()
		die(s, "a", 1)
		time.Sleep(Memory - time.Second)
		die(s, "b", 1)
		if !s.Refused(1) {
			t.Error("two deaths within the time are not remembered")
		}
		time.Sleep(Memory - time.Second)
		if !s.Refused(1) {
			t.Error("it was pardoned too soon")
		}
		time.Sleep(time.Second)
		if s.Refused(1) || s.Suspect(1) {
			t.Error("it is remembered for too long")
		}
		if !s.quiet.Load() || len(s.deaths)+len(s.condemned) != 0 {
			t.Error("something is left")
		}
		die(s, "a", 2)
		time.Sleep(Memory)
		die(s, "b", 2)
		if s.Refused(2) {
			t.Error("a death was remembered for too long")
		}
	})
}

func TestSuspects_MemoryIsBounded(t *testing.T) {
	s := New()
	for i := range 10 * deathsLimit {
		die(s, "n", Fingerprint(2*i), Fingerprint(2*i+1))
	}
	if len(s.deaths) != deathsLimit || len(s.condemned) != 0 || cap(s.deaths) > 2*deathsLimit {
		t.Errorf("%d deaths in %d, %d condemned", len(s.deaths), cap(s.deaths), len(s.condemned))
	}
	crowd := make([]Fingerprint, crowdLimit+1)
	for i := range crowd {
		crowd[i] = Fingerprint(1_000_000 + i)
	}
	die(s, "n", crowd...)
	if s.Suspect(crowd[0]) {
		t.Error("a part of a crowd is remembered")
	}
}

// A gateway before four nodes, as package attempt is to ask it: a suspect is retried at most
// once, on another node, and what is refused goes to none.
func TestSuspects_PoisonTakesDownTwoNodesAtMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		const poison = Fingerprint(1)
		bystander := Fingerprint(1000)
		fallen := 0
		for range 10 { // sent one after another
			first := rapid.IntRange(0, 3).Draw(t, "node")
			for try := range 2 {
				if s.Refused(poison) || try > 0 && !s.Suspect(poison) {
					break
				}
				node := fmt.Sprint((first + try) % 4)
				running := []Fingerprint{poison}
				for range rapid.IntRange(0, 20).Draw(t, "bystanders") {
					bystander++
					running = append(running, bystander)
				}
				die(s, node, running...)
				fallen++
			}
		}
		if fallen > 2 {
			t.Fatalf("%d nodes fell", fallen)
		}
		for f := Fingerprint(1001); f <= bystander; f++ {
			if s.Refused(f) {
				t.Fatalf("bystander %d is refused", f)
			}
		}
	})
}

// Whatever deaths there are: who is refused was at two of them, and for two of them alone.
func TestSuspects_NobodyIsRefusedWhoShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := New()
		deaths := rapid.SliceOfN(rapid.SliceOfNDistinct(rapid.IntRange(0, 6), 1, 6, rapid.ID), 0, 6).Draw(t, "deaths")
		for i, running := range deaths {
			var all []Fingerprint
			for _, f := range running {
				all = append(all, Fingerprint(f))
			}
			die(s, fmt.Sprint(i), all...)
		}
		for f := range 7 {
			want := false
			for i, a := range deaths {
				for _, b := range deaths[:i] {
					common := slices.DeleteFunc(slices.Clone(a), func(x int) bool { return !slices.Contains(b, x) })
					want = want || len(common) == 1 && common[0] == f
				}
			}
			if got := s.Refused(Fingerprint(f)); got != want {
				t.Fatalf("%d refused: %v, want %v after %v", f, got, want, deaths)
			}
		}
	})
}

func TestSuspects_Concurrent(t *testing.T) {
	s := New()
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() { // ends after 200 runs
			for range 200 {
				f := Fingerprint(rand.Uint64N(20))
				r := s.Running(fmt.Sprint(rand.Uint64N(3)), f)
				if s.Refused(f) || s.Suspect(f) || i == 0 {
					r.Died()
				}
				r.Done()
			}
		})
	}
	all.Wait()
	if len(s.running) != 0 {
		t.Errorf("%d nodes are still said to work", len(s.running))
	}
}

func BenchmarkSuspects(b *testing.B) {
	body := [][]byte{make([]byte, 4<<10)}
	b.Run("call", func(b *testing.B) {
		s := New()
		for b.Loop() {
			f := s.Fingerprint("m", body)
			if !s.Refused(f) {
				s.Running("n", f).Done()
			}
		}
	})
}
