package wire

import (
	"fmt"
	"strings"
	"testing"
)

// What a key costs, beside the parsing that comes before it.
func BenchmarkCanonical(b *testing.B) {
	for _, bench := range append(benchmarkBodies[:len(benchmarkBodies):len(benchmarkBodies)], []struct{ name, path, body string }{
		{"300KB", "/api/chat", chatBody(3, 100_000, 0)},
		{"messages=3000", "/api/chat", chatBody(3000, 12, 0)},
		{"OpenAI=5MiB", "/v1/chat/completions", `{"model":"a","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,` + repeat("iVBORw0K", 5<<20) + `"}}]}]}`},
	}...) {
		route, body := routeOf(bench.path), []byte(bench.body)
		request := mustParse(b, bench.path, bench.body)
		b.Run(bench.name+"/canonical", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				request.Canonical()
			}
		})
		b.Run(bench.name+"/parse", func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Parse(route, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNativeChat(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10} {
		request := mustParse(b, "/v1/chat/completions", fmt.Sprintf(`{"model":"a","messages":[{"role":"user","content":"%s"}],"temperature":0}`, repeat("lorem ipsum ", size)))
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := request.NativeChat(); !ok {
					b.Fatal("not certain")
				}
			}
		})
	}
}

func repeat(s string, size int) string { return strings.Repeat(s, size/len(s)) }
