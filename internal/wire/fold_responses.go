package wire

import (
	"errors"
	"math/rand/v2"
	"strconv"
)

// A keyOrder is where the keys of an object stand in a node's single answer, and in that of
// the objects it holds, alone or in lists. The maps of a stream have them sorted.
type keyOrder struct {
	keys      []string
	inner     map[string]*keyOrder
	omitNull  bool // a null field is left out
	omitEmpty bool // a field that is an empty text is left out
}

// responseOrder is the order of the answer of /v1/responses in 0.24.0, with what HEAD of
// November 2026 has besides.
var responseOrder = func() *keyOrder {
	order := func(keys ...string) *keyOrder { return &keyOrder{keys: keys} }
	tool := order(`"type"`, `"name"`, `"description"`, `"strict"`, `"parameters"`, `"tools"`)
	tool.inner = map[string]*keyOrder{`"tools"`: tool}
	return &keyOrder{
		keys: []string{
			`"id"`, `"object"`, `"created_at"`, `"completed_at"`, `"status"`, `"incomplete_details"`, `"model"`,
			`"previous_response_id"`, `"instructions"`, `"output"`, `"error"`, `"tools"`, `"tool_choice"`, `"truncation"`,
			`"parallel_tool_calls"`, `"text"`, `"top_p"`, `"presence_penalty"`, `"frequency_penalty"`, `"top_logprobs"`,
			`"temperature"`, `"reasoning"`, `"usage"`, `"max_output_tokens"`, `"max_tool_calls"`, `"store"`, `"background"`,
			`"service_tier"`, `"metadata"`, `"safety_identifier"`, `"prompt_cache_key"`,
		},
		inner: map[string]*keyOrder{
			`"error"`: order(`"code"`, `"message"`),
			`"tools"`: tool,
			`"text"`: {inner: map[string]*keyOrder{
				`"format"`: order(`"type"`, `"name"`, `"schema"`, `"strict"`),
			}},
			`"reasoning"`: {keys: []string{`"effort"`, `"summary"`}, omitNull: true},
			`"usage"`: order(`"input_tokens"`, `"output_tokens"`, `"total_tokens"`, `"input_tokens_details"`,
				`"output_tokens_details"`),
		},
	}
}()

// itemOrder is the order of an item of the answer's output.
var itemOrder = &keyOrder{
	keys: []string{
		`"id"`, `"type"`, `"status"`, `"role"`, `"content"`, `"call_id"`, `"name"`, `"arguments"`, `"action"`,
		`"summary"`, `"encrypted_content"`,
	},
	inner: map[string]*keyOrder{
		`"content"`: {keys: []string{`"type"`, `"text"`, `"annotations"`, `"logprobs"`}},
		`"summary"`: {keys: []string{`"type"`, `"text"`}},
		`"action"`:  {keys: []string{`"type"`, `"query"`}},
	},
	omitEmpty: true,
}

// A responseFolder folds the events of /v1/responses. The last one holds the whole answer, in
// another order and not quite with the same items.
type responseFolder struct {
	reader   frameReader
	response fieldList // without output
	items    []fieldList
	whole    bool // the response is completed
}

