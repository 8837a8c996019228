package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// operationOf is the operation of a recorded path.
func operationOf(t testing.TB, rec golden.Record) (Dialect, Operation) {
	path, _, _ := strings.Cut(rec.Request.Path, "?")
	m := Find(rec.Request.Method, path)
	if m.Route == nil {
		t.Fatalf("%s: no route for %s", rec.ID, path)
	}
	return m.Route.Dialect, m.Route.Operation
}

// streams gives the recorded streams of a file.
func streams(t testing.TB, file string) (recs []golden.Record) {
	for _, rec := range golden.Load(t, file) {
		if headerOf(rec.Response, "Content-Type") == StreamType(dialectOf(rec.Request.Path)) && rec.Response.Status == 200 && len(rec.Response.Body) > 0 {
			recs = append(recs, rec)
		}
	}
	return recs
}

// framesOf splits a body that ends in order.
func framesOf(t testing.TB, body []byte, d Dialect) (frames [][]byte) {
	s := NewSplitter(bytes.NewReader(body), d)
	for {
		frame, err := s.Next()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			t.Fatalf("split %q: %v", body, err)
		}
		frames = append(frames, frame)
	}
}

func TestJudge_RecordedStreamsAreCompleteAtTheirLastFrame(t *testing.T) {
	judged := 0
	for _, file := range []string{"generate", "chat", "openai-chat", "openai-completions", "openai-responses", "anthropic", "pull", "models"} {
		for _, rec := range streams(t, file) {
			if bytes.Contains(rec.Response.Body, []byte(`{"error":`)) {
				continue
			}
			judged++
			d, op := operationOf(t, rec)
			j := NewJudge(d, op)
			frames := framesOf(t, rec.Response.Body, d)
			for i, frame := range frames {
				kind, err := j.Frame(frame)
				last := i == len(frames)-1
				if err != nil || kind == Fault || (kind == Final) != last || j.Complete() != last {
					t.Errorf("%s/%s: frame %d of %d is %v, %v, complete %v\n%s", file, rec.ID, i+1, len(frames), kind, err, j.Complete(), frame)
				}
				if want := bytes.Contains(frame, []byte(`"choices":[],`)); (kind == Usage) != want {
					t.Errorf("%s/%s: frame %d is %v, usage frame is %v\n%s", file, rec.ID, i+1, kind, want, frame)
				}
			}
			if totals := j.Totals(); op != Pull && op != Create && totals.DoneReason == "" {
				t.Errorf("%s/%s: no reason in %+v", file, rec.ID, totals)
			}
			if kind, err := j.Frame(frames[0]); kind != Fault || !errors.Is(err, ErrFrame) {
				t.Errorf("%s/%s: a frame behind the last is %v, %v", file, rec.ID, kind, err)
			}
		}
	}
	if judged < 30 {
		t.Errorf("%d streams judged, want all that are recorded", judged)
	}
}

func TestJudge_RecordedFaultsAreNeverComplete(t *testing.T) {
	silent := map[string]bool{ // ended or cut without a record
		"runner-killed-messages": true, "runner-killed-responses": true,
		"sigterm-stream": true, "sigterm-v1": true, "sigkill-stream": true,
	}
	const runnerKilled = "an error was encountered while running the model"
	judged := 0
	for _, file := range []string{"faults", "pull", "models"} {
		for _, rec := range streams(t, file) {
			if file != "faults" && !bytes.Contains(rec.Response.Body, []byte(`{"error":`)) {
				continue
			}
			judged++
			d, op := operationOf(t, rec)
			j := NewJudge(d, op)
			frames := framesOf(t, rec.Response.Body, d)
			for i, frame := range frames {
				kind, err := j.Frame(frame)
				want := Part
				if i == len(frames)-1 && !silent[rec.ID] {
					want = Fault
				}
				if err != nil || kind != want {
					t.Errorf("%s/%s: frame %d of %d is %v, %v, want %v\n%s", file, rec.ID, i+1, len(frames), kind, err, want, frame)
				}
			}
			if j.Complete() {
				t.Errorf("%s/%s: complete", file, rec.ID)
			}
			if file == "faults" && !silent[rec.ID] && !strings.HasPrefix(j.Message(), runnerKilled) {
				t.Errorf("%s/%s: message %q", file, rec.ID, j.Message())
			}
		}
	}
	if judged < 8 {
		t.Errorf("%d faults judged, want all that are recorded", judged)
	}
}

