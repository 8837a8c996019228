package web

import "context"

// An Assistant answers by a model. Implementations are safe for concurrent use.
type Assistant interface {
	// Answer writes the answer to a prompt piece by piece as it comes, and returns whether it came from
	// a cache. An error before the first piece may be shown as a page; later ones end the answer.
	Answer(ctx context.Context, prompt string, piece func(string) error) (cached bool, err error)
}
