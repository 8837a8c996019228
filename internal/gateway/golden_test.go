package gateway

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// differences are the records to which the gateway answers otherwise on purpose, with the
// reason; each stands in docs/compatibility.md. One that agrees after all is an error.
var differences = map[string]string{
	"generate/dup-keys":    "a field twice is refused",
	"generate/case-dup":    "a field twice is refused",
	"generate/trailing":    "data after the value is refused",
	"generate/two-docs":    "data after the value is refused",
	"openai-chat/dup":      "a field twice is refused",
	"openai-chat/trailing": "data after the value is refused",
	"anthropic/dup":        "a field twice is refused",
	"anthropic/trailing":   "data after the value is refused",

	"openai-other/images-generations": "images are gone",
	"openai-other/images-missing":     "images are gone",
	"openai-other/audio":              "a form with a file is not judged",

	// A node that fails in the middle of /v1 streams does not say so.
	"faults/runner-killed-v1":          "the stream ends with an error record",
	"faults/runner-killed-completions": "the stream ends with an error record",
	"faults/runner-killed-messages":    "the stream ends with an error record",
	"faults/runner-killed-responses":   "the stream ends with an error record",
	"faults/sigterm-stream":            "the stream ends with an error record, in order",
	"faults/sigterm-v1":                "the stream ends with an error record, in order",
	"faults/sigkill-stream":            "the stream ends with an error record, in order",

	// Nor does it say why, so that a single answer made of such a stream cannot either.
	"faults/runner-killed-v1-nonstream":       "without what the node would have said of its runner",
	"faults/runner-killed-messages-nonstream": "502, in words of the gateway's own",
	"faults/load-fails-embed":                 "the recorded text is cut at random",

	"models/tags-after": "the digest of what was made from a file hangs on where the node's files are",

	"models/create-missing-blob":    "without the node's path",
	"models/create-nonstream-error": "500: the gateway has nodes tell their progress, where they say 500",
	"models/pull-refused":           "insecure is refused",
	"models/pull-refused-nonstream": "insecure is refused",
	"models/pull-insecure-off":      "without the registry's address",
	"models/push-missing":           "insecure is refused",
	"models/push-no-ns":             "404 before a node is asked",

	"openai-chat/ps-after-keep-alive": "which model had to go is the gateway's choice: the least used",

	"hostile/embed-many":      "the recording leaves out the vectors",
	"hostile/tool-schema-odd": "a function without a name takes every call on a real server, not on a simulated one",
}

// polled is longer than the time between two looks at a node's models and runners here.
const polled = 250 * time.Millisecond

// A session is a gateway before the node of the recordings, in virtual time.
type session struct {
	*rig
	t    *testing.T
	node *simnode.Pipe
	also map[string]string // differences of this session alone
}

func newSession(t *testing.T, scale float64) *session {
	node := goldenNode(t, scale)
	pipe := simnode.NewPipe(node)
	t.Cleanup(pipe.Close)
	return &session{t: t, node: pipe, rig: newRig(t, rigOptions{
		host: true, site: SiteConfig{Manage: true, Managing: ManageConfig{Registries: []string{DefaultRegistry, "127.0.0.1:9"}}},
		config: Config{Health: fleet.Options{PsInterval: polled / 5, TagsInterval: polled / 5}},
	}, node)}
}

// TestGoldens holds the gateway before a simulated node to the recorded answers of a real
// server, but for records without an answer.
func TestGoldens(t *testing.T) {
	before := map[string][]string{ // what is loaded decides what /api/ps shows later
		"openai-chat": {`{"model":"tinythink"}`, `{"model":"tinyembed"}`, `{"model":"tiny"}`},
		"models":      {`{"model":"tinyembed"}`, `{"model":"tinythink"}`, `{"model":"tiny"}`},
	}
	for _, file := range []string{
		"general", "generate", "chat", "embed", "embeddings", "models", "encoding",
		"openai-chat", "openai-completions", "openai-embeddings", "openai-responses", "openai-other", "anthropic",
	} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSession(t, 0.01)
				for _, body := range before[file] {
					path := "/api/generate"
					if strings.Contains(body, "embed") {
						path = "/api/embed"
					}
					s.ask(path, body)
				}
				for _, rec := range golden.Load(t, file) {
					if rec.ID == "tags-clean" { // the models that were made had been deleted
						for _, name := range []string{"mine", "mine2", "mine3", "mine9", "mine10"} {
							s.asks("DELETE", "/api/delete", `{"model":"`+name+`"}`)
						}
					}
					if rec.Response.Status != 0 {
						s.hold(file, rec)
					}
				}
				synctest.Wait()
				s.idle()
			})
		})
	}
}

