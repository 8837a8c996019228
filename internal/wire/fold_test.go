package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// volatile is what differs between two answers to one request.
var volatile = []struct {
	pattern *regexp.Regexp
	mask    string
}{
	{regexp.MustCompile(`"created_at":("[^"]*"|\d+)`), `"created_at":"T"`},
	{regexp.MustCompile(`"(created|completed_at)":\d+`), `"$1":0`},
	{regexp.MustCompile(`_duration":\d+`), `_duration":0`},
	{regexp.MustCompile(`"(chatcmpl|cmpl|call|resp|msg|rs|fc_resp|fc)[-_]\w+"`), `"$1"`},
	// Arguments come in random order from a node.
	{regexp.MustCompile(`"unit":"celsius","city":"Paris"`), `"city":"Paris","unit":"celsius"`},
	{regexp.MustCompile(`\\"unit\\":\\"celsius\\",\\"city\\":\\"Paris\\"`), `\"city\":\"Paris\",\"unit\":\"celsius\"`},
}

func masked(body []byte) string {
	for _, v := range volatile {
		body = v.pattern.ReplaceAll(body, []byte(v.mask))
	}
	return string(body)
}

// textFiles are the files of recorded operations that answer with text.
var textFiles = []string{"generate", "chat", "openai-chat", "openai-completions", "openai-responses", "anthropic"}

// record finds a recording.
func record(t testing.TB, file, id string) golden.Record {
	for _, rec := range golden.Load(t, file) {
		if rec.ID == id {
			return rec
		}
	}
	t.Fatalf("no recording %s/%s", file, id)
	return golden.Record{}
}

// foldPair is a recorded stream and the recorded single answer to the same request. Where the
// two requests differed in something, the single answer is cut to what was asked.
type foldPair struct {
	file, stream, single string
	cut                  func([]byte) []byte
}

func foldPairs() []foldPair {
	topLogprobs := regexp.MustCompile(`,"top_logprobs":\[(\{"token":"[^"]*","logprob":[-.\d]+,"bytes":\[[\d,]*\]\},?)*\]`)
	usage := regexp.MustCompile(`,"usage":\{[^}]*\}`)
	var (
		withoutTop   = func(b []byte) []byte { return topLogprobs.ReplaceAll(b, nil) }
		withoutUsage = func(b []byte) []byte { return usage.ReplaceAll(b, nil) }
	)
	return []foldPair{
		{"generate", "stream", "nonstream", nil},
		{"generate", "stream-again", "nonstream-other-node", nil},
		{"generate", "think-model-stream", "think-model", nil},
		{"generate", "logprobs-stream", "logprobs", withoutTop},
		{"chat", "stream", "nonstream", nil},
		{"chat", "tools-stream", "tools-nonstream", nil},
		{"chat", "think-stream", "think-nonstream", nil},
		{"openai-chat", "stream-usage", "nonstream", nil},
		{"openai-chat", "stream", "nonstream", withoutUsage},
		{"openai-chat", "tools-stream-usage", "tools", nil},
		{"openai-chat", "tools-stream", "tools", withoutUsage},
		{"openai-chat", "think-stream", "think-default", withoutUsage},
		{"openai-chat", "logprobs-stream", "logprobs", func(b []byte) []byte { return withoutTop(withoutUsage(b)) }},
		{"openai-completions", "no-prompt-stream", "no-prompt", withoutUsage},
		{"openai-responses", "stream", "nonstream", nil},
		{"openai-responses", "max-output-stream", "max-output", nil},
		{"openai-responses", "tools-stream", "tools", nil},
		{"openai-responses", "think-stream", "think", nil},
		{"anthropic", "stream", "nonstream", nil},
		{"anthropic", "max-tokens-2-stream", "max-tokens-2", nil},
		{"anthropic", "stop-seq-stream", "stop-seq", nil},
		{"anthropic", "tools-stream", "tools", nil},
		{"anthropic", "think-stream", "think", nil},
	}
}

func TestFold_IsTheRecordedSingleAnswer(t *testing.T) {
	for _, tt := range foldPairs() {
		t.Run(tt.file+"/"+tt.stream, func(t *testing.T) {
			stream, single := record(t, tt.file, tt.stream), record(t, tt.file, tt.single)
			d, op := operationOf(t, stream)
			frames := framesOf(t, stream.Response.Body, d)
			gotType, got, err := Fold(d, op, slices.Values(frames))
			if err != nil {
				t.Fatalf("fold %q: %v", stream.Response.Body, err)
			}
			if wantType := headerOf(single.Response, "Content-Type"); gotType != wantType {
				t.Errorf("content type\ngot  %q\nwant %q", gotType, wantType)
			}
			want := single.Response.Body
			if tt.cut != nil {
				want = tt.cut(want)
			}
			if masked(got) != masked(want) {
				t.Errorf("fold of %s, masked\ngot  %s\nwant %s", stream.Response.Body, masked(got), masked(want))
			}
		})
	}
}

