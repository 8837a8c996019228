// Package api has the request bodies of the native dialect as a node decodes them.
//
// encoding/json puts the names of types and packages into its error texts, so these have the
// names that Ollama's own have. The parser of package wire derives its schemas from them and
// asks them for the text of a refusal; nothing else decodes into them.
package api

import "encoding/json"

// GenerateRequest is the body of POST /api/generate.
type GenerateRequest struct {
	Model           string          `json:"model"`
	Prompt          string          `json:"prompt"`
	Suffix          string          `json:"suffix"`
	System          string          `json:"system"`
	Template        string          `json:"template"`
	Context         []int           `json:"context"`
	Stream          *bool           `json:"stream"`
	Raw             bool            `json:"raw"`
	Format          json.RawMessage `json:"format"`
	KeepAlive       *Duration       `json:"keep_alive"`
	Images          []ImageData     `json:"images"`
	Options         map[string]any  `json:"options"`
	Think           *ThinkValue     `json:"think"`
	Truncate        *bool           `json:"truncate"`
	Shift           *bool           `json:"shift"`
	DebugRenderOnly bool            `json:"_debug_render_only"`
	Logprobs        bool            `json:"logprobs"`
	TopLogprobs     int             `json:"top_logprobs"`
	Width           int32           `json:"width"`
	Height          int32           `json:"height"`
	Steps           int32           `json:"steps"`
}

// ChatRequest is the body of POST /api/chat.
type ChatRequest struct {
	Model           string          `json:"model"`
	Messages        []Message       `json:"messages"`
	Stream          *bool           `json:"stream"`
	Format          json.RawMessage `json:"format"`
	KeepAlive       *Duration       `json:"keep_alive"`
	Tools           `json:"tools"`
	Options         map[string]any `json:"options"`
	Think           *ThinkValue    `json:"think"`
	Truncate        *bool          `json:"truncate"`
	Shift           *bool          `json:"shift"`
	DebugRenderOnly bool           `json:"_debug_render_only"`
	Logprobs        bool           `json:"logprobs"`
	TopLogprobs     int            `json:"top_logprobs"`
}

// EmbedRequest is the body of POST /api/embed.
type EmbedRequest struct {
	Model      string         `json:"model"`
	Input      any            `json:"input"`
	KeepAlive  *Duration      `json:"keep_alive"`
	Truncate   *bool          `json:"truncate"`
	Dimensions int            `json:"dimensions"`
	Options    map[string]any `json:"options"`
}

// EmbeddingRequest is the body of POST /api/embeddings, the older form.
type EmbeddingRequest struct {
	Model     string         `json:"model"`
	Prompt    string         `json:"prompt"`
	KeepAlive *Duration      `json:"keep_alive"`
	Options   map[string]any `json:"options"`
}

// ShowRequest is the body of POST /api/show.
type ShowRequest struct {
	Model    string         `json:"model"`
	System   string         `json:"system"`
	Template string         `json:"template"`
	Verbose  bool           `json:"verbose"`
	Options  map[string]any `json:"options"`
	Name     string         `json:"name"` // the older spelling of model
}

// ImageData is an image, base64 on the wire.
type ImageData []byte

// A Message is one of a chat.
type Message struct {
	Role       string      `json:"role"`
	Content    string      `json:"content"`
	Thinking   string      `json:"thinking"`
	Images     []ImageData `json:"images"`
	ToolCalls  []ToolCall  `json:"tool_calls"`
	ToolName   string      `json:"tool_name"`
	ToolCallID string      `json:"tool_call_id"`
}

// UnmarshalJSON decodes through a second type, as a node does: the error texts show it.
func (m *Message) UnmarshalJSON(b []byte) error {
	type Alias Message
	return json.Unmarshal(b, (*Alias)(m))
}

// A ToolCall is what an assistant asked for.
type ToolCall struct {
	ID       string           `json:"id"`
	Function ToolCallFunction `json:"function"`
}

// ToolCallFunction is the function of a ToolCall.
type ToolCallFunction struct {
	Index     int                       `json:"index"`
	Name      string                    `json:"name"`
	Arguments ToolCallFunctionArguments `json:"arguments"`
}

// Tools are those of a chat.
type Tools []Tool

// A Tool is one that the model may call.
type Tool struct {
	Type     string       `json:"type"`
	Items    any          `json:"items"`
	Function ToolFunction `json:"function"`
}

// ToolFunction is the function of a Tool.
type ToolFunction struct {
	Name        string                 `json:"name"`
	Description string                 `json:"description"`
	Parameters  ToolFunctionParameters `json:"parameters"`
}

// ToolFunctionParameters is the schema of a function's arguments.
type ToolFunctionParameters struct {
	Type       string             `json:"type"`
	Defs       any                `json:"$defs"`
	Items      any                `json:"items"`
	Required   []string           `json:"required"`
	Properties *ToolPropertiesMap `json:"properties"`
}

// A ToolProperty is the schema of one argument.
type ToolProperty struct {
	AnyOf       []ToolProperty     `json:"anyOf"`
	Type        PropertyType       `json:"type"`
	Items       any                `json:"items"`
	Description string             `json:"description"`
	Enum        []any              `json:"enum"`
	Properties  *ToolPropertiesMap `json:"properties"`
	Required    []string           `json:"required"`
}
