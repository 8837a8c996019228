// Package clients drives the built gateway with clients as their authors publish them: Ollama's
// and OpenAI's Go libraries here, and the npm packages of Ollama, OpenAI and Anthropic in
// *.test.js, which TestNodeClients runs. Nothing knows that there is a gateway: what these tests
// assert is what a client makes of an answer, and what it must not take for success.
//
// It is a module of its own so that the clients are no dependencies of the gateway's. Run it
// with "make test-clients" in the root of the repository. CADDY_OLLAMA names a built binary to
// drive instead of building one, NODE another node than the one in the path.
//
// Its npm packages also have axe-core, with which the tests of cmd/caddy-ollama look at the blog.
package clients
