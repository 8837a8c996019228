package simnode

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/openai"
)

// fromOpenAI translates a chat to the native one. Note the defaults: temperature and top_p are 1, whatever the model's
// own parameters say. Its errors are a client's mistakes.
func (n *Node) fromOpenAI(req *openai.ChatCompletionRequest) (*api.ChatRequest, error) {
	if len(req.Messages) == 0 {
		return nil, errors.New("[] is too short - 'messages'")
	}
	out := &api.ChatRequest{
		Model: req.Model, Stream: &req.Stream, Tools: req.Tools, TopLogprobs: req.TopLogprobs,
		Logprobs: req.Logprobs != nil && *req.Logprobs,
		Options:  map[string]any{"temperature": 1.0, "top_p": 1.0},
	}
	var err error
	for _, m := range req.Messages {
		if out.Messages, err = appendOpenAIMessage(out.Messages, m, req.Messages); err != nil {
			return nil, err
		}
	}
	setOpenAIOptions(out.Options, req)
	if f := req.ResponseFormat; f != nil {
		switch f.Type {
		case "json_object":
			out.Format = json.RawMessage(`"json"`)
		case "json_schema":
			if f.JsonSchema != nil {
				out.Format = f.JsonSchema.Schema
			}
		}
	}
	effort := ""
	switch {
	case req.Reasoning != nil && req.Reasoning.Effort != "":
		effort = req.Reasoning.Effort
	case req.ReasoningEffort != nil:
		effort = *req.ReasoningEffort
	}
	out.Think, err = n.thinkOfEffort(effort, "'%s'")
	return out, err
}

func setOpenAIOptions(options map[string]any, req *openai.ChatCompletionRequest) {
	switch stop := req.Stop.(type) {
	case string:
		options["stop"] = []string{stop}
	case []any:
		var stops []string
		for _, s := range stop {
			if s, ok := s.(string); ok {
				stops = append(stops, s)
			}
		}
		options["stop"] = stops
	}
	if req.MaxTokens != nil {
		options["num_predict"] = *req.MaxTokens
	}
	if req.Seed != nil {
		options["seed"] = *req.Seed
	}
	for key, v := range map[string]*float64{
		"temperature": req.Temperature, "top_p": req.TopP,
		"frequency_penalty": req.FrequencyPenalty, "presence_penalty": req.PresencePenalty,
	} {
		if v != nil {
			options[key] = *v
		}
	}
}

// thinkOfEffort translates an effort. quoted is how the error spells one that is not known; the newest nodes have one
// spelling for all routes, and steps beyond both ends of their own.
func (n *Node) thinkOfEffort(effort, quoted string) (*api.ThinkValue, error) {
	known := `"high", "medium", "low", "max", or "none"`
	if n.newest {
		known, quoted = `"minimal", "low", "medium", "high", "xhigh", "ultra", "max", or "none"`, "%q"
		switch effort {
		case "minimal":
			effort = "low"
		case "xhigh", "ultra":
			effort = "max"
		}
	}
	switch effort {
	case "":
		return nil, nil
	case "none":
		return &api.ThinkValue{}, nil
	case "high", "medium", "low", "max":
		return &api.ThinkValue{On: true, Level: effort}, nil
	}
	return nil, fmt.Errorf("invalid reasoning value: "+quoted+" (must be %s)", effort, known)
}

// appendOpenAIMessage translates one message; each part of a list becomes a message of its own.
func appendOpenAIMessage(out []api.Message, m openai.Message, all []openai.Message) ([]api.Message, error) {
	role := strings.ToLower(m.Role)
	switch content := m.Content.(type) {
	case string:
		calls, err := nativeCalls(m.ToolCalls)
		if err != nil {
			return nil, err
		}
		return append(out, api.Message{
			Role: role, Content: content, Thinking: m.Reasoning, ToolCalls: calls,
			ToolName: toolName(m, all), ToolCallID: m.ToolCallID,
		}), nil
	case []any:
		for _, part := range content {
			message, err := nativePart(part)
			if err != nil {
				return nil, err
			}
			message.Role = role
			out = append(out, message)
		}
		if len(content) > 0 && len(m.ToolCalls) > 0 {
			calls, err := nativeCalls(m.ToolCalls)
			if err != nil {
				return nil, err
			}
			out[len(out)-1].ToolCalls = calls
		}
		return out, nil
	}
	if m.ToolCalls == nil {
		return nil, fmt.Errorf("invalid message content type: %T", m.Content)
	}
	calls, err := nativeCalls(m.ToolCalls)
	if err != nil {
		return nil, err
	}
	return append(out, api.Message{Role: role, Thinking: m.Reasoning, ToolCalls: calls, ToolCallID: m.ToolCallID}), nil
}

// toolName is the name of the tool whose result a message is; it may have to be looked up by the call's id.
func toolName(m openai.Message, all []openai.Message) string {
	if m.Name != "" || m.ToolCallID == "" {
		return m.Name
	}
	for _, other := range slices.Backward(all) {
		for _, call := range other.ToolCalls {
			if call.ID == m.ToolCallID {
				return call.Function.Name
			}
		}
	}
	return ""
}

var (
	errMessageFormat = errors.New("invalid message format")
	errImageInput    = errors.New("invalid image input")
	errImageURL      = errors.New("image URLs are not currently supported, please use base64 encoded data instead")
	errToolArguments = errors.New("invalid tool call arguments")
)

func nativePart(part any) (api.Message, error) {
	fields, ok := part.(map[string]any)
	if !ok {
		return api.Message{}, errMessageFormat
	}
	switch fields["type"] {
	case "text":
		text, ok := fields["text"].(string)
		if !ok {
			return api.Message{}, errMessageFormat
		}
		return api.Message{Content: text}, nil
	case "image_url":
		url, ok := fields["image_url"].(string)
		if nested, isMap := fields["image_url"].(map[string]any); isMap {
			url, ok = nested["url"].(string)
		}
		if !ok {
			return api.Message{}, errMessageFormat
		}
		image, err := decodeImage(url)
		return api.Message{Images: []api.ImageData{image}}, err
	}
	return api.Message{}, errMessageFormat
}

func decodeImage(url string) (api.ImageData, error) {
	if strings.HasPrefix(url, "http://") || strings.HasPrefix(url, "https://") {
		return nil, errImageURL
	}
	for _, kind := range []string{"", "image/jpeg", "image/jpg", "image/png", "image/webp"} {
		if encoded, ok := strings.CutPrefix(url, "data:"+kind+";base64,"); ok {
			image, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				return nil, errImageInput
			}
			return image, nil
		}
	}
	return nil, errImageInput
}

func nativeCalls(calls []openai.ToolCall) ([]api.ToolCall, error) {
	var out []api.ToolCall
	for _, c := range calls {
		call := api.ToolCall{ID: c.ID, Function: api.ToolCallFunction{Index: c.Index, Name: c.Function.Name}}
		if json.Unmarshal([]byte(c.Function.Arguments), &call.Function.Arguments) != nil {
			return nil, errToolArguments
		}
		out = append(out, call)
	}
	return out, nil
}
