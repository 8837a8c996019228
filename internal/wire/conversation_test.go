package wire

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// A talk builds the bodies of one route: a body from its turns.
type talk struct {
	name, path string
	turns      []string // JSON, or numbers and texts where the route has no messages
	body       func(turns []string) string
}

func list(before, after string) func([]string) string {
	return func(turns []string) string { return before + strings.Join(turns, ",") + after }
}

const image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"

var talks = []talk{
	{
		"native", "/api/chat", []string{
			`{"role":"system","content":"be short"}`, `{"role":"user","content":"what is this?","images":["` + image + `"]}`,
			`{"role":"assistant","tool_calls":[{"function":{"name":"look","arguments":{"at":"it","b":1}}}]}`,
			`{"role":"tool","content":"a cat","tool_name":"look"}`, `{"role":"assistant","content":"a cat\nI think"}`, `{"role":"user","content":"sure?"}`,
		}, list(`{"model":"a","tools":[{"type":"function","function":{"name":"look"}}],"messages":[`, `]}`),
	},
	{
		"OpenAI", "/v1/chat/completions", []string{
			`{"role":"system","content":"be short"}`,
			`{"role":"user","content":[{"type":"text","text":"what is this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,` + image + `"}}]}`,
			`{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"name":"look","arguments":"{\"at\":\"it\"}"}}]}`,
			`{"role":"tool","content":"a cat","tool_call_id":"call_1"}`, `{"role":"user","content":"sure?"}`,
		}, list(`{"model":"a","messages":[`, `]}`),
	},
	{
		"Anthropic", "/v1/messages", []string{
			`{"role":"user","content":[{"type":"text","text":"what is this?"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"` + image + `"}}]}`,
			`{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"look","input":{"at":"it"}}]}`,
			`{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"a cat"}]}]}`,
			`{"role":"assistant","content":"a cat"}`, `{"role":"user","content":"sure?"}`,
		}, list(`{"model":"a","max_tokens":9,"system":"be short","messages":[`, `]}`),
	},
	{
		"responses", "/v1/responses", []string{
			`{"role":"user","content":[{"type":"input_text","text":"what is this?"},{"type":"input_image","image_url":"data:image/png;base64,` + image + `"}]}`,
			`{"type":"function_call","call_id":"call_1","name":"look","arguments":"{}"}`, `{"type":"function_call_output","call_id":"call_1","output":"a cat"}`,
			`{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a cat"}]}`, `{"type":"newer","payload":{"a":[1,2]}}`,
			`{"role":"user","content":"sure?"}`,
		}, list(`{"model":"a","instructions":"be short","input":[`, `]}`),
	},
	{
		"context", "/api/generate",
		[]string{tokenBlock(0), tokenBlock(1), tokenBlock(2), tokenBlock(3)},
		list(`{"model":"a","system":"be short","prompt":"and then?","context":[`, `]}`),
	},
	{
		"completion", "/v1/completions",
		[]string{textBlock("a"), textBlock("b"), textBlock("c"), textBlock("d")},
		func(turns []string) string { return `{"model":"a","prompt":"` + strings.Join(turns, "") + `"}` },
	},
}

func tokenBlock(n int) string {
	return strings.TrimSuffix(strings.Repeat(fmt.Sprint(n, ","), blockTokens), ",")
}

func textBlock(s string) string { return strings.Repeat(`\n`+s+"xx", blockBytes/4) }

func conversation(t *testing.T, path, body string) []Turn {
	t.Helper()
	return mustParse(t, path, body).Conversation()
}

func TestConversation_GrowingKeepsTheFirstSteps(t *testing.T) {
	for _, talk := range talks {
		t.Run(talk.name, func(t *testing.T) {
			whole := conversation(t, talk.path, talk.body(talk.turns))
			for n := 1; n < len(talk.turns); n++ {
				part := conversation(t, talk.path, talk.body(talk.turns[:n]))
				// One step for what comes before, and one for each turn.
				if len(part) < n+1 || !slices.Equal(part[:n+1], whole[:n+1]) {
					t.Errorf("%d of %d turns: got %v, want the first %d of %v", n, len(talk.turns), part, n+1, whole)
				}
			}
		})
	}
}

