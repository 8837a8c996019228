package fleet

import (
	"fmt"
	"testing"
	"time"
)

func TestLookAtModels_SnapshotShowsThemWhenItReturns(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.tags = tagsOf(tagRow("a:latest", "d1", day)) })
		f.LookAtModels(t.Context(), view(f).Node)
		if f.Snapshot().Models[key("a")] == nil {
			t.Error("a model that the node has is not shown")
		}
		n.set(func(n *fake) { n.tags = tagsOf(tagRow("a:latest", "d2", day)) })
		f.LookAtModels(t.Context(), view(f).Node) // at once, whatever the time between polls
		if got := f.Snapshot().Models[key("a")].Digests; fmt.Sprint(got) != "[d2]" {
			t.Errorf("digests %v after another look", got)
		}
	}, n)
}

func TestLookAtModels_WaitsForNoNodeForLong(t *testing.T) {
	n := newFake(tagsOf())
	inBubble(t, Options{Timeout: time.Minute}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.mode = only("/api/tags", hang) })
		asked := time.Now()
		f.LookAtModels(t.Context(), view(f).Node)
		if took := time.Since(asked); took != modelsWait {
			t.Errorf("waited %v", took)
		}
	}, n)
}

func TestHoldings_TellWhatEachNodeHasAndWhatDrifts(t *testing.T) {
	same := newFake(tagsOf(tagRow("a:latest", "d1", day), tagRow("b:latest", "d3", day)))
	also := newFake(tagsOf(tagRow("a:latest", "d1", day)))
	drifts := newFake(tagsOf(tagRow("a:latest", "d2", day)))
	for _, n := range []*fake{same, also, drifts} {
		n.shows = map[string]string{"a:latest": `{"template":"x"}`, "b:latest": `{"template":"x"}`}
	}
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Second)
		got := ""
		for _, h := range f.Holdings() {
			got += fmt.Sprintf("%s@%s=%s drift=%v alive=%v\n", h.Model, h.Node, h.Digest, h.Drift, h.Alive)
		}
		want := "a:latest@n1=d1 drift=false alive=true\na:latest@n2=d1 drift=false alive=true\na:latest@n3=d2 drift=true alive=true\nb:latest@n1=d3 drift=false alive=true\n"
		if got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		s := f.Snapshot()
		if holders := nodeNames(s.Holders(key("a"))); holders != "n1 n2 n3" {
			t.Errorf("holders of a: %s", holders)
		}
		if holders := nodeNames(s.Holders(key("b"))); holders != "n1" {
			t.Errorf("holders of b: %s", holders)
		}
	}, same, also, drifts)
}
