package wire

import "testing"

func TestLastPrompt_IsWhatTheUserWroteLast(t *testing.T) {
	const chat, completions, responses, messages = "/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"
	tests := []struct{ name, path, body, want string }{
		{"one message", chat, `"messages":[{"role":"user","content":"urg\u0065nt\n"}]`, "urgent\n"},
		{"the last of two", chat, `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]`, "c"},
		{"an answer behind it", chat, `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]`, "a"},
		{"a role in other case", chat, `"messages":[{"Role":"USER","Content":"a"}]`, "a"},
		{"an image behind it", chat, `"messages":[{"role":"user","content":"a"},{"role":"user","content":"","images":["aGk="]}]`, "a"},
		{"nobody wrote", chat, `"messages":[{"role":"system","content":"a"},{},null]`, ""},
		{"bad UTF-8", chat, "\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]", "\ufffd"},
		{"OpenAI's parts", completions, `"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:x"}},{"type":"text","text":"b"}]}]`, "a\nb"},
		{"Anthropic's blocks", messages, `"max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`, "a\nb"},
		{"what a tool gave", messages, `"max_tokens":1,"messages":[{"role":"user","content":"a"},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"b"}]}]`, "a"},
		{"an input", responses, `"input":"a","instructions":"b"`, "a"},
		{"items", responses, `"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call_output","output":"b"}]`, "a"},
		{"no input", responses, `"instructions":"b"`, ""},
		{"a prompt", "/api/generate", `"prompt":"a","system":"b"`, "a"},
		{"a completion", "/v1/completions", `"prompt":"a"`, "a"},
		{"a text to embed", "/api/embed", `"input":"a"`, "a"},
		{"texts to embed", "/v1/embeddings", `"input":["a","b"]`, "a\nb"},
		{"no texts to embed", "/api/embed", `"input":[]`, ""},
		{"an older text to embed", "/api/embeddings", `"prompt":"a"`, "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := mustParse(t, test.path, `{"model":"a",`+test.body+`}`).LastPrompt(); got != test.want {
				t.Errorf("%s: got %q, want %q", test.body, got, test.want)
			}
		})
	}
}

func TestSingleTurn_HasNoConversationBeforeIt(t *testing.T) {
	const chat, generate, responses, messages = "/api/chat", "/api/generate", "/v1/responses", "/v1/messages"
	tests := []struct {
		name, path, body string
		want             bool
	}{
		{"one message", chat, `"messages":[{"role":"user","content":"a"}]`, true},
		{"and the system", chat, `"messages":[{"role":"System","content":"a"},{"role":"user","content":"a"},{"role":"developer"}]`, true},
		{"two of the user", chat, `"messages":[{"role":"user","content":"a"},{"role":"user","content":"a"}]`, false},
		{"an answer", chat, `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"a"}]`, false},
		{"a tool", chat, `"messages":[{"role":"user","content":"a"},{"role":"tool","content":"a"}]`, false},
		{"an unknown role", chat, `"messages":[{"role":"user","content":"a"},{"role":"wizard"}]`, false},
		{"no role", chat, `"messages":[{"content":"a"}]`, false},
		{"nobody but the system", chat, `"messages":[{"role":"system","content":"a"}]`, false},
		{"nobody", chat, `"messages":[]`, false},
		{"Anthropic", messages, `"max_tokens":1,"system":"a","messages":[{"role":"user","content":"x"}]`, true},
		{"a prompt", generate, `"prompt":"a","context":[]`, true},
		{"a prompt and a context", generate, `"prompt":"a","context":[1]`, false},
		{"a completion", "/v1/completions", `"prompt":"a"`, true},
		{"an input", responses, `"input":"a","instructions":"b","previous_response_id":null`, true},
		{"an item", responses, `"input":[{"role":"user","content":"a"}]`, true},
		{"an item with a type", responses, `"input":[{"type":"message","role":"user","content":"a"}]`, true},
		{"an earlier response", responses, `"input":"a","Previous_Response_ID":"resp_1"`, false},
		{"a conversation", responses, `"input":"a","conversation":"conv_1"`, false},
		{"a call", responses, `"input":[{"role":"user","content":"a"},{"type":"function_call"}]`, false},
		{"a new kind of item", responses, `"input":[{"role":"user","content":"a"},{"type":"zzz","role":"user"}]`, false},
		{"texts to embed", "/api/embed", `"input":["a","b"]`, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := mustParse(t, test.path, `{"model":"a",`+test.body+`}`).SingleTurn(); got != test.want {
				t.Errorf("%s: got %v", test.body, got)
			}
		})
	}
}

func TestRequest_TellsToolsAndDates(t *testing.T) {
	tests := []struct {
		name, path, body string
		tools, date      bool
	}{
		{"nothing", "/api/chat", `"messages":[{}]`, false, false},
		{"no tools", "/api/chat", `"messages":[{}],"tools":[ ]`, false, false},
		{"null", "/api/chat", `"messages":[{}],"tools":null`, false, false},
		{"tools", "/api/chat", `"messages":[{}],"Tools":[{}]`, true, false},
		{"Anthropic's", "/v1/messages", `"max_tokens":1,"messages":[{"content":"x"}],"tools":[{"name":"x"}]`, true, false},
		{"in responses", "/v1/responses", `"input":"x","tools":[{"name":"x"}]`, true, false},
		{"a prompt has none", "/api/generate", `"prompt":"x","tools":[{}]`, false, false},
		{"a template", "/api/generate", `"prompt":"x","template":"{{ .Prompt }}"`, false, false},
		{"one with the date", "/api/generate", `"prompt":"x","template":"{{ current\u0044ate }}"`, false, true},
		{"one with another date", "/api/generate", `"prompt":"x","template":"{{ yesterdayDate }}"`, false, true},
		{"a chat has no template", "/api/chat", `"messages":[{}],"template":"{{ currentDate }}"`, false, false},
		{"a prompt that speaks of it", "/api/generate", `"prompt":"currentDate"`, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			q := mustParse(t, test.path, `{"model":"a",`+test.body+`}`)
			if q.HasTools() != test.tools || q.PrintsDate() != test.date {
				t.Errorf("%s: tools %v, date %v", test.body, q.HasTools(), q.PrintsDate())
			}
		})
	}
	show := mustParse(t, "/api/show", `{"model":"a","template":"currentDate"}`)
	if show.Canonical() != nil || show.LastPrompt() != "" || show.HasTools() || show.PrintsDate() || show.SingleTurn() || show.Sampling() != (Sampling{}) {
		t.Errorf("show is told as a request for text: %q", show.Canonical())
	}
}
