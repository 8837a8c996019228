package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

var (
	nativeChat = *Find("POST", "/api/chat").Route
	openAIChat = *Find("POST", "/v1/chat/completions").Route
)

func TestTell_NativeChatAsTheRecordedChunks(t *testing.T) {
	// The recorded requests with tools differ in the tool, and so in the length of the prompt.
	counts := strings.NewReplacer(`"prompt_tokens":183`, `"prompt_tokens":126`, `"total_tokens":191`, `"total_tokens":134`)
	tests := []struct {
		native, stream, single string
		usage                  bool
	}{
		{"stream", "stream", "", false},
		{"stream", "stream-usage", "nonstream", true},
		{"think-stream", "think-stream", "", false},
		{"think-stream", "", "think-default", true},
		{"tools-stream", "tools-stream-usage", "", true},
		{"tools-stream", "", "tools", true},
		{"num-predict-2", "", "max-tokens", true},
	}
	for _, tt := range tests {
		t.Run(tt.native+"/"+tt.stream+tt.single, func(t *testing.T) {
			native := record(t, "chat", tt.native)
			told, kinds := tellAll(t, Retelling{From: nativeChat, To: openAIChat, Model: modelOf(t, native), Usage: tt.usage},
				framesOf(t, native.Response.Body, Ollama))
			judgeTold(t, openAIChat, told, kinds)
			if tt.stream != "" {
				want := record(t, "openai-chat", tt.stream).Response.Body
				if got := counts.Replace(masked(bytes.Join(told, nil))); got != masked(want) {
					t.Errorf("stream\ngot  %s\nwant %s", got, masked(want))
				}
			}
			if tt.single != "" {
				_, got, err := Fold(OpenAI, Chat, slices.Values(told))
				if want := record(t, "openai-chat", tt.single).Response.Body; err != nil || counts.Replace(masked(got)) != masked(want) {
					t.Errorf("single\ngot  %s, %v\nwant %s", masked(got), err, masked(want))
				}
			}
		})
	}
}

// The chunks are written by hand after openai.ToChunks of 0.24.0.
func TestTell_NativeChatAsChunks(t *testing.T) {
	const (
		head = `data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1795438943,"model":"Tiny","system_fingerprint":"fp_ollama","choices":[`
		at   = `{"model":"m","created_at":"2026-11-23T13:02:23.24Z",`
	)
	chunk := func(delta, rest string) string {
		return head + `{"index":0,"delta":{"role":"assistant",` + delta + `},"finish_reason":` + rest + "}]}\n\n"
	}
	const (
		usage = head + `],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}` + "\n\n"
		none  = head + `],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}` + "\n\n"
	)
	const done = "data: [DONE]\n\n"
	tests := []struct {
		name   string
		record []string
		want   []string
	}{
		{
			"thinking beside text is a chunk of its own, with the logprobs",
			[]string{at + `"message":{"role":"assistant","content":"\u003ca","thinking":"t"},"done":false,"logprobs":[{"token":"t","logprob":-1e-7}]}`},
			[]string{
				chunk(`"content":"","reasoning":"t"`, `null,"logprobs":{"content":[{"token":"t","logprob":-1e-7}]}`),
				chunk(`"content":"\u003ca"`, `null`),
			},
		},
		{
			"calls of tools, then an end",
			[]string{
				at + `"message":{"role":"assistant","content":"","tool_calls":[{"id":"call_a","function":{"index":0,"name":"f","arguments":{"b":"\u003c\"","a":[1.50,{"d":1,"c":2}]}}},{"function":{"index":1,"name":"g","arguments":{}}}]},"done":false}`,
				at + `"message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":4}`,
			},
			[]string{
				chunk(`"content":"","tool_calls":[{"id":"call_a","index":0,"type":"function","function":{"name":"f","arguments":"{\"b\":\"\\u003c\\\"\",\"a\":[1.50,{\"d\":1,\"c\":2}]}"}},{"id":"","index":1,"type":"function","function":{"name":"g","arguments":"{}"}}]`, `null`),
				chunk(`"content":""`, `"tool_calls"`), usage, done,
			},
		},
		{
			"calls, thinking and the end in one record",
			[]string{
				at + `"message":{"role":"assistant","content":"","thinking":"t","tool_calls":[{"id":"call_a","function":{"index":0,"name":"f","arguments":{}}}]},"done":true,"done_reason":"length","prompt_eval_count":3,"eval_count":4}`,
			},
			[]string{
				chunk(`"content":"","reasoning":"t"`, `null`),
				chunk(`"content":"","tool_calls":[{"id":"call_a","index":0,"type":"function","function":{"name":"f","arguments":"{}"}}]`, `"tool_calls"`), usage, done,
			},
		},
		{
			"an end without a reason",
			[]string{at + `"message":{"content":null,"tool_calls":null},"done":true,"prompt_eval_count":3,"eval_count":4}`},
			[]string{chunk(`"content":""`, `"stop"`), usage, done},
		},
		{
			"only loaded",
			[]string{at + `"message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}`},
			[]string{chunk(`"content":""`, `"load"`), none, done},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			teller, err := NewReteller(Retelling{From: nativeChat, To: openAIChat, Model: "Tiny", Usage: true})
			if err != nil {
				t.Fatal(err)
			}
			teller.chat.begin([]byte("7"), []byte(`"Tiny"`))
			var frames [][]byte
			for _, r := range tt.record {
				frames = append(frames, []byte(r+"\n"))
			}
			told, kinds := tellWith(t, teller, nativeChat, frames)
			if got, want := string(bytes.Join(told, nil)), strings.Join(tt.want, ""); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
			judgeTold(t, openAIChat, told, kinds)
		})
	}
}
