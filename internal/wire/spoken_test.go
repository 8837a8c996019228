package wire

import "testing"

func TestSpoken_IsWhatAnAnswerSaysInEachDialect(t *testing.T) {
	for _, c := range []struct{ name, a, b string }{
		{
			"native chat: blanks, times and thoughts",
			`{"model":"m","created_at":"1","message":{"role":"assistant","content":" The  answer\n is 4. ","thinking":"hm"},"done":true}`,
			`{"model":"m","created_at":"2","message":{"role":"assistant","content":"The answer is 4."},"done":true,"eval_count":3}`,
		},
		{
			"native call: order of its arguments",
			`{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1,"b":[2]}}}]}}`,
			`{"message":{"content":"","tool_calls":[{"id":"x","function":{"index":0,"name":"f","arguments":{"b":[2],"a":1.0}}}]}}`,
		},
		{"generate", `{"response":"a b","context":[1]}`, `{"response":"a\tb","context":[2]}`},
		{
			"openai call: arguments are a text, ids differ",
			`{"id":"1","choices":[{"message":{"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1,\"b\":2}"}}]}}]}`,
			`{"id":"2","choices":[{"message":{"tool_calls":[{"id":"c2","type":"function","function":{"name":"f","arguments":"{ \"b\": 2, \"a\": 1 }"}}]}}]}`,
		},
		{
			"anthropic",
			`{"id":"1","content":[{"type":"thinking","thinking":"x"},{"type":"text","text":"hi  you"},{"type":"tool_use","id":"1","name":"f","input":{"a":1}}]}`,
			`{"id":"2","content":[{"type":"text","text":"hi you"},{"type":"tool_use","id":"2","name":"f","input":{"a": 1}}]}`,
		},
		{
			"responses",
			`{"id":"1","output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]},{"type":"function_call","name":"f","arguments":"{}"}],"text":{"format":1}}`,
			`{"id":"2","output":[{"type":"reasoning","summary":[{"text":"x"}]},{"type":"message","content":[{"type":"output_text","text":"hi "}]},{"type":"function_call","call_id":"9","name":"f","arguments":"{ }"}]}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := string(Spoken(nil, []byte(c.a))), string(Spoken(nil, []byte(c.b)))
			if a != b || a == "" {
				t.Errorf("%q and %q", a, b)
			}
		})
	}
	for _, c := range [][2]string{
		{`{"message":{"content":"4"}}`, `{"message":{"content":"5"}}`},
		{`{"message":{"content":"a b"}}`, `{"message":{"content":"ab"}}`},
		{`{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}}`, `{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":2}}}]}}`},
	} {
		if string(Spoken(nil, []byte(c[0]))) == string(Spoken(nil, []byte(c[1]))) {
			t.Errorf("%s and %s say the same", c[0], c[1])
		}
	}
	if got := Spoken(nil, []byte(`{"message":{"content":"4"}`)); got != nil {
		t.Errorf("what is cut off says %q", got)
	}
}
