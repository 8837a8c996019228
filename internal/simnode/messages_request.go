package simnode

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/anthropic"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// fromMessages translates a request to a chat. Its errors are a client's mistakes.
func fromMessages(req *anthropic.MessagesRequest) (*api.ChatRequest, error) {
	switch {
	case req.Model == "":
		return nil, errNoModel
	case req.MaxTokens <= 0:
		return nil, errors.New("max_tokens is required and must be positive")
	case len(req.Messages) == 0:
		return nil, errors.New("messages is required")
	}
	out := &api.ChatRequest{
		Model: req.Model, Stream: &req.Stream, Think: thinkOfMessages(req),
		Options: map[string]any{"num_predict": req.MaxTokens},
	}
	if system := systemText(req.System); system != "" {
		out.Messages = append(out.Messages, api.Message{Role: "system", Content: system})
	}
	for _, m := range req.Messages {
		messages, err := fromBlocks(m)
		if err != nil {
			return nil, err
		}
		out.Messages = append(out.Messages, messages...)
	}
	if req.Temperature != nil { // the model's own stays when it is not said
		out.Options["temperature"] = *req.Temperature
	}
	if req.TopP != nil {
		out.Options["top_p"] = *req.TopP
	}
	if req.TopK != nil {
		out.Options["top_k"] = *req.TopK
	}
	if len(req.StopSequences) > 0 {
		out.Options["stop"] = req.StopSequences
	}
	var err error
	out.Tools, err = anthropicTools(req.Tools)
	return out, err
}

// thinkOfMessages is the wish to think, which has an older and a newer spelling; the older one goes first.
func thinkOfMessages(req *anthropic.MessagesRequest) *api.ThinkValue {
	if req.Thinking != nil {
		switch req.Thinking.Type {
		case "enabled":
			return &api.ThinkValue{On: true}
		case "disabled":
			return &api.ThinkValue{}
		}
	}
	if req.OutputConfig == nil {
		return nil
	}
	switch effort := strings.ToLower(strings.TrimSpace(req.OutputConfig.Effort)); effort {
	case "xhigh":
		return &api.ThinkValue{On: true, Level: "high"}
	case "high", "medium", "low", "max":
		return &api.ThinkValue{On: true, Level: effort}
	}
	return nil
}

func systemText(system any) string {
	if s, ok := system.(string); ok {
		return s
	}
	list, _ := system.([]any)
	return textOf(list)
}

// textOf joins the texts of blocks that were decoded into maps, and skips what else is there.
func textOf(blocks []any) string {
	var out strings.Builder
	for _, b := range blocks {
		if fields, ok := b.(map[string]any); ok && fields["type"] == "text" {
			text, _ := fields["text"].(string)
			out.WriteString(text)
		}
	}
	return out.String()
}

// fromBlocks makes messages of one: each tool's result is one of its own, before what a user says himself. Blocks of
// unknown types are skipped, and a message of nothing else is none.
func fromBlocks(m anthropic.MessageParam) ([]api.Message, error) {
	said := api.Message{Role: strings.ToLower(m.Role)}
	var results []api.Message
	for _, block := range m.Content {
		switch block.Type {
		case "text":
			said.Content += valueOr(block.Text, "")
		case "thinking":
			said.Thinking = valueOr(block.Thinking, said.Thinking)
		case "image":
			if block.Source == nil {
				return nil, errors.New("invalid image source")
			}
			image, err := imageOf(block.Source.Type, block.Source.Data)
			if err != nil {
				return nil, err
			}
			said.Images = append(said.Images, image)
		case "tool_use", "server_tool_use":
			call := api.ToolCall{ID: block.ID, Function: api.ToolCallFunction{Name: block.Name, Arguments: block.Input}}
			if err := checkToolUse(block); err != nil {
				return nil, err
			}
			said.ToolCalls = append(said.ToolCalls, call)
		case "tool_result":
			result, err := fromToolResult(block)
			if err != nil {
				return nil, err
			}
			results = append(results, result)
		case "web_search_tool_result":
			results = append(results, api.Message{Role: "tool", Content: searchText(block.Content), ToolCallID: block.ToolUseID})
		}
	}
	var own []api.Message
	if said.Content != "" || len(said.Images) > 0 || len(said.ToolCalls) > 0 || said.Thinking != "" {
		own = append(own, said)
	}
	if said.Role == "user" {
		return append(results, own...), nil
	}
	return append(own, results...), nil
}

func checkToolUse(block anthropic.ContentBlock) error {
	switch {
	case block.Type != "tool_use":
	case block.ID == "":
		return errors.New("tool_use block missing required 'id' field")
	case block.Name == "":
		return errors.New("tool_use block missing required 'name' field")
	}
	return nil
}

func fromToolResult(block anthropic.ContentBlock) (api.Message, error) {
	out := api.Message{Role: "tool", ToolCallID: block.ToolUseID}
	switch content := block.Content.(type) {
	case string:
		out.Content = content
	case []any:
		out.Content = textOf(content)
		for _, part := range content {
			fields, _ := part.(map[string]any)
			if fields["type"] != "image" {
				continue
			}
			source, ok := fields["source"].(map[string]any)
			if !ok {
				return out, errors.New("invalid tool_result image source")
			}
			kind, _ := source["type"].(string)
			data, _ := source["data"].(string)
			image, err := imageOf(kind, data)
			if err != nil {
				return out, err
			}
			out.Images = append(out.Images, image)
		}
	}
	return out, nil
}

func imageOf(kind, data string) (api.ImageData, error) {
	if kind != "base64" {
		//lint:ignore ST1005 the real server's text
		return nil, fmt.Errorf("invalid image source type: %s. Only base64 images are supported.", kind)
	}
	image, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return nil, fmt.Errorf("invalid base64 image data: %w", err)
	}
	return image, nil
}

// searchText is what a model reads of a hosted search: a line for each result.
func searchText(content any) string {
	if s, ok := content.(string); ok {
		return s
	}
	var out strings.Builder
	list, _ := content.([]any)
	for _, e := range list {
		if fields, ok := e.(map[string]any); ok && fields["type"] == "web_search_result" {
			title, _ := fields["title"].(string)
			url, _ := fields["url"].(string)
			fmt.Fprintf(&out, "- %s: %s\n", title, url)
		}
	}
	return out.String()
}

// anthropicTools translates the tools. The hosted search becomes a function, which takes its name from any other. Its
// calls come out as ordinary ones: the simulated node does not search.
func anthropicTools(tools []anthropic.Tool) (api.Tools, error) {
	hosted := func(t anthropic.Tool) bool { return strings.HasPrefix(t.Type, "web_search") }
	var out api.Tools
	search := false
	for _, t := range tools {
		search = search || hosted(t)
	}
	for _, t := range tools {
		tool := api.Tool{Type: "function", Function: api.ToolFunction{Name: t.Name, Description: t.Description}}
		switch {
		case hosted(t):
			tool.Function.Name, tool.Function.Description = "web_search", "Look something up on the web."
			tool.Function.Parameters = api.ToolFunctionParameters{
				Type: "object", Required: []string{"query"},
				Properties: api.Properties{{Name: "query", Schema: json.RawMessage(`{"type":"string"}`)}},
			}
		case search && t.Name == "web_search":
			continue
		case len(t.InputSchema) > 0:
			if err := json.Unmarshal(t.InputSchema, &tool.Function.Parameters); err != nil {
				return nil, fmt.Errorf("invalid input_schema for tool %q: %w", t.Name, err)
			}
		}
		out = append(out, tool)
	}
	return out, nil
}
