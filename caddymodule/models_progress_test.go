package caddymodule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// told are changes after some lines.
func told(lines ...modelUpdate) *changes {
	c := new(changes)
	for _, l := range lines {
		c.take(l)
	}
	return c
}

func pulling(node, digest string, completed, total int64) modelUpdate {
	return modelUpdate{Node: node, Status: "pulling " + digest, Digest: "sha256:" + digest, Completed: completed, Total: total}
}

func TestChanges_LinesSayHowFarEachNodeIs(t *testing.T) {
	const mib = 1 << 20
	for _, test := range []struct {
		name          string
		changes       *changes
		width, height int
		want          []string
	}{
		{"nothing yet", told(), 80, 24, nil},
		{
			"each in its own state",
			told(
				modelUpdate{Node: "a", Status: "pulling manifest"},
				pulling("big-one", "aaa", 25*mib, 100*mib), pulling("big-one", "bbb", 50*mib, 50*mib),
				modelUpdate{Node: "c", Status: "success"},
				modelUpdate{Node: "d", Error: "no space\x1b[2J\nleft"},
			),
			80, 24,
			[]string{
				"a        pulling manifest",
				"big-one  [############............]  50%  75 MiB of 150 MiB  pulling bbb",
				"c        success",
				"d        failed: no space·[2J left",
			},
		},
		{"narrow", told(pulling("a", "aaa", mib, mib)), 12, 24, []string{"a  [########"}},
		{
			"too many for the terminal", told(
				modelUpdate{Node: "a", Status: "success"}, modelUpdate{Node: "b", Status: "verifying"}, modelUpdate{Node: "c", Status: "success"},
				modelUpdate{Node: "d", Error: "gone"}, modelUpdate{Node: "e", Status: "success"},
			),
			80, 5,
			[]string{"d  failed: gone", "b  verifying", "a  success", "and 2 more"},
		},
		{
			"at the end", told(
				pulling("a", "aaa", 1, 2), modelUpdate{Node: "b", Error: "gone"}, modelUpdate{Done: true, Failed: []string{"b", "silent"}},
			),
			80, 24,
			[]string{"a       success", "b       failed: gone", "silent  failed: no reason told"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.changes.lines(test.width, test.height); !slices.Equal(got, test.want) {
				t.Errorf("got\n%q, want\n%q", got, test.want)
			}
		})
	}
}

func TestChanges_ABarNeverGoesBackwards(t *testing.T) {
	c := told(pulling("a", "aaa", 90, 100))
	full := func() int { return strings.Count(c.lines(200, 24)[0], "#") }
	before := full()
	for _, l := range []modelUpdate{
		pulling("a", "aaa", 10, 100),   // begun anew
		pulling("a", "bbb", 0, 100000), // a further layer
		pulling("a", "aaa", 100, 100),
		pulling("a", "bbb", 95000, 100000),
		pulling("a", "bbb", 200000, 100000), // more than there is
	} {
		c.take(l)
		if got := full(); got < before || got > barWidth {
			t.Errorf("%v: %d of %d after %d", l, got, barWidth, before)
		}
		before = full()
	}
	if before != barWidth {
		t.Errorf("%d of %d at the end", before, barWidth)
	}
}

func TestChanges_NewsAreTheStepsAndSizesNowAndThen(t *testing.T) {
	c, now := new(changes), time.Now()
	var got strings.Builder
	for _, l := range []modelUpdate{
		{Node: "a", Status: "pulling manifest"},
		{Node: "a", Status: "pulling manifest"},
		pulling("a", "aaa", 0, 4<<20),
		pulling("a", "aaa", 1<<20, 4<<20), // a second later: nothing
		{Node: "b", Error: "no\nspace"},
		pulling("a", "aaa", 2<<20, 4<<20),
		{Node: "a", Status: "success"},
		{Done: true, Failed: []string{"b", "c"}},
	} {
		c.take(l)
		if l.Completed == 2<<20 {
			now = now.Add(newsInterval)
		}
		now = now.Add(time.Second)
		got.WriteString(c.news(l, now))
	}
	const want = `a: pulling manifest
a: pulling aaa, 0%  0 B of 4.0 MiB
b: failed: no space
a: pulling aaa, 50%  2.0 MiB of 4.0 MiB
a: success
c: failed: no reason told
`
	if got.String() != want {
		t.Errorf("got\n%s, want\n%s", got.String(), want)
	}
}

