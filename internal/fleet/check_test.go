package fleet

import (
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// Row 23.
func TestProbation_ShareGrowsAfterTheFirstAnswer(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		c := config("n1", n)
		c.Slots = 20
		f.Configure([]NodeConfig{c}, Options{})
		n.set(func(n *fake) { n.mode = refuse })
		until(t, f, Down)
		n.set(func(n *fake) { n.mode = nil })
		until(t, f, Probation)
		began := time.Now()
		for range 9 {
			pass(time.Second)
			if v := view(f); v.Share != 0 {
				t.Fatalf("share %v before anything was answered", v.Share)
			}
		}
		f.Report(view(f).Node, Outcome{Kind: OK, Took: time.Second})
		for view(f).State == Probation {
			v := view(f)
			due := float64(time.Since(began)) / float64(30*time.Second)
			if v.Share > due || v.Share < due-0.11 {
				t.Fatalf("share %v, want about %v", v.Share, due)
			}
			if calls, ok := v.Limit(); !ok || calls != max(1, int(20*v.Share)) {
				t.Fatalf("limit %d %v of share %v", calls, ok, v.Share)
			}
			pass(100 * time.Millisecond)
		}
		if took := time.Since(began); view(f).State != Up || took < 30*time.Second || took > 31*time.Second {
			t.Errorf("%v after %v, want up after 30s", view(f).State, took)
		}
	}, n)
}

func TestProbation_NotAtTheStart(t *testing.T) {
	well, late := newFake(tagsOf()), newFake(tagsOf())
	late.mode = refuse
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Minute)
		late.set(func(n *fake) { n.mode = nil })
		pass(3 * time.Second)
		for _, v := range f.Snapshot().Nodes {
			if v.State != Up {
				t.Errorf("%s is %v", v.Node.Name(), v.State)
			}
		}
	}, well, late)
}

func TestProbation_EndsWithWhatProvesANodeAndNothingElse(t *testing.T) {
	for _, c := range []struct {
		name  string
		tell  func(*Fleet, *Node)
		proof bool
	}{
		{"a load", func(f *Fleet, n *Node) { f.Loaded(n, "a", wire.RunnerOptions{}) }, true},
		{"an answer", func(f *Fleet, n *Node) { f.Report(n, Outcome{Kind: OK}) }, true},
		{"a first byte of anything", func(f *Fleet, n *Node) { f.Answered(n) }, false},
		{"a refusal", func(f *Fleet, n *Node) { f.Report(n, Outcome{Kind: Refused}) }, false},
		{"a departure", func(f *Fleet, n *Node) { f.Report(n, Outcome{Kind: Canceled}) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newFake(tagsOf())
			inBubble(t, Options{SlowStart: -1}, func(t *testing.T, f *Fleet) {
				n.set(func(n *fake) { n.mode = refuse })
				until(t, f, Down)
				n.set(func(n *fake) { n.mode = nil })
				until(t, f, Probation)
				if v := view(f); v.Reason != "was down: connection refused" {
					t.Errorf("reason %q", v.Reason)
				}
				c.tell(f, view(f).Node)
				if up := view(f).State == Up; up != c.proof {
					t.Errorf("%v", view(f).State)
				}
			}, n)
		})
	}
}

func TestProbation_LateFaultsOfTheTimeBeforeDoNotCount(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		all[0].set(func(n *fake) { n.mode = refuse })
		until(t, f, Down)
		all[0].set(func(n *fake) { n.mode = nil })
		until(t, f, Probation)
		for range 50 {
			f.Report(view(f).Node, Outcome{Kind: Timeout, Took: time.Minute})
		}
		if v := view(f); v.State != Probation || v.Load != 0 {
			t.Errorf("%v with load %d", v.State, v.Load)
		}
		faults(f, view(f).Node, 5, Timeout)
		if v := view(f); v.State != Ejected {
			t.Errorf("%v after five faults of now", v.State)
		}
	}, all...)
}

func TestState_Words(t *testing.T) {
	for s, want := range map[State]string{
		Down: "down", Up: "up", Probation: "probation", Ejected: "ejected", HalfOpen: "half_open", Draining: "draining", 77: "unknown",
	} {
		if s.String() != want {
			t.Errorf("%d is %q, want %q", s, s, want)
		}
	}
}
