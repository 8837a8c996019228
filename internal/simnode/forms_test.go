package simnode_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// The expectations in this file were written from reading the sources of Ollama after v0.33.0-rc2: no such server was
// recorded. openai.ToStreamChunks and FinishChunk, middleware.ChatWriter, openai.thinkFromReasoningEffort,
// openai.ResponsesStreamConverter, and server/model_list_cache.go.

const newest = "0.33.0"

// formNode is a node of a version with a model that thinks, one that calls, and one that speaks.
func formNode(t *testing.T, version string) *simnode.Node {
	n := simnode.New(simnode.Options{Version: version, Scale: 1e-9, Models: []simnode.Model{
		{Name: "speaks"},
		{Name: "thinks", Capabilities: []string{simnode.Completion, simnode.Thinking}},
		{Name: "calls", Capabilities: []string{simnode.Completion, simnode.Tools}, ContextLength: 2048, EmbeddingLength: 8},
		{Name: "paints", Capabilities: []string{simnode.Completion, simnode.Image}},
	}})
	t.Cleanup(n.Close)
	return n
}

// deltas are the chunks of a stream in short: the keys of each in order, and the reason if it has one. Equal neighbours
// count as one.
func deltas(t *testing.T, stream string) []string {
	t.Helper()
	var out []string
	created := make(map[string]bool)
	for line := range strings.SplitSeq(stream, "\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var chunk struct {
			Created json.Number
			Choices []struct {
				Delta  json.RawMessage
				Reason *string `json:"finish_reason"`
			}
			Usage *struct{}
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		created[chunk.Created.String()] = true
		short := "usage"
		if len(chunk.Choices) > 0 {
			short = strings.Join(keysOf(t, chunk.Choices[0].Delta), " ")
			if r := chunk.Choices[0].Reason; r != nil {
				short = strings.TrimSpace(short + " =" + *r)
			}
		}
		if chunk.Usage != nil && short != "usage" {
			short += " with usage"
		}
		out = append(out, short)
	}
	if len(created) != 1 {
		t.Errorf("%d values of created", len(created))
	}
	return slices.Compact(out)
}

func keysOf(t *testing.T, raw json.RawMessage) []string {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(raw)))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for d.More() {
		key, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			t.Fatal(err)
		}
		if string(value) == `""` {
			key = fmt.Sprint(key, `=""`)
		}
		keys = append(keys, fmt.Sprint(key))
	}
	return keys
}

const weatherTool = `[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"}}}}}]`

func TestNewestForms_ChatStream(t *testing.T) {
	tests := map[string]struct {
		body string
		want []string
	}{
		"speaks": {
			`{"model":"speaks"`,
			[]string{"role content", "content", "=stop"},
		},
		"with usage": {
			`{"model":"speaks","stream_options":{"include_usage":true}`,
			[]string{"role content", "content", "=stop", "usage"},
		},
		"cut": {
			`{"model":"speaks","max_tokens":2`,
			[]string{"role content", "content", "=length"},
		},
		"thinks": {
			`{"model":"thinks"`,
			[]string{`role content="" reasoning`, `content="" reasoning`, "content", "=stop"},
		},
		"calls": {
			`{"model":"calls","tools":` + weatherTool,
			[]string{"role content", `content="" tool_calls`, "=tool_calls"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, raw := ask(t, formNode(t, newest), http.MethodPost, "/v1/chat/completions",
				tt.body+`,"stream":true,"seed":1,"messages":[{"role":"user","content":"x"}]}`)
			if got := deltas(t, raw); !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q\n%s", got, tt.want, raw)
			}
			if !strings.HasSuffix(raw, "data: [DONE]\n\n") {
				t.Errorf("ends with %q", raw[max(0, len(raw)-50):])
			}
		})
	}
}

func TestNewestForms_CreatedStaysTheSame(t *testing.T) {
	inBubble(t, simnode.Options{Version: newest, Models: []simnode.Model{{Name: "slow", DecodeRate: 1}}}, func(t *testing.T, b *bubble) {
		a := b.post("/v1/chat/completions", `{"model":"slow","stream":true,"max_tokens":5,"messages":[{"role":"user","content":"x"}]}`)
		deltas(t, a.body)
	})
}