func TestChanges_AreAnErrorIfANodeFailed(t *testing.T) {
	for _, test := range []struct {
		changes *changes
		want    string
	}{
		{told(modelUpdate{Node: "a", Status: "success"}, modelUpdate{Done: true}), "<nil>"},
		{told(modelUpdate{Node: "a", Error: "x"}, modelUpdate{Node: "b", Status: "success"}, modelUpdate{Done: true}), "1 of 2 nodes failed: a"},
		{told(modelUpdate{Done: true, Failed: []string{"a", "b"}}), "2 of 2 nodes failed: a, b"},
		{told(modelUpdate{Done: true}), `no node was concerned; "models" shows which there are and what they have`},
	} {
		if got := fmt.Sprint(test.changes.err()); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

func TestFollow_ReadsToTheLastLine(t *testing.T) {
	const a = `{"node":"a","status":"success"}` + "\n"
	for _, test := range []struct{ name, answer, want string }{
		{"to its end", a + `{"done":true,"failed":[]}` + "\n", "<nil>"},
		{"what follows the end", a + `{"done":true}` + "\nx", "<nil>"},
		{"nothing", "", `the answer of x broke off; "models" shows which nodes have what now`},
		{"no last line", a, `the answer of x broke off; "models" shows which nodes have what now`},
		{"half a line", a + `{"done":tr`, `the answer of x broke off; "models" shows which nodes have what now`},
		{"no JSON", a + "404 not found", "the answer of x is not understood: "},
		{"other JSON", `["a"]`, "the answer of x is not understood: "},
		{"interrupted", a + `{"done":false,"ok":["a"],"failed":[],"error":"interrupted"}`, "the gateway at x: interrupted"},
		{"refused", `{"error":"no node is called \u001bz"}`, "the gateway at x: no node is called ·z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := new(changes).follow(strings.NewReader(test.answer), "x", func(modelUpdate) {})
			if got := fmt.Sprint(err); !strings.HasPrefix(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	broken := new(changes).follow(&failing{}, "x", func(modelUpdate) {})
	if broken == nil || !strings.Contains(broken.Error(), "broke off") {
		t.Errorf("a connection that is lost: %v", broken)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, errors.New("lost") }

func TestRedraw_WritesOverWhatWasThere(t *testing.T) {
	if got, want := redraw([]string{"a", "b"}, 0), "\ra\x1b[K\n\rb\x1b[K\n\x1b[J"; got != want {
		t.Errorf("the first time: got %q, want %q", got, want)
	}
	if got, want := redraw([]string{"a"}, 2), "\x1b[2A\ra\x1b[K\n\x1b[J"; got != want {
		t.Errorf("after two lines: got %q, want %q", got, want)
	}
}

func FuzzFollow(f *testing.F) {
	f.Add(`{"node":"a","status":"pulling x","digest":"sha256:x","total":3,"completed":1}` + "\n" + `{"done":true,"failed":["b"]}`)
	f.Add(`{"node":"a","digest":"d","total":9223372036854775807,"completed":-5}` + `{"node":"a","digest":"e","total":9223372036854775807}`)
	f.Add(strings.Repeat(`{"node":"a","digest":"d","total":4611686018427387904,"completed":4611686018427387904}`, 4))
	f.Add(`{"error":"x"}`)
	f.Fuzz(func(t *testing.T, answer string) {
		c := new(changes)
		_ = c.follow(strings.NewReader(answer), "x", func(l modelUpdate) {
			for _, line := range append(c.lines(100, 10), strings.Split(c.news(l, time.Now()), "\n")...) {
				if strings.ContainsAny(line, "\x1b\n\r") {
					t.Errorf("%q does something to a terminal", line)
				}
			}
		})
		_ = c.err()
	})
}
