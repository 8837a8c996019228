package wire

import (
	"net/http"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

func TestSaidBy_TellsTextAndCallsFromNothing(t *testing.T) {
	const generate, chat, embed, embeddings = "/api/generate", "/api/chat", "/api/embed", "/api/embeddings"
	const openAI, completions, vectors, responses, messages = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"
	nothing, text, calls, both := Said{}, Said{Text: true}, Said{ToolCalls: true}, Said{true, true}
	tests := []struct {
		name, path, answer string
		want               Said
	}{
		{"a response", generate, `{"model":"a","response":"x","done":true}`, text},
		{"an empty response", generate, `{"model":"a","response":"","done":true,"context":[1]}`, nothing},
		{"thoughts", generate, `{"response":"","thinking":"x"}`, text},
		{"an image", generate, `{"response":"","image":"aGk="}`, text},
		{"a call in a response", generate, `{"response":"","tool_calls":[{"function":{"name":"f"}}]}`, calls},
		{"a message", chat, `{"message":{"role":"assistant","content":" "},"done":true}`, text},
		{"an empty message", chat, `{"message":{"role":"assistant","content":""},"done":true}`, nothing},
		{"null", chat, `{"message":{"role":"assistant","content":null,"tool_calls":null,"images":null}}`, nothing},
		{"thoughts in a message", chat, `{"message":{"content":"","thinking":"x"}}`, text},
		{"images in a message", chat, `{"message":{"content":"","images":["aGk="]}}`, text},
		{"a call", chat, `{"message":{"content":"","tool_calls":[{"function":{"name":"f","arguments":{"content":"x"}}}]}}`, calls},
		{"a call and text", chat, `{"message":{"content":"x","tool_calls":[{}]}}`, both},
		{"no calls", chat, `{"message":{"content":"","tool_calls":[]}}`, nothing},
		{"no message", chat, `{"message":null}`, nothing},

		{"a choice", openAI, `{"choices":[{"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}`, text},
		{"an empty choice", openAI, `{"choices":[{"message":{"role":"assistant","content":""}}],"model":"x"}`, nothing},
		{"no choice", openAI, `{"choices":[]}`, nothing},
		{"the second choice", openAI, `{"choices":[{"message":{"content":""}},{"message":{"content":"x"}}]}`, text},
		{"reasoning", openAI, `{"choices":[{"message":{"content":null,"reasoning":"x"}}]}`, text},
		{"a call of a choice", openAI, `{"choices":[{"message":{"content":"","tool_calls":[{"function":{"name":"f"}}]}}]}`, calls},
		{"a completion", completions, `{"choices":[{"text":"x"}]}`, text},
		{"an empty completion", completions, `{"choices":[{"text":"","finish_reason":"stop"}]}`, nothing},

		{"a block", messages, `{"role":"assistant","content":[{"type":"text","text":"x"}]}`, text},
		{"an empty block", messages, `{"content":[{"type":"text","text":""}]}`, nothing},
		{"no block", messages, `{"content":null,"stop_reason":"end_turn"}`, nothing},
		{"a thought", messages, `{"content":[{"type":"thinking","thinking":"x"}]}`, text},
		{"a use of a tool", messages, `{"content":[{"type":"tool_use","id":"1","name":"f","input":{"text":"x"}}]}`, calls},
		{"a server's tool", messages, `{"content":[{"type":"server_tool_use"},{"type":"text","text":"x"}]}`, both},

		{"an output", responses, `{"output":[{"type":"message","content":[{"type":"output_text","text":"x"}]}],"text":{"format":{"type":"text"}}}`, text},
		{"an empty output", responses, `{"output":[{"type":"message","content":[{"type":"output_text","text":""}]}]}`, nothing},
		{"no output", responses, `{"output":[]}`, nothing},
		{"a summary of thoughts", responses, `{"output":[{"type":"reasoning","summary":[{"type":"summary_text","text":"x"}]}]}`, text},
		{"a function's call", responses, `{"output":[{"type":"function_call","name":"f","arguments":"{}"}]}`, calls},
		{"another call", responses, `{"output":[{"type":"web_search_call","action":{"query":"x"}}]}`, calls},
		{"tools that were there to call", responses, `{"output":[{"type":"message","content":[]}],"tools":[{"type":"function_call","text":"x"}]}`, nothing},

		{"vectors", embed, `{"embeddings":[[0.1]]}`, text},
		{"no vectors", embed, `{"model":"a","embeddings":[]}`, nothing},
		{"empty vectors", embed, `{"embeddings":[[],[ ]]}`, nothing},
		{"a vector", embeddings, `{"embedding":[1]}`, text},
		{"no vector", embeddings, `{"embedding":[]}`, nothing},
		{"null for a vector", embeddings, `{"embedding":null}`, nothing},
		{"OpenAI's vectors", vectors, `{"data":[{"embedding":[0.1],"index":0}]}`, text},
		{"in base64", vectors, `{"data":[{"embedding":"AAAA","index":0}]}`, text},
		{"none of OpenAI's", vectors, `{"data":[{"embedding":[]},{"embedding":""}]}`, nothing},

		{"an error", chat, `{"error":"x"}`, nothing},
		{"a cut answer", chat, `{"message":{"content":"x"}`, nothing},
		{"an answer and more", chat, `{"message":{"content":"x"}}{}`, nothing},
		{"no object", chat, `["x"]`, nothing},
		{"no answer", chat, ``, nothing},
		{"fields of other types", openAI, `{"choices":{"message":[{"content":"x"}]}}`, nothing},
		{"another route's answer", "/api/tags", `{"message":{"content":""}}`, nothing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := SaidBy(routeOf(test.path), []byte(test.answer)); got != test.want {
				t.Errorf("%s: got %+v, want %+v", test.answer, got, test.want)
			}
		})
	}
}

