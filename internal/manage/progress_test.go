package manage

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// Whatever nodes say in whatever order, and whichever of them fail: what is told of a layer never
// goes back, its total never changes, and it is complete when those that have not failed have it.
func TestMerge_ProgressNeverGoesBackwards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		count := rapid.IntRange(1, 5).Draw(t, "nodes")
		layers := rapid.IntRange(1, 3).Draw(t, "layers")
		runners := make([]*runner, count)
		for i := range runners {
			runners[i] = new(runner)
		}
		size := func(layer int) int64 { return int64(layer+1) * 1000 }
		var all steps
		completed, total := map[string]int64{}, map[string]int64{}
		look := func() {
			merge(&all, runners)
			for _, s := range all.all {
				if s.Digest == "" {
					continue
				}
				if s.Completed < completed[s.Digest] || s.Completed > s.Total {
					t.Fatalf("layer %s went from %d to %d of %d", s.Digest, completed[s.Digest], s.Completed, s.Total)
				}
				if was := total[s.Digest]; was != 0 && was != s.Total {
					t.Fatalf("the total of layer %s went from %d to %d", s.Digest, was, s.Total)
				}
				completed[s.Digest], total[s.Digest] = s.Completed, s.Total
			}
		}
		for range rapid.IntRange(0, 60).Draw(t, "records") {
			r := runners[rapid.IntRange(0, count-1).Draw(t, "node")]
			if r.ended {
				continue
			}
			if rapid.IntRange(0, 19).Draw(t, "fate") == 0 {
				r.ended = true
				if rapid.Bool().Draw(t, "fails") {
					r.failure = &Failure{Reason: Lost}
				}
			} else {
				layer := rapid.IntRange(0, layers-1).Draw(t, "layer")
				digest := fmt.Sprintf("sha256:%d", layer)
				r.note(Record{Status: "pulling " + digest, Digest: digest, Total: size(layer), Completed: rapid.Int64Range(0, size(layer)).Draw(t, "completed")})
			}
			look()
		}
		living := false
		for _, r := range runners {
			r.ended = true
			living = living || r.failure == nil
		}
		look()
		if !living {
			return
		}
		for digest, want := range total {
			if completed[digest] != want {
				t.Fatalf("layer %s ended at %d of %d", digest, completed[digest], want)
			}
		}
	})
}

func TestMerge_AStatusIsToldWhenTheSlowestSaysIt(t *testing.T) {
	fast, slow := new(runner), new(runner)
	runners := []*runner{fast, slow}
	var all steps
	told := func() (statuses []string) {
		merge(&all, runners)
		for _, r := range untold(nil, &all, map[*step]int64{}) {
			statuses = append(statuses, r.Status)
		}
		return statuses
	}
	fast.note(Record{Status: "pulling manifest"})
	if got := told(); len(got) != 0 {
		t.Errorf("told %q although the slow node has said nothing", got)
	}
	slow.note(Record{Status: "pulling manifest"})
	fast.note(Record{Status: "writing manifest"})
	if got := fmt.Sprint(told()); got != "[pulling manifest]" {
		t.Errorf("told %s, want what both have said", got)
	}
	slow.ended, slow.failure = true, &Failure{Reason: Lost}
	if got := fmt.Sprint(told()); got != "[pulling manifest writing manifest]" {
		t.Errorf("told %s; a node that has failed holds nobody up", got)
	}
}
