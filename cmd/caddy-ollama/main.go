// Command caddy-ollama is Caddy with the Ollama gateway linked in.
package main

import (
	_ "time/tzdata" // scratch images have no zone database

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/caddy-ollama/caddy-ollama/caddymodule"
)

func main() {
	caddy.CustomBinaryName = "caddy-ollama"
	caddy.CustomLongDescription = caddymodule.LongDescription
	caddymodule.RegisterTopLevelCommands()
	caddycmd.Main()
}