// The records of sched were taken between other requests; each needs its own history.
func TestGoldens_Sched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSession(t, 1)
		records := make(map[string]golden.Record)
		for _, rec := range golden.Load(t, "sched") {
			records[rec.ID] = rec
		}
		const slow = `{"model":"tinyslow","prompt":"the river","options":{"temperature":0}}`

		end := s.begin("/api/generate", slow)
		s.hold("sched", records["ps-while-busy"])
		end()
		s.ask("/api/generate", `{"model":"tiny","options":{"num_ctx":100000}}`)
		s.hold("sched", records["ps-num-ctx-over"])
		s.ask("/api/generate", `{"model":"tiny","keep_alive":"1m"}`)
		s.ask("/api/generate", `{"model":"tiny2"}`)
		end = s.begin("/api/generate", slow)
		s.ask("/api/generate", `{"model":"tinyslow","keep_alive":0}`)
		s.hold("sched", records["ps-unload-while-busy"])
		end()
		for _, body := range []string{`{"source":"tinytool","destination":"tt"}`} {
			rec := golden.Record{Request: golden.Request{Method: "POST", Path: "/api/copy", Proto: "HTTP/1.1", Headers: [][2]string{{"Host", "localhost"}}, Body: []byte(body), HasBody: true}}
			if _, err := golden.Replay(t.Context(), s.node.Dial, rec); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(polled)
		s.ask("/api/generate", `{"model":"tt"}`)
		if _, err := golden.Replay(t.Context(), s.node.Dial, records["delete-loaded"]); err != nil {
			t.Fatal(err)
		}
		s.hold("sched", records["ps-after-delete-loaded"])
	})
}

// begin sends a request and returns when its answer has begun; end reads the rest.
func (s *session) begin(path, body string) (end func()) {
	s.t.Helper()
	resp, err := s.post(s.t.Context(), path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	if _, err := lines.ReadString('\n'); err != nil {
		s.t.Fatal(err)
	}
	return func() {
		if _, err := io.Copy(io.Discard, lines); err != nil {
			s.t.Error(err)
		}
		resp.Body.Close()
	}
}

// hold replays one record against the gateway and compares the answer.
func (s *session) hold(file string, rec golden.Record) {
	s.t.Helper()
	id := file + "/" + rec.ID
	if rec.Request.Path == "/api/ps" {
		time.Sleep(polled) // what nodes have loaded is known by polls
	}
	got, err := golden.Replay(s.t.Context(), s.front.Dial, rec)
	if err != nil {
		s.t.Errorf("%s: %v", id, err)
		return
	}
	diffs := golden.Compare(rec.Response, got, golden.Options{IgnoreHeaders: []string{"X-Request-Id", "Retry-After", "Server-Timing"}})
	why, known := differences[id]
	if !known {
		why, known = s.also[id]
	}
	switch {
	case known && len(diffs) == 0:
		s.t.Errorf("%s agrees, though it is listed as different: %s", id, why)
	case !known && len(diffs) > 0:
		s.t.Errorf("%s\n  %s %s %.200s\n  %s", id, rec.Request.Method, rec.Request.Path, rec.Request.Body, strings.Join(diffs, "\n  "))
	}
}

// manages tells whether a recorded request changes a node's models.
func manages(q golden.Request) bool {
	path, _, _ := strings.Cut(q.Path, "?")
	m := wire.Find(q.Method, path)
	return m.Route != nil && m.Route.Access == wire.Manage
}