func TestFold_CompletionHasTheRecordedShape(t *testing.T) {
	// No pair of equal requests is recorded: this one was cut after two tokens.
	stream, single := record(t, "openai-completions", "stream-usage"), record(t, "openai-completions", "nonstream")
	frames := framesOf(t, stream.Response.Body, OpenAI)
	_, got, err := Fold(OpenAI, Generate, slices.Values(frames))
	want := strings.NewReplacer(
		" today and the answer and a green door .", " today and", `"stop"`, `"length"`, `:10,"total_tokens":21`, `:2,"total_tokens":13`,
	).Replace(string(single.Response.Body))
	if err != nil || masked(got) != masked([]byte(want)) {
		t.Errorf("fold of %s\ngot  %s, %v\nwant %s", stream.Response.Body, masked(got), err, masked([]byte(want)))
	}
}

func TestFold_EveryRecordedTextStream(t *testing.T) {
	n := 0
	for _, file := range textFiles {
		for _, rec := range streams(t, file) {
			d, op := operationOf(t, rec)
			_, got, err := Fold(d, op, slices.Values(framesOf(t, rec.Response.Body, d)))
			if err != nil || !json.Valid(got) {
				t.Errorf("%s/%s: fold of %s\ngot %s, %v", file, rec.ID, rec.Response.Body, got, err)
			}
			n++
		}
	}
	if n < 29 {
		t.Errorf("%d streams folded, want all that are recorded", n)
	}
}

func TestFold_OnlyText(t *testing.T) {
	frames := slices.Values([][]byte{[]byte("data: {\"type\":\"message_stop\"}\n\n")})
	for _, pair := range []struct {
		d  Dialect
		op Operation
	}{{Ollama, Pull}, {Ollama, Embed}, {OpenAI, Embed}, {OpenAI, Models}} {
		if _, _, err := Fold(pair.d, pair.op, frames); !errors.Is(err, ErrNoFold) {
			t.Errorf("Fold(%v, %v): got %v, want %v", pair.d, pair.op, err, ErrNoFold)
		}
	}
}

