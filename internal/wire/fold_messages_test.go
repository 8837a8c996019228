package wire

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// eventFrames makes events of their data, as a node names them.
func eventFrames(data ...string) (frames [][]byte) {
	for _, d := range data {
		_, rest, _ := strings.Cut(d, `"type":"`)
		name, _, _ := strings.Cut(rest, `"`)
		frames = append(frames, []byte("event: "+name+"\ndata: "+d+"\n\n"))
	}
	return frames
}

const (
	messageStart = `{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":3,"output_tokens":0}}}`
	messageEnd   = `{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9,"output_tokens":7}}`
	messageStop  = `{"type":"message_stop"}`
)

// The events are written by hand: those of 0.24.0 and HEAD after the sources of their
// translators (anthropic.StreamConverter, middleware.WebSearchAnthropicWriter), the others
// after Anthropic's reference.
func TestFold_Messages(t *testing.T) {
	textBlock := func(index, text string) []string {
		return []string{
			`{"type":"content_block_start","index":` + index + `,"content_block":{"type":"text","text":""}}`,
			`{"type":"content_block_delta","index":` + index + `,"delta":{"type":"text_delta","text":"` + text + `"}}`,
			`{"type":"content_block_stop","index":` + index + `}`,
		}
	}
	tool := func(index, id, arguments string) []string {
		return []string{
			`{"type":"content_block_start","index":` + index + `,"content_block":{"type":"tool_use","id":"` + id + `","name":"f","input":{}}}`,
			`{"type":"content_block_delta","index":` + index + `,"delta":{"type":"input_json_delta","partial_json":"` + arguments + `"}}`,
			`{"type":"content_block_stop","index":` + index + `}`,
		}
	}
	tests := []struct {
		name    string
		events  []string
		content string
	}{
		{"nothing said", nil, `null`},
		{
			"text about a call is one block before it",
			slices.Concat(textBlock("0", "a"), tool("1", "call_1", `{\"x\":\"\\u003c\",\"y\":1e2}`), textBlock("2", "b"), tool("3", "call_2", `{}`)),
			`[{"type":"text","text":"ab"},{"type":"tool_use","id":"call_1","name":"f","input":{"x":"\u003c","y":1e2}},{"type":"tool_use","id":"call_2","name":"f","input":{}}]`,
		},
		{
			"0.24.0 begins to think in an open text",
			[]string{
				`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`,
				`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"t"}}`,
				`{"type":"content_block_stop","index":0}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"b"}}`,
				`{"type":"content_block_stop","index":1}`,
			},
			`[{"type":"thinking","thinking":"t"},{"type":"text","text":"ab"}]`,
		},
		{
			"HEAD's web search stays where it stands", slices.Concat(
				textBlock("0", "let me see"),
				[]string{
					`{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"q"}}}`,
					`{"type":"content_block_stop","index":1}`,
					`{"type":"content_block_start","index":2,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","url":"u","title":"t"}]}}`,
					`{"type":"content_block_stop","index":2}`,
				},
				textBlock("3", "found")),
			`[{"type":"text","text":"let me see"},{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"q"}},` +
				`{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","url":"u","title":"t"}]},{"type":"text","text":"found"}]`,
		},
		{
			"signatures, citations and pieces of arguments",
			[]string{
				`{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"t"}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQB"}}`,
				`{"type":"content_block_stop","index":0}`,
				`{"type":"ping"}`,
				`{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"","citations":[]}}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"\u003ca"}}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"url":"1"}}}`,
				`{"type":"content_block_delta","index":1,"delta":{"type":"citations_delta","citation":{"url":"2"}}}`,
				`{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}`,
				`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":""}}`,
				`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{\"x\":\"\ud83d"}}`,
				`{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"\ude00\"}"}}`,
			},
			`[{"type":"thinking","thinking":"t","signature":"EqQB"},{"type":"text","text":"\u003ca","citations":[{"url":"1"},{"url":"2"}]},` +
				`{"type":"tool_use","id":"toolu_1","name":"f","input":{"x":"😀"}}]`,
		},
		{
			"kinds and fields nobody knows",
			[]string{
				`{"type":"content_block_start","index":0,"content_block":{"type":"haiku","lines":"a","meter":5,"x":{"y":[]}}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"haiku_delta","lines":"b","meter":7,"rhyme":"c"}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"haiku_delta","rhyme":"d"}}`,
			},
			`[{"type":"haiku","lines":"ab","meter":7,"x":{"y":[]},"rhyme":"cd"}]`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frames := eventFrames(slices.Concat([]string{messageStart}, tt.events, []string{messageEnd, messageStop})...)
			_, got, err := Fold(Anthropic, Chat, slices.Values(frames))
			want := `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":` + tt.content +
				`,"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":7}}` + "\n"
			if string(got) != want || err != nil {
				t.Errorf("got  %s, %v\nwant %s", got, err, want)
			}
		})
	}
}

func TestFold_MessageKeepsWhatIsNew(t *testing.T) {
	frames := eventFrames(
		`{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"container":null,"usage":{"input_tokens":3,"output_tokens":0,"service_tier":"x"}}}`,
		`{"type":"message_delta","delta":{"stop_reason":"stop_sequence","stop_sequence":"green","why":1},"usage":{"input_tokens":9,"output_tokens":7,"cache":2},"context":{}}`,
		messageStop,
	)
	const want = `{"id":"msg_1","type":"message","role":"assistant","model":"m","content":null,"stop_reason":"stop_sequence","stop_sequence":"green","container":null,` +
		`"usage":{"input_tokens":9,"output_tokens":7,"service_tier":"x","cache":2},"why":1,"context":{}}` + "\n"
	_, got, err := Fold(Anthropic, Chat, slices.Values(frames))
	if string(got) != want || err != nil {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestFold_MessagesThatCannotBeJoinedAreErrors(t *testing.T) {
	tests := []struct {
		name   string
		events []string
	}{
		{"no message_start", []string{messageEnd, messageStop}},
		{"a delta of no block", []string{messageStart, `{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}`, messageStop}},
		{"a block that is text", []string{messageStart, `{"type":"content_block_start","index":0,"content_block":"x"}`, messageStop}},
		{"text for what is none", []string{
			messageStart, `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":5}}`,
			`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`, messageStop,
		}},
		{"arguments that are no JSON", []string{
			messageStart, `{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","input":{}}}`,
			`{"type":"content_block_delta","index":0,"delta":{"partial_json":"{"}}`, messageStop,
		}},
		{"content from the start", []string{`{"type":"message_start","message":{"content":[{"type":"text","text":"a"}]}}`, messageStop}},
	}
	for _, tt := range tests {
		_, got, err := Fold(Anthropic, Chat, slices.Values(eventFrames(tt.events...)))
		if got != nil || !errors.Is(err, ErrFrame) {
			t.Errorf("%s: got  %s, %v\nwant %v", tt.name, got, err, ErrFrame)
		}
	}
}
