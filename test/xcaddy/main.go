// Command xcaddy is what xcaddy generates for a build with our module: Caddy's standard
// modules, the plugin, nothing else. A test of cmd/caddy-ollama builds and asks it.
package main

import (
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/caddy-ollama/caddy-ollama/caddymodule"
)

func main() { caddycmd.Main() }
