package simnode_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// big is a model of 30 MB whose weights are most of that.
func big() simnode.Model {
	return simnode.Model{
		Name: "reg.example/team/big:v1", Size: 30_000_000, Weights: strings.Repeat("ab", 32), System: "be short",
		Parameters: map[string]any{"num_ctx": 1024}, Capabilities: []string{simnode.Completion, simnode.Tools}, ParameterSize: "8B",
	}
}

const pullBig = `{"model":"reg.example/team/big:v1"}`

// huge is big in more than one part of an upload.
func huge() simnode.Model {
	m := big()
	m.Size = 250_000_000
	return m
}

func published(t *testing.T, opts registry.Options, models ...simnode.Model) *registry.Registry {
	t.Helper()
	r := registry.New(opts)
	for _, m := range models {
		if err := simnode.Publish(r, m); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// inRegistryBubble is inBubble with a node that reaches the registry by every name.
func inRegistryBubble(t *testing.T, r *registry.Registry, opts simnode.Options, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		way := simnode.NewPipe(r)
		defer way.Close()
		opts.Registry = way
		f(t, newBubble(t, opts))
	})
}

// newBubble is one more node in the bubble of the test, as long as that runs.
func newBubble(t *testing.T, opts simnode.Options) *bubble {
	node := simnode.New(opts)
	pipe := simnode.NewPipe(node)
	t.Cleanup(func() { pipe.Close(); node.Close() })
	return &bubble{t, node, pipe, time.Now()}
}

// A step is a record of a pull, a push or a create.
type step struct {
	Status, Digest, Error string
	Total, Completed      int64
}

func (a answer) steps(t *testing.T) (steps []step) {
	t.Helper()
	for line := range strings.Lines(a.body) {
		var s step
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("status %d, error %v, line %q: %v", a.status, a.err, line, err)
		}
		steps = append(steps, s)
	}
	return steps
}

// outcome is the last status, or the error.
func (a answer) outcome(t *testing.T) string {
	t.Helper()
	steps := a.steps(t)
	if len(steps) == 0 {
		return fmt.Sprintf("nothing, %v", a.err)
	}
	return steps[len(steps)-1].Status + steps[len(steps)-1].Error
}

// wantEnd fails unless the answer ends with that status or error.
func (b *bubble) wantEnd(a answer, want string) {
	b.Helper()
	if got := a.outcome(b.T); got != want {
		b.Errorf("ended with %q, want %q", got, want)
	}
}

// digests are those of the node's models by name.
func (b *bubble) digests() map[string]string {
	b.Helper()
	var list struct {
		Models []struct{ Name, Digest string }
	}
	if err := json.Unmarshal([]byte(b.ask(b.Context(), http.MethodGet, "/api/tags", "").body), &list); err != nil {
		b.Fatal(err)
	}
	out := make(map[string]string)
	for _, m := range list.Models {
		out[m.Name] = m.Digest
	}
	return out
}

func TestPull_ModelIsListedShownAndAsked(t *testing.T) {
	inRegistryBubble(t, published(t, registry.Options{}, big()), simnode.Options{}, func(t *testing.T, b *bubble) {
		b.wantEnd(b.post("/api/pull", pullBig), "success")
		configured := newBubble(t, simnode.Options{Models: []simnode.Model{big()}})
		const name = "reg.example/team/big:v1"
		if got, want := b.digests()[name], configured.digests()[name]; got != want || got == "" {
			t.Errorf("digest %q of what was pulled, %q of what was there", got, want)
		}
		if list := b.ask(t.Context(), http.MethodGet, "/v1/models", "").body; !strings.Contains(list, name) {
			t.Errorf("/v1/models: %s", list)
		}
		for _, want := range []string{
			`"capabilities":["completion","tools"]`, `"parameter_size":"8B"`, `"system":"be short"`, `"parent_model":""`, "num_ctx",
		} {
			if shown := b.post("/api/show", pullBig).body; !strings.Contains(shown, want) {
				t.Errorf("/api/show has no %s: %s", want, shown)
			}
		}
		const prompt = `{"model":"reg.example/team/big:v1","prompt":"hi","stream":false,"options":{"temperature":0}}`
		said, want := b.post("/api/generate", prompt).last(t), configured.post("/api/generate", prompt).last(t)
		if said.Response == "" || said.Response != want.Response {
			t.Errorf("says %q, where it was from the start %q", said.Response, want.Response)
		}
	})
}

