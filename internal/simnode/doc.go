// Package simnode is a simulated Ollama node: an http.Handler that behaves like one Ollama server in what matters to
// somebody in front of it: like 0.24.0, whose answers were recorded, or with a later Options.Version in the forms of
// the newest sources.
//
// It keeps slots, the queue of loads, load times, eviction, keep-alive, the prefix cache and the speeds of prompt and
// answer; it writes the bytes of the native routes and of the OpenAI and Anthropic routes with a real server's headers,
// framing and error texts. It does not search the web, see, hear or paint. The text itself is made up: plain English
// sentences that are a function of the model's weights, the rendered prompt and the options that matter, at temperature
// 0 or with a seed.
//
// Models are pulled from and pushed to registries over HTTP, created, copied and deleted, with manifests and digests as
// a real server makes them. Of large files no content is kept; package blob tells how weights are stood in for, Publish
// puts a model into a package registry's registry. Nothing is converted or quantized.
//
// It also fails as a real one does: of requests that kill a server or a runner, and of the Faults that SetFaults, or a
// client at /_faults where Options.Admin lets it, script for requests and connections. A Server is for those that need a
// real socket. Kill, Terminate, Restart and Crash are the accidents from outside.
//
// All time passes through package time, so a Node and a Pipe work inside a testing/synctest bubble. The package shares
// no code with the gateway it is used to test: one bug must not hide in both.
package simnode
