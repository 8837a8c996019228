package fleet

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// loadedFakes are n nodes that have model a on disk and in memory.
func loadedFakes(n int) []*fake {
	all := fakes(n)
	for _, f := range all {
		f.ps = tagsOf(psRow("a:latest", "d1", 4096, day.Add(time.Hour)))
	}
	return all
}

// opensAfter is how long the first node stays ejected.
func opensAfter(t *testing.T, f *Fleet) time.Duration {
	t.Helper()
	begun := time.Now()
	until(t, f, HalfOpen)
	return time.Since(begun)
}

func TestExercise_ANodeThatIsWellAgainIsTriedWithinTwoSeconds(t *testing.T) {
	for name, mode := range map[string]func(*http.Request) (*http.Response, error){
		"was never ill by itself": nil,
		"fails calls":             only("/api/generate", status(500)),
		"hangs in calls":          only("/api/generate", hang),
		"hangs in all":            hang,
		"lost its connections":    only("/api/generate", func(*http.Request) (*http.Response, error) { return nil, errLost }),
	} {
		t.Run(name, func(t *testing.T) {
			all := loadedFakes(2)
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				faults(f, view(f).Node, 5, Timeout)
				if mode != nil {
					all[0].set(func(n *fake) { n.mode = mode })
					pass(5*time.Second + 300*time.Millisecond) // not long enough to be down
					if s := view(f).State; s != Ejected {
						t.Fatalf("%v while it is ill", s)
					}
					all[0].set(func(n *fake) { n.mode = nil })
				}
				if d := opensAfter(t, f); d < 500*time.Millisecond || d >= 2*time.Second {
					t.Errorf("tried %v after it was well", d)
				}
				pass(200 * time.Millisecond)
				f.Report(view(f).Node, Outcome{Kind: OK, Took: 100 * time.Millisecond})
				if v := view(f); v.State != Probation || v.Ejections != 1 {
					t.Errorf("%v with %d ejections after the call that tried it", v.State, v.Ejections)
				}
				asked := all[0].count("/api/generate")
				pass(time.Minute)
				if n := all[0].count("/api/generate") - asked; n > 0 {
					t.Errorf("asked to use a model %d times after its ejection", n)
				}
			}, all...)
		})
	}
}

func TestExercise_OnePassIsNotEnough(t *testing.T) {
	all := loadedFakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		n := 0
		all[0].set(func(x *fake) {
			x.mode = only("/api/generate", func(r *http.Request) (*http.Response, error) {
				if n++; n%2 == 0 {
					return respond(500, ""), nil
				}
				return nil, nil
			})
		})
		faults(f, view(f).Node, 5, Status5xx)
		if d := opensAfter(t, f); d < 27*time.Second {
			t.Errorf("tried after %v though every second exercise failed", d)
		}
		if n < 20 {
			t.Errorf("exercised %d times", n)
		}
	}, all...)
}

// A node that passes even this and fails its calls is tried ever more rarely.
func TestExercise_ANodeThatLiesIsTriedEverMoreRarely(t *testing.T) {
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 5, Status5xx)
		tries, begun := 0, time.Now()
		for n := 1; time.Since(begun) < 10*time.Minute; n++ {
			want := min(time.Second<<(n-1), time.Duration(n)*30*time.Second)
			if d := opensAfter(t, f); d < want*8/10 || d > want+time.Second {
				t.Errorf("ejection %d lasts %v, want about %v", n, d, want)
			}
			f.Report(view(f).Node, Outcome{Kind: Status5xx})
			tries++
		}
		if tries > 10 {
			t.Errorf("tried %d times in ten minutes", tries)
		}
	}, loadedFakes(2)...)
}

