package fleet

import (
	"errors"
	"testing"
	"time"
)

func TestDrain_TakesOutUntilResume(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if err := f.Drain("n1"); err != nil {
			t.Fatal(err)
		}
		v := view(f)
		if v.State != Draining || v.Reason != "by the operator" || v.Usable() || !v.Draining || !v.State.Alive() {
			t.Errorf("drained: %+v", v)
		}
		faults(f, v.Node, 50, Reset)
		pass(time.Hour)
		if v := view(f); v.State != Draining {
			t.Errorf("%v an hour later", v.State)
		}
		if err := f.Resume("n1"); err != nil {
			t.Fatal(err)
		}
		if v := view(f); v.State != Up {
			t.Errorf("%v after Resume", v.State)
		}
	}, fakes(2)...)
}

func TestDrain_UnknownNameIsAnError(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if err := f.Drain("n3"); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("Drain: %v", err)
		}
		if err := f.Resume("n3"); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("Resume: %v", err)
		}
		if err := f.Resume("n1"); err != nil {
			t.Errorf("Resume of a node that is not drained: %v", err)
		}
	}, fakes(1)...)
}

func TestDrain_OutlivesAReloadWhateverChanges(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if err := f.Drain("n1"); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"", "tls"} {
			c := config("n1", all[0])
			c.Key = key
			f.Configure([]NodeConfig{config("n2", all[1])}, Options{})
			if err := f.Drain("n1"); !errors.Is(err, ErrUnknownNode) {
				t.Errorf("Drain of a node that is gone: %v", err)
			}
			f.Configure([]NodeConfig{c, config("n2", all[1])}, Options{})
			pass(time.Second)
			if v := view(f); v.State != Draining {
				t.Errorf("key %q: %v after the reload", key, v.State)
			}
		}
	}, all...)
}

func TestDrain_RestartedMeanwhileIsOnProbationAfterResume(t *testing.T) {
	all := fakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if err := f.Drain("n1"); err != nil {
			t.Fatal(err)
		}
		all[0].set(func(n *fake) { n.mode = refuse })
		until(t, f, Down)
		if v := view(f); !v.Draining {
			t.Error("it is not seen that it is drained while it is down")
		}
		all[0].set(func(n *fake) { n.mode = nil })
		until(t, f, Draining)
		if err := f.Resume("n1"); err != nil {
			t.Fatal(err)
		}
		if v := view(f); v.State != Probation {
			t.Errorf("%v after Resume", v.State)
		}
	}, all...)
}

func TestDrain_EndsAnEjection(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 5, Timeout)
		if err := f.Drain("n1"); err != nil {
			t.Fatal(err)
		}
		if err := f.Resume("n1"); err != nil {
			t.Fatal(err)
		}
		if v := view(f); v.State != Probation || v.Reason != "was ejected" {
			t.Errorf("%v %q", v.State, v.Reason)
		}
	}, fakes(2)...)
}
