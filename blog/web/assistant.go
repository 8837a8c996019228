package web

import (
	"context"

	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
)

// An Assistant has a model answer: an assistant.Assistant, whose errors and promises are meant here.
// Implementations are safe for concurrent use.
type Assistant interface {
	// Model is the name of the model that would answer now.
	Model(ctx context.Context) (string, error)
	// Answer hands on the answer to a prompt piece by piece as it comes.
	Answer(ctx context.Context, p assistant.Prompt, piece func(string) error) (assistant.Reply, error)
}
