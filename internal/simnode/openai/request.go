// Package openai has the requests of the /v1 routes of that form as a node decodes them. As in package api, the names
// of the package, its types and its fields stand in error messages that clients see.
package openai

import (
	"encoding/json"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A ChatCompletionRequest is the body of POST /v1/chat/completions. Fields that are not here are ignored without a
// word: n, tool_choice, max_completion_tokens, keep_alive, options and more.
type ChatCompletionRequest struct {
	Model            string          `json:"model"`
	Messages         []Message       `json:"messages"`
	Stream           bool            `json:"stream"`
	StreamOptions    *StreamOptions  `json:"stream_options"`
	MaxTokens        *int            `json:"max_tokens"`
	Seed             *int            `json:"seed"`
	Stop             any             `json:"stop"`
	Temperature      *float64        `json:"temperature"`
	FrequencyPenalty *float64        `json:"frequency_penalty"`
	PresencePenalty  *float64        `json:"presence_penalty"`
	TopP             *float64        `json:"top_p"`
	ResponseFormat   *ResponseFormat `json:"response_format"`
	Tools            []api.Tool      `json:"tools"`
	Reasoning        *Reasoning      `json:"reasoning,omitempty"`
	ReasoningEffort  *string         `json:"reasoning_effort,omitempty"`
	Logprobs         *bool           `json:"logprobs"`
	TopLogprobs      int             `json:"top_logprobs"`
}

// A Message is one turn of a chat. Content is a string or a list of parts.
type Message struct {
	Role       string     `json:"role"`
	Content    any        `json:"content,omitempty"`
	Reasoning  string     `json:"reasoning,omitempty"`
	ToolCalls  []ToolCall `json:"tool_calls,omitempty"`
	Name       string     `json:"name,omitempty"`
	ToolCallID string     `json:"tool_call_id,omitempty"`
}

// A ToolCall is a model's wish to have a function called; the arguments are JSON inside a string.
type ToolCall struct {
	ID       string `json:"id"`
	Index    int    `json:"index"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// StreamOptions say whether a stream ends with its token counts.
type StreamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// A ResponseFormat asks for JSON, of any shape or of a schema's.
type ResponseFormat struct {
	Type       string      `json:"type"`
	JsonSchema *JsonSchema `json:"json_schema,omitempty"` // the name is a real server's
}

// A JsonSchema carries the schema.
type JsonSchema struct { // the name is a real server's
	Schema json.RawMessage `json:"schema"`
}

// Reasoning is the newer spelling of reasoning_effort.
type Reasoning struct {
	Effort string `json:"effort,omitempty"`
}

// A CompletionRequest is the body of POST /v1/completions. The prompt can only be a string.
type CompletionRequest struct {
	Model            string         `json:"model"`
	Prompt           string         `json:"prompt"`
	FrequencyPenalty float32        `json:"frequency_penalty"`
	MaxTokens        *int           `json:"max_tokens"`
	PresencePenalty  float32        `json:"presence_penalty"`
	Seed             *int           `json:"seed"`
	Stop             any            `json:"stop"`
	Stream           bool           `json:"stream"`
	StreamOptions    *StreamOptions `json:"stream_options"`
	Temperature      *float32       `json:"temperature"`
	TopP             float32        `json:"top_p"`
	Suffix           string         `json:"suffix"`
	Logprobs         *int           `json:"logprobs"`
}

// An EmbedRequest is the body of POST /v1/embeddings.
type EmbedRequest struct {
	Input          any    `json:"input"`
	Model          string `json:"model"`
	Dimensions     int    `json:"dimensions,omitempty"`
	EncodingFormat string `json:"encoding_format,omitempty"` // "float" or "base64", in any case
}

// An ImageGenerationRequest is the body of POST /v1/images/generations.
type ImageGenerationRequest struct {
	Model          string `json:"model"`
	Prompt         string `json:"prompt"`
	N              int    `json:"n,omitempty"`
	Size           string `json:"size,omitempty"`
	ResponseFormat string `json:"response_format,omitempty"`
	Seed           *int64 `json:"seed,omitempty"`
}

// An ImageEditRequest is the body of POST /v1/images/edits.
type ImageEditRequest struct {
	Model  string `json:"model"`
	Prompt string `json:"prompt"`
	Image  string `json:"image"`
	Size   string `json:"size,omitempty"`
	Seed   *int64 `json:"seed,omitempty"`
}