func TestConversation_AChangeShowsFromThereOn(t *testing.T) {
	for _, talk := range talks {
		t.Run(talk.name, func(t *testing.T) {
			before := conversation(t, talk.path, talk.body(talk.turns))
			for n := range talk.turns {
				turns := slices.Clone(talk.turns)
				turns[n] = talk.turns[(n+1)%len(turns)]
				after := conversation(t, talk.path, talk.body(turns))
				for i := range min(len(before), len(after)) {
					if same := before[i].Hash == after[i].Hash; same != (i <= n) {
						t.Errorf("turn %d changed: step %d is the same: %v", n, i, same)
					}
				}
			}
		})
	}
}

func TestConversation_SpellingMakesNoDifference(t *testing.T) {
	tests := []struct{ name, path, a, b string }{
		{"white space and order", "/api/chat", `{"model":"a","messages":[{"role":"user","content":"x"}]}`, "{ \"messages\" : [ { \"content\":\"x\" ,\n\"role\":\"user\" } ], \"model\":\"b\" }"},
		{"case of keys", "/api/chat", `{"model":"a","messages":[{"role":"user","content":"x"}]}`, `{"model":"a","Messages":[{"ROLE":"user","content":"x"}]}`},
		{"escapes", "/api/chat", `{"model":"a","messages":[{"content":"é\n𝄞/"}]}`, `{"model":"a","messages":[{"content":"\u00e9\u000a\ud834\udd1e\/"}]}`},
		{"bad UTF-8", "/api/chat", "{\"model\":\"a\",\"messages\":[{\"content\":\"a\xffb\"}]}", `{"model":"a","messages":[{"content":"a\ufffdb"}]}`},
		{"absent, null and empty", "/api/chat", `{"model":"a","messages":[{"content":"x"}]}`, `{"model":"a","tools":[],"messages":[{"role":"","content":"x","tool_calls":null,"images":[ ]}]}`},
		{"fields that are no text", "/api/chat", `{"model":"a","messages":[{"content":"x"}]}`, `{"model":"a","messages":[{"content":"x","zzz":1}],"options":{"num_ctx":5},"keep_alive":5,"format":"json","stream":false}`},
		{"a text and a part", "/v1/chat/completions", `{"model":"a","messages":[{"content":"x"}]}`, `{"model":"a","messages":[{"content":[{"text":"x","type":"text","cache_control":{}}]}]}`},
		{"a text and a part", "/v1/messages", `{"model":"a","max_tokens":1,"system":"s","messages":[{"content":"x"}]}`, `{"model":"a","max_tokens":2,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]}`},
		{"a text and a part", "/v1/responses", `{"model":"a","input":[{"role":"user","content":"x"}]}`, `{"model":"a","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]}]}`},
		{"keys of a part", "/v1/chat/completions", `{"model":"a","messages":[{"content":[{"type":"image_url","image_url":{"url":"x","detail":"low"}}]}]}`, `{"model":"a","messages":[{"content":[{"image_url":{"detail":"low","url":"x"},"type":"image_url"}]}]}`},
	}
	for _, test := range tests {
		t.Run(test.name+" "+test.path, func(t *testing.T) {
			a, b := conversation(t, test.path, test.a), conversation(t, test.path, test.b)
			if !slices.Equal(a, b) || len(a) < 2 {
				t.Errorf("%s\n%s\n got %v\nwant %v", test.a, test.b, b, a)
			}
		})
	}
}

