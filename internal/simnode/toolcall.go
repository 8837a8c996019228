package simnode

import (
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// callOf makes up a call of the first tool, as the text a model would write it in.
func callOf(v voice, tools api.Tools) string {
	tool := tools[0].Function
	required := make(map[string]bool)
	for _, name := range tool.Parameters.Required {
		required[name] = true
	}
	f := format{left: 1000}
	var args strings.Builder
	args.WriteByte('{')
	for i, p := range tool.Parameters.Properties {
		s, err := parseSchema(p.Schema, 0)
		if err != nil {
			s = &schema{} // a tool's schema is advice, not a grammar
		}
		if i > 0 {
			args.WriteString(", ")
		}
		args.WriteString(quote(p.Name) + ": ")
		f.write(&args, v, s, p.Name, 1)
	}
	args.WriteByte('}')
	return `{"name": ` + quote(tool.Name) + `, "arguments": ` + args.String() + `}`
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string always marshals
		return `""`
	}
	return string(b)
}

// A caller finds calls in what a model says, as its tokens come.
type caller struct {
	tools api.Tools
	held  string // what may be a call
	found int
}

// feed takes the next piece of text. Text before a brace is passed on; what follows is held back until it is a whole
// call of a known tool, or certainly none.
func (c *caller) feed(text string) (content string, calls []api.ToolCall) {
	c.held += text
	for {
		before, _, found := strings.Cut(c.held, "{")
		content += before
		if c.held = c.held[len(before):]; !found {
			return content, calls
		}
		d := json.NewDecoder(strings.NewReader(c.held))
		var call struct {
			Name      string          `json:"name"`
			Arguments json.RawMessage `json:"arguments"`
		}
		err := d.Decode(&call)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return content, calls
		}
		size := max(1, int(d.InputOffset())) // of what was read; at least the brace is none that begins a call
		said := c.held[:size]
		c.held = c.held[size:]
		if err != nil || !c.knows(call.Name) {
			content += said
			continue
		}
		calls = append(calls, api.ToolCall{ID: callID(), Function: api.ToolCallFunction{
			Index: c.found, Name: call.Name, Arguments: shuffled(call.Arguments),
		}})
		c.found++
	}
}

func (c *caller) knows(name string) bool {
	for _, t := range c.tools {
		if t.Function.Name == name {
			return true
		}
	}
	return false
}

// rest returns text that was held back when the answer ended.
func (c *caller) rest() string {
	held := c.held
	c.held = ""
	return held
}

// shuffled writes the arguments with their keys in an order that varies from run to run, as on a real node.
func shuffled(raw json.RawMessage) api.Arguments {
	var p api.Properties
	if p.UnmarshalJSON(raw) != nil {
		return api.Arguments(raw)
	}
	rand.Shuffle(len(p), func(i, j int) { p[i], p[j] = p[j], p[i] })
	b, err := json.Marshal(p) // marshalling compacts the values
	if err != nil {
		return api.Arguments(raw)
	}
	return b
}

func callID() string {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := []byte("call_")
	for range 8 {
		id = append(id, letters[rand.IntN(len(letters))]) // an id, not a secret
	}
	return string(id)
}
