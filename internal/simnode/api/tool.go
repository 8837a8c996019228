package api

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Tools are the functions a chat offers to the model.
type Tools []Tool

// String is how a template prints tools: as JSON.
func (t Tools) String() string { return text([]Tool(t)) }

// A Tool is one function.
type Tool struct {
	Type     string       `json:"type"`
	Items    any          `json:"items,omitempty"`
	Function ToolFunction `json:"function"`
}

// String is how a template prints a tool: as JSON.
func (t Tool) String() string { return text(t) }

// A ToolFunction describes a function to the model.
type ToolFunction struct {
	Name        string                 `json:"name"`
	Description string                 `json:"description,omitempty"`
	Parameters  ToolFunctionParameters `json:"parameters"`
}

// ToolFunctionParameters is the schema of a function's arguments. Its type can only be a string.
type ToolFunctionParameters struct {
	Type       string     `json:"type"`
	Defs       any        `json:"$defs,omitempty"`
	Items      any        `json:"items,omitempty"`
	Required   []string   `json:"required,omitempty"`
	Properties Properties `json:"properties"`
}

// Properties are schemas by name, in the order they were written.
type Properties []Property

// A Property is one argument's schema, kept as it was written.
type Property struct {
	Name   string
	Schema json.RawMessage
}

// UnmarshalJSON reads an object and keeps the order of its keys.
func (p *Properties) UnmarshalJSON(b []byte) error {
	if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("tool properties must be an object")
	}
	*p = nil
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		var schema json.RawMessage
		if err := d.Decode(&schema); err != nil {
			return err
		}
		name, _ := key.(string) // a key is always a string
		*p = append(*p, Property{Name: name, Schema: schema})
	}
	return nil
}

// MarshalJSON writes the object in its own order.
func (p Properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, property := range p {
		if i > 0 {
			b.WriteByte(',')
		}
		key, err := json.Marshal(property.Name)
		if err != nil {
			return nil, err
		}
		b.Write(key)
		b.WriteByte(':')
		b.Write(property.Schema)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return ""
	}
	return string(b)
}