func TestJudge(t *testing.T) {
	const chunkStart = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"fp_ollama",`
	type frame struct {
		text string
		want FrameKind
	}
	tests := []struct {
		name     string
		d        Dialect
		op       Operation
		frames   []frame
		complete bool
		message  string
		totals   Totals
	}{
		{
			name: "native totals", d: Ollama, op: Generate,
			frames: []frame{
				{`{"model":"m","response":"a","done":false}`, Part},
				{`{"model":"m","response":"","done":true,"done_reason":"length","total_duration":9,"load_duration":2,"prompt_eval_count":3,"prompt_eval_duration":4,"eval_count":5,"eval_duration":6}`, Final},
			},
			complete: true,
			totals:   Totals{3, 5, 9 * time.Nanosecond, 2, 4, 6, "length"},
		},
		{
			name: "absent counts are zero", d: Ollama, op: Chat,
			frames:   []frame{{`{"model":"m","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}`, Final}},
			complete: true, totals: Totals{DoneReason: "load"},
		},
		{
			name: "a strange count is no disaster", d: Ollama, op: Chat,
			frames: []frame{{`{"message":{},"done":true,"prompt_eval_count":-1,"eval_count":1e2,"total_duration":1e99}`, Final}},
			totals: Totals{0, 100, 1 << 62, 0, 0, 0, ""}, complete: true,
		},
		{
			name: "keys within the text do not count", d: Ollama, op: Chat,
			frames: []frame{
				{`{"message":{"content":"{\"done\":true,\"error\":\"x\"}","done":true,"error":"x"},"done":false,"done2":true}`, Part},
				{`{"message":{"content":"\"done\":true"},"extra":[{"done":true}],"done":false}`, Part},
			},
		},
		{
			name: "new fields are passed over", d: Ollama, op: Generate,
			frames: []frame{{`{"new":{"a":[1,2,{"b":null}]},"done":false,"response":"x","newer":1.5e3}`, Part}},
		},
		{
			name: "an error is a fault at any place", d: Ollama, op: Chat,
			frames:  []frame{{`{"done":true,"error":"out of \u003cmemory\u003e"}`, Fault}},
			message: "out of <memory>",
		},
		{
			name: "an error that is an object", d: Ollama, op: Chat,
			frames: []frame{{`{"error":{"code":1,"message":"m"}}`, Fault}}, message: "m",
		},
		{
			name: "error null is none", d: Ollama, op: Chat,
			frames: []frame{{`{"error":null,"done":false}`, Part}},
		},
		{
			name: "pull", d: Ollama, op: Pull,
			frames: []frame{
				{`{"status":"pulling manifest"}`, Part},
				{`{"status":"pulling c5","digest":"sha256:c5","total":2,"completed":1}`, Part},
				{`{"status":"success"}`, Final},
			},
			complete: true,
		},
		{
			name: "pull that fails", d: Ollama, op: Pull,
			frames:  []frame{{`{"status":"pulling manifest"}`, Part}, {`{"error":"file does not exist"}`, Fault}},
			message: "file does not exist",
		},
		{
			name: "an operation without a stream", d: Ollama, op: Embed,
			frames:   []frame{{`{"model":"e","embeddings":[[0.1]],"total_duration":5,"load_duration":1,"prompt_eval_count":7}`, Final}},
			complete: true, totals: Totals{PromptTokens: 7, Total: 5, Load: 1},
		},
		{
			name: "OpenAI embeddings", d: OpenAI, op: Embed,
			frames:   []frame{{`{"object":"list","data":[],"usage":{"prompt_tokens":7,"total_tokens":7}}` + "\n", Final}},
			complete: true, totals: Totals{PromptTokens: 7},
		},
		{
			name: "0.24.0 chunks", d: OpenAI, op: Chat,
			frames: []frame{
				{chunkStart + `"choices":[{"index":0,"delta":{"role":"assistant","content":" a"},"finish_reason":null}]}`, Part},
				{chunkStart + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}`, Part},
				{chunkStart + `"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}}`, Usage},
				{`data: [DONE]`, Final},
			},
			complete: true, totals: Totals{PromptTokens: 9, OutputTokens: 7, DoneReason: "stop"},
		},
		{
			name: "newer chunks: role once, content left out, finish apart", d: OpenAI, op: Chat,
			frames: []frame{
				{chunkStart + `"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, Part},
				{chunkStart + `"choices":[{"index":0,"delta":{"reasoning":"r"},"finish_reason":null,"new":1}],"new":{}}`, Part},
				{chunkStart + `"choices":[{"index":0,"delta":{"tool_calls":[{"id":"c","index":0,"type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":null}]}`, Part},
				{chunkStart + `"choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`, Part},
				{`data:[DONE]`, Final},
			},
			complete: true, totals: Totals{DoneReason: "length"},
		},
		{
			name: "completions have zero usage in each chunk", d: OpenAI, op: Generate,
			frames: []frame{
				{`data: {"choices":[{"text":" a","index":0,"finish_reason":null}],"model":"m","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, Part},
				{`data: {"choices":[{"text":"","index":0,"finish_reason":"stop"}],"model":"m","usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}`, Part},
				{`data: {"choices":[],"model":"m","usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`, Usage},
				{`data: [DONE]`, Final},
			},
			complete: true, totals: Totals{PromptTokens: 1, OutputTokens: 2, DoneReason: "stop"},
		},
		{
			name: "a hidden fault", d: OpenAI, op: Chat,
			frames:  []frame{{`data: {"id":"x","model":"","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, Fault}},
			message: hiddenFault,
		},
		{
			name: "a hidden fault in the newer form", d: OpenAI, op: Chat,
			frames:  []frame{{`data: {"choices":[{"index":0,"delta":{},"finish_reason":null}],"model":""}`, Fault}},
			message: hiddenFault,
		},
		{
			name: "a hidden fault of completions", d: OpenAI, op: Generate,
			frames:  []frame{{`data: {"choices":[{"text":"","index":0,"finish_reason":null}],"model":"","usage":{"prompt_tokens":0}}`, Fault}},
			message: hiddenFault,
		},
		{
			name: "an empty text of a named model is no fault", d: OpenAI, op: Chat,
			frames: []frame{{`data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, Part}},
		},
		{
			name: "an error in an event", d: OpenAI, op: Chat,
			frames:  []frame{{`data: {"error":{"message":"m","type":"api_error","param":null,"code":null}}`, Fault}},
			message: "m",
		},
		{
			name: "data in several lines", d: OpenAI, op: Chat,
			frames: []frame{{": c\nid: 1\ndata: {\"model\":\"m\",\ndata: \"choices\":[]}\r\n", Part}},
		},
		{
			name: "Anthropic", d: Anthropic, op: Chat,
			frames: []frame{
				{`data: {"type":"message_start","message":{"usage":{"input_tokens":3,"output_tokens":0}}}`, Part},
				{`data: {"type":"ping"}`, Part},
				{`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}`, Part},
				{`data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"input_tokens":9,"output_tokens":7}}`, Part},
				{`data: {"type":"message_stop"}`, Final},
			},
			complete: true, totals: Totals{PromptTokens: 9, OutputTokens: 7, DoneReason: "end_turn"},
		},
		{
			name: "Anthropic's error", d: Anthropic, op: Chat,
			frames: []frame{{`data: {"type":"error","error":{"type":"overloaded_error","message":"m"}}`, Fault}}, message: "m",
		},
		{
			name: "a response that failed", d: OpenAI, op: Responses,
			frames: []frame{
				{`data: {"type":"response.created","response":{"status":"in_progress","usage":null,"error":null}}`, Part},
				{`data: {"type":"response.failed","response":{"status":"failed","error":{"code":"x","message":"m"}}}`, Fault},
			},
			message: "m", totals: Totals{DoneReason: "failed"},
		},
		{
			name: "a response that was cut", d: OpenAI, op: Responses,
			frames:   []frame{{`data: {"type":"response.incomplete","response":{"status":"incomplete","error":null,"usage":{"input_tokens":9,"output_tokens":2}}}`, Final}},
			complete: true, totals: Totals{PromptTokens: 9, OutputTokens: 2, DoneReason: "incomplete"},
		},
		{
			name: "an error among the events of a response", d: OpenAI, op: Responses,
			frames:  []frame{{`data: {"type":"error","code":"server_error","message":"m","param":null,"sequence_number":3}`, Fault}},
			message: "m",
		},
		{
			name: "an error event with its error in an object", d: OpenAI, op: Responses,
			frames:  []frame{{`data: {"type":"error","error":{"type":"server_error","message":"m"},"sequence_number":3}`, Fault}},
			message: "m",
		},
		{
			name: "an error in OpenAI's other form", d: OpenAI, op: Responses,
			frames:  []frame{{`data: {"error":{"message":"m","type":"api_error","param":null,"code":null}}`, Fault}},
			message: "m",
		},
		{
			name: "an error without words", d: OpenAI, op: Responses,
			frames: []frame{{`data: {"type":"response.failed","response":{"status":"failed"}}`, Fault}}, message: hiddenFault, totals: Totals{DoneReason: "failed"},
		},
		{
			name: "a message that is none of an error", d: OpenAI, op: Responses,
			frames: []frame{
				{`data: {"type":"response.new","message":{"a":1}}`, Part},
				{`data: {"type":"response.newer","message":"a"}`, Part},
			},
		},
		{
			name: "Anthropic's error without words", d: Anthropic, op: Chat,
			frames: []frame{{`data: {"type":"error"}`, Fault}}, message: hiddenFault,
		},
		{
			name: "HEAD's chunks", d: OpenAI, op: Chat,
			frames: []frame{
				{`data: {"id":"chatcmpl-1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`, Part},
				{`data: {"id":"chatcmpl-1","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}`, Part},
				{`data: {"id":"chatcmpl-1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`, Part},
				{`data: {"id":"chatcmpl-1","model":"m","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`, Usage},
				{`data: [DONE]`, Final},
			},
			complete: true, totals: Totals{PromptTokens: 1, OutputTokens: 2, DoneReason: "length"},
		},
		{
			name: "HEAD's silent fault", d: OpenAI, op: Chat,
			frames: []frame{
				{`data: {"id":"chatcmpl-1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}`, Part},
				{`data: {"id":"chatcmpl-1","model":"","choices":[{"index":0,"delta":{"content":""},"finish_reason":null}]}`, Fault},
			},
			message: hiddenFault,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := NewJudge(tt.d, tt.op)
			for _, f := range tt.frames {
				if got, err := j.Frame([]byte(f.text + "\n\n")); got != f.want || err != nil {
					t.Errorf("%s\ngot  %v, %v\nwant %v", f.text, got, err, f.want)
				}
			}
			if j.Complete() != tt.complete || j.Message() != tt.message || j.Totals() != tt.totals {
				t.Errorf("got  complete %v, message %q, %+v\nwant complete %v, message %q, %+v",
					j.Complete(), j.Message(), j.Totals(), tt.complete, tt.message, tt.totals)
			}
		})
	}
}

func TestJudge_WhatNoNodeSendsIsAnError(t *testing.T) {
	tests := []struct {
		name  string
		d     Dialect
		op    Operation
		frame string
	}{
		{"nothing", Ollama, Chat, ""},
		{"text", Ollama, Chat, "upstream timed out"},
		{"HTML", Ollama, Chat, "<html></html>"},
		{"an array", Ollama, Chat, `[{"done":true}]`},
		{"neither done nor error", Ollama, Chat, `{"message":{}}`},
		{"done in other case", Ollama, Chat, `{"Done":true}`},
		{"done that is no boolean", Ollama, Chat, `{"done":"true"}`},
		{"message that is no object", Ollama, Chat, `{"message":"x","done":false}`},
		{"response that is no string", Ollama, Generate, `{"response":5,"done":false}`},
		{"a count that is no number", Ollama, Generate, `{"response":"","done":true,"eval_count":"5"}`},
		{"done twice", Ollama, Chat, `{"done":false,"message":{},"done":true}`},
		{"cut", Ollama, Chat, `{"done":true`},
		{"cut in a text", Ollama, Chat, `{"done":true,"x":"`},
		{"two values", Ollama, Chat, `{"done":false} {"done":true}`},
		{"text behind the value", Ollama, Chat, `{"done":true}x`},
		{"comma at the end", Ollama, Chat, `{"done":true,}`},
		{"NUL in a text", Ollama, Chat, "{\"done\":false,\"x\":\"\x00\"}"},
		{"a line of progress without status", Ollama, Pull, `{}`},
		{"no data", OpenAI, Chat, "event: x"},
		{"empty data", OpenAI, Chat, "data:"},
		{"a native record", OpenAI, Chat, `{"done":false}`},
		{"a record in an event", OpenAI, Chat, `data: {"done":false}`},
		{"choices that are none", OpenAI, Chat, `data: {"model":"m","choices":null}`},
		{"a delta that is text", OpenAI, Chat, `data: {"model":"m","choices":[{"delta":"x"}]}`},
		{"[DONE] before a finish_reason", OpenAI, Chat, "data: [DONE]"},
		{"[DONE] with more", OpenAI, Chat, "data: [DONE]x"},
		{"an event without type", Anthropic, Chat, `data: {}`},
		{"a response event without type", OpenAI, Responses, `data: {"response":{}}`},
		{"an answer that is no object", Ollama, Embed, `[]`},
	}
	for _, tt := range tests {
		j := NewJudge(tt.d, tt.op)
		kind, err := j.Frame([]byte(tt.frame))
		if !errors.Is(err, ErrFrame) || kind != Fault || j.Complete() {
			t.Errorf("%s: %q\ngot  %v, %v, complete %v\nwant %v", tt.name, tt.frame, kind, err, j.Complete(), ErrFrame)
		}
	}
}

func FuzzJudge(f *testing.F) {
	for _, file := range []string{"generate", "chat", "openai-chat", "openai-completions", "openai-responses", "anthropic", "faults", "pull"} {
		for i, rec := range streams(f, file) {
			if i < 6 {
				f.Add(rec.Response.Body)
			}
		}
	}
	for _, hot := range hotFrames {
		f.Add(hot.frame)
	}
	f.Add([]byte(`{"model":"m","response":"","done":true,"done_reason":"stop","total_duration":9,"eval_count":5}`))
	f.Add([]byte("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n"))
	f.Add([]byte("data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}],\"usage\":{}}\n\ndata: [DONE]\n\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, r := range routes {
			j := NewJudge(r.Dialect, r.Operation)
			s := NewSplitter(bytes.NewReader(body), r.Dialect)
			for {
				frame, err := s.Next()
				if err != nil {
					break
				}
				before := j.Complete()
				copied := bytes.Clone(frame)
				kind, err := j.Frame(frame)
				switch {
				case !bytes.Equal(frame, copied):
					t.Fatalf("%v %v: frame changed to %q", r.Dialect, r.Operation, frame)
				case err != nil && (!errors.Is(err, ErrFrame) || kind != Fault || j.Complete() != before):
					t.Fatalf("%v %v: %q is %v, %v, complete %v", r.Dialect, r.Operation, frame, kind, err, j.Complete())
				case err == nil && kind == Part && r.Dialect == OpenAI && r.Operation == Generate:
					cut := WithoutUsage(frame)
					if again, err := NewJudge(OpenAI, Generate).Frame(cut); again != Part || err != nil || !bytes.Equal(WithoutUsage(cut), cut) {
						t.Fatalf("%q without usage is %q: %v, %v", frame, cut, again, err)
					}
				case err == nil && before:
					t.Fatalf("%v %v: %q is %v behind the last frame", r.Dialect, r.Operation, frame, kind)
				case err == nil && (kind == Final) != j.Complete():
					t.Fatalf("%v %v: %q is %v, complete %v", r.Dialect, r.Operation, frame, kind, j.Complete())
				case err == nil && r.Dialect == Ollama && !validJSON(frame):
					t.Fatalf("%v %v: %q passes", r.Dialect, r.Operation, frame)
				}
			}
			if totals := j.Totals(); totals.PromptTokens < 0 || totals.OutputTokens < 0 || totals.Total < 0 || totals.Eval < 0 {
				t.Fatalf("%v %v: totals %+v", r.Dialect, r.Operation, totals)
			}
		}
	})
}
