package fleet

import (
	"testing"
	"time"
)

// A node that hangs with all its slots in use is not given as many calls once more: two that waited
// while it answered nobody are enough. One that answers others is just slow.
func TestReport_TwoCallsInSilenceAreEnough(t *testing.T) {
	silent := Outcome{Kind: Timeout, Model: key("a"), Resident: true, Took: time.Second}
	cold, stalled := silent, silent
	cold.Resident = false
	stalled.FirstFrame = time.Second / 2
	for _, c := range []struct {
		name   string
		out    Outcome
		count  int
		answer time.Duration // of another call, so long before each end; 0: none
		want   State
	}{
		{"one", silent, 1, 0, Up},
		{"two", silent, 2, 0, Ejected},
		{"two, and an answer before them", silent, 2, 1500 * time.Millisecond, Ejected},
		{"four, and another call was answered meanwhile", silent, 4, 500 * time.Millisecond, Up},
		{"four of a model that was being loaded", cold, 4, 0, Up},
		{"four that stalled", stalled, 4, 0, Up},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				node := view(f).Node
				f.Report(node, Outcome{Kind: OK})
				pass(10 * time.Second)
				for i := range c.count {
					if c.answer > 0 && (i == 0 || c.answer < time.Second) {
						pass(time.Second)
						f.Answered(node)
						pass(c.answer)
					} else if i == 0 {
						pass(time.Second)
					}
					f.Report(node, c.out)
				}
				if v := view(f); v.State != c.want {
					t.Errorf("%v, want %v", v.State, c.want)
				}
			}, fakes(2)...)
		})
	}
}

func TestReport_ACallInSilenceBehindAnotherFaultIsEnough(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Minute)
		faults(f, view(f).Node, 1, Status5xx)
		f.Report(view(f).Node, Outcome{Kind: Timeout, Resident: true, Took: time.Second})
		if v := view(f); v.State != Ejected || v.Reason != "timeout" {
			t.Errorf("%v %q", v.State, v.Reason)
		}
	}, fakes(2)...)
}
