package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
)

// ResponsesRequest is the body of POST /v1/responses.
type ResponsesRequest struct {
	Model           string             `json:"model"`
	Background      bool               `json:"background"`
	Conversation    json.RawMessage    `json:"conversation"`
	Include         []string           `json:"include"`
	Input           ResponsesInput     `json:"input"`
	Instructions    string             `json:"instructions"`
	MaxOutputTokens *int               `json:"max_output_tokens"`
	Reasoning       ResponsesReasoning `json:"reasoning"`
	Temperature     *float64           `json:"temperature"`
	Text            *ResponsesText     `json:"text"`
	TopP            *float64           `json:"top_p"`
	Truncation      *string            `json:"truncation"`
	Tools           []ResponsesTool    `json:"tools"`
	Stream          *bool              `json:"stream"`
}

// ResponsesReasoning says how hard to think.
type ResponsesReasoning struct {
	Effort          string `json:"effort"`
	GenerateSummary string `json:"generate_summary"`
	Summary         string `json:"summary"`
}

// ResponsesText constrains the answer.
type ResponsesText struct {
	Format *ResponsesTextFormat `json:"format"`
}

// ResponsesTextFormat is the format of a ResponsesText.
type ResponsesTextFormat struct {
	Type   string          `json:"type"`
	Name   string          `json:"name"`
	Schema json.RawMessage `json:"schema"`
	Strict *bool           `json:"strict"`
}

// A ResponsesTool is one that the model may call.
type ResponsesTool struct {
	Type        string         `json:"type"`
	Name        string         `json:"name"`
	Description *string        `json:"description"`
	Strict      *bool          `json:"strict"`
	Parameters  map[string]any `json:"parameters"`
}

// ResponsesInput is a string or a list of items. A string is one item here.
type ResponsesInput []ResponsesInputItem

// UnmarshalJSON decodes the items one by one and gives up at the first that is wrong.
func (r *ResponsesInput) UnmarshalJSON(b []byte) (err error) {
	*r, err = textOr("input", b, func(text string) ResponsesInputItem { return ResponsesInputItem{text} })
	return err
}

// A ResponsesInputItem is one of several types. Which one, a first look at type and role
// tells; a role alone makes it a message.
//
// A type that this version of a node does not know is left to the node: newer ones know more.
type ResponsesInputItem struct{ Value any }

// Variants are the types, and the one of the first look.
func (ResponsesInputItem) Variants() (look reflect.Type, byWord map[string]reflect.Type) {
	return reflect.TypeFor[struct {
		Type string `json:"type"`
		Role string `json:"role"`
	}](), inputItems
}

var inputItems = map[string]reflect.Type{
	"message":              reflect.TypeFor[ResponsesInputMessage](),
	"function_call":        reflect.TypeFor[ResponsesFunctionCall](),
	"function_call_output": reflect.TypeFor[ResponsesFunctionCallOutput](),
	"reasoning":            reflect.TypeFor[ResponsesReasoningInput](),
}

// UnmarshalJSON refuses an item that does not say what it is.
func (i *ResponsesInputItem) UnmarshalJSON(b []byte) (err error) {
	var look struct {
		Type string `json:"type"`
		Role string `json:"role"`
	}
	if err := json.Unmarshal(b, &look); err != nil {
		return err
	}
	word := look.Type
	switch {
	case word == "" && look.Role == "":
		return errors.New("input item missing required 'type' field")
	case word == "":
		word = "message"
	}
	i.Value, err = variant(b, inputItems[word], look)
	return err
}

// A ResponsesContent is a part of a message or of what a function gave. See
// ResponsesInputItem.
type ResponsesContent struct{ Value any }

// Variants are the types, and the one of the first look.
func (ResponsesContent) Variants() (look reflect.Type, byWord map[string]reflect.Type) {
	return reflect.TypeFor[struct {
		Type string `json:"type"`
	}](), contents
}

var contents = map[string]reflect.Type{
	"input_text":  reflect.TypeFor[ResponsesTextContent](),
	"input_image": reflect.TypeFor[ResponsesImageContent](),
	"output_text": reflect.TypeFor[ResponsesOutputTextContent](),
	"input_file":  reflect.TypeFor[ResponsesFileContent](),
}

