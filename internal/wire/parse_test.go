package wire

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParse_RefusesWhatReadsTwoWays(t *testing.T) {
	tests := []struct {
		name, path, body string
		reason           string // "": accepted
	}{
		{"a field twice", "/api/chat", `{"model":"a","model":"a"}`, ReasonDuplicateField},
		{"a field in two cases", "/api/chat", `{"model":"a","MODEL":"b"}`, ReasonDuplicateField},
		{"a field escaped", "/api/chat", `{"model":"a","mod\u0065l":"b"}`, ReasonDuplicateField},
		{"a field with a long s", "/api/chat", "{\"model\":\"a\",\"stream\":true,\"\u017ftream\":false}", ReasonDuplicateField},
		{"a field with a Kelvin sign", "/api/chat", "{\"model\":\"a\",\"keep_alive\":1,\"\u212aeep_alive\":0}", ReasonDuplicateField},
		{"a field with an escaped long s", "/api/chat", `{"model":"a","stream":true,"\u017ftream":false}`, ReasonDuplicateField},
		{"a field twice, once null", "/api/chat", `{"model":"a","stream":false,"Stream":null}`, ReasonDuplicateField},
		{"an unknown field twice", "/api/chat", `{"model":"a","zzz":1,"zzz":1}`, ReasonDuplicateField},
		{"an unknown field in two cases", "/api/chat", `{"model":"a","zzz":1,"zzZ":1}`, ReasonDuplicateField},
		{"an unknown field in two cases of another script", "/api/chat", `{"model":"a","straße":1,"éa":1,"ÉA":1}`, ReasonDuplicateField},
		{"unknown fields with different bad bytes", "/api/chat", "{\"model\":\"a\",\"\xff\":1,\"\xfe\":1}", ReasonDuplicateField},
		{"unknown fields that differ", "/api/chat", `{"model":"a","straße":1,"STRASSE":1}`, ""},
		{"inside a message", "/api/chat", `{"model":"a","messages":[{"role":"user","Role":"system"}]}`, ReasonDuplicateField},
		{"inside a tool", "/api/chat", `{"model":"a","tools":[{"function":{"name":"a","NAME":"b"}}]}`, ReasonDuplicateField},
		{"inside a property", "/api/chat", `{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{"enum":[],"Enum":[]}}}}}]}`, ReasonDuplicateField},
		{"inside stream_options", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream_options":{"include_usage":true,"Include_Usage":false}}`, ReasonDuplicateField},
		{"inside response_format", "/v1/chat/completions", `{"model":"a","messages":[{}],"response_format":{"type":"a","TYPE":"b"}}`, ReasonDuplicateField},

		{"an option in two cases is two options", "/api/chat", `{"model":"a","options":{"seed":1,"SEED":2}}`, ""},
		{"an option twice", "/api/chat", `{"model":"a","options":{"seed":1,"seed":2}}`, ReasonDuplicateField},
		{"an option escaped", "/api/chat", `{"model":"a","options":{"seed":1,"s\u0065ed":2}}`, ReasonDuplicateField},
		{"options that are equal once replaced", "/api/chat", "{\"model\":\"a\",\"options\":{\"\xff\":1,\"\\ud800\":2}}", ReasonDuplicateField},
		{"a property twice", "/api/chat", `{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{},"p":{}}}}}]}`, ReasonDuplicateField},
		{"inside a property of a property", "/api/chat", `{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{"properties":{"q":{"enum":[],"Enum":[]}}}}}}}]}`, ReasonDuplicateField},
		{"properties in two cases", "/api/chat", `{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{},"P":{}}}}}]}`, ""},
		{"an argument twice", "/api/chat", `{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"a":1,"a":2}}}]}]}`, ReasonDuplicateField},
		{"arguments in two cases", "/api/chat", `{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"a":1,"A":2}}}]}]}`, ""},
		{"deep in a format", "/api/chat", `{"model":"a","format":{"properties":{"a":[{"x":1,"x":2}]}}}`, ReasonDuplicateField},
		{"cases in a format", "/api/chat", `{"model":"a","format":{"properties":{"a":1,"A":[{"x":1,"X":2}]}}}`, ""},
		{"in a content part", "/v1/chat/completions", `{"model":"a","messages":[{"content":[{"type":"text","type":"image_url"}]}]}`, ReasonDuplicateField},
		{"inside an unknown field", "/v1/chat/completions", `{"model":"a","messages":[{}],"metadata":{"a":1,"a":2}}`, ReasonDuplicateField},
		{"equal keys in two objects", "/v1/chat/completions", `{"model":"a","messages":[{},{}],"metadata":[{"a":1},{"a":{"a":2}}]}`, ""},

		{"a completion's field in two cases", "/v1/completions", `{"model":"a","prompt":"x","Prompt":"y"}`, ReasonDuplicateField},
		{"an input in two cases", "/v1/embeddings", `{"model":"a","input":"x","INPUT":"y"}`, ReasonDuplicateField},
		{"inside an item", "/v1/responses", `{"model":"a","input":[{"type":"function_call","name":"x","NAME":"y"}]}`, ReasonDuplicateField},
		{"inside an item without type", "/v1/responses", `{"model":"a","input":[{"role":"user","content":"x","Content":"y"}]}`, ReasonDuplicateField},
		{"two types of an item", "/v1/responses", `{"model":"a","input":[{"type":"message","content":"x","TYPE":"reasoning"}]}`, ReasonDuplicateField},
		{"two roles of an item", "/v1/responses", `{"model":"a","input":[{"role":"user","content":5,"r\u006fle":"system"}]}`, ReasonDuplicateField},
		{"inside an item of a type to come", "/v1/responses", `{"model":"a","input":[{"type":"web_search_call","status":"x","Status":"y"}]}`, ReasonDuplicateField},
		{"an item of a type to come", "/v1/responses", `{"model":"a","input":[{"type":"web_search_call","action":{"query":"x"}}]}`, ""},
		{"inside a part", "/v1/responses", `{"model":"a","input":[{"role":"user","content":[{"type":"input_text","text":"x","Text":"y"}]}]}`, ReasonDuplicateField},
		{"inside a part of what a function gave", "/v1/responses", `{"model":"a","input":[{"type":"function_call_output","output":[{"type":"output_text","text":"x","Text":"y"}]}]}`, ReasonDuplicateField},
		{"inside reasoning", "/v1/responses", `{"model":"a","reasoning":{"effort":"low","Effort":"high"}}`, ReasonDuplicateField},
		{"a parameter of a function twice", "/v1/responses", `{"model":"a","tools":[{"parameters":{"type":"a","type":"b"}}]}`, ReasonDuplicateField},
		{"a parameter of a function in two cases", "/v1/responses", `{"model":"a","tools":[{"parameters":{"type":"a","Type":"b"}}]}`, ""},
		{"tools of a tool, which are to come", "/v1/responses", `{"model":"a","tools":[{"type":"namespace","tools":[{"name":"x"}],"TOOLS":[]}]}`, ReasonDuplicateField},
		{"inside an Anthropic message", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"role":"user","content":"x","Content":"y"}]}`, ReasonDuplicateField},
		{"inside a block", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"type":"text","text":"x","TEXT":"y"}]}]}`, ReasonDuplicateField},
		{"inside a source", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"source":{"data":"x","Data":"y"}}]}]}`, ReasonDuplicateField},
		{"in what a tool gave", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"content":[{"text":"x","text":"y"}]}]}]}`, ReasonDuplicateField},
		{"cases in what a tool gave", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"content":[{"text":"x","Text":"y"}]}]}]}`, ""},
		{"a tool's input twice", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"input":{"a":1,"a":2}}]}]}`, ReasonDuplicateField},
		{"in a block of the system", "/v1/messages", `{"model":"a","max_tokens":1,"system":[{"text":"x","text":"y"}],"messages":[{"content":"x"}]}`, ReasonDuplicateField},
		{"in an input schema", "/v1/messages", `{"model":"a","max_tokens":1,"tools":[{"input_schema":{"type":"x","type":"y"}}],"messages":[{"content":"x"}]}`, ReasonDuplicateField},
		{"cases in an input schema", "/v1/messages", `{"model":"a","max_tokens":1,"tools":[{"input_schema":{"type":"x","Type":"y"}}],"messages":[{"content":"x"}]}`, ""},
		{"two limits", "/v1/messages", `{"model":"a","max_tokens":1,"Max_Tokens":2,"messages":[{"content":"x"}]}`, ReasonDuplicateField},

		{"text behind the body", "/api/chat", `{"model":"a"} trailing`, ReasonTrailingData},
		{"a second body", "/api/chat", `{"model":"a"}{"model":"b"}`, ReasonTrailingData},
		{"a comma behind the body", "/api/chat", `{"model":"a"},`, ReasonTrailingData},
		{"a NUL behind the body", "/api/chat", "{\"model\":\"a\"}\x00", ReasonTrailingData},
		{"white space behind the body", "/api/chat", " \r\n\t{\"model\":\"a\"} \r\n\t", ""},

		{"a bad byte in the key of an argument", "/api/chat", "{\"model\":\"a\",\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":{\"\xff\":1}}}]}]}", ReasonWrongType},
		{"halves that a node's other parser joins", "/api/chat", `{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"\ud800\uffff":1}}}]}]}`, ReasonAmbiguous},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(routeOf(test.path), []byte(test.body))
			switch bad, _ := err.(*BadRequest); {
			case err == nil && test.reason != "":
				t.Errorf("%s: accepted, want %s", test.body, test.reason)
			case err != nil && (bad == nil || bad.Reason != test.reason || bad.Status != http.StatusBadRequest || !bad.Early):
				t.Errorf("%s: got %+v, want reason %q", test.body, bad, test.reason)
			}
		})
	}
}

