package wire

import (
	"bytes"
	"testing"
)

// nativeOf is the canonical form of the native chat that a translator makes.
func nativeOf(t *testing.T, body string) []byte {
	t.Helper()
	native, ok := mustParse(t, "/v1/chat/completions", body).NativeChat()
	if !ok {
		t.Fatalf("%s: not certain", body)
	}
	if native.Route.Path != "/api/chat" || native.Task != Answer {
		t.Errorf("%s: translated to %+v", body, native)
	}
	return native.Canonical()
}

// Pairs as 0.24.0 translates them.
func TestNativeChat_IsWhatANativeClientSays(t *testing.T) {
	const ones = `"temperature":1.0,"top_p":1.0`
	user := `"messages":[{"role":"user","content":"hi"}]`
	tests := []struct{ name, openAI, native string }{
		{"sampling that is not given", user, user + `,"options":{` + ones + `}`},
		{"sampling that is given", user + `,"temperature":0,"top_p":0.9`, user + `,"options":{"top_p":0.90,"temperature":0.0}`},
		{"null is not given", user + `,"temperature":null,"seed":null,"stop":null,"tools":null,"response_format":null`, user + `,"options":{"top_p":1,"temperature":1}`},
		{"numbers", user + `,"max_tokens":5,"seed":9007199254740993,"frequency_penalty":0.5,"presence_penalty":-1`, user + `,"options":{` + ones + `,"num_predict":5,"seed":9007199254740993,"frequency_penalty":0.5,"presence_penalty":-1.0}`},
		{"one stop", user + `,"stop":"\n"`, user + `,"options":{` + ones + `,"stop":["\u000a"]}`},
		{"stops", user + `,"stop":["a","b"]`, user + `,"options":{` + ones + `,"stop":["a","b"]}`},
		{"an empty stop", user + `,"stop":""`, user + `,"options":{` + ones + `,"stop":[""]}`},
		{"JSON", user + `,"response_format":{"type":" JSON_object "}`, user + `,"options":{` + ones + `},"format":"json"`},
		{"a schema", user + `,"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":{"b":1.0,"a":[]}}}`, user + `,"options":{` + ones + `},"format":{"b":1.0,"a":[]}`},
		{"no schema", user + `,"response_format":{"type":"json_schema","json_schema":{"schema":null}}`, user + `,"options":{` + ones + `}`},
		{"text", user + `,"response_format":{"type":"text"}`, user + `,"options":{` + ones + `},"format":null`},
		{"no thinking", user + `,"reasoning_effort":"none"`, user + `,"options":{` + ones + `},"think":false`},
		{"thinking", user + `,"reasoning":{"effort":"high"},"reasoning_effort":"low"`, user + `,"options":{` + ones + `},"think":"high"`},
		{"thinking, said twice and once nothing", user + `,"reasoning":{},"reasoning_effort":"low"`, user + `,"options":{` + ones + `}`},
		{"tools", user + `,"tools":[{"function":{"name":"x","z":1.0},"Type":"function"}]`, user + `,"options":{` + ones + `},"tools":[{"function":{"name":"x","z":1.0},"type":"function"}]`},
		{"no tools", user + `,"tools":[]`, user + `,"options":{` + ones + `}`},
		{"logprobs", user + `,"logprobs":true,"top_logprobs":3`, user + `,"options":{` + ones + `},"logprobs":true,"top_logprobs":3`},
		{"no logprobs", user + `,"logprobs":false,"top_logprobs":0,"_debug_render_only":false`, user + `,"options":{` + ones + `}`},
		{"what changes no answer", user + `,"stream":true,"stream_options":{"include_usage":true},"user":"x","metadata":{"a":1}`, user + `,"keep_alive":5,"options":{"num_gpu":9,` + ones + `}`},
		{"fields in other case", `"Messages":[{"ROLE":"user","Content":"h\u0069"}],"Temperature":0.5`, user + `,"options":{"temperature":0.5,"top_p":1}`},
		{
			"each part is a message", `"messages":[{"content":[{"type":"text","text":"a"},{"text":"b","type":"text"}],"role":"user"},{"role":"system","content":[]}]`,
			`"messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}],"options":{` + ones + `}`,
		},
		{
			"thoughts", `"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b","reasoning":"hm","tool_calls":null,"name":null},{"role":"user","content":"c","reasoning":""}]`,
			`"messages":[{"role":"user","content":"a"},{"role":"assistant","thinking":"hm","content":"b"},{"role":"user","content":"c"}],"options":{` + ones + `}`,
		},
		{"bad UTF-8", "\"messages\":[{\"role\":\"user\",\"content\":\"\xff\\ud800\"}]", "\"messages\":[{\"role\":\"user\",\"content\":\"\ufffd\ufffd\"}],\"options\":{" + ones + `}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := nativeOf(t, `{"model":"a",`+test.openAI+`}`)
			want := mustParse(t, "/api/chat", `{"model":"b",`+test.native+`}`).Canonical()
			if !bytes.Equal(got, want) {
				t.Errorf("%s\n got %q\nwant %q", test.openAI, got, want)
			}
		})
	}
}

func TestNativeChat_DiffersWhereANativeClientSaysSomethingElse(t *testing.T) {
	user := `"messages":[{"role":"user","content":"hi"}]`
	tests := []struct{ name, openAI, native string }{
		{"no sampling", user, user},
		{"no top_p", user + `,"temperature":1`, user + `,"options":{"temperature":1}`},
		{"no temperature", user + `,"top_p":1`, user + `,"options":{"top_p":1}`},
		{"the native defaults", user, user + `,"options":{"temperature":0.8,"top_p":0.9}`},
		{"a window", user, user + `,"options":{"temperature":1,"top_p":1,"num_ctx":4096}`},
		{"a seed", user, user + `,"options":{"temperature":1,"top_p":1,"seed":1}`},
		{"thinking", user, user + `,"options":{"temperature":1,"top_p":1},"think":false`},
		{"parts in one message", `"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`, `"messages":[{"role":"user","content":"a\nb"}],"options":{"temperature":1,"top_p":1}`},
		{"order in a schema", user + `,"response_format":{"type":"json_schema","json_schema":{"schema":{"a":1,"b":2}}}`, user + `,"options":{"temperature":1,"top_p":1},"format":{"b":2,"a":1}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := nativeOf(t, `{"model":"a",`+test.openAI+`}`)
			if other := mustParse(t, "/api/chat", `{"model":"a",`+test.native+`}`).Canonical(); bytes.Equal(got, other) {
				t.Errorf("%s is the same as %s: %q", test.openAI, test.native, got)
			}
		})
	}
}

func TestNativeChat_IsNotCertainOfEverything(t *testing.T) {
	user := `"messages":[{"role":"user","content":"hi"}]`
	message := func(m string) string { return `"messages":[{"role":"user","content":"hi"},` + m + `]` }
	tests := []struct{ name, path, body string }{
		{"another route", "/api/chat", user},
		{"a command", "/v1/chat/completions", `"messages":[{"role":"user","content":[]}]`},
		{"a rendering", "/v1/chat/completions", user + `,"_debug_render_only":true`},
		{"an unknown field", "/v1/chat/completions", user + `,"zzz":1`},
		{"n", "/v1/chat/completions", user + `,"n":1`},
		{"a bias", "/v1/chat/completions", user + `,"logit_bias":{}`},
		{"native options", "/v1/chat/completions", user + `,"options":{}`},
		{"no stops", "/v1/chat/completions", user + `,"stop":[]`},
		{"stops that are no texts", "/v1/chat/completions", user + `,"stop":["a",null]`},
		{"a stop that is no text", "/v1/chat/completions", user + `,"stop":5`},
		{"an unknown effort", "/v1/chat/completions", user + `,"reasoning_effort":"huge"`},
		{"more of reasoning", "/v1/chat/completions", user + `,"reasoning":{"effort":"low","summary":"auto"}`},
		{"more of a format", "/v1/chat/completions", user + `,"response_format":{"type":"text","zzz":1}`},
		{"more of a schema", "/v1/chat/completions", user + `,"response_format":{"type":"json_schema","json_schema":{"schema":{},"zzz":1}}`},
		{"a tool's message", "/v1/chat/completions", message(`{"role":"Tool","content":"x"}`)},
		{"a call", "/v1/chat/completions", message(`{"role":"assistant","content":"x","tool_calls":[]}`)},
		{"a call's id", "/v1/chat/completions", message(`{"role":"assistant","content":"x","tool_call_id":"1"}`)},
		{"a name", "/v1/chat/completions", message(`{"role":"user","content":"x","name":"me"}`)},
		{"an unknown field of a message", "/v1/chat/completions", message(`{"role":"user","content":"x","zzz":null}`)},
		{"no message", "/v1/chat/completions", message(`null`)},
		{"no content", "/v1/chat/completions", message(`{"role":"user"}`)},
		{"a content of another type", "/v1/chat/completions", message(`{"role":"user","content":{}}`)},
		{"an image", "/v1/chat/completions", message(`{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"data:;base64,aGk="}}]}`)},
		{"a part without text", "/v1/chat/completions", message(`{"role":"user","content":[{"type":"text"}]}`)},
		{"a part in other case", "/v1/chat/completions", message(`{"role":"user","content":[{"Type":"text","text":"x"}]}`)},
		{"more of a part", "/v1/chat/completions", message(`{"role":"user","content":[{"type":"text","text":"x","cache_control":{}}]}`)},
		{"a part that is no object", "/v1/chat/completions", message(`{"role":"user","content":["x"]}`)},
		{"thoughts beside parts", "/v1/chat/completions", message(`{"role":"assistant","content":[{"type":"text","text":"x"}],"reasoning":"hm"}`)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if native, ok := mustParse(t, test.path, `{"model":"a",`+test.body+`}`).NativeChat(); ok || native != nil {
				t.Errorf("%s: translated to %s", test.body, native.Body.Bytes())
			}
		})
	}
}
