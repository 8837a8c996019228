package simnode_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// benchmarkChat asks a node over loopback whose simulated times are all next to nothing, so that what is measured is
// what the simulator itself takes.
func benchmarkChat(b *testing.B, path, body string) {
	node := simnode.New(simnode.Options{Models: []simnode.Model{{Name: "m", ShortestAnswer: 64, LongestAnswer: 64}}, Scale: 1e-9})
	server := httptest.NewServer(node)
	defer node.Close()
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		resp, err := http.Post(server.URL+path, "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status, err)
		}
		_ = resp.Body.Close()
	}
}

const (
	benchedChat = `{"model":"m","messages":[{"role":"user","content":"why is the sky blue?"}]`
	benchedLong = `{"model":"m","messages":[{"role":"user","content":"`
)

func BenchmarkChatSingle(b *testing.B) {
	b.Run("native", func(b *testing.B) { benchmarkChat(b, "/api/chat", benchedChat+`,"stream":false}`) })
	b.Run("openai", func(b *testing.B) { benchmarkChat(b, "/v1/chat/completions", benchedChat+`}`) })
	b.Run("prompt=8KiB", func(b *testing.B) {
		benchmarkChat(b, "/api/chat", benchedLong+strings.Repeat("the sky. ", 910)+`"}],"stream":false}`)
	})
}

func BenchmarkChatStream(b *testing.B) {
	b.Run("native", func(b *testing.B) { benchmarkChat(b, "/api/chat", benchedChat+`}`) })
	b.Run("openai", func(b *testing.B) { benchmarkChat(b, "/v1/chat/completions", benchedChat+`,"stream":true}`) })
	b.Run("anthropic", func(b *testing.B) { benchmarkChat(b, "/v1/messages", benchedChat+`,"max_tokens":999,"stream":true}`) })
	b.Run("responses", func(b *testing.B) { benchmarkChat(b, "/v1/responses", `{"model":"m","input":"x","stream":true}`) })
}
