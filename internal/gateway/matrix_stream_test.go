package gateway

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// broken are the faults of an answer that has begun.
func brokenStream(t *testing.T, fault, try string) {
	t.Helper()
	t.Run("streamed", func(t *testing.T) {
		row{
			fault: fault, streams: true, code: 200, broken: true, outcome: Truncated, tries: try, state: fleet.Up,
			also: func(s *stand, _ http.Header) {
				if s.served(1) != 0 {
					s.Error("another node was asked after the stream had begun")
				}
			},
		}.hold(t)
	})
	t.Run("whole", func(t *testing.T) { // nobody has seen anything yet
		row{fault: fault, forms: forms[1:2], code: 200, outcome: OK, tries: try + " ok", state: fleet.Up}.hold(t)
	})
}

// 11
func TestMatrix_AStallEndsInTheErrorRecord(t *testing.T) {
	brokenStream(t, "gap=2m", "timeout")
	t.Run("the node is left", func(t *testing.T) {
		onStand(t, one, func(s *stand) {
			s.fail(0, "gap=2m")
			began := time.Now()
			s.rig.ask("/api/chat", forms[0].body)
			if took := time.Since(began); took < time.Minute || took > 62*time.Second {
				s.Errorf("ended after %v, want the stall limit of 1m", took)
			}
			synctest.Wait()
			if n := s.sim[0].Stats().Cancelled; n != 1 {
				s.Errorf("%d requests cancelled at the node, want 1", n)
			}
		})
	})
}

// 12
func TestMatrix_AResetEndsInTheErrorRecord(t *testing.T) { brokenStream(t, "reset-after=2", "reset") }

// 13
func TestMatrix_AnEndBeforeTheEndIsTruncated(t *testing.T) {
	brokenStream(t, "clean-after=2", "truncated")
}

// vectorsToo makes n0 the first choice for embeddings, too.
func vectorsToo(s *stand) {
	s.direct(0, "/api/embed", `{"model":"tinyembed","input":"x","keep_alive":-1}`)
	time.Sleep(5 * time.Second) // it is known
}

// 14
func TestMatrix_AnObjectCutShortIsNotPassedOn(t *testing.T) {
	const single, lost = `"stream":false,"model":"tiny"`, "the connection to the Ollama node was lost"
	said := `"messages":[{"role":"user","content":"` + canary + `"}]`
	objects := []form{
		{"embed", "/api/embed", `{"model":"tinyembed","input":"` + canary + `"}`, `"embeddings":[[`, `{"error":"`, ""},
		{"embeddings", "/api/embeddings", `{"model":"tinyembed","prompt":"` + canary + `"}`, `"embedding":[`, `{"error":"`, ""},
		{"v1 embeddings", "/v1/embeddings", `{"model":"tinyembed","input":"` + canary + `"}`, `"embedding":[`, `{"error":{"message":"`, ""},
		{"a load", "/api/generate", `{"model":"tiny"}`, `"done_reason":"load"`, `{"error":"`, ""},
		// Of these the node streams the answer, and the gateway makes the object.
		{"chat", "/api/chat", `{` + single + `,` + said + `}`, `"done":true`, `{"error":"`, ""},
		{"generate", "/api/generate", `{` + single + `,"prompt":"` + canary + `"}`, `"done":true`, `{"error":"`, ""},
		{"v1 chat", "/v1/chat/completions", `{` + single + `,` + said + `}`, `"finish_reason":"`, `{"error":{"message":"`, ""},
		{"v1 completions", "/v1/completions", `{` + single + `,"prompt":"` + canary + `"}`, `"finish_reason":"`, `{"error":{"message":"`, ""},
		{"v1 responses", "/v1/responses", `{` + single + `,"input":"` + canary + `"}`, `"status":"completed"`, `{"error":{"message":"`, ""},
		{"messages", "/v1/messages", `{` + single + `,"max_tokens":50,` + said + `}`, `"stop_reason":"`, `{"type":"error","error":{"type":"`, ""},
	}
	for name, fault := range map[string]string{"within": "half-after=40B", "promised": "too-long=100"} {
		forms := objects
		if name != "within" {
			forms = objects[:4] // a stream is complete with its last record, or has its own rows
		}
		t.Run(name+"/another answers", func(t *testing.T) {
			row{before: vectorsToo, fault: fault, forms: forms, code: 200, outcome: OK, tries: "reset ok", state: fleet.Up}.hold(t)
		})
		t.Run(name+"/none answers", func(t *testing.T) {
			row{setup: one, fault: fault, forms: forms, code: 502, outcome: UpstreamError, tries: "reset|", says: lost, state: fleet.Up}.hold(t)
		})
	}
}

// 15
func TestMatrix_ABadLineIsNoData(t *testing.T) { brokenStream(t, "bad-line,frames=2", "protocol") }

// 16
func TestMatrix_AGiantLineCostsBoundedMemory(t *testing.T) {
	brokenStream(t, "giant-line=64MiB,frames=2", "protocol")
	t.Run("memory", func(t *testing.T) {
		onStand(t, one, func(s *stand) {
			s.fail(0, "giant-line=64MiB,frames=2")
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			code, answer, _ := s.rig.ask("/api/chat", forms[0].body)
			runtime.ReadMemStats(&after)
			if code != 200 || len(answer) > 10_000 || strings.Contains(answer, "giant") {
				s.Errorf("%d with %d bytes", code, len(answer))
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
				s.Errorf("%d MiB were allocated for a line of 64 MiB", grown>>20)
			}
		})
	})
}
