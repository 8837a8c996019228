package fleet

import (
	"fmt"
	"testing"
	"time"
)

func TestCompareVersions(t *testing.T) {
	ordered := []string{"", "0.9.1", "0.24.0-rc1", "0.24.0-rc2", "0.24.0", "0.24.1", "0.33.0", "1.0", "v1.0.1"}
	for i, a := range ordered {
		for j, b := range ordered {
			if got := compareVersions(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%q against %q: %d", a, b, got)
			}
		}
	}
}

func TestSnapshot_VersionIsTheLowestOfTheNodesUp(t *testing.T) {
	a, b, c := newFake(tagsOf()), newFake(tagsOf()), newFake(tagsOf())
	a.version, b.version, c.version = "0.24.0", "0.9.6", "0.1.0"
	c.mode = only("/api/tags", status(500))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if v := f.Snapshot().Version; v != "0.9.6" {
			t.Errorf("version %q", v)
		}
		b.set(func(n *fake) { n.version = "0.30.0" })
		pass(6 * time.Second)
		if v := f.Snapshot().Version; v != "0.24.0" {
			t.Errorf("version %q after the upgrade", v)
		}
	}, a, b, c)
}

func TestNodeViewRunner_ByDigestThenByName(t *testing.T) {
	v := NodeView{Runners: []Runner{{Key: "a", Digest: "old"}, {Key: "b", Digest: "new"}}}
	for _, c := range []struct {
		model Model
		want  string
	}{
		{Model{Key: "a", Digests: []string{"new"}}, "b"},
		{Model{Key: "a", Digests: []string{"newer"}}, "a"},
		{Model{Key: "c", Digests: []string{"newer"}}, ""},
	} {
		if r, ok := v.Runner(&c.model); r.Key != c.want || ok != (c.want != "") {
			t.Errorf("%+v: got %q %v", c.model, r.Key, ok)
		}
	}
}

// A fleet of 50 nodes that hold 200 models each. models merges all of them, as after a change
// of an inventory; runners is what each end of a call costs.
func BenchmarkSnapshot(b *testing.B) {
	const nodes, models = 50, 200
	for _, digests := range []string{"pulled", "created"} {
		ids := &identities{known: map[string]*shown{}}
		var all []*Node
		for i := range nodes {
			n := NewNode(NodeConfig{Name: fmt.Sprintf("n%d", i)})
			rows := make([]*row, models)
			for j := range rows {
				digest := fmt.Sprintf("%064d", j)
				if digests == "created" {
					digest = fmt.Sprintf("%032d%032d", i, j)
				}
				name := fmt.Sprintf("model%d", j)
				ids.known[digest] = &shown{identity: fmt.Sprintf("identity-%064d", j), key: key(name)}
				rows[j] = &row{key: key(name), short: name + ":latest", name: name, digest: digest, modified: day.Add(time.Duration(j) * time.Second)}
			}
			n.facts.Store(&facts{state: Up, checked: true, version: "0.24.0", tags: newInventory(rows)})
			all = append(all, n)
		}
		b.Run("models/"+digests, func(b *testing.B) {
			var built build
			b.ReportAllocs()
			for b.Loop() {
				built.models = nil
				if s, _, _ := built.next(all, true, ids); len(s.Models) != models {
					b.Fatal(len(s.Models))
				}
			}
		})
		b.Run("runners/"+digests, func(b *testing.B) {
			var built build
			b.ReportAllocs()
			for b.Loop() {
				if s, _, _ := built.next(all, true, ids); len(s.Models) != models {
					b.Fatal(len(s.Models))
				}
			}
		})
	}
}
