package caddymodule

import (
	"slices"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

func TestCommands_HangUnderOneWord(t *testing.T) {
	registered := caddycmd.Commands()
	for _, name := range []string{"up", "simulate", "nodes", "cache", "batch", "key", "models", "pull", "rm", "blog"} {
		if _, ok := registered[name]; ok {
			t.Errorf("%s is at top level in every build", name)
		}
	}
	root := new(cobra.Command)
	registered["ollama"].CobraFunc(root)
	var names []string
	for _, sub := range root.Commands() {
		names = append(names, sub.Name())
		if sub.Short == "" || sub.Long == "" || sub.RunE == nil {
			t.Errorf("%s has no help or does nothing", sub.Name())
		}
	}
	slices.Sort(names)
	if want := []string{"batch", "blog", "cache", "key", "models", "nodes", "pull", "rm", "simulate", "top", "up"}; !slices.Equal(names, want) {
		t.Errorf("below ollama: got %q, want %q", names, want)
	}
}
