package simnode_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// differs lists the records from which the simulated node differs on purpose. An entry whose record agrees is an error.
var differs = map[string]string{
	"faults/load-fails-embed":        "a real server's last words are cut at random; here they come whole",
	"faults/runner-killed-messages":  "the recording leaves out frames that have no likeness beside them",
	"faults/runner-killed-responses": "the recording leaves out frames that have no likeness beside them",
	"hostile/embed-many":             "the recording leaves out the vectors",
	"hostile/tool-schema-odd":        "a function without a name takes every call on a real server",
}

// A session is a node like the recorded server, and what was sent to it before.
type session struct {
	t    *testing.T
	node *simnode.Node
	pipe *simnode.Pipe
}

func newSession(t *testing.T, opts simnode.Options) *session {
	opts.CheckHost = true
	if opts.Scale == 0 {
		opts.Scale = 0.001
	}
	if opts.Models == nil {
		opts.Models = recordedModels()
	}
	node := simnode.New(opts)
	pipe := simnode.NewPipe(node)
	t.Cleanup(func() { pipe.Close(); node.Close() })
	return &session{t, node, pipe}
}

// post sends a request whose answer is of no interest, and fails the test unless it is 200.
func (s *session) post(path, body string) {
	s.t.Helper()
	s.begin(path, body)()
}

// begin sends a request and returns when its answer has begun; end reads the rest.
func (s *session) begin(path, body string) (end func()) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := s.pipe.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: %s", path, body, resp.Status)
	}
	return func() {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

// hold replays one record in a test of its own.
func (s *session) hold(file string, rec golden.Record) {
	s.t.Helper()
	s.t.Run(rec.ID, func(t *testing.T) { hold(t, s.pipe, file, rec) })
}

// hold replays one record and compares the answer.
func hold(t *testing.T, pipe *simnode.Pipe, file string, rec golden.Record) {
	t.Helper()
	got, err := golden.Replay(t.Context(), pipe.Dial, rec)
	if err != nil {
		t.Fatalf("%s: replay: %v", rec.ID, err)
	}
	found := golden.Compare(rec.Response, got, golden.Options{PerRecord: true})
	reason, listed := differs[file+"/"+rec.ID]
	switch {
	case listed && len(found) == 0:
		t.Errorf("%s agrees, but is listed as different: %s", rec.ID, reason)
	case !listed:
		for _, d := range found {
			t.Errorf("%s: %s", rec.ID, d)
		}
	}
}

func (s *session) holdFile(file string) {
	for _, rec := range golden.Load(s.t, file) {
		if rec.Response.Status != 0 {
			s.hold(file, rec)
		}
	}
}

func TestGoldens(t *testing.T) {
	for _, file := range []string{"general", "generate", "chat", "embed", "embeddings"} {
		t.Run(file, func(t *testing.T) { newSession(t, simnode.Options{}).holdFile(file) })
	}
	t.Run("openai-chat", func(t *testing.T) {
		s := newSession(t, simnode.Options{})
		s.post("/api/generate", `{"model":"tinythink"}`) // what was loaded before decides what is evicted later
		s.post("/api/embed", `{"model":"tinyembed","input":"x"}`)
		s.post("/api/generate", `{"model":"tiny"}`)
		s.holdFile("openai-chat")
	})
	t.Run("openai-completions", func(t *testing.T) {
		s := newSession(t, simnode.Options{})
		s.post("/api/generate", `{"model":"tiny"}`)
		s.holdFile("openai-completions")
	})
	for _, file := range []string{"openai-embeddings", "openai-other", "openai-responses", "anthropic", "encoding"} {
		t.Run(file, func(t *testing.T) { newSession(t, simnode.Options{}).holdFile(file) })
	}
}

// The records of models follow each other: what one made the next ones see. In virtual time all is made in one second,
// as it was.
func TestGoldens_Models(t *testing.T) {
	opts := simnode.Options{Models: recordedModels(), Registry: nobodyListens{}}
	inBubble(t, opts, func(t *testing.T, b *bubble) {
		time.Sleep(time.Until(time.Date(2026, 11, 23, 13, 5, 0, 0, time.UTC))) // models that are made are the newest
		b.post("/api/embed", `{"model":"tinyembed","input":"x"}`)
		b.post("/api/generate", `{"model":"tinythink"}`)
		b.post("/api/generate", `{"model":"tiny"}`)
		for _, rec := range golden.Load(t, "models") {
			switch rec.ID {
			case "tags-after":
				rec = madeFromFile(b, rec)
			case "tags-clean": // the models that were made had been deleted
				for _, name := range []string{"mine", "mine2", "mine3", "mine9", "mine10"} {
					if got := b.ask(t.Context(), "DELETE", "/api/delete", `{"model":"`+name+`"}`); got.status != http.StatusOK {
						t.Errorf("delete %s: %d %s", name, got.status, got.body)
					}
				}
			}
			hold(t, b.pipe, "models", rec)
		}
	})
}

// madeFromFile puts the node's own digest of mine3 into a record. That model was made from a file, so that the digest
// hangs on the path of the recorded server's files, which the recording replaced; those of the other models that were
// made are held to, byte for byte of their manifests.
func madeFromFile(b *bubble, rec golden.Record) golden.Record {
	b.Helper()
	var list struct {
		Models []struct{ Name, Digest string }
	}
	if err := json.Unmarshal([]byte(b.ask(b.Context(), http.MethodGet, "/api/tags", "").body), &list); err != nil {
		b.Fatal(err)
	}
	for _, m := range list.Models {
		if m.Name != "mine3:latest" {
			continue
		}
		const recorded = "3f8398190386fc02769b76f7fd67e0cae9dd022a224ff21ab5a83bd1df026a10"
		if !bytes.Contains(rec.Response.Body, []byte(recorded)) {
			b.Errorf("%s has no digest %s", rec.ID, recorded)
		}
		swap := func(text []byte) []byte { return bytes.ReplaceAll(text, []byte(recorded), []byte(m.Digest)) }
		rec.Response.Body = swap(rec.Response.Body)
		for i, chunk := range rec.Response.Chunks {
			rec.Response.Chunks[i] = swap(chunk)
		}
	}
	return rec
}

// nobodyListens is a network without a registry.
type nobodyListens struct{}

func (nobodyListens) RoundTrip(r *http.Request) (*http.Response, error) {
	host, port, _ := net.SplitHostPort(r.URL.Host)
	number, _ := strconv.Atoi(port)
	return nil, &net.OpError{
		Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.ParseIP(host), Port: number},
		Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
	}
}

