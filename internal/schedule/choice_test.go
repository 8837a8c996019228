package schedule

import (
	"math/rand/v2"
	"testing"
)

func TestLeastLoaded_OrderOfPreference(t *testing.T) {
	for _, c := range []struct {
		name       string
		candidates []Candidate
		want       int
	}{
		{"loaded as asked before all", []Candidate{{Residency: Cold, Slots: 1}, {Residency: Reload, Slots: 1}, {Residency: Resident, InFlight: 3, Slots: 4}}, 2},
		{"loaded otherwise before on disk", []Candidate{{Residency: Cold, Slots: 1}, {Residency: Reload, InFlight: 1, Slots: 2}}, 1},
		{"least in flight per slot", []Candidate{{InFlight: 1, Slots: 2}, {InFlight: 1, Slots: 4}, {InFlight: 3, Slots: 4}}, 1},
		{"one candidate", []Candidate{{Residency: Cold, Slots: 1}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := LeastLoaded(rand.IntN)(c.candidates); got != c.want {
				t.Errorf("chose %d of %+v, want %d", got, c.candidates, c.want)
			}
		})
	}
}

func TestLeastLoaded_EqualsHaveTheSameChance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	choose := LeastLoaded(r.IntN)
	equals := []Candidate{{Slots: 1}, {Slots: 1}, {Slots: 1}, {Slots: 1, Residency: Cold}}
	var chosen [4]int
	for range 3000 {
		chosen[choose(equals)]++
	}
	for i, n := range chosen[:3] {
		if n < 900 || n > 1100 {
			t.Errorf("candidate %d chosen %d times of 3000, want about 1000", i, n)
		}
	}
	if chosen[3] != 0 {
		t.Errorf("the worse one was chosen %d times", chosen[3])
	}
}
