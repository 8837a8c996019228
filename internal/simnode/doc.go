// Package simnode is a simulated Ollama node: an http.Handler that behaves like one Ollama 0.24.0 server in what
// matters to somebody in front of it.
//
// It keeps slots, the queue of loads, load times, eviction, keep-alive, the prefix cache and the speeds of prompt and
// answer; it writes the bytes of the native routes, of /v1/chat/completions and of /v1/models with a real server's
// headers, framing and error texts. The text itself is made up: plain English sentences that are a function of the
// model's weights, the rendered prompt and the options that matter, at temperature 0 or with a seed.
//
// All time passes through package time, so a Node and a Pipe work inside a testing/synctest bubble. The package shares
// no code with the gateway it is used to test: one bug must not hide in both.
package simnode
