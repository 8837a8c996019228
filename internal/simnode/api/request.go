package api

import "encoding/json"

// A GenerateRequest is the body of POST /api/generate.
type GenerateRequest struct {
	Model           string          `json:"model"`
	Prompt          string          `json:"prompt"`
	Suffix          string          `json:"suffix"`
	System          string          `json:"system"`
	Template        string          `json:"template"`
	Context         []int           `json:"context,omitempty"`
	Stream          *bool           `json:"stream,omitempty"`
	Raw             bool            `json:"raw,omitempty"`
	Format          json.RawMessage `json:"format,omitempty"`
	KeepAlive       *Duration       `json:"keep_alive,omitempty"`
	Images          []ImageData     `json:"images,omitempty"`
	Options         map[string]any  `json:"options"`
	Think           *ThinkValue     `json:"think,omitempty"`
	Truncate        *bool           `json:"truncate,omitempty"`
	Shift           *bool           `json:"shift,omitempty"`
	DebugRenderOnly bool            `json:"_debug_render_only,omitempty"`
	Logprobs        bool            `json:"logprobs,omitempty"`
	TopLogprobs     int             `json:"top_logprobs,omitempty"`
}

// A ChatRequest is the body of POST /api/chat.
type ChatRequest struct {
	Model           string          `json:"model"`
	Messages        []Message       `json:"messages"`
	Stream          *bool           `json:"stream,omitempty"`
	Format          json.RawMessage `json:"format,omitempty"`
	KeepAlive       *Duration       `json:"keep_alive,omitempty"`
	Tools           Tools           `json:"tools,omitempty"`
	Options         map[string]any  `json:"options"`
	Think           *ThinkValue     `json:"think,omitempty"`
	Truncate        *bool           `json:"truncate,omitempty"`
	Shift           *bool           `json:"shift,omitempty"`
	DebugRenderOnly bool            `json:"_debug_render_only,omitempty"`
	Logprobs        bool            `json:"logprobs,omitempty"`
	TopLogprobs     int             `json:"top_logprobs,omitempty"`
}

// An EmbedRequest is the body of POST /api/embed.
type EmbedRequest struct {
	Model      string         `json:"model"`
	Input      any            `json:"input"`
	KeepAlive  *Duration      `json:"keep_alive,omitempty"`
	Truncate   *bool          `json:"truncate,omitempty"`
	Dimensions int            `json:"dimensions,omitempty"`
	Options    map[string]any `json:"options"`
}

// An EmbeddingRequest is the body of POST /api/embeddings, the older route.
type EmbeddingRequest struct {
	Model     string         `json:"model"`
	Prompt    string         `json:"prompt"`
	KeepAlive *Duration      `json:"keep_alive,omitempty"`
	Options   map[string]any `json:"options"`
}

// A ShowRequest is the body of POST /api/show.
type ShowRequest struct {
	Model   string         `json:"model"`
	System  string         `json:"system"`
	Verbose bool           `json:"verbose"`
	Options map[string]any `json:"options"`
	Name    string         `json:"name"` // the old spelling of model
}

// A CopyRequest is the body of POST /api/copy.
type CopyRequest struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

// A DeleteRequest is the body of DELETE /api/delete.
type DeleteRequest struct {
	Model string `json:"model"`
	Name  string `json:"name"` // the old spelling of model
}

// A PullRequest is the body of /api/pull.
type PullRequest struct {
	Model    string `json:"model"`
	Insecure bool   `json:"insecure,omitempty"`
	Stream   *bool  `json:"stream,omitempty"`
	Name     string `json:"name"` // the old spelling of model
}

// A PushRequest is the body of /api/push.
type PushRequest struct {
	Model    string `json:"model"`
	Insecure bool   `json:"insecure,omitempty"`
	Stream   *bool  `json:"stream,omitempty"`
	Name     string `json:"name"` // the old spelling of model
}

// A CreateRequest is the body of /api/create, without what a simulated node has no use for.
type CreateRequest struct {
	Model        string            `json:"model"`
	Stream       *bool             `json:"stream,omitempty"`
	Quantize     string            `json:"quantize,omitempty"`
	From         string            `json:"from,omitempty"`
	Files        map[string]string `json:"files,omitempty"` // digests by name
	Adapters     map[string]string `json:"adapters,omitempty"`
	Template     string            `json:"template,omitempty"`
	License      any               `json:"license,omitempty"` // a string, or a list of them
	System       string            `json:"system,omitempty"`
	Parameters   map[string]any    `json:"parameters,omitempty"`
	Messages     []Message         `json:"messages,omitempty"`
	Name         string            `json:"name"`                   // the old spelling of model
	Quantization string            `json:"quantization,omitempty"` // the old spelling of quantize
}
