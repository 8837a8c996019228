package fleet

import "testing"

func TestEjected_ForFaultsAmongItsCallsThatOthersHaveNot(t *testing.T) {
	for _, c := range []struct {
		name        string
		every, rest int // of the calls of the first, and of the others, one in so many is a fault
		want        State
	}{
		{"every second call", 2, 0, Ejected},
		{"every third", 3, 0, Ejected},
		{"every tenth", 10, 0, Up},
		{"every second call, and all others too", 2, 2, Up},
		{"every second call, others every tenth", 2, 10, Ejected},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				for i := range 200 {
					for k, v := range f.Snapshot().Nodes {
						every := c.rest
						if k == 0 {
							every = c.every
						}
						kind := OK
						if every > 0 && (i+k)%every == 0 {
							kind = Status5xx
						}
						if v.State == Up {
							f.Report(v.Node, Outcome{Kind: kind})
						}
					}
				}
				for k, v := range f.Snapshot().Nodes {
					want := Up
					if k == 0 {
						want = c.want
					}
					if v.State != want {
						t.Errorf("%s is %v, want %v", v.Node.Name(), v.State, want)
					}
				}
			}, fakes(3)...)
		})
	}
}