func TestConversation_MeaningMakesADifference(t *testing.T) {
	tests := []struct {
		name, path, a, b string
		at               int // the first step that differs
	}{
		{"a role", "/api/chat", `{"model":"a","messages":[{"role":"user","content":"x"}]}`, `{"model":"a","messages":[{"role":"system","content":"x"}]}`, 1},
		{"where a text stands", "/api/chat", `{"model":"a","messages":[{"content":"x"}]}`, `{"model":"a","messages":[{"thinking":"x"}]}`, 1},
		{"where a message ends", "/api/chat", `{"model":"a","messages":[{"content":"xy"},{"content":"z"}]}`, `{"model":"a","messages":[{"content":"x"},{"content":"yz"}]}`, 1},
		{"one part or two", "/v1/chat/completions", `{"model":"a","messages":[{"content":"xy"}]}`, `{"model":"a","messages":[{"content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}]}`, 1},
		{"order of arguments", "/api/chat", `{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"a":1,"b":2}}}]}]}`, `{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"b":2,"a":1}}}]}]}`, 1},
		{"tools", "/api/chat", `{"model":"a","messages":[{"content":"x"}],"tools":[{"function":{"name":"f"}}]}`, `{"model":"a","messages":[{"content":"x"}]}`, 0},
		{"how to think", "/api/chat", `{"model":"a","messages":[{"content":"x"}],"think":true}`, `{"model":"a","messages":[{"content":"x"}],"think":"low"}`, 0},
		{"system", "/v1/messages", `{"model":"a","max_tokens":1,"system":"s","messages":[{"content":"x"}]}`, `{"model":"a","max_tokens":1,"messages":[{"content":"x"}]}`, 0},
		{"a template", "/api/generate", `{"model":"a","prompt":"x","template":"y"}`, `{"model":"a","prompt":"x"}`, 0},
		{"system or template", "/api/generate", `{"model":"a","prompt":"x","template":"y"}`, `{"model":"a","prompt":"x","system":"y"}`, 0},
		{"raw", "/api/generate", `{"model":"a","prompt":"x","raw":true}`, `{"model":"a","prompt":"x"}`, 0},
		{"a suffix", "/v1/completions", `{"model":"a","prompt":"x","suffix":"y"}`, `{"model":"a","prompt":"x"}`, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			a, b := conversation(t, test.path, test.a), conversation(t, test.path, test.b)
			for i := range min(len(a), len(b)) {
				if same := a[i].Hash == b[i].Hash; same != (i < test.at) {
					t.Errorf("%s\n%s\nstep %d is the same: %v", test.a, test.b, i, same)
				}
			}
		})
	}
}

func TestConversation_CountsText(t *testing.T) {
	tests := []struct {
		name, path, body string
		want             []int
	}{
		{"a chat", "/api/chat", `{"model":"a","messages":[{"role":"user","content":"h\u00e9\n"},{"role":"user","content":"x"}]}`, []int{0, 8, 13}},
		{"an image, whatever its size", "/api/chat", `{"model":"a","messages":[{"content":"x","images":["` + image + `"]}]}`, []int{0, 1 + mediaBytes}},
		{"an image of Anthropic's", "/v1/messages", `{"model":"a","max_tokens":1,"system":"xx","messages":[{"content":[{"source":{"data":"` + image + `"}}]}]}`, []int{2, 2 + mediaBytes}},
		{"a sound of OpenAI's", "/v1/chat/completions", `{"model":"a","messages":[{"content":[{"input_audio":{"data":"` + image + `"}}]}]}`, []int{0, len("input_audiodata") + mediaBytes}},
		{"a context, then a prompt", "/api/generate", `{"model":"a","context":[` + tokenBlock(1) + `,7],"prompt":"xyz"}`, []int{0, 1024, 1028, 1031}},
		{"a prompt in blocks, then a suffix", "/v1/completions", `{"model":"a","prompt":"` + textBlock("a") + `tail","suffix":"end"}`, []int{0, 1024, 1028, 1031}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []int
			for _, turn := range conversation(t, test.path, test.body) {
				got = append(got, turn.Bytes)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%s: got %v bytes, want %v", test.body, got, test.want)
			}
		})
	}
}

