package fleet

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answersOf reports answers of a node, one each 100 ms: first is the time to the first frame,
// frame that from each of 20 to the next.
func answersOf(f *Fleet, n *Node, count int, first, frame time.Duration) {
	for range count {
		pass(100 * time.Millisecond)
		f.Report(n, Outcome{Kind: OK, Model: key("a"), Resident: true, FirstFrame: first, Frames: 20, Took: first + 19*frame})
	}
}

func TestWeight_OfASlowNodeIsItsPartOfTheOthersSpeed(t *testing.T) {
	const first, frame = 200 * time.Millisecond, 20 * time.Millisecond
	for _, c := range []struct {
		name         string
		first, frame time.Duration
		least, most  float64
		others       bool // are not slow
	}{
		{"as fast as the others", first, frame, 1, 1, true},
		{"twice as slow", 2 * first, 2 * frame, 1, 1, true},
		{"slow to begin", 20 * first, frame, 1. / 17, 1. / 15, true},
		{"slow to go on", first, 10 * frame, 1. / 11, 1. / 9, true},
		{"hardly alive", first, 1000 * frame, 0.01, 0.01, true},
		{"faster than the others", first / 10, frame / 10, 1, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				nodes := f.Snapshot().Nodes
				for range 20 {
					answersOf(f, nodes[0].Node, 1, c.first, c.frame)
					answersOf(f, nodes[1].Node, 1, first, frame)
					answersOf(f, nodes[2].Node, 1, first, frame)
				}
				s := f.Snapshot()
				if w := s.Nodes[0].Weight(key("a")); w < c.least || w > c.most {
					t.Errorf("weight %v, want %v to %v", w, c.least, c.most)
				}
				for i := range s.Nodes {
					if w := s.Nodes[i].Weight(key("b")); w != 1 {
						t.Errorf("weight %v for a model that nobody has answered", w)
					}
				}
				for _, v := range s.Nodes[1:] {
					if w := v.Weight(key("a")); (w == 1) != c.others {
						t.Errorf("%s has weight %v", v.Node.Name(), w)
					}
				}
			}, fakes(3)...)
		})
	}
}

func TestWeight_FewSamplesOrNobodyToCompareWithSayNothing(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		nodes := f.Snapshot().Nodes
		answersOf(f, nodes[0].Node, 30, time.Minute, time.Second)
		answersOf(f, nodes[1].Node, 7, 100*time.Millisecond, time.Millisecond)
		pass(2 * time.Second)
		answersOf(f, nodes[0].Node, 1, time.Minute, time.Second)
		if w := f.Snapshot().Nodes[0].Weight(key("a")); w != 1 {
			t.Errorf("weight %v", w)
		}
	}, fakes(2)...)
}

func TestWeight_ANodeThatIsFastAgainIsForgivenSoonAndItIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logged
		f := New(slog.New(slog.NewTextHandler(&out, nil)))
		defer f.Close()
		all := fakes(2)
		f.Configure([]NodeConfig{config("n1", all[0]), config("n2", all[1])}, Options{})
		pass(time.Second)
		nodes := f.Snapshot().Nodes
		for range 20 {
			answersOf(f, nodes[0].Node, 1, 4*time.Second, 400*time.Millisecond)
			answersOf(f, nodes[1].Node, 1, 200*time.Millisecond, 20*time.Millisecond)
		}
		if w := view(f).Weights[key("a")]; w > 0.1 {
			t.Fatalf("weight %v of a node that is 20 times slower", w)
		}
		needed := 0
		for view(f).Weights != nil && len(view(f).Weights) > 0 && needed < 100 {
			needed++
			pass(time.Second)
			answersOf(f, nodes[0].Node, 1, 200*time.Millisecond, 20*time.Millisecond)
		}
		if needed > 6 {
			t.Errorf("%d good answers were needed", needed)
		}
		lines := 0
		for _, line := range out.lines() {
			if strings.Contains(line, "node weight changed") {
				lines++
			}
		}
		if lines > needed+2 {
			t.Errorf("%d lines of log", lines)
		}
	})
}

// An answer that takes minutes shows with its first frame that the node has become slow.
func TestWeight_FirstFramesTellBeforeTheirAnswersEnd(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		nodes := f.Snapshot().Nodes
		const usual = 200 * time.Millisecond
		for range 10 {
			answersOf(f, nodes[0].Node, 1, usual, usual/10)
			answersOf(f, nodes[1].Node, 1, usual, usual/10)
		}
		for range 8 {
			pass(200 * time.Millisecond)
			f.Begun(nodes[0].Node, Outcome{Model: key("a"), Resident: true, FirstFrame: 20 * usual})
		}
		if w := f.Snapshot().Nodes[0].Weight(key("a")); w > 0.2 {
			t.Errorf("weight %v after eight slow first frames", w)
		}
	}, fakes(2)...)
}

