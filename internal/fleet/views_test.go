package fleet

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// recorded is the body of a recorded answer.
func recorded(t *testing.T, file, id string) string {
	t.Helper()
	for _, rec := range golden.Load(t, file) {
		if rec.ID == id {
			return string(rec.Response.Body)
		}
	}
	t.Fatalf("no recording %s in %s", id, file)
	return ""
}

func TestViews_OfOneNodeAreItsOwnBytes(t *testing.T) {
	for _, id := range []string{"tags-clean", "tags-after"} {
		want := recorded(t, "models", id)
		inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
			if got := string(f.Snapshot().TagsBody(nil)); got != want {
				t.Errorf("tags %s\ngot  %s\nwant %s", id, got, want)
			}
		}, newFake(want))
	}
	for _, c := range [][2]string{{"models", "ps-copy"}, {"sched", "ps-num-ctx-over"}, {"sched", "ps-unload-while-busy"}, {"sched", "ps-after-delete-loaded"}} {
		n := newFake(tagsOf())
		n.ps = recorded(t, c[0], c[1])
		inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
			if got := string(f.Snapshot().PsBody(nil)); got != n.ps {
				t.Errorf("ps %s\ngot  %s\nwant %s", c[1], got, n.ps)
			}
		}, n)
	}
}

func TestViews_OpenAIListAndModelAreTheRecordedBytes(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		s := f.Snapshot()
		// The rows of one second come in another order in each recording.
		want := recorded(t, "general", "v1models")
		got := golden.Response{Status: 200, Body: s.ModelsBody(nil)}
		if d := golden.Compare(golden.Response{Status: 200, Body: []byte(want)}, got, golden.Options{}); len(d) != 0 || len(got.Body) != len(want) {
			t.Errorf("got  %s\nwant %s\n%v", got.Body, want, d)
		}
		for id, spelling := range map[string]string{"v1model": "tiny", "v1model-tag": "tiny:latest"} {
			want := recorded(t, "general", id)
			if got, ok := s.ModelBody(named(t, spelling)); !ok || string(got) != want {
				t.Errorf("%s: got %s, want %s", spelling, got, want)
			}
		}
		if _, ok := s.ModelBody(named(t, "nope")); ok {
			t.Error("a model that nobody has")
		}
	}, newFake(recorded(t, "general", "tags")))
}

func TestViews_ShowIsTheRecordedBytes(t *testing.T) {
	want := recorded(t, "models", "show")
	n := newFake(recorded(t, "general", "tags"))
	n.shows["tiny:latest"] = want
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		for _, spelling := range []string{"tiny", "TINY:LATEST", "library/tiny"} {
			if got, ok := f.Snapshot().ShowBody(named(t, spelling)); !ok || string(got) != want {
				t.Errorf("%s: got %s", spelling, got)
			}
		}
		if _, ok := f.Snapshot().ShowBody(named(t, "tiny2")); ok {
			t.Error("a show that failed is shown")
		}
	}, n)
}

func TestViews_EmptyFleet(t *testing.T) {
	s := &Snapshot{}
	for got, want := range map[string]string{
		string(s.TagsBody(nil)): `{"models":[]}`, string(s.PsBody(nil)): `{"models":[]}`,
		string(s.ModelsBody(nil)): "{\"object\":\"list\",\"data\":null}\n",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestViews_UnionOfTwoNodes(t *testing.T) {
	at := func(s int) time.Time { return day.Add(time.Duration(s) * time.Second) }
	older, newer := tagRow("both:latest", "d1", at(1)), tagRow("Both:latest", "d1", at(5))
	onlyA, onlyB := tagRow("a:latest", "d2", at(9)), tagRow("b:latest", "d3", at(3))
	a, b := newFake(tagsOf(onlyA, older)), newFake(tagsOf(newer, onlyB))
	soon, later := psRow("both:latest", "d1", 2048, at(60)), psRow("both:latest", "d1", 4096, at(90))
	other := psRow("b:latest", "d3", 2048, at(70))
	a.ps, b.ps = tagsOf(soon), tagsOf(later, other)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		expect := func(what string, got []byte, want string) {
			t.Helper()
			if string(got) != want {
				t.Errorf("%s\ngot  %s\nwant %s", what, got, want)
			}
		}
		s := f.Snapshot()
		expect("tags", s.TagsBody(nil), tagsOf(onlyA, newer, onlyB))
		expect("ps", s.PsBody(nil), tagsOf(later, other))
		allow := func(short string) bool { return short == "both:latest" }
		expect("tags, filtered", s.TagsBody(allow), tagsOf(newer))
		expect("ps, filtered", s.PsBody(allow), tagsOf(later))
		id := func(name string, created int) string {
			return fmt.Sprintf(`{"id":%q,"object":"model","created":%d,"owned_by":"library"}`, name, at(created).Unix())
		}
		expect("models", s.ModelsBody(nil), `{"object":"list","data":[`+id("a:latest", 9)+","+id("Both:latest", 5)+","+id("b:latest", 3)+"]}\n")
		expect("models, filtered", s.ModelsBody(func(string) bool { return false }), "{\"object\":\"list\",\"data\":null}\n")

		b.set(func(n *fake) { n.mode = refuse })
		pass(3 * time.Second)
		s = f.Snapshot()
		expect("tags without n2", s.TagsBody(nil), tagsOf(onlyA, older))
		expect("ps without n2", s.PsBody(nil), tagsOf(soon))
		if _, ok := s.ModelBody(named(t, "b")); ok {
			t.Error("a model of a node that is down")
		}
	}, a, b)
}

func TestViews_DriftIsNotShown(t *testing.T) {
	good := tagRow("m:latest", "d1", day)
	a, b, c := newFake(tagsOf(good)), newFake(tagsOf(good)), newFake(tagsOf(tagRow("m:latest", "d2", day.Add(time.Hour))))
	c.ps = tagsOf(psRow("m:latest", "d2", 2048, day.Add(time.Hour)))
	for _, n := range []*fake{a, b, c} {
		n.mode = only("/api/show", func(*http.Request) (*http.Response, error) { return respond(500, ""), nil })
	}
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		s := f.Snapshot()
		if got := string(s.TagsBody(nil)); got != tagsOf(good) {
			t.Errorf("tags %s", got)
		}
		if got := string(s.PsBody(nil)); got != `{"models":[]}` {
			t.Errorf("ps %s", got)
		}
	}, a, b, c)
}

func TestViews_NamespaceOwns(t *testing.T) {
	for spelling, want := range map[string]string{"m": "library", "Me/m:7b": "Me", "host.example/me/m": "me", "https://host/me/m": "me"} {
		if got := namespaceOf(spelling); got != want {
			t.Errorf("%s: got %q, want %q", spelling, got, want)
		}
	}
}