// UnmarshalJSON refuses a part that does not say what it is.
func (c *ResponsesContent) UnmarshalJSON(b []byte) (err error) {
	var look struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(b, &look); err != nil {
		return err
	}
	if look.Type == "" {
		return errors.New("unknown content type: ")
	}
	c.Value, err = variant(b, contents[look.Type], look)
	return err
}

// ResponsesInputMessage is one message of a chat.
type ResponsesInputMessage struct {
	Type    string             `json:"type"`
	Role    string             `json:"role"`
	Content []ResponsesContent `json:"content" wire:"later"`
}

// UnmarshalJSON takes a string for one part.
func (m *ResponsesInputMessage) UnmarshalJSON(b []byte) (err error) {
	var outer struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		return err
	}
	m.Type, m.Role = outer.Type, outer.Role
	m.Content, err = parts("content", outer.Content)
	return err
}

// ResponsesFunctionCall is what an assistant asked for; its arguments are JSON in a string.
type ResponsesFunctionCall struct {
	ID        string `json:"id"`
	Type      string `json:"type"`
	CallID    string `json:"call_id"`
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// ResponsesFunctionCallOutput is what the function gave.
type ResponsesFunctionCallOutput struct {
	Type   string             `json:"type"`
	CallID string             `json:"call_id"`
	Output []ResponsesContent `json:"output" wire:"later"`
}

// UnmarshalJSON takes a string for one part.
func (o *ResponsesFunctionCallOutput) UnmarshalJSON(b []byte) (err error) {
	var outer struct {
		Type   string          `json:"type"`
		CallID string          `json:"call_id"`
		Output json.RawMessage `json:"output"`
	}
	if err := json.Unmarshal(b, &outer); err != nil {
		return err
	}
	o.Type, o.CallID = outer.Type, outer.CallID
	o.Output, err = parts("output", outer.Output)
	return err
}

// ResponsesReasoningInput is what an assistant thought.
type ResponsesReasoningInput struct {
	ID               string                      `json:"id"`
	Type             string                      `json:"type"`
	Summary          []ResponsesReasoningSummary `json:"summary"`
	EncryptedContent string                      `json:"encrypted_content"`
}

// ResponsesReasoningSummary is a part of the summary of a ResponsesReasoningInput.
type ResponsesReasoningSummary struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// ResponsesTextContent is text.
type ResponsesTextContent struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// ResponsesOutputTextContent is text of an earlier answer.
type ResponsesOutputTextContent struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// ResponsesImageContent is an image, as a data URL.
type ResponsesImageContent struct {
	Type     string `json:"type"`
	Detail   string `json:"detail"`
	FileID   string `json:"file_id"`
	ImageURL string `json:"image_url"`
}

// ResponsesFileContent is a file. A node decodes it, and refuses it then.
type ResponsesFileContent struct {
	Type     string `json:"type"`
	FileData string `json:"file_data"`
	FileID   string `json:"file_id"`
	FileURL  string `json:"file_url"`
	Filename string `json:"filename"`
}

// variant decodes b into a value of type t, or gives the first look where there is no type.
func variant(b []byte, t reflect.Type, look any) (any, error) {
	if t == nil {
		return look, nil
	}
	v := reflect.New(t)
	err := json.Unmarshal(b, v.Interface())
	return v.Interface(), err
}

// parts decodes the content of a message. b is nil where there is none.
func parts(name string, b []byte) ([]ResponsesContent, error) {
	if b == nil {
		return nil, nil
	}
	return textOr(name, b, func(text string) ResponsesContent {
		return ResponsesContent{&ResponsesTextContent{Type: "input_text", Text: text}}
	})
}

// textOr decodes a string or a list. one makes a member of a string.
func textOr[T any](name string, b []byte, one func(text string) T) ([]T, error) {
	var text string
	if json.Unmarshal(b, &text) == nil {
		return []T{one(text)}, nil
	}
	var list []json.RawMessage
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("%s must be a string or array: %w", name, err)
	}
	all := make([]T, len(list))
	for i, member := range list {
		if err := json.Unmarshal(member, &all[i]); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
	}
	return all, nil
}
