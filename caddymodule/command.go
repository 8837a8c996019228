package caddymodule

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// LongDescription is what the help of our own build says first.
const LongDescription = `caddy-ollama is Caddy with a gateway for Ollama nodes linked in: many nodes
look like one, a node that fails is not the client's problem.

Without a file, from the environment:

	$ caddy-ollama up

With a Caddyfile:

	$ caddy-ollama run --config Caddyfile

What the nodes are doing:

	$ caddy-ollama nodes
	$ caddy-ollama top

Which node has which model, and to have all of them pull one:

	$ caddy-ollama models
	$ caddy-ollama pull llama3

What its cache holds, and to have answers forgotten:

	$ caddy-ollama cache stats
	$ caddy-ollama cache purge --model llama3

To have a file of prompts answered:

	$ caddy-ollama batch prompts.jsonl --output results.jsonl

To sign in to the blog, and to take its posts out:

	$ caddy-ollama blog user ann --link
	$ caddy-ollama blog export posts/

Everything else is Caddy: https://caddyserver.com/docs/`

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "ollama",
		Usage: "up|simulate|nodes|top|models|pull|rm|cache|batch|key|blog",
		Short: "Serves many Ollama nodes as one, and what belongs to it",
		CobraFunc: func(cmd *cobra.Command) {
			for _, c := range commands {
				sub := &cobra.Command{}
				c.CobraFunc(sub)
				sub.Use, sub.Short, sub.Long = c.Name+" "+c.Usage, c.Short, c.Long
				cmd.AddCommand(sub)
			}
		},
	})
}

// commands hang under `ollama` in every build, so that a build with other plugins gives up
// one name only.
var commands = []caddycmd.Command{upCommand, simulateCommand, nodesCommand, topCommand, modelsCommand, pullCommand, rmCommand, cacheCommand, batchCommand, keyCommand, blogCommand}

// RegisterTopLevelCommands offers the commands also without the word `ollama`: `caddy-ollama
// up`. It is for the main of a build that is ours alone and panics when called twice.
func RegisterTopLevelCommands() {
	for _, c := range commands {
		caddycmd.RegisterCommand(c)
	}
}

// plain makes cmd run f. Unlike Caddy's own commands, ours say an error in words and not as
// a log record.
func plain(cmd *cobra.Command, f func(*cobra.Command) error) {
	cmd.Args = cobra.NoArgs
	cmd.DisableFlagsInUseLine = true // Usage names them
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return f(cmd) }
}
