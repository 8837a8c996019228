package simnode_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// What a client library does with the models people try first, in every dialect.
func TestSimModels_ServeEveryDialect(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	const parameters = `{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}`
	const turn = `[{"role":"user","content":"the weather in Oslo?"}]`
	tests := map[string]struct {
		path, body string
		has        []string
	}{
		"chat tools": {
			"/v1/chat/completions", `{"model":"sim-tool","messages":` + turn + `,"tools":[{"type":"function","function":{"name":"weather","parameters":` + parameters + `}}]}`,
			[]string{`"name":"weather"`, `"arguments":"{\"city\":`, `"finish_reason":"tool_calls"`},
		},
		"messages tools": {
			"/v1/messages", `{"model":"sim-tool","max_tokens":400,"messages":` + turn + `,"tools":[{"name":"weather","input_schema":` + parameters + `}]}`,
			[]string{`"type":"tool_use"`, `"input":{"city":`, `"stop_reason":"tool_use"`},
		},
		"messages end after a result with words behind it": {
			"/v1/messages", `{"model":"sim-tool","max_tokens":400,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"weather","input":{}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"11 C"},{"type":"text","text":"Hurry up."}]}],"tools":[{"name":"weather","input_schema":` + parameters + `}]}`,
			[]string{`"stop_reason":"end_turn"`},
		},
		"responses tools": {
			"/v1/responses", `{"model":"sim-tool","input":"x","tools":[{"type":"function","name":"weather","parameters":` + parameters + `}]}`,
			[]string{`"type":"function_call"`, `"name":"weather"`},
		},
		"chat thinks":      {"/v1/chat/completions", `{"model":"sim-think","messages":` + turn + `}`, []string{`"reasoning":"`, `"content":"`}},
		"messages think":   {"/v1/messages", `{"model":"sim-think","max_tokens":400,"messages":` + turn + `}`, []string{`"type":"thinking"`, `"type":"text"`}},
		"responses think":  {"/v1/responses", `{"model":"sim-think","input":"x"}`, []string{`"type":"reasoning"`, `"type":"message"`}},
		"completions":      {"/v1/completions", `{"model":"sim-small","prompt":"x"}`, []string{`"finish_reason":"stop"`}},
		"completions fill": {"/v1/completions", `{"model":"sim-code","prompt":"func a","suffix":"}"}`, []string{`"finish_reason":"stop"`}},
		"not a thinker":    {"/v1/messages", `{"model":"sim-chat","max_tokens":400,"thinking":{"type":"enabled","budget_tokens":99},"messages":` + turn + `}`, []string{`"end_turn"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, raw := ask(t, n, http.MethodPost, tt.path, tt.body)
			if status != 200 {
				t.Fatalf("%d %s", status, raw)
			}
			for _, want := range tt.has {
				if !strings.Contains(raw, want) {
					t.Errorf("no %s in %s", want, raw)
				}
			}
		})
	}
}

func TestSimModels_SchemaFits(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	const schema = `{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer"},"tags":{"type":"array","items":{"type":"string"}},"mood":{"enum":["good","bad"]}},"required":["name","age","tags","mood"]}`
	const turn = `"messages":[{"role":"user","content":"x"}]`
	for path, body := range map[string]string{
		"/api/chat":            `{"stream":false,"model":"sim-chat",` + turn + `,"format":` + schema + `}`,
		"/v1/chat/completions": `{"model":"sim-chat",` + turn + `,"response_format":{"type":"json_schema","json_schema":{"name":"p","schema":` + schema + `}}}`,
		"/v1/responses":        `{"model":"sim-think","input":"x","text":{"format":{"type":"json_schema","name":"p","schema":` + schema + `}}}`,
	} {
		_, raw := ask(t, n, http.MethodPost, path, body)
		var out struct {
			Message struct{ Content string }
			Choices []struct{ Message struct{ Content string } }
			Output  []struct{ Content []struct{ Text string } }
		}
		if err := json.Unmarshal([]byte(raw), &out); err != nil {
			t.Fatal(err)
		}
		text := out.Message.Content
		for _, c := range out.Choices {
			text += c.Message.Content
		}
		for _, item := range out.Output {
			for _, c := range item.Content {
				text += c.Text
			}
		}
		var person struct {
			Name string
			Age  *int
			Tags []string
			Mood string
		}
		if err := json.Unmarshal([]byte(text), &person); err != nil || person.Name == "" || person.Age == nil || person.Tags == nil ||
			person.Mood != "good" && person.Mood != "bad" {
			t.Errorf("%s: %q %v", path, text, err)
		}
	}
}

// Both spellings of a vector are the same numbers.
func TestEmbed_Base64IsTheSame(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	var vectors [2]struct {
		Data []struct{ Embedding json.RawMessage }
	}
	for i, format := range []string{"float", "base64"} {
		_, raw := ask(t, n, http.MethodPost, "/v1/embeddings", `{"model":"sim-embed","input":"the river","encoding_format":"`+format+`"}`)
		if err := json.Unmarshal([]byte(raw), &vectors[i]); err != nil {
			t.Fatal(err)
		}
	}
	var numbers []float32
	var text string
	if err := json.Unmarshal(vectors[0].Data[0].Embedding, &numbers); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(vectors[1].Data[0].Embedding, &text); err != nil {
		t.Fatal(err)
	}
	if packed, err := base64.StdEncoding.DecodeString(text); err != nil || len(packed) != 4*len(numbers) || len(numbers) != 768 {
		t.Errorf("%d numbers, %d bytes, %v", len(numbers), len(packed), err)
	}
}
