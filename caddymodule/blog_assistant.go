package caddymodule

import (
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
	"github.com/caddy-ollama/caddy-ollama/blog/web"
)

// newAssistant asks a gateway over transport. An empty model is one of those there are.
func newAssistant(transport http.RoundTripper, url, model, key string) (web.Assistant, error) {
	return assistant.New(assistant.Options{URL: url, Transport: transport, Model: model, APIKey: key, Log: blogLog.logger()})
}