func (f *responseFolder) add(frame []byte) error {
	data, err := eventData(frame)
	if err != nil {
		return err
	}
	r := &f.reader
	var kind string
	r.open(data)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"type"`:
			kind = string(r.value('"'))
		case `"response"`:
			f.readResponse()
		default:
			r.skip(anyKind)
		}
	}
	f.whole = kind == `"response.completed"`
	return r.close()
}

// readResponse reads a response; the newest counts.
func (f *responseFolder) readResponse() {
	r := &f.reader
	f.response, f.items = f.response[:0], f.items[:0]
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		if string(name) != `"output"` {
			f.response = append(f.response, rawField{name, responseOrder.valueOf(r, name)})
			continue
		}
		if r.peek() == 'n' {
			r.skip('n')
			continue
		}
		for r.enter('['); r.more(); {
			f.items = append(f.items, itemOrder.object(r))
		}
	}
}

func (f *responseFolder) body() ([]byte, error) {
	id := f.response.get(`"id"`)
	if f.whole {
		if !isText(id) {
			return nil, errors.New("a response without an id")
		}
		f.items = asNodeGives(f.items, string(id[1:len(id)-1]))
	}
	output := []byte("[]")
	if len(f.items) > 0 {
		output = appendObjects(nil, f.items)
	}
	f.response = append(f.response, rawField{[]byte(`"output"`), output})
	return append(f.response.ordered(responseOrder.keys).appendTo(nil), '\n'), nil
}

// asNodeGives gives the items as they stand in a node's single answer, id being that of the
// response: all reasoning in one item, then the calls of functions or, if there are none, a
// message, be it an empty one. Other kinds of items leave all as they are but for that message.
func asNodeGives(items []fieldList, id string) []fieldList {
	var reasoning, messages, calls []fieldList
	others := false
	for _, item := range items {
		switch string(item.get(`"type"`)) {
		case `"reasoning"`:
			reasoning = append(reasoning, item)
		case `"message"`:
			messages = append(messages, item)
		case `"function_call"`:
			calls = append(calls, item)
		default:
			others = true
		}
	}
	if len(messages) == 0 && len(calls) == 0 {
		messages = append(messages, emptyMessage())
		items = append(items, messages[0])
	}
	if others {
		return items
	}
	var given []fieldList
	if len(reasoning) > 0 {
		given = append(given, joinedReasoning(reasoning).set(itemOrder.keys, `"id"`, []byte(`"rs_`+id+`"`)))
	}
	if len(calls) == 0 {
		return append(given, messages...)
	}
	for i, call := range calls {
		given = append(given, call.set(itemOrder.keys, `"id"`, []byte(`"fc_`+id+`_`+strconv.Itoa(i)+`"`)))
	}
	return given
}

// joinedReasoning makes one item of several: HEAD of November 2026 streams one for each time
// that the model thought.
func joinedReasoning(items []fieldList) fieldList {
	if len(items) == 1 {
		return items[0]
	}
	var text joinedText
	for _, item := range items {
		if v := item.get(`"encrypted_content"`); isText(v) {
			text.add(v)
		}
	}
	summary := fieldList{{[]byte(`"type"`), []byte(`"summary_text"`)}, {[]byte(`"text"`), text.value()}}
	last := items[len(items)-1].set(itemOrder.keys, `"summary"`, appendObjects(nil, []fieldList{summary}))
	return last.set(itemOrder.keys, `"encrypted_content"`, text.value())
}

// emptyMessage is the message of an answer without text. No frame told its id.
func emptyMessage() fieldList {
	id := `"msg_` + strconv.Itoa(rand.IntN(responseNumbers)) + `"`
	return fieldList{
		{[]byte(`"id"`), []byte(id)},
		{[]byte(`"type"`), []byte(`"message"`)},
		{[]byte(`"status"`), []byte(`"completed"`)},
		{[]byte(`"role"`), []byte(`"assistant"`)},
		{[]byte(`"content"`), []byte(`[{"type":"output_text","text":"","annotations":[],"logprobs":[]}]`)},
	}
}

// object reads an object and gives its fields in order.
func (o *keyOrder) object(r *frameReader) fieldList {
	var l fieldList
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		value := o.valueOf(r, name)
		switch {
		case o.omitNull && string(value) == "null", o.omitEmpty && string(value) == `""`:
		default:
			l = append(l, rawField{name, value})
		}
	}
	return l.ordered(o.keys)
}

// valueOf reads the value of a field and gives it in its own order.
func (o *keyOrder) valueOf(r *frameReader, name []byte) []byte {
	inner := o.inner[string(name)]
	switch kind := r.peek(); {
	case inner != nil && kind == '{':
		return inner.object(r).appendTo(nil)
	case inner != nil && kind == '[':
		list := []byte{'['}
		for r.enter('['); r.more(); {
			if len(list) > 1 {
				list = append(list, ',')
			}
			if r.peek() == '{' {
				list = inner.object(r).appendTo(list)
			} else {
				list = append(list, r.value(anyKind)...)
			}
		}
		return append(list, ']')
	}
	return r.value(anyKind)
}