func TestPull_TakesItsTimeAndNeverGoesBackwards(t *testing.T) {
	opts := simnode.Options{WriteRate: 5_000_000}
	inRegistryBubble(t, published(t, registry.Options{}, big()), opts, func(t *testing.T, b *bubble) {
		a := b.post("/api/pull", pullBig)
		b.wantEnd(a, "success")
		if a.end < 6*time.Second || a.end > 13*time.Second { // 30 MB, and up to a second for each of the other layers
			t.Errorf("took %v", a.end)
		}
		completed, weights := make(map[string]int64), 0
		for _, s := range a.steps(t) {
			if s.Completed < completed[s.Digest] || s.Completed > s.Total {
				t.Errorf("%s is at %d of %d, was at %d", s.Status, s.Completed, s.Total, completed[s.Digest])
			}
			completed[s.Digest] = s.Completed
			if s.Status == "pulling abababababab" {
				weights++
			}
		}
		if weights < 90 {
			t.Errorf("%d records of a layer of 6 s", weights)
		}
	})
}

func TestPull_GoesOnWhereItBrokeOff(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{}, func(t *testing.T, b *bubble) {
		r.Break(big().Weights, 10_000_000, 1)
		b.wantEnd(b.post("/api/pull", pullBig), "success")
		if got := r.Stats().Bytes["GET"]; got > 30_001_000 {
			t.Errorf("%d bytes were loaded of 30 MB", got)
		}
	})
}

func TestPull_GivesUpAfterSixTriesAndKeepsWhatCame(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{}, func(t *testing.T, b *bubble) {
		r.Break(big().Weights, 20_000_000, -1)
		b.wantEnd(b.post("/api/pull", pullBig), "max retries exceeded: unexpected EOF")
		if len(b.digests()) > 0 {
			t.Error("the model is listed")
		}
		r.Break(big().Weights, 0, 0)
		a := b.post("/api/pull", pullBig)
		b.wantEnd(a, "success")
		for _, s := range a.steps(t) {
			if s.Digest == "sha256:"+big().Weights && s.Completed < 20_000_000 {
				t.Errorf("began again at %d", s.Completed)
			}
		}
		if got := r.Stats().Bytes["GET"]; got > 30_001_000 {
			t.Errorf("%d bytes were loaded of 30 MB", got)
		}
	})
}

func TestPull_StalledPartIsAskedForAgain(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{}, func(t *testing.T, b *bubble) {
		r.Stall(big().Weights, 10_000_000, 2)
		a := b.post("/api/pull", pullBig)
		b.wantEnd(a, "success")
		if a.end < time.Minute {
			t.Errorf("two stalls are over after %v", a.end)
		}
	})
}

func TestPull_SpoiltLayerIsThrownAway(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{Disk: 30_100_000}, func(t *testing.T, b *bubble) {
		r.Spoil(big().Weights, 500_000, 1)
		a := b.post("/api/pull", pullBig)
		if want := "digest mismatch, file must be downloaded again: want sha256:abab"; !strings.HasPrefix(a.outcome(t), want) {
			t.Errorf("ended with %q", a.outcome(t))
		}
		b.wantEnd(b.post("/api/pull", pullBig), "success") // there is space again, too
	})
}

func TestPull_FullDisk(t *testing.T) {
	small := simnode.Model{Name: "reg.example/team/small", Size: 500_000}
	const pullSmall = `{"model":"reg.example/team/small"}`
	full := "write /srv/m/blobs/sha256-" + big().Weights + "-partial: no space left on device"
	opts := simnode.Options{Disk: 10_000_000, Dir: "/srv/m"}
	inRegistryBubble(t, published(t, registry.Options{}, big(), small), opts, func(t *testing.T, b *bubble) {
		b.wantEnd(b.post("/api/pull", pullBig), full)
		a := b.post("/api/pull", strings.Replace(pullBig, "}", `,"stream":false}`, 1))
		if a.status != 500 || a.outcome(t) != full {
			t.Errorf("not streamed: %d %s", a.status, a.body)
		}
		b.wantEnd(b.post("/api/pull", pullSmall), "success")
		if err := b.node.SetFaults(simnode.Fault{NoSpace: true}); err != nil {
			t.Fatal(err)
		}
		other := b.post("/api/pull", pullBig)
		b.wantEnd(other, full)
		if a := b.post("/api/blobs/sha256:"+strings.Repeat("0", 64), "x"); a.status != 500 || !strings.Contains(a.body, "no space left on device") {
			t.Errorf("blob: %d %s", a.status, a.body)
		}
	})
}

