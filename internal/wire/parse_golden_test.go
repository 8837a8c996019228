package wire

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// Recorded answers that the parser deliberately does not give, with the reason for which it
// refuses what a node took or answered otherwise.
var deliberate = map[string]string{
	"generate/dup-keys":    ReasonDuplicateField, // a node takes the last
	"generate/case-dup":    ReasonDuplicateField,
	"generate/trailing":    ReasonTrailingData, // a node ignores it
	"generate/two-docs":    ReasonTrailingData,
	"openai-chat/dup":      ReasonDuplicateField,
	"openai-chat/trailing": ReasonTrailingData,
	"anthropic/dup":        ReasonDuplicateField,
	"anthropic/trailing":   ReasonTrailingData,
}

// Recorded refusals that need the model or a translator, and are left to the node.
var leftToNode = []string{
	"generate/raw-system", "generate/suffix", "generate/think-unsupported", "generate/embed-model",
	"generate/missing-model", "generate/missing-model-nonstream", "generate/long-truncate-false",
	"chat/tools-unsupported", "chat/think-unsupported", "chat/think-unsupported-level", "chat/missing-model",
	"chat/embed-model", "chat/embed-model-load", "chat/truncate-false-long",
	"embed/long-truncate-false", "embed/batch-one-long-false", "embed/missing",
	"embeddings/missing",
	"openai-chat/tool-args-bad", "openai-chat/tools-unsupported", "openai-chat/reasoning-bad",
	"openai-chat/reasoning-unsupported", "openai-chat/content-null", "openai-chat/content-number",
	"openai-chat/image-url-http", "openai-chat/image-url-bad", "openai-chat/part-bad",
	"openai-chat/missing-model", "openai-chat/missing-model-stream", "openai-chat/embed-model",
	"openai-completions/suffix", "openai-completions/missing-model", "openai-completions/embed-model",
	"openai-embeddings/missing-model",
	"openai-responses/missing-model", "openai-responses/missing-model-stream",
	"anthropic/tools-unsupported", "anthropic/tools-unsupported-stream", "anthropic/image-url", "anthropic/image-badb64",
	"anthropic/missing-model", "anthropic/missing-model-stream", "anthropic/embed-model",
	"models/show-missing", "general/expect",
	"hostile/embed-num-ctx-1", "faults/missing-file",
}

func TestParse_AnswersAsRecorded(t *testing.T) {
	deliberate, left := maps.Clone(deliberate), slices.Clone(leftToNode)
	recorded := 0
	for _, file := range []string{
		"general", "generate", "chat", "embed", "embeddings", "openai-chat", "openai-completions", "openai-embeddings",
		"openai-responses", "anthropic", "models", "faults", "queue", "sched",
		"encoding", "hostile",
	} {
		for _, record := range golden.Load(t, file) {
			route, ok := testRoute(record)
			if !ok {
				continue
			}
			recorded++
			id := file + "/" + record.ID
			request, err := Parse(route, record.Request.Body)
			bad, refused := err.(*BadRequest)
			if err != nil && !refused {
				t.Errorf("%s: error %v is no *BadRequest", id, err)
			}
			if reason, ok := deliberate[id]; ok {
				delete(deliberate, id)
				if !refused || bad.Reason != reason {
					t.Errorf("%s: got %v, want a refusal for %s", id, err, reason)
				}
				continue
			}
			want := record.Response
			if !refused {
				at := slices.Index(left, id)
				switch client := want.Status/100 == 4; {
				case client && at < 0:
					t.Errorf("%s: accepted, recorded %d %s", id, want.Status, want.Body)
				case client:
					left = slices.Delete(left, at, at+1)
				}
				checkUpstream(t, route, record.Request.Body, request)
				continue
			}
			contentType, body := ErrorBody(bad.Dialect, bad.Status, bad.Message, bad.Early)
			if bad.Status != want.Status || withoutID(body) != withoutID(want.Body) || contentType != header(want, "Content-Type") {
				t.Errorf("%s: refused as %s\n got %d %s %q\nwant %d %s %q", id, bad.Reason,
					bad.Status, contentType, body, want.Status, header(want, "Content-Type"), want.Body)
			}
		}
	}
	if recorded < 360 {
		t.Errorf("only %d recorded requests were tried", recorded)
	}
	if len(deliberate) > 0 || len(left) > 0 {
		t.Errorf("in a table but not met: %v %v", deliberate, left)
	}
}

// testRoute is the route of a recording whose body a node read as it stands. Compressed
// bodies are not this package's business, and neither is what is refused without a look at
// the body.
func testRoute(record golden.Record) (Route, bool) {
	q := record.Request
	path, _, _ := strings.Cut(q.Path, "?")
	if _, judged := forms[path]; !judged || q.Method != http.MethodPost || len(record.Response.Body) == 0 && record.Response.Status != 0 {
		return Route{}, false
	}
	for _, h := range q.Headers {
		if strings.EqualFold(h[0], "Content-Encoding") && h[1] == "zstd" && strings.HasPrefix(q.Path, "/v1/") {
			return Route{}, false
		}
	}
	return routeOf(path), true
}

// withoutID is an error body without the id that is minted for each.
func withoutID(body []byte) string { return requestIDs.ReplaceAllString(string(body), `"req_"`) }

func routeOf(path string) Route {
	for _, route := range Routes() {
		if route.Path == path {
			return route
		}
	}
	panic("no route " + path)
}

func header(r golden.Response, name string) string {
	for _, h := range r.Headers {
		if strings.EqualFold(h[0], name) {
			return h[1]
		}
	}
	return ""
}