// recordedModels are those that the recorded server had at first.
func recordedModels() []simnode.Model {
	return slices.DeleteFunc(simnode.GoldenModels(), func(m simnode.Model) bool { return m.Name == "broken" })
}

// The records of sched were taken between other requests; each needs its own history.
func TestGoldens_Sched(t *testing.T) {
	s := newSession(t, simnode.Options{Scale: 0.05})
	records := golden.Load(t, "sched")
	next := func() {
		s.hold("sched", records[0])
		records = records[1:]
	}
	const slow = `{"model":"tinyslow","prompt":"the river","options":{"temperature":0}}`

	end := s.begin("/api/generate", slow)
	next() // ps-while-busy
	end()
	s.post("/api/generate", `{"model":"tiny","options":{"num_ctx":100000}}`)
	next() // ps-num-ctx-over
	s.post("/api/generate", `{"model":"tiny","keep_alive":"1m"}`)
	s.post("/api/generate", `{"model":"tiny2"}`)
	end = s.begin("/api/generate", slow)
	s.post("/api/generate", `{"model":"tinyslow","keep_alive":0}`)
	next() // ps-unload-while-busy
	end()
	s.post("/api/copy", `{"source":"tinytool","destination":"tt"}`)
	s.post("/api/generate", `{"model":"tt"}`)
	next() // delete-loaded
	next() // ps-after-delete-loaded
	if len(records) > 0 {
		t.Errorf("%d records left", len(records))
	}
}

// The pending queue is full while one load waits for a busy model and another one behind it.
func TestGoldens_Queue(t *testing.T) {
	records := make(map[string]golden.Record)
	for _, rec := range golden.Load(t, "queue") {
		records[rec.ID] = rec
	}
	t.Run("full", func(t *testing.T) {
		inBubble(t, simnode.Options{MaxQueue: 1, Models: simnode.GoldenModels()}, func(t *testing.T, b *bubble) {
			busy := b.start(t.Context(), "/api/generate", `{"model":"tinyslow","prompt":"the river","options":{"temperature":0}}`)
			time.Sleep(time.Second) // it is loaded and speaks
			waits := b.start(t.Context(), "/api/generate", `{"model":"tinyslow","options":{"num_ctx":512}}`)
			behind := b.start(t.Context(), "/api/generate", `{"model":"tiny"}`)
			for _, id := range []string{
				"overflow-generate", "overflow-generate-nonstream", "overflow-chat", "overflow-embed", "overflow-embeddings",
				"overflow-v1", "overflow-v1-stream", "overflow-v1-embeddings", "overflow-responses",
				"overflow-messages", "overflow-messages-stream",
			} {
				hold(t, b.pipe, "queue", records[id])
			}
			for _, wait := range []func() answer{busy, waits, behind} {
				if a := wait(); a.status != http.StatusOK {
					t.Errorf("status %d, error %v, body %s", a.status, a.err, a.body)
				}
			}
		})
	})
	t.Run("parallel", func(t *testing.T) {
		s := newSession(t, simnode.Options{Slots: 2})
		s.post("/api/generate", `{"model":"tinyslow"}`)
		s.hold("queue", records["ps-parallel-2"])
		s.hold("queue", records["shift-True"])
		s.hold("queue", records["shift-False"])
	})
}

func TestGoldens_DifferencesAreRecords(t *testing.T) {
	for key := range differs {
		file, id, _ := strings.Cut(key, "/")
		if !slices.ContainsFunc(golden.Load(t, file), func(r golden.Record) bool { return r.ID == id }) {
			t.Errorf("%s is no record", key)
		}
	}
}
