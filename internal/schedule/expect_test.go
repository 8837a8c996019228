package schedule

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// turns are steps of a conversation of 1,000 bytes each.
func turns(hashes ...uint64) (t []wire.Turn) {
	for i, h := range hashes {
		t = append(t, wire.Turn{Hash: h, Bytes: 1000 * (i + 1)})
	}
	return t
}

func TestKnown_TellsTheLongestBeginning(t *testing.T) {
	k := &known{steps: make(map[uint64]uint64)}
	k.add(turns(1, 2, 3))
	k.add(turns(1, 2, 30))
	for _, c := range []struct {
		asked []wire.Turn
		want  int
	}{
		{turns(1, 2, 3, 4), 3000}, {turns(1, 2, 30, 40, 50), 3000}, {turns(1, 2, 300), 2000}, {turns(1), 1000}, {turns(9, 8), 0}, {nil, 0},
	} {
		if got := k.match(c.asked); got != c.want {
			t.Errorf("%v: %d bytes, want %d", c.asked, got, c.want)
		}
	}
	if (*known)(nil).match(turns(1)) != 0 {
		t.Error("a runner that has worked on nothing knows something")
	}
}

func TestKnown_IsBoundedAndForgetsTheOldest(t *testing.T) {
	k := &known{steps: make(map[uint64]uint64)}
	for i := range uint64(5 * mostKnown) {
		k.add(turns(2*i, 2*i+1))
		if len(k.steps) > mostKnown {
			t.Fatalf("%d steps remembered", len(k.steps))
		}
	}
	if k.match(turns(2*(5*mostKnown-1))) == 0 || k.match(turns(0)) != 0 {
		t.Error("not the newest are remembered")
	}
}

// everywhere is a queue before nodes of some slots that all have model a loaded.
func everywhere(n, slots int) (*Queue, *fakeFleet, []*fleet.Node) {
	all := nodes(n, slots)
	q, f := newQueue(inState(all, func(*fleet.NodeView) {}), Options{})
	return q, f, all
}

func TestChoice_AConversationGoesOnWhereItBegan(t *testing.T) {
	q, f, all := everywhere(3, 4)
	acquire(t, q, Ask{Model: "a"}).Release()
	blocker := acquire(t, q, Ask{Model: "a"}) // on the first
	first := acquire(t, q, Ask{Model: "a", Turns: turns(1, 2, 3, 4, 5, 6, 7, 8)})
	if first.Node == blocker.Node {
		t.Fatal("it began where another call runs")
	}
	first.Release()
	blocker.Release()
	next := acquire(t, q, Ask{Model: "a", Turns: turns(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)})
	if next.Node != first.Node || next.Reason != ChoicePrefix {
		t.Errorf("granted %s for %q, want %s for its prefix", next.Node.Name(), next.Reason, first.Node.Name())
	}
	next.Release()
	// What is unloaded remembers nothing.
	f.set(snapshot(all, []string{"a"}, nil))
	f.set(inState(all, func(*fleet.NodeView) {}))
	if g := acquire(t, q, Ask{Model: "a", Turns: turns(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)}); g.Reason == ChoicePrefix {
		t.Error("a prefix is known to a runner that was loaded a moment ago")
	}
}

func TestChoice_APrefixIsNotWorthACrowd(t *testing.T) {
	q, _, _ := everywhere(2, 8)
	conversation := turns(1, 2)
	first := acquire(t, q, Ask{Model: "a", Turns: conversation})
	for range 6 {
		acquire(t, q, Ask{Model: "a", Turns: conversation})
	}
	beside := 0
	for range 4 {
		if g := acquire(t, q, Ask{Model: "a", Turns: conversation}); g.Node == first.Node {
			beside++
		}
	}
	if beside == 4 {
		t.Error("all went where the prefix is, however many ran there")
	}
}

func TestSpeed_IsLearnedFromAnswersAndDecides(t *testing.T) {
	for name, answer := range map[string]struct {
		fast, slow  wire.Totals
		first, took time.Duration // of the slow one
	}{
		"durations": {
			wire.Totals{PromptTokens: 100, Prompt: 50 * time.Millisecond, OutputTokens: 100, Eval: time.Second},
			wire.Totals{PromptTokens: 100, Prompt: 100 * time.Millisecond, OutputTokens: 100, Eval: 2 * time.Second},
			0, 0,
		},
		"a dialect without durations": {
			wire.Totals{OutputTokens: 100}, wire.Totals{OutputTokens: 100}, time.Second, 3 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, _, all := everywhere(2, 4)
				for range 2 { // both once: of equals the first, then the one that is idle
					a, b := acquire(t, q, Ask{Model: "a"}), acquire(t, q, Ask{Model: "a"})
					for _, g := range []*Grant{a, b} {
						if g.Node == all[0] {
							g.Served(answer.slow, answer.first, answer.took)
						} else {
							g.Served(answer.fast, answer.first, answer.first+(answer.took-answer.first)/2)
						}
						g.Release()
					}
				}
				slow, fast := q.Speeds(all[0])["a"], q.Speeds(all[1])["a"]
				if fast.Decode < 1.7*slow.Decode || slow.Decode < 30 {
					t.Errorf("decode speeds %.0f and %.0f, want about 50 and 100", slow.Decode, fast.Decode)
				}
				for i, want := range []*fleet.Node{all[1], all[1], all[1]} {
					if g := acquire(t, q, Ask{Model: "a"}); g.Node != want {
						t.Errorf("call %d went to %s, which is half as fast", i, g.Node.Name())
					}
				}
			})
		})
	}
}

func TestSpeed_WhatANodeHadInItsCacheSaysNothingOfIt(t *testing.T) {
	q, _, all := everywhere(1, 1)
	for _, took := range []time.Duration{100 * time.Millisecond, time.Millisecond} {
		g := acquire(t, q, Ask{Model: "a", Turns: turns(1, 2, 3)})
		g.Served(wire.Totals{PromptTokens: 100, Prompt: took}, took, took)
		g.Release()
	}
	if s := q.Speeds(all[0])["a"]; s.Prompt < 900 || s.Prompt > 1100 {
		t.Errorf("reads %.0f tokens a second, want 1000", s.Prompt)
	}
}
