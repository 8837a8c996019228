package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// Bodies as clients send them, with the model last: a chat of text, a long one, an image.
var benchmarkBodies = []struct{ name, path, body string }{
	{"1KiB", "/api/chat", chatBody(6, 120, 0)},
	{"64KiB", "/api/chat", chatBody(64, 900, 0)},
	{"5MiB", "/api/chat", chatBody(2, 100, 5<<20)},
	{"responses=64KiB", "/v1/responses", responsesBody(64, 900)},
	{"messages=64KiB", "/v1/messages", messagesBody(64, 900)},
}

// responsesBody has a message in two, a call and what it gave in the others.
func responsesBody(items, size int) string {
	text := strings.Repeat("lorem ipsum ", size/12)
	var b strings.Builder
	b.WriteString(`{"input":[`)
	for i := range items {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, `{"role":"user","content":"%s"},`, text)
		case 1:
			fmt.Fprintf(&b, `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"%s"}]},`, text)
		case 2:
			fmt.Fprintf(&b, `{"type":"function_call","call_id":"call_%d","name":"get","arguments":"{}"},`, i)
		case 3:
			fmt.Fprintf(&b, `{"type":"function_call_output","call_id":"call_%d","output":"%s"},`, i-1, text)
		}
	}
	return strings.TrimSuffix(b.String(), ",") + `],"instructions":"be short","model":"llama3.2:3b"}`
}

// messagesBody alternates text, blocks, a call and what it gave.
func messagesBody(messages, size int) string {
	text := strings.Repeat("lorem ipsum ", size/12)
	var b strings.Builder
	b.WriteString(`{"messages":[`)
	for i := range messages {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, `{"role":"user","content":"%s"},`, text)
		case 1:
			fmt.Fprintf(&b, `{"role":"assistant","content":[{"type":"text","text":"%s"}]},`, text)
		case 2:
			fmt.Fprintf(&b, `{"role":"assistant","content":[{"type":"tool_use","id":"toolu_%d","name":"get","input":{"a":1}}]},`, i)
		case 3:
			fmt.Fprintf(&b, `{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_%d","content":"%s"}]},`, i-1, text)
		}
	}
	return strings.TrimSuffix(b.String(), ",") + `],"max_tokens":1024,"model":"llama3.2:3b"}`
}