func TestDelete_MakesRoom(t *testing.T) {
	other := big()
	other.Name, other.Weights = "reg.example/team/other", strings.Repeat("cd", 32)
	opts := simnode.Options{Disk: 40_000_000, Models: []simnode.Model{big()}}
	inRegistryBubble(t, published(t, registry.Options{}, other), opts, func(t *testing.T, b *bubble) {
		const pullOther = `{"model":"reg.example/team/other"}`
		if a := b.post("/api/pull", pullOther); !strings.HasSuffix(a.outcome(t), "no space left on device") {
			t.Errorf("two models where one fits: %s", a.outcome(t))
		}
		b.post("/api/copy", `{"source":"reg.example/team/big:v1","destination":"copy"}`)
		for i, name := range []string{"copy", "reg.example/team/big:v1"} {
			if a := b.ask(t.Context(), http.MethodDelete, "/api/delete", `{"model":"`+name+`"}`); a.status != 200 {
				t.Errorf("delete: %d %s", a.status, a.body)
			}
			// The weights belong to both names.
			if a := b.post("/api/pull", pullOther); (a.outcome(t) == "success") != (i == 1) {
				t.Errorf("after deleting %s: %s", name, a.outcome(t))
			}
		}
	})
}

// started pulls in a goroutine of its own, until d has passed.
func (b *bubble) started(ctx context.Context, body string, d time.Duration) (wait func() answer) {
	wait = b.start(ctx, "/api/pull", body)
	time.Sleep(d)
	synctest.Wait()
	return wait
}

func TestPull_ClientThatLeavesStopsIt(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{WriteRate: 5_000_000}, func(t *testing.T, b *bubble) {
		ctx, leave := context.WithCancel(t.Context())
		wait := b.started(ctx, pullBig, 2*time.Second)
		leave()
		wait()
		synctest.Wait()
		loaded := r.Stats().Bytes["GET"]
		time.Sleep(10 * time.Second)
		if again := r.Stats().Bytes["GET"]; again != loaded || loaded > 15_000_000 {
			t.Errorf("%d bytes were loaded when the client left, %d later", loaded, again)
		}
		if got := b.node.Stats().Cancelled; got != 1 {
			t.Errorf("%d requests are counted as left", got)
		}
		b.wantEnd(b.post("/api/pull", pullBig), "success")
	})
}

func TestPull_EqualLayersAreLoadedOnce(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{WriteRate: 5_000_000}, func(t *testing.T, b *bubble) {
		ctx, leave := context.WithCancel(t.Context())
		first := b.started(ctx, pullBig, time.Second)
		second := b.started(t.Context(), pullBig, time.Second)
		leave()
		first()
		b.wantEnd(second(), "success") // the one who began it does not matter
		if got := r.Stats().Bytes["GET"]; got > 30_001_000 {
			t.Errorf("%d bytes were loaded of 30 MB", got)
		}
	})
}

func TestPull_DeathInTheMiddle(t *testing.T) {
	r := published(t, registry.Options{}, big())
	opts := simnode.Options{WriteRate: 5_000_000, Restart: 3 * time.Second}
	inRegistryBubble(t, r, opts, func(t *testing.T, b *bubble) {
		if err := b.node.SetFaults(simnode.Fault{Path: "/api/pull", Frames: 20, Die: "kill", First: 1}); err != nil {
			t.Fatal(err)
		}
		a := b.call(t.Context(), "/api/pull", pullBig)
		if a.err == nil || strings.Contains(a.body, "success") || len(a.steps(t)) != 20 {
			t.Errorf("%d records, error %v", len(a.steps(t)), a.err)
		}
		time.Sleep(4 * time.Second)
		if len(b.digests()) > 0 {
			t.Error("the model is listed after the restart")
		}
		b.wantEnd(b.post("/api/pull", pullBig), "success")
		if got := r.Stats().Bytes["GET"]; got > 30_100_000 { // what was on the way got lost
			t.Errorf("%d bytes were loaded of 30 MB", got)
		}
	})
}

func TestPull_FaultsStrikeIt(t *testing.T) {
	for words, want := range map[string]struct {
		status int
		end    string // of the body
		cut    bool
	}{
		"status=503":                      {503, `{"error":"service unavailable"}`, false},
		"reset-after=3":                   {200, "", true},
		"close-after=3":                   {200, "", true},
		"half-after=3":                    {200, "", true},
		"clean-after=1":                   {200, `{"status":"pulling manifest"}` + "\n", false},
		"bad-line,frames=2,clean-after=2": {200, `{"model":` + "\n", false},
		"gap=1s":                          {200, `{"status":"success"}` + "\n", false},
		"first-byte=9s,slow=3":            {200, `{"status":"success"}` + "\n", false},
	} {
		t.Run(words, func(t *testing.T) {
			inRegistryBubble(t, published(t, registry.Options{}, big()), simnode.Options{}, func(t *testing.T, b *bubble) {
				f, err := simnode.ParseFault(words + ",path=/api/pull,model=reg.example/team/BIG:v1")
				if err != nil {
					t.Fatal(err)
				}
				if err := b.node.SetFaults(f); err != nil {
					t.Fatal(err)
				}
				a := b.call(t.Context(), "/api/pull", pullBig)
				if a.status != want.status || !strings.HasSuffix(a.body, want.end) || (a.err != nil) != want.cut {
					t.Errorf("%d, error %v, body %.200s", a.status, a.err, a.body)
				}
				if f.Gap > 0 && a.end < 8*time.Second { // nine records at least
					t.Errorf("the gaps took %v", a.end)
				}
			})
		})
	}
}