func TestExercise_NothingIsLoadedByIt(t *testing.T) {
	const generate = `/api/generate {"model":"a:latest","stream":false`
	for _, c := range []struct {
		name       string
		ps         string // instead of a with 4096
		show       string
		ours       bool // we have loaded it, with num_ctx 8192
		model, tag string
		want       string // "": nothing is asked
	}{
		{name: "found", want: generate + `}`},
		{name: "ours", ours: true, ps: tagsOf(psRow("a:latest", "d1", 8192, day)), want: generate + `,"options":{"num_ctx":8192}}`},
		{name: "not loaded", ps: tagsOf()},
		{name: "another model has the name", ps: tagsOf(psRow("a:latest", "d0", 4096, day))},
		{name: "a model that is not listed", ps: tagsOf(psRow("b:latest", "d2", 4096, day))},
		{name: "found with another context than the model's", show: specOf("num_ctx 2048", "completion")},
		{name: "found with the model's context", show: specOf("num_ctx 4096", "completion"), want: generate + `}`},
		{name: "an embedding model", show: specOf("", "embedding"), want: `/api/embed {"model":"a:latest","input":[]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := loadedFakes(2)
			for _, n := range all {
				if c.ps != "" {
					n.ps = c.ps
				}
				n.shows["a:latest"] = c.show
			}
			inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
				if c.ours {
					f.Loaded(view(f).Node, key("a"), ctxOf(8192))
				}
				pass(5 * time.Second)
				faults(f, view(f).Node, 5, Status5xx)
				d := opensAfter(t, f)
				all[0].set(func(n *fake) {
					switch {
					case c.want == "" && (len(n.used) > 0 || d < 27*time.Second):
						t.Errorf("asked %q, tried after %v", n.used, d)
					case c.want != "" && (len(n.used) == 0 || slices.ContainsFunc(n.used, func(s string) bool { return s != c.want })):
						t.Errorf("asked %q, want %s", n.used, c.want)
					}
				})
			}, all...)
		})
	}
}

// specOf is an answer of /api/show.
func specOf(parameters, capability string) string {
	return fmt.Sprintf(`{"modelfile":"FROM /blobs/sha256-%s\n","parameters":%q,"capabilities":[%q]}`,
		strings.Repeat("a", 64), parameters, capability)
}

func TestExercise_TheModelWhoseCallsFailedIsAskedFor(t *testing.T) {
	all := fakes(2)
	for _, n := range all {
		n.tags = tagsOf(tagRow("a:latest", "d1", day), tagRow("b:latest", "d2", day))
		n.ps = tagsOf(psRow("a:latest", "d1", 4096, day), psRow("b:latest", "d2", 4096, day))
	}
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		for range 5 {
			f.Report(view(f).Node, Outcome{Kind: Status5xx, Model: key("b")})
		}
		opensAfter(t, f)
		all[0].set(func(n *fake) {
			if len(n.used) == 0 || !strings.Contains(n.used[0], `"b:latest"`) {
				t.Errorf("asked %q", n.used)
			}
		})
	}, all...)
}

func TestExercise_NoneForEjectionsThatEndByThemselves(t *testing.T) {
	for name, eject := range map[string]func(*Fleet){
		"for dials": func(f *Fleet) { faults(f, view(f).Node, 5, Connect) },
		"briefly": func(f *Fleet) {
			faults(f, f.Snapshot().Nodes[1].Node, 5, Status5xx)
			faults(f, view(f).Node, 5, Status5xx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := loadedFakes(3)
			inBubble(t, Options{Fails: 100, Interval: time.Minute}, func(t *testing.T, f *Fleet) {
				eject(f)
				if s := view(f).State; s != Ejected {
					t.Fatal(s)
				}
				pass(900 * time.Millisecond)
				if n := all[0].count("/api/generate"); n > 0 {
					t.Errorf("asked %d times", n)
				}
			}, all...)
		})
	}
}

func TestExercise_ANodeThatWentDownMeanwhileIsExercisedWhenItIsBack(t *testing.T) {
	all := loadedFakes(2)
	inBubble(t, Options{EjectBase: 10 * time.Minute}, func(t *testing.T, f *Fleet) {
		faults(f, view(f).Node, 5, Timeout)
		all[0].set(func(n *fake) { n.mode = hang })
		until(t, f, Down)
		asked := all[0].count("/api/generate")
		pass(10 * time.Second)
		if n := all[0].count("/api/generate") - asked; n > 0 {
			t.Errorf("asked %d times while it was down", n)
		}
		all[0].set(func(n *fake) { n.mode = nil })
		if d := opensAfter(t, f); d > 7*time.Second { // the last check hangs for 2 s, then two are passed
			t.Errorf("tried after %v", d)
		}
	}, all...)
}

func TestExercise_ARemovedNodeIsAskedNothing(t *testing.T) {
	all := loadedFakes(2)
	inBubble(t, Options{}, func(t *testing.T, f *Fleet) {
		all[0].set(func(n *fake) { n.mode = only("/api/generate", hang) })
		faults(f, view(f).Node, 5, Status5xx)
		pass(10 * time.Second)
		f.Configure([]NodeConfig{config("n2", all[1])}, Options{})
		pass(time.Second)
		asked := all[0].count("/api/generate")
		pass(time.Minute)
		if n := all[0].count("/api/generate"); n != asked || asked == 0 {
			t.Errorf("asked %d times, then %d", asked, n-asked)
		}
	}, all...)
}
