package simnode

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// A responseStream is how far the events of an answer have come.
type responseStream struct {
	number int // of the next event
	index  int // of the item that is open, or of the next one
	called bool

	items     []object // those that are complete, the message not among them
	thinking  string   // id of the reasoning that is open, or ""
	thought   strings.Builder
	speaking  bool // the message has been begun
	said      strings.Builder
	announced bool
}

// event writes one event. Its keys are sorted, unlike those of an answer in one object.
func (o *responseWriter) event(name string, data ...field) {
	data = append(data, field{"type", name}, field{"sequence_number", o.number})
	o.number++
	o.push(name, sorted(object(data)))
}

// record writes the events of a record: thoughts first, then calls or text. Text behind a call is lost.
func (o *responseWriter) record(rec chatRecord) {
	if !o.announced {
		o.announced = true
		for _, name := range []string{"response.created", "response.in_progress"} {
			o.event(name, field{"response", o.response(now(), "in_progress", []object{}, nil)})
		}
	}
	if rec.Message.Thinking != "" {
		o.think(rec.Message.Thinking)
	}
	switch {
	case len(rec.Message.ToolCalls) > 0:
		o.called = true
		o.endThought()
		o.call(rec.Message.ToolCalls)
	case rec.Message.Content != "" && !o.called:
		o.endThought()
		o.speak(rec.Message.Content)
	}
	if rec.Done {
		o.endThought()
		o.complete(rec)
	}
}

func (o *responseWriter) think(text string) {
	if o.thinking == "" {
		o.thinking = fmt.Sprintf("rs_%d", rand.IntN(999999))
		o.event("response.output_item.added", field{"output_index", o.index}, field{"item", object{
			{"id", o.thinking}, {"type", "reasoning"}, {"summary", []object{}},
		}})
	}
	o.thought.WriteString(text)
	o.event("response.reasoning_summary_text.delta", field{"item_id", o.thinking}, field{"output_index", o.index},
		field{"summary_index", 0}, field{"delta", text})
}

// endThought closes the reasoning that is open, if one is.
func (o *responseWriter) endThought() {
	if o.thinking == "" {
		return
	}
	item := reasoningItem(o.thinking, o.thought.String())
	o.items = append(o.items, item)
	o.event("response.reasoning_summary_text.done", field{"item_id", o.thinking}, field{"output_index", o.index},
		field{"summary_index", 0}, field{"text", o.thought.String()})
	o.event("response.output_item.done", field{"output_index", o.index}, field{"item", item})
	o.index++
	o.thinking = ""
	o.thought.Reset()
}

// call writes calls whole. A message that was begun before stays open and shares its index with the first call; older
// nodes also give the calls of a later record the same indexes again.
func (o *responseWriter) call(calls []api.ToolCall) {
	for i, call := range openaiCalls(calls) {
		id, at := fmt.Sprintf("fc_%d_%d", rand.IntN(999999), i), field{"output_index", o.index + i}
		item := callItem(id, call, true)
		o.items = append(o.items, item)
		o.event("response.output_item.added", at, field{"item", callItem(id, call, false)})
		o.event("response.function_call_arguments.delta", at, field{"item_id", id}, field{"delta", call.Function.Arguments})
		o.event("response.function_call_arguments.done", at, field{"item_id", id}, field{"arguments", call.Function.Arguments})
		o.event("response.output_item.done", at, field{"item", item})
	}
	if o.newest {
		o.index += len(calls)
	}
}

func (o *responseWriter) speak(text string) {
	if !o.speaking {
		o.speaking = true
		o.event("response.output_item.added", field{"output_index", o.index}, field{"item", object{
			{"id", o.itemID}, {"type", "message"}, {"status", "in_progress"}, {"role", "assistant"}, {"content", []object{}},
		}})
		o.event("response.content_part.added", o.part(field{"part", textPart("")})...)
	}
	o.said.WriteString(text)
	o.event("response.output_text.delta", o.part(field{"delta", text}, field{"logprobs", []object{}})...)
}

// part adds where the text stands.
func (o *responseWriter) part(more ...field) []field {
	return append(more, field{"item_id", o.itemID}, field{"output_index", o.index}, field{"content_index", 0})
}

func (o *responseWriter) complete(rec chatRecord) {
	message := messageItem(o.itemID, o.said.String())
	if o.speaking && !o.called {
		o.event("response.output_text.done", o.part(field{"text", o.said.String()}, field{"logprobs", []object{}})...)
		o.event("response.content_part.done", o.part(field{"part", textPart(o.said.String())})...)
		o.event("response.output_item.done", field{"output_index", o.index}, field{"item", message})
	}
	output := o.items
	if o.speaking && (o.newest || !o.called) { // older nodes forget a message that led to a call
		output = append(output, message)
	}
	o.event("response.completed", field{"response", o.response(now(), "completed", output, &rec.metrics)})
}
