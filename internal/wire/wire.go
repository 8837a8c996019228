// Package wire knows the bytes of Ollama's three dialects: which routes there are, how a
// request is read, how an answer is framed, folded and ended, and what an error looks like.
//
// It does no I/O but reading from a given reader, starts nothing and knows nothing of nodes,
// queues or HTTP servers. A node decodes with Go's encoding/json; the parser here refuses
// whatever could be read in two ways, so that what is judged is what a node will run.
package wire

// A Dialect is how an operation is spelt on the wire.
type Dialect uint8

const (
	Ollama    Dialect = iota // /api/*: NDJSON, streams by default, {"error":"text"}
	OpenAI                   // /v1/*: SSE, {"error":{"message":...}}
	Anthropic                // /v1/messages: SSE with event names, {"type":"error",...}
)

// String is the word used in logs, metrics and configuration.
func (d Dialect) String() string { return [...]string{"ollama", "openai", "anthropic"}[d] }

// An Operation is what a request asks, independent of its dialect.
type Operation uint8

const (
	Root Operation = iota
	Version
	Status
	Tags
	Ps
	Show
	Models // OpenAI's list of models
	Model  // one entry of that list
	Chat
	Generate
	Embed
	Responses
	Copy
	Delete
	Create
	Pull
	Push
	Blob
	Account // sign-in, sign-out, keys of the hosted service
	Web     // search and fetch through the hosted service
	Batch   // of prompts: a gateway's own, which no node knows
)

// String is the word used in logs, metrics and configuration.
func (o Operation) String() string {
	return [...]string{
		"root", "version", "status", "tags", "ps", "show", "models", "model", "chat", "generate", "embed",
		"responses", "copy", "delete", "create", "pull", "push", "blob", "account", "web", "batch",
	}[o]
}

// Access is what a route needs of who asks.
type Access uint8

const (
	Infer  Access = iota // text and vectors
	Read                 // what is installed, loaded, running
	Manage               // changes the models of a node
	Cloud                // leaves the building: the hosted service
)

// String is the word used in logs, metrics and configuration.
func (a Access) String() string { return [...]string{"infer", "read", "manage", "cloud"}[a] }
