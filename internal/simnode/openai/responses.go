package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// A ResponsesRequest is the body of POST /v1/responses. A node keeps no answers, so fields like store and
// previous_response_id are ignored without a word.
type ResponsesRequest struct {
	Model           string             `json:"model"`
	Background      bool               `json:"background"`
	Conversation    json.RawMessage    `json:"conversation"`
	Include         []string           `json:"include"`
	Input           ResponsesInput     `json:"input"`
	Instructions    string             `json:"instructions,omitempty"`
	MaxOutputTokens *int               `json:"max_output_tokens,omitempty"`
	Reasoning       ResponsesReasoning `json:"reasoning"`
	Temperature     *float64           `json:"temperature"`
	Text            *ResponsesText     `json:"text,omitempty"`
	TopP            *float64           `json:"top_p"`
	Truncation      *string            `json:"truncation"`
	Tools           []ResponsesTool    `json:"tools,omitempty"`
	Stream          *bool              `json:"stream,omitempty"`
}

// ResponsesReasoning says how hard a model shall think.
type ResponsesReasoning struct {
	Effort          string `json:"effort,omitempty"`
	GenerateSummary string `json:"generate_summary,omitempty"`
	Summary         string `json:"summary,omitempty"`
}

// ResponsesText says what shape the text shall have.
type ResponsesText struct {
	Format *ResponsesTextFormat `json:"format,omitempty"`
}

// A ResponsesTextFormat is "text", or "json_schema" with a schema.
type ResponsesTextFormat struct {
	Type   string          `json:"type"`
	Name   string          `json:"name,omitempty"`
	Schema json.RawMessage `json:"schema,omitempty"`
	Strict *bool           `json:"strict,omitempty"`
}

// A ResponsesTool is one function; its fields are not nested as in a chat's. One of type "namespace", which the newest
// nodes know, has functions of its own.
type ResponsesTool struct {
	Type        string          `json:"type"`
	Name        string          `json:"name"`
	Description *string         `json:"description"`
	Strict      *bool           `json:"strict"`
	Parameters  map[string]any  `json:"parameters"`
	Tools       []ResponsesTool `json:"tools,omitempty"`
}

// A ResponsesInput is a string, which is what the user says, or a list of items.
type ResponsesInput struct {
	Text  string
	Items []ResponsesItem
}

// UnmarshalJSON reads either.
func (r *ResponsesInput) UnmarshalJSON(b []byte) error {
	if json.Unmarshal(b, &r.Text) == nil {
		return nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return fmt.Errorf("input must be a string or array: %w", err)
	}
	for i, item := range raw {
		parsed, err := parseResponsesItem(item)
		if err != nil {
			return fmt.Errorf("input[%d]: %w", i, err)
		}
		r.Items = append(r.Items, parsed)
	}
	return nil
}

// A ResponsesItem is one item of the input, of any kind.
type ResponsesItem struct {
	Type             string // "message", "function_call", "function_call_output", "reasoning", "web_search_call"
	Role             string
	Content          []ResponsesContent // of a message, or of a function's output that is a list
	CallID           string
	Name             string
	Arguments        string
	Output           string // of a function, as text
	EncryptedContent string // the model's thoughts, in plain text
}

func parseResponsesItem(b []byte) (item ResponsesItem, err error) {
	var head struct {
		Type string `json:"type"`
		Role string `json:"role"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return item, err
	}
	if head.Type == "" && head.Role != "" {
		head.Type = "message"
	}
	item.Type, item.Role = head.Type, head.Role
	switch item.Type {
	case "message":
		var message struct {
			Content json.RawMessage `json:"content"`
		}
		if err := json.Unmarshal(b, &message); err != nil {
			return item, err
		}
		var text string
		text, item.Content, err = parseResponsesContent("content", message.Content)
		if text != "" {
			item.Content = []ResponsesContent{{Type: "input_text", Text: text}}
		}
		return item, err
	case "function_call":
		var call ResponsesFunctionCall
		err := json.Unmarshal(b, &call)
		item.CallID, item.Name, item.Arguments = call.CallID, call.Name, call.Arguments
		return item, err
	case "function_call_output":
		var output struct {
			CallID string          `json:"call_id"`
			Output json.RawMessage `json:"output"`
		}
		if err := json.Unmarshal(b, &output); err != nil {
			return item, err
		}
		item.CallID = output.CallID
		item.Output, item.Content, err = parseResponsesContent("output", output.Output)
		return item, err
	case "reasoning":
		var reasoning ResponsesReasoningInput
		err := json.Unmarshal(b, &reasoning)
		item.EncryptedContent = reasoning.EncryptedContent
		return item, err
	case "web_search_call":
		return item, nil
	case "":
		return item, errors.New("input item missing required 'type' field")
	}
	return item, fmt.Errorf("unknown input item type: %q", item.Type)
}

// A ResponsesFunctionCall is a model's earlier wish to have a function called; the arguments are JSON inside a string.
type ResponsesFunctionCall struct {
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// A ResponsesReasoningInput is what the model thought before.
type ResponsesReasoningInput struct {
	EncryptedContent string `json:"encrypted_content,omitempty"`
}

// A ResponsesContent is one part of a message.
type ResponsesContent struct {
	Type     string `json:"type"` // "input_text", "output_text", "input_image", "input_file"
	Text     string `json:"text"`
	ImageURL string `json:"image_url"`
}

// parseResponsesContent reads a string or a list of parts; name is the field's, for the error.
func parseResponsesContent(name string, b json.RawMessage) (text string, parts []ResponsesContent, err error) {
	if len(b) == 0 || json.Unmarshal(b, &text) == nil {
		return text, nil, nil
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return "", nil, fmt.Errorf("%s must be a string or array: %w", name, err)
	}
	for i, r := range raw {
		part, err := parseResponsesPart(r)
		if err != nil {
			return "", nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		parts = append(parts, part)
	}
	return "", parts, nil
}

func parseResponsesPart(b []byte) (part ResponsesContent, err error) {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return part, err
	}
	switch {
	case head.Type == "input_file":
		part.Type = head.Type
	case strings.HasSuffix(head.Type, "put_text"), head.Type == "input_image":
		err = json.Unmarshal(b, &part)
	default:
		err = fmt.Errorf("unknown content type: %s", head.Type)
	}
	return part, err
}
