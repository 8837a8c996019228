// Package anthropic has the request of /v1/messages as a node decodes it. As in package api, the names of the package,
// its types and its fields stand in error messages that clients see.
package anthropic

import (
	"encoding/json"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A MessagesRequest is the body of POST /v1/messages. tool_choice and metadata are ignored without a word.
type MessagesRequest struct {
	Model         string          `json:"model"`
	MaxTokens     int             `json:"max_tokens"`
	Messages      []MessageParam  `json:"messages"`
	System        any             `json:"system,omitempty"` // a string, or a list of text blocks
	Stream        bool            `json:"stream,omitempty"`
	Temperature   *float64        `json:"temperature,omitempty"`
	TopP          *float64        `json:"top_p,omitempty"`
	TopK          *int            `json:"top_k,omitempty"`
	StopSequences []string        `json:"stop_sequences,omitempty"`
	Tools         []Tool          `json:"tools,omitempty"`
	ToolChoice    *ToolChoice     `json:"tool_choice,omitempty"`
	Thinking      *ThinkingConfig `json:"thinking,omitempty"`
	Metadata      *Metadata       `json:"metadata,omitempty"`
	OutputConfig  *OutputConfig   `json:"output_config,omitempty"`
}

// An OutputConfig is the newer way of saying how hard a model shall think.
type OutputConfig struct {
	Effort string `json:"effort,omitempty"`
}

// A MessageParam is one turn of a chat.
type MessageParam struct {
	Role    string         `json:"role"`
	Content []ContentBlock `json:"content"`
}

// UnmarshalJSON takes a plain string for one block of text.
func (m *MessageParam) UnmarshalJSON(b []byte) error {
	var raw struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	m.Role = raw.Role
	var s string
	if json.Unmarshal(raw.Content, &s) == nil {
		m.Content = []ContentBlock{{Type: "text", Text: &s}}
		return nil
	}
	return json.Unmarshal(raw.Content, &m.Content)
}

// A ContentBlock is one block of a message: "text", "image", "tool_use", "tool_result", "thinking", or one of the
// hosted search's.
type ContentBlock struct {
	Type      string        `json:"type"`
	Text      *string       `json:"text,omitempty"`
	Source    *ImageSource  `json:"source,omitempty"`
	ID        string        `json:"id,omitempty"`
	Name      string        `json:"name,omitempty"`
	Input     api.Arguments `json:"input,omitempty"`
	ToolUseID string        `json:"tool_use_id,omitempty"`
	Content   any           `json:"content,omitempty"` // of a tool's result: a string, or a list of blocks
	IsError   bool          `json:"is_error,omitempty"`
	Thinking  *string       `json:"thinking,omitempty"`
	Signature string        `json:"signature,omitempty"`
}

// An ImageSource is an image inside a block.
type ImageSource struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
}

// A Tool is one function, or with a type that begins with "web_search" the hosted search.
type Tool struct {
	Type        string          `json:"type,omitempty"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema,omitempty"`
	MaxUses     int             `json:"max_uses,omitempty"`
}

// A ToolChoice is read and ignored.
type ToolChoice struct {
	Type                   string `json:"type"`
	Name                   string `json:"name,omitempty"`
	DisableParallelToolUse bool   `json:"disable_parallel_tool_use,omitempty"`
}

// A ThinkingConfig switches thinking on or off.
type ThinkingConfig struct {
	Type         string `json:"type"` // "enabled", "disabled"; others leave it to the model
	BudgetTokens int    `json:"budget_tokens,omitempty"`
}

// Metadata is read and ignored.
type Metadata struct {
	UserID string `json:"user_id,omitempty"`
}