func TestFold(t *testing.T) {
	const chunk = `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp_ollama",`
	tests := []struct {
		name   string
		d      Dialect
		op     Operation
		frames []string
		want   string
	}{
		{
			"the last frame's own text counts", Ollama, Generate,
			[]string{`{"model":"m","response":"a","done":false}`, `{"model":"m","response":"b","done":true,"done_reason":"stop"}`},
			`{"model":"m","response":"ab","done":true,"done_reason":"stop"}`,
		},
		{
			"a single frame is its own answer", Ollama, Generate,
			[]string{`{"model":"m","created_at":"T","response":"","done":true,"done_reason":"load"}`},
			`{"model":"m","created_at":"T","response":"","done":true,"done_reason":"load"}`,
		},
		{
			"escapes and number text stay", Ollama, Generate,
			[]string{
				`{"response":"\u003ca\u003e \"\\n\ud83d","done":false,"logprobs":[{"logprob":-0.09386031329631805}]}`,
				`{"response":"\ude00 é","done":true,"total_duration":1,"logprobs":[{"logprob":-1e-7}]}`,
			},
			`{"response":"\u003ca\u003e \"\\n\ud83d\ude00 é","done":true,"total_duration":1,"logprobs":[{"logprob":-0.09386031329631805},{"logprob":-1e-7}]}`,
		},
		{
			"unknown fields of the last frame survive where they stand", Ollama, Generate,
			[]string{
				`{"model":"m","new":1,"response":"a","thinking":"t","done":false,"gone":true}`,
				`{"model":"m","new":[2],"response":"","x":{"y":null},"done":true,"eval_count":1,"tool_calls":[{"function":{"name":"f"}}],"newer":"z","logprobs":[]}`,
			},
			`{"model":"m","new":[2],"response":"a","thinking":"t","x":{"y":null},"done":true,"eval_count":1,"tool_calls":[{"function":{"name":"f"}}],"newer":"z","logprobs":[]}`,
		},
		{
			"a chat's message in the order of its keys", Ollama, Chat,
			[]string{
				`{"model":"m","message":{"role":"assistant","content":"","thinking":"t1"},"done":false,"logprobs":[1]}`,
				`{"model":"m","message":{"role":"assistant","content":"","thinking":" t2","images":["aQ=="]},"done":false}`,
				`{"model":"m","message":{"role":"assistant","content":"c","tool_calls":[{"id":"1"}]},"done":false,"logprobs":[2,3]}`,
				`{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"id":"2"}]},"done":false}`,
				`{"model":"m","message":{"role":"assistant","content":"","tool_name":"n"},"done":true,"done_reason":"stop","total_duration":9}`,
			},
			`{"model":"m","message":{"role":"assistant","content":"c","thinking":"t1 t2","images":["aQ=="],"tool_calls":[{"id":"1"},{"id":"2"}],"tool_name":"n"},"done":true,"done_reason":"stop","logprobs":[1,2,3],"total_duration":9}`,
		},
		{
			"newer OpenAI chunks", OpenAI, Chat,
			[]string{
				chunk + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{"reasoning":"r"},"finish_reason":null,"logprobs":{"content":[{"token":"r"}]}}]}`,
				chunk + `"choices":[{"index":0,"delta":{"content":"\u003c1"},"finish_reason":null,"logprobs":{"content":[{"token":"1"}]}}]}`,
				chunk + `"choices":[{"index":0,"delta":{"content":null},"finish_reason":null,"logprobs":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{"content":"2","refusal":null},"finish_reason":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{},"finish_reason":"length","new":1}]}`,
				chunk + `"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"new":{}},"newer":"x"}`,
				`data: [DONE]`,
			},
			`{"id":"c","object":"chat.completion","created":1,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"\u003c12","reasoning":"r"},"finish_reason":"length","logprobs":{"content":[{"token":"r"},{"token":"1"}]},"new":1}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,"new":{}},"newer":"x"}` + "\n",
		},
		{
			"pieces of tool calls are joined by index", OpenAI, Chat,
			[]string{
				chunk + `"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a","index":0,"type":"function","function":{"name":"f","arguments":"{\"x\""}}]},"finish_reason":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{"tool_calls":[{"id":"b","index":1,"type":"function","function":{"name":"g","arguments":""}}]},"finish_reason":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":":1}"}},{"index":1,"function":{"arguments":"{}"}}]},"finish_reason":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}`,
				`data: [DONE]`,
			},
			`{"id":"c","object":"chat.completion","created":1,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"","tool_calls":[{"id":"a","index":0,"type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},{"id":"b","index":1,"type":"function","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}` + "\n",
		},
		{
			"whole calls that a node numbers alike stay apart", OpenAI, Chat,
			[]string{
				chunk + `"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a","index":0,"type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","index":0,"type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":null}]}`,
				chunk + `"choices":[{"index":0,"delta":{"content":"","tool_calls":null},"finish_reason":"tool_calls"}]}`,
				`data: [DONE]`,
			},
			`{"id":"c","object":"chat.completion","created":1,"model":"m","system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"","tool_calls":[{"id":"a","index":0,"type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","index":0,"type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}]}` + "\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frames := make([][]byte, len(tt.frames))
			for i, f := range tt.frames {
				frames[i] = []byte(f + "\n\n")
			}
			_, got, err := Fold(tt.d, tt.op, slices.Values(frames))
			if string(got) != tt.want || err != nil {
				t.Errorf("fold of\n%s\ngot  %s, %v\nwant %s", bytes.Join(frames, nil), got, err, tt.want)
			}
		})
	}
}

func TestFold_ShapesThatCannotBeJoinedAreErrors(t *testing.T) {
	tests := []struct {
		name  string
		d     Dialect
		op    Operation
		frame string
	}{
		{"logprobs that are no list", Ollama, Generate, `{"response":"","done":false,"logprobs":{}}`},
		{"thinking that is no text", Ollama, Chat, `{"message":{"thinking":5},"done":false}`},
		{"two choices", OpenAI, Chat, `data: {"model":"m","choices":[{"index":0,"delta":{}},{"index":0,"delta":{}}]}`},
		{"the second choice", OpenAI, Chat, `data: {"model":"m","choices":[{"index":1,"delta":{}}]}`},
		{"content that is a list", OpenAI, Chat, `data: {"model":"m","choices":[{"index":0,"delta":{"content":[]}}]}`},
		{"no JSON", OpenAI, Chat, `data: x`},
	}
	for _, tt := range tests {
		_, got, err := Fold(tt.d, tt.op, slices.Values([][]byte{[]byte(tt.frame)}))
		if got != nil || !errors.Is(err, ErrFrame) {
			t.Errorf("%s: fold of %s\ngot  %s, %v\nwant %v", tt.name, tt.frame, got, err, ErrFrame)
		}
	}
}

