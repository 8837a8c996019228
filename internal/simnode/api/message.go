package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
)

// A Message is one turn of a chat.
type Message struct {
	Role       string      `json:"role"`
	Content    string      `json:"content"`
	Thinking   string      `json:"thinking,omitempty"`
	Images     []ImageData `json:"images,omitempty"`
	ToolCalls  []ToolCall  `json:"tool_calls,omitempty"`
	ToolName   string      `json:"tool_name,omitempty"`
	ToolCallID string      `json:"tool_call_id,omitempty"`
}

// UnmarshalJSON folds the role to lower case.
func (m *Message) UnmarshalJSON(b []byte) error {
	type Alias Message
	var a Alias
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	*m = Message(a)
	m.Role = strings.ToLower(m.Role)
	return nil
}

// A ToolCall is a model's wish to have a function called.
type ToolCall struct {
	ID       string           `json:"id,omitempty"`
	Function ToolCallFunction `json:"function"`
}

// A ToolCallFunction names the function and gives its arguments.
type ToolCallFunction struct {
	Index     int       `json:"index"`
	Name      string    `json:"name"`
	Arguments Arguments `json:"arguments"`
}

// Arguments is the JSON object of a call's arguments, in the order the client or the model gave them.
type Arguments json.RawMessage

// UnmarshalJSON accepts an object only.
func (a *Arguments) UnmarshalJSON(b []byte) error {
	if trimmed := bytes.TrimSpace(b); len(trimmed) == 0 || trimmed[0] != '{' {
		//lint:ignore ST1005 the real server's text
		return errors.New("Value looks like object, but can't find closing '}' symbol")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, b); err != nil {
		return err
	}
	*a = compact.Bytes()
	return nil
}

// MarshalJSON gives the object back.
func (a Arguments) MarshalJSON() ([]byte, error) {
	if len(a) == 0 {
		return []byte("{}"), nil
	}
	return a, nil
}

// String is how a template prints arguments: as JSON.
func (a Arguments) String() string {
	if len(a) == 0 {
		return "{}"
	}
	return string(a)
}
