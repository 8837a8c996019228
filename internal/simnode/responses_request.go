package simnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

// fromResponses translates a request to a chat. Its errors are a client's mistakes.
func (n *Node) fromResponses(req *openai.ResponsesRequest) (*api.ChatRequest, error) {
	stream := req.Stream != nil && *req.Stream
	out := &api.ChatRequest{Model: req.Model, Stream: &stream, Options: map[string]any{"temperature": valueOr(req.Temperature, 1)}}
	if req.TopP != nil { // the model's own stays when it is not said, unlike in a chat
		out.Options["top_p"] = *req.TopP
	}
	if req.MaxOutputTokens != nil {
		out.Options["num_predict"] = *req.MaxOutputTokens
	}
	if req.Instructions != "" {
		out.Messages = append(out.Messages, api.Message{Role: "system", Content: req.Instructions})
	}
	if req.Input.Text != "" {
		out.Messages = append(out.Messages, api.Message{Role: "user", Content: req.Input.Text})
	}
	c := conversion{newest: n.newest, messages: out.Messages}
	for i, item := range req.Input.Items {
		if err := c.add(i, item); err != nil {
			return nil, err
		}
	}
	if c.thought != "" {
		c.messages = append(c.messages, api.Message{Role: "assistant", Thinking: c.thought})
	}
	out.Messages = c.messages

	var err error
	if out.Think, err = n.thinkOfEffort(req.Reasoning.Effort, "%q"); err != nil {
		return nil, err
	}
	for _, t := range req.Tools {
		tools, err := nativeTools(t, n.newest)
		if err != nil {
			return nil, err
		}
		out.Tools = append(out.Tools, tools...)
	}
	if req.Text != nil && req.Text.Format != nil && req.Text.Format.Type == "json_schema" {
		out.Format = req.Text.Format.Schema
	}
	return out, nil
}

// A conversion makes messages of items, in their order.
type conversion struct {
	newest   bool
	messages []api.Message
	thought  string // waits for the assistant's next message
}

func (c *conversion) add(i int, item openai.ResponsesItem) error {
	switch item.Type {
	case "web_search_call": // what was found stands in the message behind it
		if !c.newest {
			return fmt.Errorf("input[%d]: unknown input item type: %q", i, item.Type)
		}
	case "reasoning":
		c.thought = item.EncryptedContent
	case "message":
		text, images, err := joinParts(item.Content)
		if err != nil {
			return err
		}
		m := api.Message{Role: strings.ToLower(item.Role), Content: text, Images: images}
		if m.Role == "assistant" {
			c.takeThought(&m)
		}
		c.messages = append(c.messages, m)
	case "function_call":
		return c.addCall(item)
	case "function_call_output":
		m := api.Message{Role: "tool", Content: item.Output, ToolCallID: item.CallID}
		if len(item.Content) > 0 {
			var err error
			if m.Content, m.Images, err = joinParts(item.Content); err != nil {
				return err
			}
		}
		c.messages = append(c.messages, m)
	}
	return nil
}

func (c *conversion) takeThought(m *api.Message) {
	if c.thought != "" {
		m.Thinking, c.thought = c.thought, ""
	}
}

// addCall adds a call to the assistant's last message, or to a new one.
func (c *conversion) addCall(item openai.ResponsesItem) error {
	call := api.ToolCall{ID: item.CallID, Function: api.ToolCallFunction{Name: item.Name}}
	if item.Arguments != "" {
		if err := json.Unmarshal([]byte(item.Arguments), &call.Function.Arguments); err != nil {
			return fmt.Errorf("failed to parse function call arguments: %w", err)
		}
	}
	if len(c.messages) == 0 || c.messages[len(c.messages)-1].Role != "assistant" {
		c.messages = append(c.messages, api.Message{Role: "assistant"})
	}
	m := &c.messages[len(c.messages)-1]
	m.ToolCalls = append(m.ToolCalls, call)
	c.takeThought(m)
	return nil
}

func joinParts(parts []openai.ResponsesContent) (text string, images []api.ImageData, err error) {
	for _, p := range parts {
		switch {
		case p.Type == "input_file":
			return "", nil, errors.New("file inputs are not currently supported")
		case p.Type != "input_image":
			text += p.Text
		case p.ImageURL != "":
			image, err := decodeImage(p.ImageURL)
			if err != nil {
				return "", nil, err
			}
			images = append(images, image)
		}
	}
	return text, images, nil
}

// nativeTools is the function that a tool is, or the functions of a namespace under their full names.
func nativeTools(t openai.ResponsesTool, newest bool) (api.Tools, error) {
	if newest && t.Type == "namespace" {
		var out api.Tools
		for _, member := range t.Tools {
			tools, err := nativeTools(member, newest)
			if err != nil {
				return nil, err
			}
			for _, tool := range tools {
				if prefix := t.Name + "."; t.Name != "" && !strings.HasPrefix(tool.Function.Name, prefix) {
					tool.Function.Name = prefix + tool.Function.Name
				}
				out = append(out, tool)
			}
		}
		return out, nil
	}
	out := api.Tool{Type: t.Type, Function: api.ToolFunction{Name: t.Name, Description: valueOr(t.Description, "")}}
	if t.Parameters != nil {
		b, err := json.Marshal(t.Parameters)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(b, &out.Function.Parameters); err != nil {
			return nil, fmt.Errorf("failed to unmarshal tool parameters: %w", err)
		}
	}
	return api.Tools{out}, nil
}
