package fleet

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A listing is how one node lists a name.
type listing struct {
	digest   string
	modified int // seconds after day
	down     bool
}

// mergeOne merges one name that each listing's node holds. known maps digests to identities.
func mergeOne(known map[string]string, listings ...listing) *Model {
	shows := map[string]*shown{}
	for digest, id := range known {
		shows[digest] = &shown{identity: id}
	}
	inputs := make([]input, len(listings))
	for i, l := range listings {
		n := NewNode(NodeConfig{Name: string(rune('a' + i))})
		r := &row{key: key("m"), short: "m:latest", name: "m:latest", digest: l.digest, modified: day.Add(time.Duration(l.modified) * time.Second)}
		inputs[i] = input{n, !l.down, newInventory([]*row{r})}
	}
	models, _ := merge(inputs, shows)
	return models[key("m")]
}

func TestMerge_OneMeaningAName(t *testing.T) {
	same := map[string]string{"1": "X", "2": "X"}
	two := map[string]string{"1": "X", "2": "Y"}
	for _, c := range []struct {
		name            string
		known           map[string]string
		listings        []listing
		identity        string
		nodes, drift    string
		newest, digests string
	}{
		{"one digest", map[string]string{"1": "X"}, []listing{{digest: "1"}, {digest: "1"}}, "X", "a b", "", "1", "1"},
		{"one digest, unknown", nil, []listing{{digest: "1"}, {digest: "1"}}, "", "a b", "", "1", "1"},
		{"created on each node", same, []listing{{digest: "1"}, {digest: "2", modified: 1}}, "X", "a b", "", "2", "1 2"},
		{"most nodes", two, []listing{{digest: "2", modified: 9}, {digest: "1"}, {digest: "1"}}, "X", "b c", "a", "1", "1"},
		{"tie: the newest", two, []listing{{digest: "1"}, {digest: "2", modified: 1}}, "Y", "b", "a", "2", "2"},
		{"down nodes do not vote", two, []listing{{digest: "1"}, {digest: "2", down: true}, {digest: "2", down: true}}, "X", "a", "", "1", "1"},
		{"both unknown: alike", nil, []listing{{digest: "1"}, {digest: "2", modified: 1}}, "", "a b", "", "2", "1 2"},
		{"unknown could turn it", map[string]string{"1": "X"}, []listing{{digest: "1"}, {digest: "2"}}, "", "a b", "", "1", "1 2"},
		{"unknown cannot turn it", map[string]string{"1": "X"}, []listing{{digest: "1"}, {digest: "1"}, {digest: "2"}}, "X", "a b", "", "1", "1"},
		{"unknown could help the second", two, []listing{{digest: "1"}, {digest: "1"}, {digest: "2"}, {digest: "3"}}, "", "a b d", "c", "1", "1 3"},
		{"only on nodes that are down", two, []listing{{digest: "1", down: true}}, "X", "", "", "1", "1"},
		{"no digest", nil, []listing{{}}, "", "a", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := mergeOne(c.known, c.listings...)
			if m.Identity != c.identity || nodeNames(m.Nodes) != c.nodes || strings.Join(m.Drift, " ") != c.drift ||
				m.row.digest != c.newest || strings.Join(m.Digests, " ") != c.digests {
				t.Errorf("identity %q nodes %q drift %q newest %q digests %q\nwant %q %q %q %q %q", m.Identity, nodeNames(m.Nodes),
					m.Drift, m.row.digest, m.Digests, c.identity, c.nodes, c.drift, c.newest, c.digests)
			}
		})
	}
}

func TestIdentities_TwoNodesThatCreatedTheSameModelHoldOne(t *testing.T) {
	a, b := newFake(tagsOf(tagRow("m:latest", "d1", day))), newFake(tagsOf(tagRow("m:latest", "d2", day.Add(time.Hour))))
	s := plainSpec()
	a.shows["m:latest"] = s.body("m:latest")
	s.From, s.Modified = "/elsewhere/blobs/sha256-"+blobA, day.Add(time.Hour)
	s.Parameters = "num_thread 7\nnum_ctx 2048\nstop \"x\"\ntemperature 0.5"
	b.shows["m:latest"] = s.body("m:latest")
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		m := f.Snapshot().Models[key("m")]
		if m.Identity == "" || nodeNames(m.Nodes) != "n1 n2" || len(m.Drift) != 0 || m.Parameters.NumCtx.Value != 2048 {
			t.Fatalf("%+v", m)
		}
		if len(a.shown) != 1 || len(b.shown) != 1 {
			t.Errorf("asked %v and %v, want each digest once", a.shown, b.shown)
		}
		if body, ok := f.Snapshot().ShowBody(named(t, "M")); !ok || string(body) != b.shows["m:latest"] {
			t.Errorf("show: %v %s", ok, body)
		}
		// Another system prompt on the second makes it another model, which is newer.
		s.System, s.Modified = "be rude", day.Add(2*time.Hour)
		b.set(func(n *fake) {
			n.tags = tagsOf(tagRow("m:latest", "d3", s.Modified))
			n.shows["m:latest"] = s.body("m:latest")
		})
		pass(40 * time.Second)
		m = f.Snapshot().Models[key("m")]
		if m.Identity == "" || nodeNames(m.Nodes) != "n2" || strings.Join(m.Drift, " ") != "n1" {
			t.Errorf("after the change: %+v", m)
		}
	}, a, b)
}

