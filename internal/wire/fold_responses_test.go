package wire

import (
	"regexp"
	"slices"
	"testing"
)

// The items are written by hand after openai.ResponsesStreamConverter of 0.24.0 and HEAD.
func TestFold_ItemsOfResponses(t *testing.T) {
	const (
		reasoning = `{"encrypted_content":"a","id":"rs_3","summary":[{"text":"a","type":"summary_text"}],"type":"reasoning"}`
		again     = `{"encrypted_content":"\u003c","id":"rs_4","summary":[{"text":"\u003c","type":"summary_text"}],"type":"reasoning"}`
		message   = `{"content":[{"annotations":[],"logprobs":[],"text":"m","type":"output_text"}],"id":"msg_5","role":"assistant","status":"completed","type":"message"}`
		call      = `{"arguments":"{}","call_id":"call_1","id":"fc_6_0","name":"f","status":"completed","type":"function_call"}`
		search    = `{"action":{"query":"q","type":"search"},"id":"ws_1_0","status":"completed","type":"web_search_call"}`

		empty = `{"id":"msg_N","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"","annotations":[],"logprobs":[]}]}`
		said  = `{"id":"msg_N","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"m","annotations":[],"logprobs":[]}]}`
		found = `{"id":"ws_1_0","type":"web_search_call","status":"completed","action":{"type":"search","query":"q"}}`
	)
	tests := []struct{ name, output, want string }{
		{"nothing said", `null`, empty},
		{"only thought", `[` + reasoning + `]`, `{"id":"rs_resp_1","type":"reasoning","summary":[{"type":"summary_text","text":"a"}],"encrypted_content":"a"},` + empty},
		{"HEAD has text beside calls", `[` + call + `,` + message + `]`, `{"id":"fc_resp_1_0","type":"function_call","status":"completed","call_id":"call_1","name":"f","arguments":"{}"}`},
		{
			"HEAD thinks twice", `[` + reasoning + `,` + again + `,` + message + `]`,
			`{"id":"rs_resp_1","type":"reasoning","summary":[{"type":"summary_text","text":"a\u003c"}],"encrypted_content":"a\u003c"},` + said,
		},
		{"HEAD searches the web", `[` + message + `,` + search + `,` + message + `]`, said + `,` + found + `,` + said},
		{"HEAD searches the web and says nothing", `[` + search + `]`, found + `,` + empty},
		{
			"an item nobody knows", `[{"id":"x_1","size":{"b":1,"a":2},"type":"picture"},` + message + `]`,
			`{"id":"x_1","type":"picture","size":{"b":1,"a":2}},` + said,
		},
	}
	messageIDs := regexp.MustCompile(`"msg_\d+"`)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frames := eventFrames(
				`{"response":{"id":"resp_1","output":[],"status":"in_progress"},"sequence_number":0,"type":"response.created"}`,
				`{"response":{"created_at":1,"id":"resp_1","model":"m","new":{"b":1,"a":2},"output":`+tt.output+`,"reasoning":{"effort":"low","summary":null},"status":"completed","usage":null},"sequence_number":1,"type":"response.completed"}`,
			)
			_, got, err := Fold(OpenAI, Responses, slices.Values(frames))
			got = messageIDs.ReplaceAll(got, []byte(`"msg_N"`))
			want := `{"id":"resp_1","created_at":1,"status":"completed","model":"m","output":[` + tt.want + `],"reasoning":{"effort":"low"},"usage":null,"new":{"b":1,"a":2}}` + "\n"
			if string(got) != want || err != nil {
				t.Errorf("got  %s, %v\nwant %s", got, err, want)
			}
		})
	}
}

func TestFold_ResponseInTheOrderOfANode(t *testing.T) {
	frames := eventFrames(`{"response":{"error":{"message":"m","code":"c"},"id":"resp_1","incomplete_details":{"reason":"max_output_tokens"},"object":"response","output":[],` +
		`"status":"incomplete","text":{"format":{"name":"x","schema":{"b":1,"a":2},"strict":true,"type":"json_schema"}},` +
		`"tools":[{"description":"d","name":"f","parameters":{"b":1,"a":{}},"strict":null,"type":"function"},{"name":"n","tools":[{"name":"f","type":"function"}],"type":"namespace"}],` +
		`"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":0},"new":1,"output_tokens":7,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":16}},` +
		`"sequence_number":1,"type":"response.incomplete"}`)
	const want = `{"id":"resp_1","object":"response","status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"output":[],"error":{"code":"c","message":"m"},` +
		`"tools":[{"type":"function","name":"f","description":"d","strict":null,"parameters":{"b":1,"a":{}}},{"type":"namespace","name":"n","tools":[{"type":"function","name":"f"}]}],` +
		`"text":{"format":{"type":"json_schema","name":"x","schema":{"b":1,"a":2},"strict":true}},` +
		`"usage":{"input_tokens":9,"output_tokens":7,"total_tokens":16,"input_tokens_details":{"cached_tokens":0},"output_tokens_details":{"reasoning_tokens":0},"new":1}}` + "\n"
	_, got, err := Fold(OpenAI, Responses, slices.Values(frames))
	if string(got) != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
