package fleet

import (
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// fakes are n nodes that are well by their checks and have model a.
func fakes(n int) []*fake {
	all := make([]*fake, n)
	for i := range all {
		all[i] = newFake(tagsOf(tagRow("a:latest", "d1", day)))
	}
	return all
}

// faults reports faults of a node in a row.
func faults(f *Fleet, n *Node, count int, k Kind) {
	for range count {
		f.Report(n, Outcome{Kind: k, Err: errLost})
	}
}

// until lets time go by until the first node is in a state, a minute past the longest ejection
// at most.
func until(t *testing.T, f *Fleet, s State) {
	t.Helper()
	for range 36000 {
		if view(f).State == s {
			return
		}
		pass(10 * time.Millisecond)
	}
	t.Fatalf("still %v, want %v", view(f).State, s)
}

func TestReport_WhatEjects(t *testing.T) {
	for _, c := range []struct {
		name  string
		kind  Kind
		count int
		want  State
	}{
		{"tls", TLS, 5, Down}, // a failed check each
		{"reset", Reset, 5, Ejected},
		{"5xx", Status5xx, 5, Ejected},
		{"timeout", Timeout, 5, Ejected},
		{"protocol", Protocol, 5, Ejected},
		{"truncated", Truncated, 5, Ejected},
		{"four 5xx", Status5xx, 4, Up},
		{"busy", Busy, 100, Up},
		{"missing", Missing, 100, Up},
		{"refused", Refused, 100, Up},
		{"canceled", Canceled, 100, Up},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				faults(f, view(f).Node, c.count, c.kind)
				if v := view(f); v.State != c.want || v.State == Ejected && v.Reason != reasons[c.kind] {
					t.Errorf("after %d: %v %q, want %v %q", c.count, v.State, v.Reason, c.want, reasons[c.kind])
				}
			}, fakes(2)...)
		})
	}
}

func TestReport_AnAnswerEndsARowOfFaults(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		for range 20 {
			faults(f, view(f).Node, 4, Status5xx)
			for range 40 { // or it would be the part of faults that ejects it
				f.Report(view(f).Node, Outcome{Kind: OK})
			}
		}
		if v := view(f); v.State != Up || v.Load != 0 {
			t.Errorf("%v with load %d", v.State, v.Load)
		}
	}, fakes(2)...)
}

// Row 19: a node that passes its checks and fails its calls stays out, but for one call after
// each ejection.
func TestEjected_PassedChecksDoNotEndIt(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		node := view(f).Node
		faults(f, node, 5, Timeout)
		v := view(f)
		if left := time.Until(v.Until); left < 27*time.Second || left > 30*time.Second {
			t.Fatalf("ejected for %v", left)
		}
		for end := v.Until; time.Now().Before(end.Add(-20 * time.Millisecond)); pass(10 * time.Millisecond) {
			if view(f).State != Ejected {
				t.Fatalf("%v %v before the end", view(f).State, time.Until(end))
			}
			f.Answered(node)
		}
		until(t, f, HalfOpen)
		pass(time.Hour)
		if v := view(f); v.State != HalfOpen || !v.Trial() || !v.Usable() {
			t.Errorf("%v after an hour without a call", v.State)
		}
	}, fakes(2)...)
}

func TestHalfOpen_TheEndOfOneCallDecides(t *testing.T) {
	for _, c := range []struct {
		name string
		out  Outcome
		want State
	}{
		{"answered", Outcome{Kind: OK, Took: 5 * time.Second}, Probation},
		{"failed", Outcome{Kind: Status5xx, Took: time.Second}, Ejected},
		{"busy", Outcome{Kind: Busy}, HalfOpen},
		{"missing", Outcome{Kind: Missing, Model: "a"}, HalfOpen},
		{"the client's affair", Outcome{Kind: Refused}, HalfOpen},
		{"left", Outcome{Kind: Canceled}, HalfOpen},
		{"an old call was answered", Outcome{Kind: OK, Took: time.Minute}, HalfOpen},
		{"an old call failed", Outcome{Kind: Reset, Took: time.Minute}, HalfOpen},
		{"refused", Outcome{Kind: Connect, Err: syscall.ECONNREFUSED}, Down},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				faults(f, view(f).Node, 5, Status5xx)
				until(t, f, HalfOpen)
				pass(10 * time.Second)
				f.Report(view(f).Node, c.out)
				if v := view(f); v.State != c.want {
					t.Errorf("%v, want %v", v.State, c.want)
				}
			}, fakes(2)...)
		})
	}
}