func TestConversation_IsNilWhereNoTextIsEvaluated(t *testing.T) {
	for path, body := range map[string]string{
		"/api/embed": `{"model":"a","input":"x"}`, "/api/show": `{"model":"a"}`, "/v1/embeddings": `{"model":"a","input":"x"}`,
		"/api/chat": `{"model":"a"}`, "/api/generate": `{"model":"a","system":"x","keep_alive":0}`,
	} {
		if turns := conversation(t, path, body); turns != nil {
			t.Errorf("%s %s: got %v, want nil", path, body, turns)
		}
	}
	if turns := new(Request).Conversation(); turns != nil {
		t.Errorf("a request that nothing was parsed for has %v", turns)
	}
}

func TestConversation_IsBounded(t *testing.T) {
	for _, talk := range talks {
		t.Run(talk.name, func(t *testing.T) {
			turns := slices.Repeat(talk.turns[:1], 2*maxTurns)
			before := conversation(t, talk.path, talk.body(turns))
			if len(before) != maxTurns {
				t.Fatalf("%d steps, want %d", len(before), maxTurns)
			}
			turns[len(turns)-2] = talk.turns[1] // a change in what was merged shows in the last
			after := conversation(t, talk.path, talk.body(turns))
			if n := maxTurns - 1; !slices.Equal(before[:n], after[:n]) || before[n].Hash == after[n].Hash {
				t.Errorf("a late change shows in %v steps, want the last", len(after))
			}
		})
	}
}

func TestConversation_CostsLittleWhateverComes(t *testing.T) {
	const (
		size = 2 << 20
		// Under the race detector, which has keys copied; else it is less than the body.
		most = 16 * size
	)
	bodies := hostileBodies(size)
	add := func(name, path, before, part, after string) {
		bodies[name] = hostile{path, []byte(before + strings.TrimSuffix(strings.Repeat(part, size/len(part)), ",") + after)}
	}
	deep := strings.Repeat(`{"content":[`, 3000) + strings.Repeat(`]}`, 3000)
	add("deep parts", "/v1/chat/completions", `{"model":"a","messages":[`, `{"content":[`+deep+`]},`, `]}`)
	add("deep results", "/v1/messages", `{"model":"a","max_tokens":1,"messages":[`, `{"content":[{"type":"tool_result","content":[`+deep+`]}]},`, `]}`)
	add("empty parts", "/v1/chat/completions", `{"model":"a","messages":[{"content":[`, `{},`, `]}]}`)
	add("keys", "/v1/chat/completions", `{"model":"a","messages":[{"content":[`, `{"b":1,"a":2},`, `]}]}`)
	add("escapes", "/api/generate", `{"model":"a","prompt":"`, `\n`, `"}`)
	add("bad text", "/api/generate", `{"model":"a","prompt":"`, "\xff", `"}`)
	told := 0
	for name, hostile := range bodies {
		request, err := Parse(routeOf(hostile.path), hostile.body)
		if err != nil {
			continue
		}
		told++
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		request.Conversation()
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if cost := after.TotalAlloc - before.TotalAlloc; cost > most {
			t.Errorf("%s: %d bytes of body cost %d bytes of memory, want at most %d", name, len(hostile.body), cost, most)
		}
		// The worst here takes 200 ms. Quadratic work would take minutes.
		if took > 20*time.Second {
			t.Errorf("%s: %d bytes of body took %v", name, len(hostile.body), took)
		}
	}
	if told < 12 {
		t.Errorf("only %d bodies were told", told)
	}
}

func BenchmarkConversation(b *testing.B) {
	bodies := benchmarkBodies
	prompt, err := json.Marshal(map[string]string{"model": "a", "prompt": strings.Repeat("lorem ipsum\n", 64<<10/12)})
	if err != nil {
		b.Fatal(err)
	}
	bodies = append(slices.Clip(bodies), struct{ name, path, body string }{"prompt=64KiB", "/api/generate", string(prompt)})
	for _, bench := range bodies {
		route, body := routeOf(bench.path), []byte(bench.body)
		request, err := Parse(route, body)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(bench.name+"/parse", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse(route, body)
			}
		})
		b.Run(bench.name+"/conversation", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				request.Conversation()
			}
		})
	}
}