func chatBody(messages, size, image int) string {
	var b strings.Builder
	b.WriteString(`{"messages":[`)
	for i := range messages {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"role":"user","content":"%s\n"`, strings.Repeat("lorem ipsum ", size/12))
		if image > 0 && i == 0 {
			fmt.Fprintf(&b, `,"images":["%s"]`, strings.Repeat("iVBORw0K", image/8))
		}
		b.WriteByte('}')
	}
	b.WriteString(`],"options":{"temperature":0.2,"num_ctx":8192},"keep_alive":"5m","model":"llama3.2:3b"}`)
	return b.String()
}

func BenchmarkParse(b *testing.B) {
	for _, bench := range benchmarkBodies {
		route, body := routeOf(bench.path), []byte(bench.body)
		b.Run(bench.name+"/ours", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(route, body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(bench.name+"/std", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				v := reflect.New(forms[route.Path].schema.shadow).Interface()
				if err := json.NewDecoder(bytes.NewReader(body)).Decode(v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What a client sends to make the parser work: time and memory must stay in proportion.
func BenchmarkParse_Hostile(b *testing.B) {
	const size = 9 << 20
	for name, hostile := range hostileBodies(size) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(hostile.body)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse(routeOf(hostile.path), hostile.body)
			}
		})
	}
}

// deepProperties is a tool with a wrong type so many levels down.
func deepProperties(levels int) string {
	return `{"model":"a","tools":[{"function":{"parameters":{"properties":{"a":` +
		strings.Repeat(`{"properties":{"a":`, levels) + "5" + strings.Repeat("}}", levels) + "}}}}]}"
}

// A hostile body goes to a route.
type hostile struct {
	path string
	body []byte
}

// hostileBodies are of about size bytes each.
func hostileBodies(size int) map[string]hostile {
	fill := func(path, before, part, after string) hostile {
		return hostile{path, []byte(before + strings.TrimSuffix(strings.Repeat(part, size/len(part)), ",") + after)}
	}
	keys := func(path, before, pattern, after string) hostile {
		var b bytes.Buffer
		b.WriteString(before)
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, pattern, i)
		}
		b.Truncate(b.Len() - 1)
		b.WriteString(after)
		return hostile{path, b.Bytes()}
	}
	const chat, completions, responses, messages = "/api/chat", "/v1/chat/completions", "/v1/responses", "/v1/messages"
	return map[string]hostile{
		"lists in an unknown field": fill(chat, `{"model":"a","zzz":[`, `[],`, `]}`),
		"lists in options":          fill(chat, `{"model":"a","options":{"stop":[`, `[],`, `]}}`),
		"lists, then a wrong type":  fill(chat, `{"model":"a","options":{"stop":[`, `[],`, `]},"stream":5}`),
		"lists, then cut":           fill(chat, `{"model":"a","options":{"stop":[`, `[],`, `]}`),
		"messages in other case":    fill(chat, `{"model":"a","messages":[`, `{"ROLE":""},`, `]}`),
		"bad bytes":                 fill(chat, `{"model":"a","messages":[{"content":"`, "\xff", `"}]}`),
		"bad strings":               fill(chat, `{"model":"a","zzz":[`, "\"\xff\",", `]}`),
		"escapes":                   fill(chat, `{"model":"a","messages":[{"content":"`, `\n`, `"}]}`),
		"half surrogates":           fill(chat, `{"model":"a","messages":[{"content":"`, `\ud800`, `"}]}`),
		"keys of options":           keys(chat, `{"model":"a","options":{`, `"%d":0,`, `}}`),
		"unknown fields":            keys(chat, `{"model":"a",`, `"%d":0,`, `}`),
		"keys, the last twice":      keys(chat, `{"model":"a","options":{"0":0,`, `"%d":0,`, `}}`),
		"deep":                      {chat, []byte(`{"model":"a","zzz":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`)},
		"deep properties":           {chat, []byte(deepProperties(min(size/40, 4000)))},
		"a long number":             fill(chat, `{"model":"a","options":{"a":1`, `0`, `}}`),

		"messages without parts":           fill(completions, `{"model":"a","messages":[`, `{"content":[]},`, `]}`),
		"items":                            fill(responses, `{"model":"a","input":[`, `{"type":"reasoning"},`, `]}`),
		"items in other case":              fill(responses, `{"model":"a","input":[`, `{"TYPE":"reasoning"},`, `]}`),
		"items, then a wrong one":          fill(responses, `{"model":"a","input":[`, `{"role":"a"},`, `,5]}`),
		"parts":                            fill(responses, `{"model":"a","input":[{"role":"a","content":[`, `{"type":"zzz"},`, `]}]}`),
		"parts, then a wrong item":         fill(responses, `{"model":"a","input":[{"content":[`, `{"type":"zzz"},`, `],"role":5}]}`),
		"fields of an item, its type last": keys(responses, `{"model":"a","input":[{`, `"%d":0,`, `,"type":"message"}]}`),
		"a long type":                      fill(responses, `{"model":"a","input":[{"type":"`, `\u0061`, `"}]}`),
		"arguments, then a wrong type":     keys(messages, `{"model":"a","messages":[{"content":[{"input":{`, `"%d":0,`, `,"":[]},"type":5}]}]}`),
		"hollow messages":                  fill(messages, `{"model":"a","max_tokens":1,"messages":[`, `{"content":[]},`, `]}`),
		"hollow blocks":                    fill(messages, `{"model":"a","max_tokens":1,"messages":[{"content":[`, `{"type":"text"},`, `]}]}`),
		"blocks in other case":             fill(messages, `{"model":"a","max_tokens":1,"messages":[{"content":[`, `{"TEXT":""},`, `]}]}`),
		"keys of a block":                  keys(messages, `{"model":"a","max_tokens":1,"messages":[{"content":[{`, `"%d":0,`, `}]}]}`),
		"keys of a block of the system":    keys(messages, `{"model":"a","max_tokens":1,"messages":[{"content":""}],"system":[{`, `"%d":0,`, `}]}`),
	}
}