func TestNewestForms_EffortHasMoreSteps(t *testing.T) {
	for _, effort := range []string{"minimal", "low", "max", "xhigh", "ultra", "none"} {
		for _, route := range []struct{ path, body string }{
			{"/v1/chat/completions", `{"model":"thinks","reasoning_effort":%q,"messages":[{"role":"user","content":"x"}]}`},
			{"/v1/responses", `{"model":"thinks","reasoning":{"effort":%q},"input":"x"}`},
		} {
			body := fmt.Sprintf(route.body, effort)
			if status, raw := ask(t, formNode(t, newest), http.MethodPost, route.path, body); status != 200 {
				t.Errorf("%s %s: %d %s", route.path, effort, status, raw)
			}
			wantOld := 400
			if effort == "low" || effort == "max" || effort == "none" {
				wantOld = 200
			}
			if status, raw := ask(t, formNode(t, "0.24.0"), http.MethodPost, route.path, body); status != wantOld {
				t.Errorf("0.24.0: %s %s: %d %s", route.path, effort, status, raw)
			}
			_, raw := ask(t, formNode(t, newest), http.MethodPost, route.path, fmt.Sprintf(route.body, "huge"))
			const want = `invalid reasoning value: \"huge\" (must be \"minimal\", \"low\", \"medium\", \"high\", \"xhigh\", \"ultra\", \"max\", or \"none\")`
			if !strings.Contains(raw, want) {
				t.Errorf("%s: %s", route.path, raw)
			}
		}
	}
}

func TestNewestForms_TagsTellMore(t *testing.T) {
	const more = `"context_length":2048,"embedding_length":8},"capabilities":["completion","tools"]}`
	_, raw := ask(t, formNode(t, newest), http.MethodGet, "/api/tags", "")
	if !strings.Contains(raw, more) {
		t.Errorf("newest: %s", raw)
	}
	for _, old := range []string{"", "0.24.0", "v0.29.9", "unreadable"} {
		if _, raw := ask(t, formNode(t, old), http.MethodGet, "/api/tags", ""); strings.Contains(raw, "capabilities") || strings.Contains(raw, "_length") {
			t.Errorf("%s: %s", old, raw)
		}
	}
}

func TestNewestForms_NoPictures(t *testing.T) {
	for _, path := range []string{"/v1/images/generations", "/v1/images/edits"} {
		if status, raw := ask(t, formNode(t, newest), http.MethodPost, path, "{}"); status != 404 || raw != "404 page not found" {
			t.Errorf("%s: %d %s", path, status, raw)
		}
	}
	status, raw := ask(t, formNode(t, newest), http.MethodPost, "/api/generate", `{"model":"paints","prompt":"x"}`)
	if status != 400 || raw != `{"error":"image generation models are not currently supported"}` {
		t.Errorf("%d %s", status, raw)
	}
}

// The message stands behind the call in the list of items, although it came first, and older nodes forget it.
func TestNewestForms_ResponsesKeepTheMessageBeforeACall(t *testing.T) {
	const body = `{"model":"calls","input":"x","stream":true,"tools":[{"type":"namespace","name":"weather","tools":[{"type":"function","name":"now","parameters":{"type":"object","properties":{}}}]}]}`
	_, raw := ask(t, formNode(t, newest), http.MethodPost, "/v1/responses", body)
	output := regexp.MustCompile(`"output":\[.*`).FindString(raw[strings.LastIndex(raw, "event: "):])
	if !strings.Contains(output, `"name":"weather.now"`) || !strings.Contains(output, `"type":"message"`) ||
		strings.Index(output, "function_call") > strings.Index(output, `"type":"message"`) {
		t.Error(output)
	}
	_, raw = ask(t, formNode(t, "0.24.0"), http.MethodPost, "/v1/responses",
		`{"model":"calls","input":"x","stream":true,"tools":[{"type":"function","name":"now"}]}`)
	if last := raw[strings.LastIndex(raw, "event: "):]; strings.Contains(last, `"type":"message"`) {
		t.Errorf("0.24.0: %s", last)
	}
}

func TestNewestForms_ResponsesSkipOldSearches(t *testing.T) {
	const body = `{"model":"speaks","input":[{"type":"web_search_call","id":"ws_1"},{"role":"user","content":"x"}]}`
	if status, raw := ask(t, formNode(t, newest), http.MethodPost, "/v1/responses", body); status != 200 {
		t.Errorf("%d %s", status, raw)
	}
	status, raw := ask(t, formNode(t, "0.24.0"), http.MethodPost, "/v1/responses", body)
	if status != 400 || !strings.Contains(raw, `input[0]: unknown input item type: \"web_search_call\"`) {
		t.Errorf("%d %s", status, raw)
	}
}