// Recorded single answers: those to requests whose name tells what they say.
func TestSaidBy_ReadsRecordedAnswers(t *testing.T) {
	tests := []struct {
		file, id string
		want     Said
	}{
		{"generate", "nonstream", Said{Text: true}},
		{"generate", "think-model", Said{Text: true}},
		{"chat", "nonstream", Said{Text: true}},
		{"chat", "tools-nonstream", Said{true, true}}, // white space before the call
		{"openai-chat", "nonstream", Said{Text: true}},
		{"openai-chat", "tools", Said{true, true}}, // white space before the call
		{"openai-completions", "nonstream", Said{Text: true}},
		{"openai-completions", "no-prompt", Said{}},
		{"openai-responses", "nonstream", Said{Text: true}},
		{"openai-responses", "tools", Said{ToolCalls: true}},
		{"openai-responses", "think", Said{Text: true}},
		{"anthropic", "nonstream", Said{Text: true}},
		{"anthropic", "tools", Said{true, true}}, // white space before the call
		{"anthropic", "think", Said{Text: true}},
		{"embeddings", "one", Said{Text: true}},
	}
	for _, test := range tests {
		t.Run(test.file+"/"+test.id, func(t *testing.T) {
			rec := record(t, test.file, test.id)
			if got := SaidBy(routeOfRecord(t, rec), rec.Response.Body); got != test.want {
				t.Errorf("%s: got %+v, want %+v", rec.Response.Body, got, test.want)
			}
		})
	}
	for _, file := range append(textFiles, "embed", "embeddings", "openai-embeddings") {
		for _, rec := range golden.Load(t, file) {
			if _, ok := testRoute(rec); ok && rec.Response.Status >= http.StatusBadRequest {
				if got := SaidBy(routeOfRecord(t, rec), rec.Response.Body); got != (Said{}) {
					t.Errorf("%s/%s: an error says %+v", file, rec.ID, got)
				}
			}
		}
	}
}

func FuzzSaidBy(f *testing.F) {
	routes := inferRoutes()
	for i := range routes {
		for _, body := range []string{
			`{"message":{"content":"x","tool_calls":[{}]}}`, `{"choices":[{"message":{"content":[{"text":"x"}]}}]}`, `{"output":[{"type":"x_call","content":[{"text":"x"}]}]}`,
			`{"content":[{"type":"tool_use"}]}`, `{"embeddings":[[1],[]],"data":[{"embedding":"x"}]}`, `{"message":{"content":"x","content":"y"}}`, `{"a":[[[{`,
		} {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		if got := SaidBy(routes[int(route)%len(routes)], body); got != (Said{}) && !IsObject(body) {
			t.Errorf("%q is no answer and says %+v", body, got)
		}
	})
}
