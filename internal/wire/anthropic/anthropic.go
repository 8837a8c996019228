// Package anthropic has the request body of the Anthropic dialect as a node decodes it, under
// the names that appear in its error texts. See package api.
package anthropic

import (
	"encoding/json"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
)

// MessagesRequest is the body of POST /v1/messages. System is a string or blocks.
type MessagesRequest struct {
	Model         string          `json:"model"`
	MaxTokens     int             `json:"max_tokens"`
	Messages      []MessageParam  `json:"messages"`
	System        any             `json:"system"`
	Stream        bool            `json:"stream"`
	Temperature   *float64        `json:"temperature"`
	TopP          *float64        `json:"top_p"`
	TopK          *int            `json:"top_k"`
	StopSequences []string        `json:"stop_sequences"`
	Tools         []Tool          `json:"tools"`
	ToolChoice    *ToolChoice     `json:"tool_choice"`
	Thinking      *ThinkingConfig `json:"thinking"`
	Metadata      *Metadata       `json:"metadata"`
	OutputConfig  *OutputConfig   `json:"output_config"`
}

// A MessageParam is one message of a chat. Its content is a string or blocks, and must be
// there.
type MessageParam struct {
	Role    string         `json:"role"`
	Content []ContentBlock `json:"content" wire:"later,required"`
}

// UnmarshalJSON takes a string for one block of text.
func (m *MessageParam) UnmarshalJSON(b []byte) error {
	var outer struct {
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		return err
	}
	m.Role = outer.Role
	var text string
	if json.Unmarshal(outer.Content, &text) == nil {
		m.Content = []ContentBlock{{Type: "text", Text: &text}}
		return nil
	}
	return json.Unmarshal(outer.Content, &m.Content)
}

// A ContentBlock is a part of a message. Which fields count depends on Type; all are decoded.
type ContentBlock struct {
	Type      string                        `json:"type"`
	Text      *string                       `json:"text"`
	Citations []Citation                    `json:"citations"`
	Source    *ImageSource                  `json:"source"`
	ID        string                        `json:"id"`
	Name      string                        `json:"name"`
	Input     api.ToolCallFunctionArguments `json:"input"`
	ToolUseID string                        `json:"tool_use_id"`
	Content   any                           `json:"content"`
	IsError   bool                          `json:"is_error"`
	Thinking  *string                       `json:"thinking"`
	Signature string                        `json:"signature"`
}

// A Citation says where a text comes from.
type Citation struct {
	Type           string `json:"type"`
	URL            string `json:"url"`
	Title          string `json:"title"`
	EncryptedIndex string `json:"encrypted_index"`
	CitedText      string `json:"cited_text"`
}

// ImageSource is an image. Data is base64 in a string, which a translator decodes.
type ImageSource struct {
	Type      string `json:"type"`
	MediaType string `json:"media_type"`
	Data      string `json:"data"`
	URL       string `json:"url"`
}

// A Tool is one that the model may call. Its schema is kept as text until it is translated.
type Tool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	InputSchema json.RawMessage `json:"input_schema"`
	MaxUses     int             `json:"max_uses"`
}

// ToolChoice says how tools are to be used.
type ToolChoice struct {
	Type                   string `json:"type"`
	Name                   string `json:"name"`
	DisableParallelToolUse bool   `json:"disable_parallel_tool_use"`
}

// ThinkingConfig says whether to think.
type ThinkingConfig struct {
	Type         string `json:"type"`
	BudgetTokens int    `json:"budget_tokens"`
}

// Metadata says who asks.
type Metadata struct {
	UserID string `json:"user_id"`
}

// OutputConfig says how hard to think.
type OutputConfig struct {
	Effort string `json:"effort"`
}