func TestParse_SendsOnWhatWasJudged(t *testing.T) {
	tests := []struct{ name, path, body, want string }{
		{"embed as it came", "/api/embed", ` {"model":"a", "input":["x" , "y"],"stream":false}` + "\n", `{"model":"a", "input":["x" , "y"],"stream":false}`},
		{"show as it came", "/api/show", `{"name":"a","verbose":true}`, `{"name":"a","verbose":true}`},
		{"generate streams", "/api/generate", `{"model":"a","prompt":"x"}`, `{"model":"a","prompt":"x","stream":true}`},
		{"streaming already", "/api/generate", `{"stream" : true,"model":"a","prompt":"x"}`, `{"stream" : true,"model":"a","prompt":"x"}`},
		{"chat streams in place", "/api/chat", `{"model":"a","stream":false ,"messages":[{}]}`, `{"model":"a","stream":true ,"messages":[{}]}`},
		{"null is no stream on /v1", "/v1/chat/completions", `{"stream":null,"model":"a","messages":[{}]}`, `{"stream":true,"model":"a","messages":[{}],"stream_options":{"include_usage":true}}`},
		{"usage beside other options", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream":true,"stream_options":{"x":1}}`, `{"model":"a","messages":[{}],"stream":true,"stream_options":{"x":1,"include_usage":true}}`},
		{"usage in empty options", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream":true,"stream_options":{ }}`, `{"model":"a","messages":[{}],"stream":true,"stream_options":{ "include_usage":true}}`},
		{"usage in null options", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream":true,"stream_options":null}`, `{"model":"a","messages":[{}],"stream":true,"stream_options":{"include_usage":true}}`},
		{"usage refused by the client", "/v1/chat/completions", `{"stream_options":{"Include_Usage":false},"model":"a","messages":[{}]}`, `{"stream_options":{"include_usage":true},"model":"a","messages":[{}],"stream":true}`},
		{"a rendering as it came", "/v1/chat/completions", `{"model":"a","messages":[{}],"_debug_render_only":true}`, `{"model":"a","messages":[{}],"_debug_render_only":true}`},
		{"a command as it came", "/api/chat", `{"model":"a","stream":false}`, `{"model":"a","stream":false}`},
		{"a command of /v1 as it came", "/v1/completions", `{"model":"a","STREAM":false}`, `{"model":"a","stream":false}`},
		{"a completion streams, with usage", "/v1/completions", `{"model":"a","prompt":"x"}`, `{"model":"a","prompt":"x","stream":true,"stream_options":{"include_usage":true}}`},
		{"OpenAI embeddings as they came", "/v1/embeddings", `{"model":"a","input":[""],"stream":false}`, `{"model":"a","input":[""],"stream":false}`},
		{"responses stream", "/v1/responses", `{"model":"a","input":"x","stream":null}`, `{"model":"a","input":"x","stream":true}`},
		{"messages stream", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":"x"}]}`, `{"model":"a","max_tokens":1,"messages":[{"content":"x"}],"stream":true}`},
		{
			"names of items and parts", "/v1/responses",
			`{"model":"a","stream":true,"input":[{"CONTENT":[{"Text":"x","T\u0079pe":"input_text","Zzz":1}],"Role":"user"},{"Call_ID":"x","TYPE":"function_call_output","OUTPUT":"y"},{"Type":"zzz","Name":1}]}`,
			`{"model":"a","stream":true,"input":[{"content":[{"text":"x","type":"input_text","Zzz":1}],"role":"user"},{"call_id":"x","type":"function_call_output","output":"y"},{"type":"zzz","Name":1}]}`,
		},
		{
			"names of blocks", "/v1/messages",
			`{"model":"a","stream":true,"max_tokens":1,"messages":[{"CONTENT":[{"Type":"tool_use","Input":{"B":1.0,"A":2},"Content":{"Text":1}}]}],"tools":[{"Input_Schema":{"Z":1.50,"A":1}}]}`,
			`{"model":"a","stream":true,"max_tokens":1,"messages":[{"content":[{"type":"tool_use","input":{"B":1.0,"A":2},"content":{"Text":1}}]}],"tools":[{"input_schema":{"Z":1.50,"A":1}}]}`,
		},
		{"canonical names", "/api/chat", "{\"MODEL\":\"a\",\"me\\u0073sages\":[{\"Role\":\"user\",\"CONTENT\":\"x\"}],\"\u017ftream\":true}", `{"model":"a","messages":[{"role":"user","content":"x"}],"stream":true}`},
		{"names of free maps stay", "/api/chat", `{"model":"a","stream":true,"options":{"Seed":1},"format":{"Type":1},"Zzz":{"Model":1}}`, `{"model":"a","stream":true,"options":{"Seed":1},"format":{"Type":1},"Zzz":{"Model":1}}`},
		{"numbers, order and escapes stay", "/api/chat", `{"model":"\u0061","stream":true,"format":{"b":1.0e2,"a":0.10,"c":123456789012345678901234567890,"\u0064":"\/"}}`, `{"model":"\u0061","stream":true,"format":{"b":1.0e2,"a":0.10,"c":123456789012345678901234567890,"\u0064":"\/"}}`},
		{"bad bytes, one by one", "/api/generate", "{\"model\":\"a\",\"stream\":true,\"prompt\":\"\xff\xe2\x82x\xed\xa0\x80é\"}", "{\"model\":\"a\",\"stream\":true,\"prompt\":\"\ufffd\ufffd\ufffdx\ufffd\ufffd\ufffdé\"}"},
		{"halves of surrogate pairs", "/api/generate", `{"model":"a","stream":true,"prompt":"\ud800 \uDC00 \\ud800 \ud83d\ude00 \ud800\ud83d\ude00"}`, `{"model":"a","stream":true,"prompt":"\ufffd \ufffd \\ud800 \ud83d\ude00 \ufffd\ud83d\ude00"}`},
		{"bad bytes in keys", "/api/generate", "{\"model\":\"a\",\"stream\":true,\"options\":{\"\xff\":{\"\\udfff\":1}}}", "{\"model\":\"a\",\"stream\":true,\"options\":{\"\ufffd\":{\"\\ufffd\":1}}}"},
		{"bad bytes beside renamed fields", "/api/chat", "{\"Model\":\"a\",\"messages\":[{\"CONTENT\":\"\xff\",\"\xff\":\"\xff\"}],\"Stream\":false}", "{\"model\":\"a\",\"messages\":[{\"content\":\"\ufffd\",\"\ufffd\":\"\ufffd\"}],\"stream\":true}"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request := mustParse(t, test.path, test.body)
			if got := string(request.Body.Bytes()); got != test.want {
				t.Errorf("%s\n got %s\nwant %s", test.body, got, test.want)
			}
			checkUpstream(t, routeOf(test.path), []byte(test.body), request)
		})
	}
}

func TestParse_ReadsWhatTheGatewayDecidesBy(t *testing.T) {
	set := func(n int) OptionalInt { return OptionalInt{Value: n, Set: true} }
	minutes := func(d time.Duration) *time.Duration { return &d }
	tests := []struct {
		name, path, body string
		want             Request
	}{
		{"native streams unless told otherwise", "/api/generate", `{"model":"a","prompt":"x"}`, Request{Stream: true}},
		{"null is untold", "/api/chat", `{"model":"a","messages":[{}],"stream":null}`, Request{Stream: true}},
		{"no stream", "/api/chat", `{"model":"a","messages":[{}],"stream":false}`, Request{}},
		{"embeddings have no stream", "/api/embed", `{"model":"a","stream":true}`, Request{}},
		{"OpenAI does not stream untold", "/v1/chat/completions", `{"model":"a","messages":[{}]}`, Request{}},
		{"OpenAI streams when told", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream":true}`, Request{Stream: true}},
		{"usage asked for", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream":true,"stream_options":{"include_usage":true}}`, Request{Stream: true, IncludeUsage: true}},
		{"usage declined", "/v1/chat/completions", `{"model":"a","messages":[{}],"stream":true,"stream_options":{"include_usage":false}}`, Request{Stream: true}},

		{"no prompt loads", "/api/generate", `{"model":"a"}`, Request{Stream: true, Task: Load}},
		{"an empty prompt loads, whatever else is there", "/api/generate", `{"model":"a","prompt":"","suffix":"x","images":["aGk="],"_debug_render_only":true}`, Request{Stream: true, Task: Load}},
		{"no prompt and no time to stay unloads", "/api/generate", `{"model":"a","prompt":null,"keep_alive":0}`, Request{Stream: true, Task: Unload, KeepAlive: minutes(0)}},
		{"0s unloads", "/api/generate", `{"model":"a","keep_alive":"0s"}`, Request{Stream: true, Task: Unload, KeepAlive: minutes(0)}},
		{"less than a nanosecond unloads", "/api/generate", `{"model":"a","keep_alive":1e-10}`, Request{Stream: true, Task: Unload, KeepAlive: minutes(0)}},
		{"a prompt and no time to stay is work", "/api/generate", `{"model":"a","prompt":"x","keep_alive":0}`, Request{Stream: true, KeepAlive: minutes(0)}},
		{"white space is a prompt", "/api/generate", `{"model":"a","prompt":" "}`, Request{Stream: true}},
		{"no messages load", "/api/chat", `{"model":"a","messages":[ ],"keep_alive":"1h"}`, Request{Stream: true, Task: Load, KeepAlive: minutes(time.Hour)}},
		{"no messages and no time to stay unload", "/api/chat", `{"model":"a","keep_alive":0}`, Request{Stream: true, Task: Unload, KeepAlive: minutes(0)}},
		{"rendering", "/api/chat", `{"model":"a","messages":[{}],"_debug_render_only":true}`, Request{Stream: true, Task: Render}},
		{"rendering in OpenAI's dialect", "/v1/chat/completions", `{"model":"a","messages":[{}],"_debug_render_only":true}`, Request{Task: Render}},
		{"messages without parts load", "/v1/chat/completions", `{"model":"a","messages":[{"content":[]},{"Content":[ ]}],"_debug_render_only":true}`, Request{Task: Load}},
		{"one message with content is work", "/v1/chat/completions", `{"model":"a","messages":[{"content":[]},{"content":""}]}`, Request{}},
		{"a completion without prompt loads", "/v1/completions", `{"model":"a","stream":true,"stream_options":{"include_usage":true}}`, Request{Stream: true, IncludeUsage: true, Task: Load}},
		{"a completion rendered", "/v1/completions", `{"model":"a","prompt":"x","_debug_render_only":true}`, Request{Task: Render}},
		{"responses do not stream untold", "/v1/responses", `{"model":"a","input":"x"}`, Request{}},
		{"responses without input load", "/v1/responses", `{"model":"a","stream":true}`, Request{Stream: true, Task: Load}},
		{"an input of nothing loads", "/v1/responses", `{"model":"a","input":"","instructions":""}`, Request{Task: Load}},
		{"an input of no items loads", "/v1/responses", `{"model":"a","input":[ ]}`, Request{Task: Load}},
		{"instructions are work", "/v1/responses", `{"model":"a","instructions":"x"}`, Request{}},
		{"an empty message is work", "/v1/responses", `{"model":"a","input":[{"role":"user"}]}`, Request{}},
		{"reasoning is work", "/v1/responses", `{"model":"a","input":[{"type":"reasoning","encrypted_content":""},{"type":"reasoning","encrypted_content":"x"}]}`, Request{}},
		{"reasoning that ends with none loads", "/v1/responses", `{"model":"a","input":[{"type":"reasoning","encrypted_content":"x"},{"type":"r\u0065asoning"}]}`, Request{Task: Load}},
		{"messages do not stream untold", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":"x"}]}`, Request{}},
		{"messages stream when told", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":"x"}],"stream":true}`, Request{Stream: true}},
		{"empty content loads", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":""},{"content":[]},{"content":null}],"stream":true}`, Request{Stream: true, Task: Load}},
		{"blocks that nobody knows load", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[null,{"type":"document","text":"x"},{"text":"x"}]}]}`, Request{Task: Load}},
		{"a block of text is work", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"text":"x","TYPE":"t\u0065xt"}]}]}`, Request{}},
		{"a block of empty text loads", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"text":"","type":"text"}]}]}`, Request{Task: Load}},
		{"what a tool gave is work", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":""},{"content":[{"type":"tool_result"}]}]}`, Request{}},
		{"thoughts are work", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"type":"thinking","thinking":"x"},{"type":"thinking"}]}]}`, Request{}},
		{"thoughts that end with none load", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[{"content":[{"type":"thinking","thinking":"x"},{"type":"thinking","thinking":""}]}]}`, Request{Task: Load}},
		{"a system is work", "/v1/messages", `{"model":"a","max_tokens":1,"system":"x","messages":[{"content":""}]}`, Request{}},
		{"a system of blocks is work", "/v1/messages", `{"model":"a","max_tokens":1,"system":[5,{"type":"text","text":"x"}],"messages":[{"content":""}]}`, Request{}},
		{"a system of what is no text loads", "/v1/messages", `{"model":"a","max_tokens":1,"system":[{"Type":"text","text":"x"},{"type":"text","text":5}],"messages":[{"content":""}]}`, Request{Task: Load}},
		{"a system that is a number loads", "/v1/messages", `{"model":"a","max_tokens":1,"system":5,"messages":[{"content":""}]}`, Request{Task: Load}},

		{"embeddings are always work", "/api/embeddings", `{"model":"a","keep_alive":0}`, Request{KeepAlive: minutes(0)}},

		{"for ever", "/api/embed", `{"model":"a","keep_alive":-2}`, Request{KeepAlive: minutes(-1)}},
		{"for ever as a string", "/api/embed", `{"model":"a","keep_alive":"-2m"}`, Request{KeepAlive: minutes(-1)}},
		{"longer than durations go", "/api/embed", `{"model":"a","keep_alive":1e300}`, Request{KeepAlive: minutes(-1)}},
		{"parts of seconds", "/api/embed", `{"model":"a","keep_alive":1.5}`, Request{KeepAlive: minutes(1500 * time.Millisecond)}},
		{"null is not said", "/api/embed", `{"model":"a","keep_alive":null}`, Request{}},
		{"OpenAI knows no keep_alive", "/v1/chat/completions", `{"model":"a","messages":[{}],"keep_alive":0,"options":{"num_ctx":1}}`, Request{}},

		{
			"runner options", "/api/embed", `{"model":"a","options":{"num_ctx":4096.9,"num_batch":64.5,"num_gpu":0,"main_gpu":1e0,"num_thr\u0065ad":2,"use_mmap":false,"seed":1}}`,
			Request{Runner: RunnerOptions{NumCtx: set(4096), NumBatch: set(64), NumGPU: set(0), MainGPU: set(1), NumThread: set(2), UseMMap: OptionalBool{Set: true}}},
		},
		{"runner options in another case are others", "/api/embed", `{"model":"a","options":{"NUM_CTX":1,"Use_mmap":true}}`, Request{}},
		{"runner options of another type are the node's business", "/api/embed", `{"model":"a","options":{"num_ctx":"1","num_gpu":[{"num_batch":2}],"use_mmap":1,"num_batch":true}}`, Request{}},
		{"runner options that are null", "/api/embed", `{"model":"a","options":{"num_ctx":null,"use_mmap":null}}`, Request{}},
		{"runner options beyond int", "/api/embed", `{"model":"a","options":{"num_ctx":1e300,"num_gpu":-1e300}}`, Request{Runner: RunnerOptions{NumCtx: set(math.MaxInt), NumGPU: set(math.MinInt)}}},
		{"a use of mmap", "/api/embed", `{"model":"a","options":{"use_mmap":true}}`, Request{Runner: RunnerOptions{UseMMap: OptionalBool{true, true}}}},

		{"show by its old field", "/api/show", `{"model":"","name":"a"}`, Request{}},
		{"show prefers the new one", "/api/show", `{"model":"a","name":"b"}`, Request{}},
		{"show at length", "/api/show", `{"model":"a","verbose":true,"system":"x"}`, Request{Verbose: true, System: true}},
		{"show with an empty system", "/api/show", `{"model":"a","verbose":false,"system":""}`, Request{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := *mustParse(t, test.path, test.body)
			if got.Model.Spelling != "a" || got.Route.Path != test.path {
				t.Errorf("%s: model %q on %s, want a", test.body, got.Model, got.Route.Path)
			}
			got.Route, got.Model, got.Body, got.Options, got.source, got.sampling = Route{}, ModelName{}, nil, nil, nil, Sampling{}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(ModelName{}, Request{})); diff != "" {
				t.Errorf("%s (-want +got)\n%s", test.body, diff)
			}
		})
	}
}

