package simnode_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// inRegistryBubble is inBubble with a node that reaches the registry by every name.
func inRegistryBubble(t *testing.T, r *registry.Registry, opts simnode.Options, f func(t *testing.T, b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		way := simnode.NewPipe(r)
		defer way.Close()
		opts.Registry = way
		node := simnode.New(opts)
		defer node.Close()
		pipe := simnode.NewPipe(node)
		defer pipe.Close()
		f(t, &bubble{t, node, pipe, time.Now()})
	})
}
