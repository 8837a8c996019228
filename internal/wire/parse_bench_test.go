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
var benchmarkBodies = []struct{ name, body string }{
	{"1KiB", chatBody(6, 120, 0)},
	{"64KiB", chatBody(64, 900, 0)},
	{"5MiB", chatBody(2, 100, 5<<20)},
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
	route := routeOf("/api/chat")
	for _, bench := range benchmarkBodies {
		body := []byte(bench.body)
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
	for name, body := range hostileBodies(size) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Parse(routeOf("/api/chat"), body)
			}
		})
	}
}

// deepProperties is a tool with a wrong type so many levels down.
func deepProperties(levels int) string {
	return `{"model":"a","tools":[{"function":{"parameters":{"properties":{"a":` +
		strings.Repeat(`{"properties":{"a":`, levels) + "5" + strings.Repeat("}}", levels) + "}}}}]}"
}

// hostileBodies are of about size bytes each.
func hostileBodies(size int) map[string][]byte {
	fill := func(before, part, after string) []byte {
		return []byte(before + strings.TrimSuffix(strings.Repeat(part, size/len(part)), ",") + after)
	}
	keys := func(before, pattern, after string) []byte {
		var b bytes.Buffer
		b.WriteString(before)
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, pattern, i)
		}
		b.Truncate(b.Len() - 1)
		b.WriteString(after)
		return b.Bytes()
	}
	return map[string][]byte{
		"lists in an unknown field": fill(`{"model":"a","zzz":[`, `[],`, `]}`),
		"lists in options":          fill(`{"model":"a","options":{"stop":[`, `[],`, `]}}`),
		"lists, then a wrong type":  fill(`{"model":"a","options":{"stop":[`, `[],`, `]},"stream":5}`),
		"lists, then cut":           fill(`{"model":"a","options":{"stop":[`, `[],`, `]}`),
		"messages in other case":    fill(`{"model":"a","messages":[`, `{"ROLE":""},`, `]}`),
		"bad bytes":                 fill(`{"model":"a","messages":[{"content":"`, "\xff", `"}]}`),
		"bad strings":               fill(`{"model":"a","zzz":[`, "\"\xff\",", `]}`),
		"escapes":                   fill(`{"model":"a","messages":[{"content":"`, `\n`, `"}]}`),
		"half surrogates":           fill(`{"model":"a","messages":[{"content":"`, `\ud800`, `"}]}`),
		"keys of options":           keys(`{"model":"a","options":{`, `"%d":0,`, `}}`),
		"unknown fields":            keys(`{"model":"a",`, `"%d":0,`, `}`),
		"keys, the last twice":      keys(`{"model":"a","options":{"0":0,`, `"%d":0,`, `}}`),
		"deep":                      []byte(`{"model":"a","zzz":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`),
		"deep properties":           []byte(deepProperties(min(size/40, 4000))),
		"a long number":             fill(`{"model":"a","options":{"a":1`, `0`, `}}`),
	}
}