func TestIdentities_DigestOnManyNodesIsAskedOnce(t *testing.T) {
	var fakes []*fake
	for range 10 {
		n := newFake(tagsOf(tagRow("m:latest", "d1", day), tagRow("copy:latest", "d1", day)))
		n.shows["m:latest"] = plainSpec().body("m:latest")
		n.shows["copy:latest"] = plainSpec().body("copy:latest")
		fakes = append(fakes, n)
	}
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(time.Hour)
		asked := 0
		for _, n := range fakes {
			asked += n.count("/api/show")
		}
		s := f.Snapshot()
		if asked != 1 || s.Models[key("m")].Identity == "" || s.Models[key("m")].Identity != s.Models[key("copy")].Identity {
			t.Errorf("asked %d times; %+v", asked, s.Models[key("m")])
		}
	}, fakes...)
}

func TestIdentities_ShowThatFailsIsTheManifestUntilItIsAskedAgain(t *testing.T) {
	n := newFake(tagsOf(tagRow("m:latest", "d1", day)))
	n.mode = only("/api/show", status(500))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if id := f.Snapshot().Models[key("m")].Identity; id != "d1" {
			t.Fatalf("identity %q, want the manifest's digest", id)
		}
		pass(time.Hour)
		if asked := n.count("/api/show"); asked < 5 || asked > 12 {
			t.Errorf("asked %d times in an hour", asked)
		}
		n.set(func(n *fake) { n.mode = nil; n.shows["m:latest"] = plainSpec().body("m:latest") })
		pass(retryLast + time.Minute)
		if id := f.Snapshot().Models[key("m")].Identity; len(id) != 64 {
			t.Errorf("identity %q after it was answered", id)
		}
	}, n)
}

// The tags are of before the model was created anew, the show is of after.
func TestIdentities_AnswerOfAnotherManifestIsNotBelieved(t *testing.T) {
	n := newFake(tagsOf(tagRow("m:latest", "d1", day)))
	s := plainSpec()
	s.Modified = day.Add(time.Hour)
	n.shows["m:latest"] = s.body("m:latest")
	n.mode = only("/api/show", func(*http.Request) (*http.Response, error) { time.Sleep(100 * time.Millisecond); return nil, nil })
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		pass(200 * time.Millisecond)
		m := f.Snapshot().Models[key("m")]
		if m.Identity != "d1" || m.show != nil {
			t.Errorf("%+v", m)
		}
		n.set(func(n *fake) { n.tags = tagsOf(tagRow("m:latest", "d2", s.Modified)) })
		pass(2 * time.Second) // the answer has its models asked soon
		if m := f.Snapshot().Models[key("m")]; len(m.Identity) != 64 {
			t.Errorf("%+v", m)
		}
	}, n)
}

func TestIdentities_HostedModelIsNotAskedFor(t *testing.T) {
	n := newFake(tagsOf(tagRow("big:120b-cloud", "d1", day)))
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		if n.count("/api/show") != 0 {
			t.Error("asked for a model that is elsewhere")
		}
		if m := f.Snapshot().Models[key("big:120b-cloud")]; m == nil || m.Identity != "d1" {
			t.Errorf("%+v", m)
		}
	}, n)
}

func TestIdentities_ShowThatHangsHoldsUpNothing(t *testing.T) {
	n := newFake(tagsOf(tagRow("m:latest", "d1", day)))
	n.mode = only("/api/show", hang)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		m := f.Snapshot().Models[key("m")]
		if m.Identity != "" || nodeNames(m.Nodes) != "n1" {
			t.Errorf("while it is asked: %+v", m)
		}
		pass(time.Minute)
		if v := view(f); v.State != Up || f.Snapshot().Models[key("m")].Identity != "d1" {
			t.Errorf("%v, %+v", v.State, f.Snapshot().Models[key("m")])
		}
	}, n)
}

func TestIdentities_WhatNobodyListsIsForgotten(t *testing.T) {
	n := newFake(tagsOf(tagRow("m:latest", "d1", day)))
	n.shows["m:latest"] = plainSpec().body("m:latest")
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n.set(func(n *fake) { n.tags = tagsOf() })
		pass(40 * time.Second)
		f.models.mu.Lock()
		defer f.models.mu.Unlock()
		if len(f.models.known) != 0 || f.models.kept != 0 {
			t.Errorf("%d known, %d bytes", len(f.models.known), f.models.kept)
		}
	}, n)
}

func TestIdentities_FewAreAskedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rows []string
		for i := range 40 {
			rows = append(rows, tagRow("m"+string(rune('a'+i%26))+string(rune('a'+i/26)), string(rune('A'+i)), day))
		}
		n := newFake(tagsOf(rows...))
		n.mode = only("/api/show", hang)
		f := New(slog.New(slog.DiscardHandler))
		defer f.Close()
		f.Configure([]NodeConfig{config("n1", n)}, Options{})
		synctest.Wait()
		if got := n.count("/api/show"); got != showers {
			t.Errorf("%d shows at once, want %d", got, showers)
		}
	})
}
