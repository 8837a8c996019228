package wire

import (
	"slices"
	"testing"
)

func TestSaidIn_TellsWhatTheSingleAnswerTells(t *testing.T) {
	chat := Route{Path: "/api/chat", Dialect: Ollama, Operation: Chat}
	openai := Route{Path: "/v1/chat/completions", Dialect: OpenAI, Operation: Chat}
	for name, c := range map[string]struct {
		route  Route
		frames []string
		want   Said
	}{
		"text": {chat, []string{
			`{"model":"m","message":{"role":"assistant","content":""},"done":false}`, `{"model":"m","message":{"role":"assistant","content":"hi"},"done":false}`,
			`{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`,
		}, Said{Text: true}},
		"text about tools": {chat, []string{
			`{"model":"m","message":{"role":"assistant","content":"a tool"},"done":false}`, `{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`,
		}, Said{Text: true}},
		"spelt with white space": {chat, []string{
			`{"model":"m","message":{"role":"assistant","content": "hi"},"done":false}`, `{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`,
		}, Said{Text: true}},
		"nothing": {chat, []string{`{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`}, Said{}},
		"a call": {chat, []string{
			`{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]},"done":false}`,
			`{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`,
		}, Said{ToolCalls: true}},
		"thoughts": {chat, []string{
			`{"model":"m","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}`, `{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`,
		}, Said{Text: true}},
		"OpenAI": {openai, []string{
			`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"hi"},"finish_reason":null}]}` + "\n\n",
			`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}]}` + "\n\n", "data: [DONE]\n\n",
		}, Said{Text: true}},
	} {
		t.Run(name, func(t *testing.T) {
			frames := make([][]byte, len(c.frames))
			for i, f := range c.frames {
				frames[i] = []byte(f)
			}
			_, single, err := Fold(c.route.Dialect, c.route.Operation, slices.Values(frames))
			if err != nil {
				t.Fatal(err)
			}
			got, err := SaidIn(c.route, slices.Values(frames))
			if err != nil || got != c.want || got != SaidBy(c.route, single) {
				t.Errorf("%+v, %v; by the single answer %+v, want %+v", got, err, SaidBy(c.route, single), c.want)
			}
		})
	}
}