func TestPull_RegistryErrorsAreTold(t *testing.T) {
	r := published(t, registry.Options{}, big())
	inRegistryBubble(t, r, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.wantEnd(b.post("/api/pull", `{"model":"reg.example/team/nope"}`), "pull model manifest: file does not exist")
		missing := `{"schemaVersion":2,"config":{"digest":"sha256:` + strings.Repeat("0", 64) + `"},"layers":[]}`
		for model, manifest := range map[string]string{"x/missing": missing, "x/odd": `{"layers":[{"digest":"zzz"}]}`, "x/none": "<html>"} {
			if err := r.Put(model, "latest", []byte(manifest)); err != nil {
				t.Fatal(err)
			}
		}
		b.wantEnd(b.post("/api/pull", `{"model":"reg.example/x/missing"}`), "file does not exist")
		b.wantEnd(b.post("/api/pull", `{"model":"reg.example/x/odd"}`), "invalid digest format")
		b.wantEnd(b.post("/api/pull", `{"model":"reg.example/x/none"}`),
			"pull model manifest: invalid character '<' looking for beginning of value")
		if len(b.digests()) > 0 {
			t.Errorf("listed: %v", b.digests())
		}
	})
}

func TestPull_DefaultRegistryIsNotCalled(t *testing.T) {
	n := newNode(t)
	status, raw := ask(t, n, http.MethodPost, "/api/pull", `{"model":"llama3.2","stream":false}`)
	if status != 500 || !strings.Contains(raw, "the simulated node does not call registry.ollama.ai") {
		t.Errorf("%d %s", status, raw)
	}
}

func TestPull_OverRealSockets(t *testing.T) {
	server := httptest.NewServer(published(t, registry.Options{}, big()))
	defer server.Close()
	n := newNode(t)
	host := strings.TrimPrefix(server.URL, "http://")
	for body, want := range map[string]string{
		`"insecure":true`:  `{"status":"success"}`,
		`"insecure":false`: `http: server gave HTTP response to HTTPS client`,
	} {
		_, raw := ask(t, n, http.MethodPost, "/api/pull", `{"model":"`+host+`/team/big:v1","stream":false,`+body+`}`)
		if !strings.Contains(raw, want) {
			t.Errorf("%s: %s", body, raw)
		}
	}
}

// odd is a registry whose manifest is anything, and whose blobs are one small file.
type odd struct{ manifest []byte }

func (o odd) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	if body := []byte("{}"); strings.Contains(r.URL.Path, "/blobs/") {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	} else {
		_, _ = w.Write(o.manifest)
	}
	return w.Result(), nil
}

func FuzzPull_AnyManifest(f *testing.F) {
	small := `"digest":"sha256:` + sum("{}") + `"`
	for _, seed := range []string{
		`{}`, `null`, `{"layers":[{}]}`, `{"config":{` + small + `},"layers":[{"mediaType":"application/vnd.ollama.image.model",` + small + `}]}`,
		`{"layers":[{"mediaType":"application/vnd.ollama.image.model",` + small + `,"size":-5},{"mediaType":"application/vnd.ollama.image.params",` + small + `}]}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, manifest string) {
		n := simnode.New(simnode.Options{Scale: 1e-9, Registry: odd{[]byte(manifest)}})
		defer n.Close()
		status, raw := ask(t, n, http.MethodPost, "/api/pull", `{"model":"x","stream":false}`)
		_, list := ask(t, n, http.MethodGet, "/api/tags", "")
		if listed := strings.Contains(list, `"x:latest"`); listed != (status == http.StatusOK) {
			t.Errorf("%d %s, listed: %t", status, raw, listed)
		}
		if status == http.StatusOK {
			if status, raw := ask(t, n, http.MethodPost, "/api/show", `{"model":"x"}`); status != http.StatusOK {
				t.Errorf("show: %d %s", status, raw)
			}
		}
	})
}