func TestParse_GivesOptionsAsWritten(t *testing.T) {
	tests := []struct{ name, path, body, want string }{
		{"as written", "/api/chat", `{"model":"a","OPTIONS": {"b" : 1.0,"a":2} }`, `{"b" : 1.0,"a":2}`},
		{"with bad bytes replaced", "/api/chat", "{\"model\":\"a\",\"options\":{\"\xff\":\"\\ud800\"}}", "{\"\ufffd\":\"\\ufffd\"}"},
		{"none", "/api/chat", `{"model":"a"}`, ""},
		{"null", "/api/chat", `{"model":"a","options":null}`, ""},
		{"not on /v1", "/v1/chat/completions", `{"model":"a","messages":[{}],"options":{}}`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := mustParse(t, test.path, test.body).Options; string(got) != test.want || (got == nil) != (test.want == "") {
				t.Errorf("%s: got %q, want %q", test.body, got, test.want)
			}
		})
	}
}

func TestParse_RefusesInANodesOrderAndWords(t *testing.T) {
	const required, hosted = "model is required", "ollama cloud is disabled: remote model is unavailable"
	tests := []struct {
		name, path, body string
		want             BadRequest
	}{
		{"generate without model", "/api/generate", `{}`, BadRequest{404, "model '' not found", false, ReasonNoModel, Ollama}},
		{"generate with a blank model", "/api/generate", `{"model":" "}`, BadRequest{404, "model ' ' not found", false, ReasonNoModel, Ollama}},
		{"chat without model", "/api/chat", `null`, BadRequest{400, required, false, ReasonNoModel, Ollama}},
		{"embed without model", "/api/embed", `{"input":5}`, BadRequest{404, "model '' not found", false, ReasonNoModel, Ollama}},
		{"embeddings without model", "/api/embeddings", `{}`, BadRequest{400, required, false, ReasonNoModel, Ollama}},
		{"show without model", "/api/show", `{"model":" "}`, BadRequest{400, required, false, ReasonNoModel, Ollama}},
		{"OpenAI without model", "/v1/chat/completions", `{"messages":[{}]}`, BadRequest{400, required, false, ReasonNoModel, OpenAI}},
		{"OpenAI without messages comes first", "/v1/chat/completions", `{"messages":[],"top_logprobs":99}`, BadRequest{400, "[] is too short - 'messages'", true, ReasonNoMessages, OpenAI}},
		{"top_logprobs comes before the model", "/api/chat", `{"top_logprobs":21}`, BadRequest{400, "top_logprobs must be between 0 and 20", false, ReasonOutOfRange, Ollama}},
		{"top_logprobs on /v1", "/v1/chat/completions", `{"messages":[{}],"top_logprobs":-1}`, BadRequest{400, "top_logprobs must be between 0 and 20", false, ReasonOutOfRange, OpenAI}},
		{"not a name", "/v1/chat/completions", `{"model":"a b","messages":[{}]}`, BadRequest{400, "invalid model name", false, ReasonBadModelName, OpenAI}},
		{"two places for one model", "/api/chat", `{"model":" a:cloud:local "}`, BadRequest{400, `use either :local or :cloud, not both: "a:cloud:local"`, false, ReasonBadModelName, Ollama}},
		{"hosted model", "/api/chat", `{"model":"a:cloud"}`, BadRequest{403, hosted, false, ReasonCloudModel, Ollama}},
		{"hosted model, escaped", "/api/chat", `{"model":"a:cl\u006fud"}`, BadRequest{403, hosted, false, ReasonCloudModel, Ollama}},
		{"hosted model comes before the input", "/api/embed", `{"model":"a:x-cloud","input":5}`, BadRequest{403, hosted, false, ReasonCloudModel, Ollama}},
		{"hosted model on /v1", "/v1/chat/completions", `{"model":"a:x-Cloud","messages":[{}]}`, BadRequest{403, hosted, false, ReasonCloudModel, Ollama}},
		{"hosted model's details", "/api/show", `{"name":"a:cloud"}`, BadRequest{403, "ollama cloud is disabled: remote model details are unavailable", false, ReasonCloudModel, Ollama}},
		{"an input with null", "/api/embed", `{"model":"a","input":["a",null]}`, BadRequest{400, "invalid input type", false, ReasonWrongType, Ollama}},
		{"hosted model comes first on /v1", "/v1/messages", `{"model":"a:cloud"}`, BadRequest{403, hosted, false, ReasonCloudModel, Ollama}},
		{"a stop that is no text", "/v1/completions", `{"stop":["a",null],"logprobs":21}`, BadRequest{400, "invalid type for 'stop' field: <nil>", true, ReasonWrongType, OpenAI}},
		{"a stop that is a list", "/v1/completions", `{"stop":[[]]}`, BadRequest{400, "invalid type for 'stop' field: []interface {}", true, ReasonWrongType, OpenAI}},
		{"a stop that is an object", "/v1/completions", `{"stop":[{}]}`, BadRequest{400, "invalid type for 'stop' field: map[string]interface {}", true, ReasonWrongType, OpenAI}},
		{"a stop that is a bool", "/v1/completions", `{"stop":[true]}`, BadRequest{400, "invalid type for 'stop' field: bool", true, ReasonWrongType, OpenAI}},
		{"too many logprobs come before the model", "/v1/completions", `{"stop":5,"logprobs":21}`, BadRequest{400, "top_logprobs must be between 0 and 20", false, ReasonOutOfRange, OpenAI}},
		{"a completion without model", "/v1/completions", `{"logprobs":-1}`, BadRequest{404, "model '' not found", false, ReasonNoModel, OpenAI}},
		{"an encoding comes before the input", "/v1/embeddings", `{"encoding_format":"hex"}`, BadRequest{400, "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].", true, ReasonWrongType, OpenAI}},
		{"no input comes before the model", "/v1/embeddings", `{"input":[]}`, BadRequest{400, "invalid input", true, ReasonWrongType, OpenAI}},
		{"the model comes before the input's type", "/v1/embeddings", `{"input":5}`, BadRequest{404, "model '' not found", false, ReasonNoModel, OpenAI}},
		{"an input's type", "/v1/embeddings", `{"model":"a","input":5}`, BadRequest{400, "invalid input type", false, ReasonWrongType, OpenAI}},
		{"responses without model", "/v1/responses", `{}`, BadRequest{400, required, false, ReasonNoModel, OpenAI}},
		{"an item without type", "/v1/responses", `{"input":[{"type":"x"},{"content":"x"}],"model":5}`, BadRequest{400, "input[1]: input item missing required 'type' field", true, ReasonWrongType, OpenAI}},
		{"an item that is none", "/v1/responses", `{"input":[{"role":"x"},{"role":"x"},5]}`, BadRequest{400, "input[2]: json: cannot unmarshal number into Go value of type struct { Type string \"json:\\\"type\\\"\"; Role string \"json:\\\"role\\\"\" }", true, ReasonWrongType, OpenAI}},
		{"a part of an item", "/v1/responses", `{"input":[{"role":"x"},{"role":"x","content":[{"type":"x"},{"type":"x"},{"text":5,"type":"input_text"}]}]}`, BadRequest{400, "input[1]: content[2]: json: cannot unmarshal number into Go struct field ResponsesTextContent.text of type string", true, ReasonWrongType, OpenAI}},
		{"a part without type", "/v1/responses", `{"input":[{"type":"function_call_output","output":[null]}]}`, BadRequest{400, "input[0]: output[0]: unknown content type: ", true, ReasonWrongType, OpenAI}},
		{"content comes after the rest", "/v1/responses", `{"input":[{"output":5,"type":"function_call_output","call_id":5}]}`, BadRequest{400, "input[0]: json: cannot unmarshal number into Go struct field .call_id of type string", true, ReasonWrongType, OpenAI}},
		{"content that is neither", "/v1/responses", `{"input":[{"content":5,"type":"message"}]}`, BadRequest{400, "input[0]: content must be a string or array: json: cannot unmarshal number into Go value of type []json.RawMessage", true, ReasonWrongType, OpenAI}},
		{"messages without model come first", "/v1/messages", `{}`, BadRequest{400, required, true, ReasonNoModel, Anthropic}},
		{"a limit comes before the messages", "/v1/messages", `{"model":" ","max_tokens":-1}`, BadRequest{400, "max_tokens is required and must be positive", true, ReasonOutOfRange, Anthropic}},
		{"no messages come before a name", "/v1/messages", `{"model":" ","max_tokens":1}`, BadRequest{400, "messages is required", true, ReasonNoMessages, Anthropic}},
		{"a blank model of messages", "/v1/messages", `{"model":" ","max_tokens":1,"messages":[{"content":"x"}]}`, BadRequest{400, required, false, ReasonNoModel, Anthropic}},
		{"a message without content", "/v1/messages", `{"messages":[{"content":"x"},{"role":"user"}],"model":5}`, BadRequest{400, "unexpected end of JSON input", true, ReasonWrongType, Anthropic}},
		{"a message that is null", "/v1/messages", `{"messages":[null]}`, BadRequest{400, "unexpected end of JSON input", true, ReasonWrongType, Anthropic}},
		{"a role comes before the content", "/v1/messages", `{"messages":[{"content":5,"role":5}]}`, BadRequest{400, "json: cannot unmarshal number into Go struct field MessagesRequest.messages.role of type string", true, ReasonWrongType, Anthropic}},
		{"what stands beside a wrong input of a tool", "/v1/messages", `{"messages":[{"content":[{"input":{"A":1e999}}],"a":1}]}`, BadRequest{400, "json: cannot unmarshal number 1e999 into Go struct field MessagesRequest.messages.input of type float64", true, ReasonWrongType, Anthropic}},
		{"nothing", "/api/show", ``, BadRequest{400, "missing request body", true, ReasonEmptyBody, Ollama}},
		{"white space", "/v1/chat/completions", "\n", BadRequest{400, "EOF", true, ReasonEmptyBody, OpenAI}},
		{"a syntax error outranks a duplicate", "/api/chat", `{"model":1,"model":1`, BadRequest{400, "unexpected EOF", true, ReasonMalformed, Ollama}},
		{"the first wrong type counts", "/api/chat", `{"stream":1,"model":2}`, BadRequest{400, "json: cannot unmarshal number into Go struct field ChatRequest.stream of type bool", true, ReasonWrongType, Ollama}},
		{"a field under its canonical name", "/api/chat", `{"STREAM":1}`, BadRequest{400, "json: cannot unmarshal number into Go struct field ChatRequest.stream of type bool", true, ReasonWrongType, Ollama}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := Parse(routeOf(test.path), []byte(test.body))
			got, ok := err.(*BadRequest)
			if !ok {
				t.Fatalf("%s: error %v, want %+v", test.body, err, test.want)
			}
			if diff := cmp.Diff(test.want, *got); diff != "" {
				t.Errorf("%s (-want +got)\n%s", test.body, diff)
			}
		})
	}
}

