package fleet

import (
	"slices"
	"testing"
	"time"
)

func TestReplaced_IsToldBeforeASnapshotShowsIt(t *testing.T) {
	n := newFake(tagsOf(tagRow("a:latest", "d1", day), tagRow("b:latest", "d2", day)))
	n.shows["a:latest"], n.shows["b:latest"] = plainSpec().body("a"), plainSpec().body("b")
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Second)
		was := f.Snapshot().Models[key("a")].Identity
		if was == "" {
			t.Fatal("the identity is not known")
		}
		var told []string
		f.OnReplaced(func(identities []string) {
			told = append(told, identities...)
			if now := f.Snapshot().Models[key("a")].Digests; !slices.Equal(now, []string{"d1"}) {
				t.Errorf("told when %v was shown already", now)
			}
		})
		pass(time.Minute)
		if told != nil {
			t.Errorf("told of %v, and nothing has changed", told)
		}
		n.set(func(n *fake) { n.tags = tagsOf(tagRow("a:latest", "d3", day.Add(time.Hour))) })
		pass(40 * time.Second)
		if !slices.Equal(told, []string{was}) {
			t.Errorf("told of %v, want %v once", told, was)
		}
	}, n)
}

func TestVersionOf_IsTheNewestThatCanServe(t *testing.T) {
	both := tagsOf(tagRow("a:latest", "d1", day))
	old, new := newFake(both), newFake(both)
	new.version = "0.25.0"
	other := newFake(tagsOf(tagRow("b:latest", "d2", day)))
	other.version = "0.26.0"
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Second)
		s := f.Snapshot()
		if v := s.VersionOf(s.Models[key("a")]); v != "0.25.0" {
			t.Errorf("version %s, want 0.25.0", v)
		}
		new.set(func(n *fake) { n.mode = refuse })
		pass(30 * time.Second)
		s = f.Snapshot()
		if v := s.VersionOf(s.Models[key("a")]); v != "0.24.0" {
			t.Errorf("version %s, want that of the node that is left", v)
		}
		old.set(func(n *fake) { n.mode = refuse })
		pass(30 * time.Second)
		s = f.Snapshot()
		if m := s.Models[key("a")]; len(m.Nodes) != 0 || s.VersionOf(m) != "0.25.0" {
			t.Errorf("%d nodes, version %s, want the newest of those that are down", len(m.Nodes), s.VersionOf(m))
		}
		if v := s.VersionAt(s.Nodes[1].Node.Name()); v != "0.25.0" || s.VersionAt("nobody") != "" {
			t.Errorf("at the node: %s", v)
		}
	}, old, new, other)
}

func TestShow_TellsHowAModelIsSampledAndDated(t *testing.T) {
	spec := plainSpec()
	spec.Parameters, spec.Template = "temperature                    0\nseed 5", "{{ currentDate }}"
	s, err := parseShow([]byte(spec.body("a")), &row{key: "k", digest: "d", modified: day})
	if err != nil {
		t.Fatal(err)
	}
	if !s.sampling.Deterministic() || s.sampling.Seed.Value != 5 || !s.dated {
		t.Errorf("%+v, dated %v", s.sampling, s.dated)
	}
}

// Who holds a model of before asks a snapshot that may have no nodes at all: a reload has brought a
// discovery that has found nothing yet.
func TestVersionOf_IsUnknownWithoutNodes(t *testing.T) {
	if v := (&Snapshot{}).VersionOf(&Model{Nodes: []*Node{NewNode(NodeConfig{Name: "gone"})}}); v != "" {
		t.Errorf("version %q, want none", v)
	}
}