// Row 20.
func TestEjected_GrowsUpToTheCapAndIsForgotten(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		node := view(f).Node
		faults(f, node, 5, Status5xx)
		for n := 1; n < 30; n++ {
			want := min(5*time.Minute, time.Duration(n)*30*time.Second)
			if left := time.Until(view(f).Until); left > want || left < want-want/10 {
				t.Fatalf("ejection %d lasts %v, want about %v", n, left, want)
			}
			until(t, f, HalfOpen)
			faults(f, node, 1, Status5xx)
		}
		if n := view(f).Ejections; n != 10 {
			t.Errorf("%d ejections remembered, want 10", n)
		}
		until(t, f, HalfOpen)
		f.Report(node, Outcome{Kind: OK})
		pass(5*9*time.Minute + 10*time.Second)
		if n := view(f).Ejections; n != 1 {
			t.Errorf("%d ejections remembered after 45 healthy minutes, want 1", n)
		}
		pass(5 * time.Minute)
		faults(f, node, 5, Status5xx)
		if left := time.Until(view(f).Until); left > 30*time.Second {
			t.Errorf("ejected for %v after it was all forgotten", left)
		}
	}, fakes(2)...)
}

func TestEjected_ForDialsAloneEndsWithPassedChecks(t *testing.T) {
	inBubble(t, Options{Fails: 100}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 5, Connect)
		if v := view(f); v.State != Ejected || v.Reason != "unreachable" {
			t.Fatalf("%v %q", v.State, v.Reason)
		}
		pass(2 * time.Second)
		if v := view(f); v.State != Probation || v.Reason != "was ejected" {
			t.Errorf("%v %q two seconds later, want probation", v.State, v.Reason)
		}
		f.Report(view(f).Node, Outcome{Kind: OK})
		pass(time.Minute)
		faults(f, view(f).Node, 4, Connect)
		faults(f, view(f).Node, 1, Timeout)
		pass(10 * time.Second)
		if v := view(f); v.State != Ejected {
			t.Errorf("%v: passed checks ended an ejection that a failed call had part in", v.State)
		}
	}, fakes(2)...)
}

func TestEjected_ARestartEndsIt(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 5, Status5xx)
		all[0].set(func(n *fake) { n.mode = refuse })
		until(t, f, Down)
		all[0].set(func(n *fake) { n.mode = nil })
		pass(2 * time.Second)
		if v := view(f); v.State != Probation || v.Ejections != 1 {
			t.Errorf("%v with %d ejections remembered", v.State, v.Ejections)
		}
	}, all...)
}

func TestEjected_AHangDoesNotEndIt(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{EjectBase: 5 * time.Minute}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 5, Status5xx)
		all[0].set(func(n *fake) { n.mode = hang })
		until(t, f, Down)
		all[0].set(func(n *fake) { n.mode = nil })
		pass(10 * time.Second)
		if v := view(f); v.State != Ejected {
			t.Errorf("%v, want ejected as before", v.State)
		}
	}, all...)
}

func TestEjected_SingleNodeNever(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 100, Status5xx)
		if v := view(f); v.State != Up || v.Load != 5 {
			t.Errorf("%v with load %d", v.State, v.Load)
		}
	}, fakes(1)...)
}

// A fateStep is one thing that happens to a node of a fleet.
type fateStep struct {
	Node, Do, Count int
	Kind            Kind
	Wait            time.Duration
}

// Whatever is reported, drained, resumed and waited for: of the nodes never more than half are
// out for long, and one of those not drained is always there to be used.
func TestEjected_NeverMoreThanHalf(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		nodes := rapid.IntRange(1, 7).Draw(rt, "nodes")
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) fateStep {
			return fateStep{
				Node: rapid.IntRange(0, nodes-1).Draw(rt, "node"), Do: rapid.IntRange(0, 6).Draw(rt, "do"),
				Count: rapid.IntRange(1, 6).Draw(rt, "count"),
				Kind:  rapid.SampledFrom([]Kind{Reset, Status5xx, Timeout, Protocol, Truncated}).Draw(rt, "kind"),
				Wait:  time.Duration(rapid.IntRange(1, 60).Draw(rt, "seconds")) * time.Second,
			}
		}), 1, 60).Draw(rt, "steps")
		var wrong string
		synctest.Test(t, func(*testing.T) { wrong = tempt(nodes, steps) })
		if wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// tempt leads a fleet through steps and says what promise was broken.
