// Package manage changes which models nodes have: one request of a client, done on many nodes.
//
// A Job is a pull, a push or a create that runs on some nodes; many may follow it, each at its own
// pace, as one stream of progress or node by node. Each asks nodes for what is done at once. What
// nodes say is made safe for clients here: it may hold their paths and addresses.
//
// manage knows nothing of HTTP servers, dialects, queues or of who may ask, and chooses no node.
package manage

import (
	"net/http"
	"net/url"
)

// A Node is one Ollama server. It is a pointer, which tells it from others, and keeps its name.
type Node interface {
	Name() string
	URL() *url.URL
	RoundTrip(*http.Request) (*http.Response, error)
}
