package wire

import (
	"net/http"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/anthropic"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/openai"
)

// A form is what the parser knows of one route. A further route is a row of forms and, where
// it brings one, a type in api, openai or anthropic.
type form struct {
	schema *schema

	// streams: a node answers in frames if "stream" asks for them.
	streams bool
	// usage: the counts of a stream are there only if "stream_options" asks for them.
	usage bool
	// translate is what a translator refuses before a handler looks at anything, nil for none.
	translate func(*reading) error
	// oldName: "name" is taken where "model" is empty.
	oldName bool
	// texts: "input" is a string, strings or nothing.
	texts bool
	// commands tells whether a node finds nothing to answer in a request and only loads or
	// unloads the model. nil: it never does.
	commands func(*reading) bool

	// head are the fields that stand before the messages of a prompt, or change what does; turns
	// tells the rest of a conversation. nil: no text is evaluated.
	head  []string
	turns func(*teller)

	// What a node answers where no model is named. %s is the name, which may be white space.
	noModel       string
	noModelStatus int
	// cloud is what a node answers for a hosted model when it may not use it.
	cloud string
}

const (
	modelRequired  = "model is required"
	modelNotFound  = "model '%s' not found"
	cloudInference = "ollama cloud is disabled: remote model is unavailable"
	cloudDetails   = "ollama cloud is disabled: remote model details are unavailable"
)

// forms are the routes whose bodies are judged, by path.
var forms = map[string]*form{
	"/api/generate": {
		schema: schemaOf[api.GenerateRequest](), streams: true, commands: hasNoPrompt,
		head: []string{"system", "template", "raw", "images", "think"}, turns: promptTurns,
		noModel: modelNotFound, noModelStatus: http.StatusNotFound, cloud: cloudInference,
	},
	"/api/chat": {
		schema: schemaOf[api.ChatRequest](), streams: true, commands: hasNoMessages,
		head: []string{"tools", "think"}, turns: messageTurns("messages"),
		noModel: modelRequired, noModelStatus: http.StatusBadRequest, cloud: cloudInference,
	},
	"/api/embed": {
		schema: schemaOf[api.EmbedRequest](), texts: true,
		noModel: modelNotFound, noModelStatus: http.StatusNotFound, cloud: cloudInference,
	},
	"/api/embeddings": {
		schema:  schemaOf[api.EmbeddingRequest](),
		noModel: modelRequired, noModelStatus: http.StatusBadRequest, cloud: cloudInference,
	},
	"/api/show": {
		schema: schemaOf[api.ShowRequest](), oldName: true,
		noModel: modelRequired, noModelStatus: http.StatusBadRequest, cloud: cloudDetails,
	},
	"/v1/chat/completions": {
		schema: schemaOf[openai.ChatCompletionRequest](), streams: true, usage: true,
		translate: translateChat, commands: hasNoParts,
		head: []string{"tools", "reasoning", "reasoning_effort"}, turns: messageTurns("messages"),
		noModel: modelRequired, noModelStatus: http.StatusBadRequest, cloud: cloudInference,
	},
	"/v1/completions": {
		schema: schemaOf[openai.CompletionRequest](), streams: true, usage: true,
		translate: translateCompletion, commands: hasNoPrompt,
		turns:   promptTurns,
		noModel: modelNotFound, noModelStatus: http.StatusNotFound, cloud: cloudInference,
	},
	"/v1/embeddings": {
		schema: schemaOf[openai.EmbedRequest](), texts: true, translate: translateEmbeddings,
		noModel: modelNotFound, noModelStatus: http.StatusNotFound, cloud: cloudInference,
	},
	"/v1/responses": {
		schema: schemaOf[openai.ResponsesRequest](), streams: true, commands: hasNoInput,
		head: []string{"instructions", "tools", "reasoning"}, turns: messageTurns("input"),
		noModel: modelRequired, noModelStatus: http.StatusBadRequest, cloud: cloudInference,
	},
	"/v1/messages": {
		schema: schemaOf[anthropic.MessagesRequest](), streams: true,
		translate: translateMessages, commands: hasNoContent,
		head: []string{"system", "tools", "thinking", "output_config"}, turns: messageTurns("messages"),
		noModel: modelRequired, noModelStatus: http.StatusBadRequest, cloud: cloudInference,
	},
}