func tempt(nodes int, steps []fateStep) (wrong string) {
	f := New(slog.New(slog.DiscardHandler))
	defer f.Close()
	var configs []NodeConfig
	for i, n := range fakes(nodes) {
		configs = append(configs, config(fmt.Sprint("n", i), n))
	}
	f.Configure(configs, Options{Interval: time.Hour, PsInterval: time.Hour, TagsInterval: time.Hour})
	synctest.Wait()
	for i, step := range steps {
		n := f.Snapshot().Nodes[step.Node].Node
		switch step.Do {
		case 0, 1, 2:
			faults(f, n, step.Count, step.Kind)
		case 3:
			f.Report(n, Outcome{Kind: OK})
		case 4:
			pass(step.Wait)
		case 5:
			_ = f.Drain(n.Name())
		case 6:
			_ = f.Resume(n.Name())
		}
		ejected, usable, drained := 0, 0, 0
		for _, v := range f.Snapshot().Nodes {
			switch {
			case v.Draining:
				drained++
			case v.Node.facts.Load().ejected:
				ejected++
			}
			if v.Usable() || v.LastResort {
				usable++
			}
		}
		if 2*ejected > nodes {
			return fmt.Sprintf("step %d: %d of %d are ejected", i, ejected, nodes)
		}
		if usable == 0 && drained < nodes {
			return fmt.Sprintf("step %d: none of %d is usable, %d drained", i, nodes, drained)
		}
	}
	return ""
}

// While half of the fleet is out, a further node that fails gets one call a second, not those of
// all its slots: failing fast must not draw calls.
func TestEjected_BeyondHalfOnlyBriefly(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		nodes := f.Snapshot().Nodes
		faults(f, nodes[2].Node, 5, Status5xx)
		faults(f, nodes[3].Node, 5, Status5xx)
		for range 5 {
			faults(f, nodes[0].Node, 5, Status5xx)
			v := view(f)
			if left := time.Until(v.Until); v.State != Ejected || left <= 0 || left > time.Second || v.Ejections != 0 {
				t.Fatalf("%v for %v, %d remembered; want about a second, unremembered", v.State, left, v.Ejections)
			}
			pass(time.Second)
			if view(f).State != HalfOpen {
				t.Fatalf("%v a second later", view(f).State)
			}
		}
		// The last one stays: without it nobody is served.
		faults(f, nodes[0].Node, 1, Status5xx)
		faults(f, nodes[1].Node, 100, Status5xx)
		if v := f.Snapshot().Nodes[1]; v.State != Up {
			t.Errorf("the last node is %v", v.State)
		}
		f.Report(nodes[2].Node, Outcome{Kind: OK})
		if v := f.Snapshot().Nodes[2]; v.State != Probation || !v.Usable() {
			t.Errorf("%v though it has answered a call", v.State)
		}
	}, fakes(4)...)
}

func TestReport_ConnectionsLostTogetherAreOneFaultAndProbation(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		node := view(f).Node
		f.Loaded(node, key("a"), ctxOf(4096))
		pass(10 * time.Second)
		for range 50 {
			f.Report(node, Outcome{Kind: Reset, Took: 5 * time.Second})
		}
		v := view(f)
		if v.State != Probation || v.Reason != "connections lost" || len(v.Runners) != 0 {
			t.Fatalf("%v %q, runners %v", v.State, v.Reason, v.Runners)
		}
		if calls, ok := v.Limit(); !ok || calls != 1 {
			t.Errorf("limit %d %v", calls, ok)
		}
		pass(time.Hour)
		if view(f).State != Probation {
			t.Error("up though nothing has been loaded there since")
		}
		f.Loaded(node, key("a"), ctxOf(4096))
		if v := view(f); v.State != Up {
			t.Errorf("%v after a load an hour later", v.State)
		}
	}, fakes(2)...)
}