func TestParse_KeepsItsMessagesShort(t *testing.T) {
	for _, body := range []string{
		`{"model":"a","keep_alive":"` + strings.Repeat("é", 1<<16) + `"}`,
		`{"model":"a","top_logprobs":1` + strings.Repeat("0", 1<<16) + `}`,
		`{"model":"a","` + strings.Repeat("x", 1<<16) + `":1,"` + strings.Repeat("X", 1<<16) + `":2}`,
		`{"model":"` + strings.Repeat("x", 1<<16) + `:cloud:local"}`,
		`{"model":"` + strings.Repeat(" ", 1<<16) + `"}`,
	} {
		_, err := Parse(routeOf("/api/chat"), []byte(body))
		if err == nil || len(err.Error()) > messageLimit {
			t.Errorf("%.30s: error of %d bytes, want 1 to %d", body, len(fmt.Sprint(err)), messageLimit)
		}
	}
}

func TestParse_RefusesRoutesWithoutSchema(t *testing.T) {
	_, err := Parse(routeOf("/api/tags"), []byte(`{}`))
	if _, bad := err.(*BadRequest); err == nil || bad {
		t.Errorf("error %v, want one that is no *BadRequest", err)
	}
}

func TestParse_CopiesNoneOfALargeBody(t *testing.T) {
	body := []byte(chatBody(3, 1000, 1<<20))
	request, err := Parse(routeOf("/api/chat"), body)
	if err != nil {
		t.Fatal(err)
	}
	largest := request.Body[0]
	for _, piece := range request.Body {
		if len(piece) > len(largest) {
			largest = piece
		}
	}
	if at := bytes.Index(body, largest); len(largest) < len(body)-1000 || &body[at] != &largest[0] {
		t.Errorf("the largest of %d pieces has %d of %d bytes and should be a part of the body", len(request.Body), len(largest), len(body))
	}
}

func TestParse_CostsLittleWhateverComes(t *testing.T) {
	const (
		size = 2 << 20
		// What the marks of the shortest keys and the patches of the shortest fields need,
		// with what append leaves behind on its way; no more than a dozen of the body is live.
		most = 28 * size
	)
	for name, hostile := range hostileBodies(size) {
		t.Run(name, func(t *testing.T) {
			body := hostile.body
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, _ = Parse(routeOf(hostile.path), body)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if cost := after.TotalAlloc - before.TotalAlloc; cost > most {
				t.Errorf("%d bytes of body cost %d bytes of memory, want at most %d", len(body), cost, most)
			}
			// An honest body of this size takes 2 ms, the worst here 100 ms. Quadratic work
			// would take minutes.
			if took > 20*time.Second {
				t.Errorf("%d bytes of body took %v", len(body), took)
			}
		})
	}
	for _, hostile := range hostileBodies(64 << 10) {
		check(t, routeOf(hostile.path), hostile.body)
	}
}

func mustParse(t testing.TB, path, body string) *Request {
	t.Helper()
	request, err := Parse(routeOf(path), []byte(body))
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return request
}