// folded are the operations whose frames are folded.
var folded = []struct {
	d  Dialect
	op Operation
}{{Ollama, Chat}, {Ollama, Generate}, {OpenAI, Chat}, {OpenAI, Generate}, {OpenAI, Responses}, {Anthropic, Chat}}

// complete tells whether a Judge passes the frames as a whole answer.
func complete(d Dialect, op Operation, frames [][]byte) bool {
	j := NewJudge(d, op)
	for _, f := range frames {
		if kind, err := j.Frame(f); err != nil || kind == Fault {
			return false
		}
	}
	return j.Complete()
}

func FuzzFold(f *testing.F) {
	for _, file := range textFiles {
		for i, rec := range streams(f, file) {
			if i < 8 {
				f.Add(rec.Response.Body)
			}
		}
	}
	f.Add([]byte(`{"model":"m","message":{"role":"assistant","content":"","tool_calls":[{"id":"2"}]},"done":true}`))
	f.Add([]byte(`{"model":"m","response":"a","done":true}`))
	f.Add([]byte(`data: {"model":"m","choices":[{"index":0,"delta":{"content":"a","tool_calls":[{"id":"a","index":0,"function":{"name":"f","arguments":"{"}},{"index":0,"function":{"arguments":"}"}}]},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"))
	f.Add([]byte(`data: {"choices":[{"text":"a","index":0,"finish_reason":"stop","logprobs":{"content":[1],"x":2}}]}` + "\n\ndata: [DONE]\n\n"))
	f.Add([]byte(`{"response":null,"thinking":null,"tool_calls":null,"logprobs":[ ],"done":true}`))
	f.Add(bytes.Join(eventFrames(messageStart, `{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":null}}`,
		`{"type":"content_block_delta","index":0,"delta":{"text":"a","citation":{},"partial_json":"{}","x":1}}`, messageEnd, messageStop), nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, pair := range folded {
			var frames [][]byte
			for s := NewSplitter(bytes.NewReader(body), pair.d); ; {
				frame, err := s.Next()
				if err != nil {
					break
				}
				frames = append(frames, frame)
			}
			if !complete(pair.d, pair.op, frames) {
				continue
			}
			before := bytes.Join(frames, nil)
			_, got, err := Fold(pair.d, pair.op, slices.Values(frames))
			if !bytes.Equal(before, bytes.Join(frames, nil)) {
				t.Fatalf("%v: fold changed the frames %q", pair, before)
			}
			if err != nil {
				if got != nil || !errors.Is(err, ErrFrame) {
					t.Fatalf("%v: fold of %q: %q, %v", pair, body, got, err)
				}
				continue
			}
			if !json.Valid(got) {
				t.Fatalf("%v: fold of %q is no JSON: %q", pair, body, got)
			}
			// What is whole folds to itself.
			if pair.d == Ollama {
				_, again, err := Fold(pair.d, pair.op, slices.Values([][]byte{got}))
				if err != nil || !bytes.Equal(again, got) {
					t.Fatalf("%v: fold of the fold of %q: %q, %v, want %q", pair, body, again, err, got)
				}
			}
		}
	})
}

func BenchmarkFold(b *testing.B) {
	streams := map[string]struct {
		op   Operation
		d    Dialect
		part []byte
		end  []string
	}{
		"chat": {Chat, Ollama, hotFrames["chat"].frame, []string{`{"model":"tiny","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}`}},
		"chunk": {Chat, OpenAI, hotFrames["chunk"].frame, []string{
			`data: {"id":"c","model":"tiny","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`, `data: [DONE]`,
		}},
		"messages": {Chat, Anthropic, hotFrames["messages"].frame, []string{"data: " + messageEnd, "data: " + messageStop}},
		"responses": {Responses, OpenAI, hotFrames["responses"].frame, []string{
			`data: {"response":{"id":"resp_1","model":"tiny","output":[],"status":"completed"},"sequence_number":9,"type":"response.completed"}`,
		}},
	}
	for name, s := range streams {
		b.Run("stream="+name+"/frames=500", func(b *testing.B) {
			var frames [][]byte
			if s.d == Anthropic {
				frames = eventFrames(messageStart)
			}
			for range 500 {
				frames = append(frames, s.part)
			}
			for _, f := range s.end {
				frames = append(frames, []byte(f))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := Fold(s.d, s.op, slices.Values(frames)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