func TestReport_ConnectionsLostTogetherCountOnceTowardsAnEjection(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 3, Status5xx)
		pass(time.Second)
		for range 2 {
			f.Report(view(f).Node, Outcome{Kind: Reset, Took: time.Second / 2})
		}
		if v := view(f); v.State != Probation {
			t.Errorf("%v %q", v.State, v.Reason)
		}
	}, fakes(2)...)
}

func TestReport_OneLostConnectionIsNoProbation(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		for range 10 {
			f.Report(view(f).Node, Outcome{Kind: Reset, Took: time.Second})
			for range 10 {
				f.Report(view(f).Node, Outcome{Kind: OK, Took: 3 * time.Second})
			}
		}
		if v := view(f); v.State != Up {
			t.Errorf("%v", v.State)
		}
	}, fakes(2)...)
}

func TestReport_FastFailuresCountAsLoadForAWhile(t *testing.T) {
	for _, k := range []Kind{Status5xx, Busy} {
		inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
			for i := 1; i < 4; i++ {
				f.Report(view(f).Node, Outcome{Kind: k})
				if v := view(f); v.Load != i {
					t.Errorf("load %d after %d", v.Load, i)
				}
			}
			pass(4 * time.Second)
			f.Report(view(f).Node, Outcome{Kind: k})
			pass(4 * time.Second)
			if v := view(f); v.Load != 4 {
				t.Errorf("load %d four seconds after the last", v.Load)
			}
			pass(time.Second)
			if v := view(f); v.Load != 0 {
				t.Errorf("load %d five seconds after the last", v.Load)
			}
		}, fakes(2)...)
	}
}

func TestReport_ABusyNodeIsFullForASecond(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		f.Report(view(f).Node, Outcome{Kind: Busy})
		pass(990 * time.Millisecond)
		if v := view(f); !v.Full || v.State != Up {
			t.Errorf("full %v, %v", v.Full, v.State)
		}
		pass(20 * time.Millisecond)
		if view(f).Full {
			t.Error("full for more than a second")
		}
	}, fakes(2)...)
}

// Row 20: a node that comes and goes every second is down most of the time.
func TestState_FlappingNodeChangesItsStateRarely(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		changes, last := 0, Up
		for second := range 600 {
			all[0].set(func(n *fake) {
				if n.mode = nil; second%2 == 0 {
					n.mode = refuse
				}
			})
			for range 10 {
				pass(100 * time.Millisecond)
				if s := view(f).State; s != last {
					changes, last = changes+1, s
				}
			}
		}
		if changes > 10 {
			t.Errorf("%d changes in ten minutes", changes)
		}
		all[0].set(func(n *fake) { n.mode = nil })
		pass(40 * time.Second)
		if v := view(f); !v.Usable() {
			t.Error("not used again though it has been steady for 40 s")
		}
	}, all...)
}

func TestReport_ChangesAreLoggedOnceWithTheirReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out logged
		f := New(slog.New(slog.NewTextHandler(&out, nil)))
		defer f.Close()
		all := fakes(2)
		f.Configure([]NodeConfig{config("n1", all[0]), config("n2", all[1])}, Options{SlowStart: 10 * time.Second})
		pass(time.Second)
		node := view(f).Node
		faults(f, node, 30, Timeout)
		until(t, f, HalfOpen)
		pass(time.Minute)
		faults(f, node, 1, Protocol)
		until(t, f, HalfOpen)
		f.Report(node, Outcome{Kind: OK})
		pass(time.Minute)
		if err := f.Drain("n1"); err != nil {
			t.Fatal(err)
		}
		if err := f.Resume("n1"); err != nil {
			t.Fatal(err)
		}
		want := []string{
			`state=up reason=""`, `state=ejected reason=timeout`, `state=half_open reason=timeout`,
			`state=ejected reason="not an Ollama server"`, `state=half_open reason="not an Ollama server"`,
			`state=probation reason="was ejected"`, `state=up reason=""`, `state=draining reason="by the operator"`, `state=up reason=""`,
		}
		var got []string
		for _, line := range out.lines() {
			if strings.Contains(line, "node=n1") {
				got = append(got, line)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("line %d: %s, want %s", i, got[i], want[i])
			}
		}
	})
}
