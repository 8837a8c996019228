package wire

import (
	"bytes"
	"errors"
)

// Where the keys of OpenAI's answers stand in 0.24.0.
var (
	// A chunk of /v1/completions has them in another order than the single answer.
	answerKeys = []string{
		`"id"`, `"object"`, `"created"`, `"model"`, `"system_fingerprint"`, `"choices"`, `"usage"`,
	}
	choiceKeys   = []string{`"text"`, `"index"`, `"message"`, `"finish_reason"`, `"logprobs"`}
	callKeys     = []string{`"id"`, `"index"`, `"type"`, `"function"`}
	functionKeys = []string{`"name"`, `"arguments"`}
)

// errChoices says that a chunk has not the one choice that a node gives, which knows no n.
var errChoices = errors.New("another choice than the first")

// A chunkFolder folds the chunks of OpenAI's chat completions and completions.
type chunkFolder struct {
	chat bool

	reader   frameReader
	last     fieldList // the newest chunk, without its choices
	choice   fieldList // the newest choice, without its delta and logprobs
	message  fieldList // what its delta has that is not joined
	logprobs fieldList // what the newest logprobs have that is not joined

	role, finish    []byte // as spelt; the newest that says something
	said, reasoning joinedText
	tokens          joinedList // logprobs.content
	calls           []toolCall
}

func (f *chunkFolder) add(frame []byte) error {
	data, err := eventData(frame)
	if err != nil || string(data) == "[DONE]" {
		return err
	}
	r := &f.reader
	f.last = f.last[:0]
	r.open(data)
	for name := r.field(); name != nil; name = r.field() {
		if string(name) != `"choices"` {
			f.last = append(f.last, rawField{name, r.value(anyKind)})
			continue
		}
		n := 0
		for r.enter('['); r.more(); n++ {
			f.readChoice()
		}
		if n > 1 {
			r.fail(errChoices)
		}
	}
	return r.close()
}

func (f *chunkFolder) readChoice() {
	r := &f.reader
	f.choice = f.choice[:0]
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		var value []byte
		switch string(name) {
		case `"delta"`:
			f.readDelta()
			continue
		case `"logprobs"`:
			f.readLogprobs()
			continue
		case `"text"`:
			value = f.said.read(r)
		case `"index"`:
			if value = r.value('0'); string(value) != "0" {
				r.fail(errChoices)
			}
		case `"finish_reason"`:
			if value = r.value(anyKind); !isEmpty(value) {
				f.finish = value
			}
		default:
			value = r.value(anyKind)
		}
		f.choice = append(f.choice, rawField{name, value})
	}
}

func (f *chunkFolder) readDelta() {
	r := &f.reader
	f.message = f.message[:0]
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"role"`:
			if role := r.value(anyKind); !isEmpty(role) {
				f.role = role
			}
		case `"content"`:
			f.said.read(r)
		case `"reasoning"`:
			f.reasoning.read(r)
		case `"tool_calls"`:
			if r.peek() == 'n' {
				r.skip('n')
				continue
			}
			for r.enter('['); r.more(); {
				f.addCall(readCall(r))
			}
		default:
			f.message = append(f.message, rawField{name, r.value(anyKind)})
		}
	}
}

func (f *chunkFolder) readLogprobs() {
	r := &f.reader
	if r.peek() == 'n' {
		r.skip('n')
		return
	}
	f.logprobs = f.logprobs[:0]
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		if string(name) == `"content"` {
			f.tokens.read(r)
		} else {
			f.logprobs = append(f.logprobs, rawField{name, r.value(anyKind)})
		}
	}
}

func (f *chunkFolder) body() ([]byte, error) {
	choice := f.choice
	object := []byte(`"text_completion"`)
	if f.chat {
		object = []byte(`"chat.completion"`)
		choice = choice.set(choiceKeys, `"message"`, f.wholeMessage().appendTo(nil))
	} else {
		choice = choice.set(choiceKeys, `"text"`, f.said.value())
	}
	choice = choice.set(choiceKeys, `"finish_reason"`, f.finish)
	if tokens := f.tokens.valueIfAny(); tokens != nil {
		f.logprobs = f.logprobs.set([]string{`"content"`}, `"content"`, tokens)
	}
	if len(f.logprobs) > 0 {
		choice = choice.set(choiceKeys, `"logprobs"`, f.logprobs.appendTo(nil))
	}

	last := f.last.set(answerKeys, `"object"`, object)
	last = last.set(answerKeys, `"choices"`, append(choice.appendTo([]byte{'['}), ']'))
	return append(last.ordered(answerKeys).appendTo(nil), '\n'), nil
}

// wholeMessage is the message of the answer, its fields in the order of 0.24.0.
func (f *chunkFolder) wholeMessage() fieldList {
	role := f.role
	if role == nil {
		role = []byte(`"assistant"`)
	}
	m := fieldList{{[]byte(`"role"`), role}, {[]byte(`"content"`), f.said.value()}}
	if reasoning := f.reasoning.valueIfAny(); reasoning != nil {
		m = append(m, rawField{[]byte(`"reasoning"`), reasoning})
	}
	if len(f.calls) > 0 {
		calls := []byte{'['}
		for i := range f.calls {
			if i > 0 {
				calls = append(calls, ',')
			}
			calls = f.calls[i].appendTo(calls)
		}
		m = append(m, rawField{[]byte(`"tool_calls"`), append(calls, ']')})
	}
	return append(m, f.message...)
}

// A toolCall is a call of a tool, or a piece of one, as it is spelt.
type toolCall struct {
	id, index []byte
	call      fieldList // without function
	function  fieldList // without arguments
	arguments joinedText
}

// readCall reads an element of a delta's tool_calls.
func readCall(r *frameReader) toolCall {
	var c toolCall
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		if string(name) == `"function"` {
			r.enter('{')
			for name := r.field(); name != nil; name = r.field() {
				if string(name) == `"arguments"` {
					c.arguments.read(r)
				} else {
					c.function = append(c.function, rawField{name, r.value(anyKind)})
				}
			}
			continue
		}
		value := r.value(anyKind)
		switch string(name) {
		case `"id"`:
			c.id = value
		case `"index"`:
			c.index = value
		}
		c.call = append(c.call, rawField{name, value})
	}
	return c
}

// addCall joins a piece to the newest call of its index. A piece with an id of its own begins
// a call, for a node may number several whole calls alike.
func (f *chunkFolder) addCall(piece toolCall) {
	for i := len(f.calls) - 1; i >= 0; i-- {
		c := &f.calls[i]
		if !bytes.Equal(c.index, piece.index) {
			continue
		}
		if !isEmpty(piece.id) && !bytes.Equal(c.id, piece.id) {
			break
		}
		c.arguments.pieces = append(c.arguments.pieces, piece.arguments.pieces...)
		return
	}
	f.calls = append(f.calls, piece)
}

func (c *toolCall) appendTo(b []byte) []byte {
	function := c.function.set(functionKeys, `"arguments"`, c.arguments.value())
	return c.call.set(callKeys, `"function"`, function.appendTo(nil)).appendTo(b)
}
