package simnode

import "github.com/caddy-ollama/caddy-ollama/internal/simnode/api"

// A messageStream is how far the events of an answer have come.
type messageStream struct {
	index     int    // of the block that is open, or of the next one
	open      string // type of the block that is open, or ""
	thought   bool   // the thought is over; what is thought later is lost
	called    bool
	announced bool
}

type messageStart struct {
	Type    string           `json:"type"`
	Message anthropicMessage `json:"message"`
}

type blockStart struct {
	Type         string       `json:"type"`
	Index        int          `json:"index"`
	ContentBlock contentBlock `json:"content_block"`
}

type blockDelta struct {
	Type  string `json:"type"`
	Index int    `json:"index"`
	Delta struct {
		Type        string `json:"type"`
		Text        string `json:"text,omitempty"`
		PartialJSON string `json:"partial_json,omitempty"`
		Thinking    string `json:"thinking,omitempty"`
	} `json:"delta"`
}

type blockStop struct {
	Type  string `json:"type"`
	Index int    `json:"index"`
}

type messageDelta struct {
	Type  string `json:"type"`
	Delta struct {
		StopReason string `json:"stop_reason,omitempty"`
	} `json:"delta"`
	Usage anthropicUsage `json:"usage"`
}

// record writes the events of a record: thoughts first, then text, then calls.
func (o *messageWriter) record(rec chatRecord) {
	if !o.announced {
		o.announced = true
		o.push("message_start", messageStart{"message_start", anthropicMessage{
			ID: o.id, Type: "message", Role: "assistant", Model: o.model, Content: []contentBlock{},
			Usage: anthropicUsage{InputTokens: o.estimate},
		}})
	}
	if rec.Message.Thinking != "" && !o.thought {
		o.begin("thinking", contentBlock{Type: "thinking", Thinking: new(string)})
		delta := o.delta("thinking_delta")
		delta.Delta.Thinking = rec.Message.Thinking
		o.push(delta.Type, delta)
	}
	if rec.Message.Content != "" {
		o.begin("text", contentBlock{Type: "text", Text: new(string)})
		delta := o.delta("text_delta")
		delta.Delta.Text = rec.Message.Content
		o.push(delta.Type, delta)
	}
	for _, call := range rec.Message.ToolCalls {
		o.called = true
		o.begin("tool_use", contentBlock{
			Type: "tool_use", ID: call.ID, Name: call.Function.Name, Input: api.Arguments("{}"),
		})
		delta := o.delta("input_json_delta")
		delta.Delta.PartialJSON = call.Function.Arguments.String()
		o.push(delta.Type, delta)
		o.close()
	}
	if !rec.Done {
		return
	}
	o.close()
	last := messageDelta{Type: "message_delta", Usage: anthropicUsage{rec.PromptEvalCount, rec.EvalCount}}
	last.Delta.StopReason = stopReason(rec.DoneReason, o.called)
	o.push(last.Type, last)
	o.push("message_stop", struct {
		Type string `json:"type"`
	}{"message_stop"})
}

// begin opens a block unless one of that type is open, and closes another one. Only the newest nodes close a text for
// a thought that follows it; before, both had the same index, and the text's stop was missing.
func (o *messageWriter) begin(kind string, block contentBlock) {
	if o.open == kind {
		return
	}
	if kind != "thinking" || o.newest {
		o.close()
	}
	o.open = kind
	o.push("content_block_start", blockStart{"content_block_start", o.index, block})
}

func (o *messageWriter) close() {
	if o.open == "" {
		return
	}
	o.push("content_block_stop", blockStop{"content_block_stop", o.index})
	o.thought = o.thought || o.open == "thinking"
	o.open = ""
	o.index++
}

func (o *messageWriter) delta(kind string) blockDelta {
	d := blockDelta{Type: "content_block_delta", Index: o.index}
	d.Delta.Type = kind
	return d
}