func TestBegun_IsNotCountedTwice(t *testing.T) {
	inBubble(t, Options{SlowSamples: 4}, func(t *testing.T, f *Fleet) {
		n := view(f).Node
		r := Outcome{Kind: OK, Model: key("a"), Resident: true, FirstFrame: time.Second, Told: true, Frames: 11, Took: 2 * time.Second}
		for i := range 4 {
			if _, ok := f.FirstByte(n, key("a"), true); ok {
				t.Errorf("%d answers were taken for four", i)
			}
			f.Begun(n, r)
			f.Report(n, r)
		}
		if d, ok := f.FirstByte(n, key("a"), true); !ok || d < time.Second {
			t.Errorf("%v %v after four", d, ok)
		}
		if m := f.speeds.models[key("a")].nodes[n]; m.frame.n != 4 || m.first.n != 4 {
			t.Errorf("%d first frames and %d others of four answers", m.first.n, m.frame.n)
		}
	}, fakes(1)...)
}

func TestFirstByte_IsWhatHardlyAnyAnswerExceeds(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n := view(f).Node
		if _, ok := f.FirstByte(n, key("a"), true); ok {
			t.Error("known without an answer")
		}
		for i := range 100 {
			f.Report(n, Outcome{Kind: OK, Model: key("a"), Resident: true, FirstFrame: time.Duration(100+i%10*10) * time.Millisecond})
			_, ok := f.FirstByte(n, key("a"), true)
			if want := i >= 7; ok != want {
				t.Fatalf("known after %d answers: %v", i+1, ok)
			}
		}
		if d, _ := f.FirstByte(n, key("a"), true); d < 190*time.Millisecond || d > 500*time.Millisecond {
			t.Errorf("%v for answers of 100 to 190 ms", d)
		}
		if _, ok := f.FirstByte(n, key("a"), false); ok {
			t.Error("the time of a load is known without one")
		}
		for _, s := range []int{20, 30, 25} {
			f.Report(n, Outcome{Kind: OK, Model: key("a"), FirstFrame: time.Duration(s) * time.Second})
		}
		if d, ok := f.FirstByte(n, key("a"), false); !ok || d < 30*time.Second || d > 2*time.Minute {
			t.Errorf("%v %v for loads of 20 to 30 s", d, ok)
		}
		f.Report(n, Outcome{Kind: Timeout, Model: key("a"), Resident: true, FirstFrame: time.Hour})
		if d, _ := f.FirstByte(n, key("a"), true); d > time.Second {
			t.Errorf("%v after a call that failed", d)
		}
	}, fakes(1)...)
}

func TestSpeeds_AreBoundedAndForgetNodesThatLeft(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n := view(f).Node
		f.Report(n, Outcome{Kind: OK, Model: key("a"), FirstFrame: time.Second})
		for i := range 3 * mostModels {
			f.Report(n, Outcome{Kind: OK, Model: fmt.Sprint("m", i), FirstFrame: time.Second})
		}
		if got := len(f.speeds.models); got > mostModels || f.speeds.models[key("a")] == nil {
			t.Errorf("%d models", got)
		}
		f.Configure([]NodeConfig{config("n2", all[1])}, Options{})
		if got := len(f.speeds.models[key("a")].nodes); got != 0 {
			t.Errorf("%d nodes left", got)
		}
	}, all...)
}

func BenchmarkReport(b *testing.B) {
	f := New(slog.New(slog.DiscardHandler))
	defer f.Close()
	var nodes []*Node
	for i := range 50 {
		n := NewNode(NodeConfig{Name: fmt.Sprint("n", i)})
		n.health.up = true
		n.settleLocked(f.opts.Load())
		nodes = append(nodes, n)
	}
	out := Outcome{Kind: OK, Model: "a", Resident: true, FirstFrame: time.Second, Frames: 100, Took: 3 * time.Second}
	b.Run("well/nodes=50", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			f.Report(nodes[i%len(nodes)], out)
		}
	})
}

// Calls on a node end after it has left, as with a reload. What they tell is no measure for the others,
// and is not kept: nodes come and go for as long as the process lives.
func TestWeight_OwesNothingToNodesThatAreGone(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		var nodes []*Node
		for _, v := range f.Snapshot().Nodes {
			nodes = append(nodes, v.Node)
		}
		f.Configure([]NodeConfig{config("n2", newFake(tagsOf())), config("n3", newFake(tagsOf()))}, Options{})
		for range 20 {
			answersOf(f, nodes[0], 1, 20*time.Millisecond, 2*time.Millisecond)
			answersOf(f, nodes[1], 1, time.Second, 100*time.Millisecond)
			answersOf(f, nodes[2], 1, time.Second, 100*time.Millisecond)
		}
		for _, v := range f.Snapshot().Nodes {
			if w := v.Weight(key("a")); w != 1 {
				t.Errorf("%s has weight %v, and is as fast as all that are there", v.Node.Name(), w)
			}
		}
		f.speeds.mu.Lock()
		defer f.speeds.mu.Unlock()
		if kept := len(f.speeds.models[key("a")].nodes); kept != 2 {
			t.Errorf("%d nodes are kept, want 2", kept)
		}
	}, fakes(3)...)
}
