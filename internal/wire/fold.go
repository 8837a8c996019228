package wire

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
)

// ErrNoFold says that the frames of an operation are not folded here: those of a stream that
// is no text.
var ErrNoFold = errors.New("frames of this operation are not folded")

// Fold makes the single answer of a dialect from all frames of its stream: of /api/generate,
// /api/chat, /v1/chat/completions, /v1/completions, /v1/responses and /v1/messages. It is,
// byte for byte, what a node sends that was asked for no stream: same order of keys, same
// escapes, same digits.
//
// Texts and lists are joined; everything else is the last frame's, unknown fields included.
// OpenAI's usage is that of the usage frame, and absent without one. The frames must not
// change while Fold runs.
//
// The frames are those of a complete answer, each of which a Judge has passed, so nothing is
// judged again. The error is ErrNoFold, or wraps ErrFrame.
func Fold(d Dialect, op Operation, frames iter.Seq[[]byte]) (contentType string, body []byte, err error) {
	var f folder
	switch {
	case d == Ollama && op == Generate:
		contentType, f = typeJSONCharset, &recordFolder{keys: generateKeys}
	case d == Ollama && op == Chat:
		contentType, f = typeJSONCharset, &recordFolder{keys: chatKeys, chat: true}
	case d == OpenAI && op == Chat:
		contentType, f = typeJSON, &chunkFolder{chat: true}
	case d == OpenAI && op == Generate:
		contentType, f = typeJSON, new(chunkFolder)
	case d == OpenAI && op == Responses:
		contentType, f = typeJSON, new(responseFolder)
	case d == Anthropic && op == Chat:
		contentType, f = typeJSON, new(messagesFolder)
	default:
		return "", nil, ErrNoFold
	}

	for frame := range frames {
		if err := f.add(frame); err != nil {
			return "", nil, fmt.Errorf("%w: %w", ErrFrame, err)
		}
	}
	if body, err = f.body(); err != nil {
		return "", nil, fmt.Errorf("%w: %w", ErrFrame, err)
	}
	return contentType, body, nil
}

// A folder gathers the frames of one answer, each of which a Judge has passed.
type folder interface {
	add(frame []byte) error
	body() ([]byte, error)
}

// Where the keys of an answer stand in 0.24.0. Between them and behind them there may be
// others.
var (
	generateKeys = []string{
		`"model"`, `"remote_model"`, `"remote_host"`, `"created_at"`, `"response"`, `"thinking"`,
		`"done"`, `"done_reason"`, `"context"`, `"total_duration"`, `"load_duration"`,
		`"prompt_eval_count"`, `"prompt_eval_duration"`, `"eval_count"`, `"eval_duration"`,
		`"tool_calls"`, `"_debug_info"`, `"logprobs"`, `"image"`, `"completed"`, `"total"`,
	}
	chatKeys = []string{
		`"model"`, `"remote_model"`, `"remote_host"`, `"created_at"`, `"message"`, `"done"`,
		`"done_reason"`, `"_debug_info"`, `"logprobs"`, `"total_duration"`, `"load_duration"`,
		`"prompt_eval_count"`, `"prompt_eval_duration"`, `"eval_count"`, `"eval_duration"`,
	}
	messageKeys = []string{
		`"role"`, `"content"`, `"thinking"`, `"images"`, `"tool_calls"`, `"tool_name"`, `"tool_call_id"`,
	}
)

// A recordFolder folds native records.
type recordFolder struct {
	keys []string
	chat bool

	reader  frameReader
	last    fieldList // the newest record
	message fieldList // its message

	said, thinking              joinedText // response or message.content, and thinking
	images, toolCalls, logprobs joinedList
}

func (f *recordFolder) add(frame []byte) error {
	r := &f.reader
	f.last = f.last[:0]
	r.open(frame)
	for name := r.field(); name != nil; name = r.field() {
		var value []byte
		switch key := string(name); {
		case key == `"logprobs"`:
			value = f.logprobs.read(r)
		case f.chat && key == `"message"`:
			f.readMessage()
		case !f.chat && key == `"response"`:
			value = f.said.read(r)
		case !f.chat && key == `"thinking"`:
			value = f.thinking.read(r)
		case !f.chat && key == `"tool_calls"`:
			value = f.toolCalls.read(r)
		default:
			value = r.value(anyKind)
		}
		f.last = append(f.last, rawField{name, value})
	}
	return r.close()
}

func (f *recordFolder) readMessage() {
	r := &f.reader
	f.message = f.message[:0]
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		var value []byte
		switch string(name) {
		case `"content"`:
			value = f.said.read(r)
		case `"thinking"`:
			value = f.thinking.read(r)
		case `"images"`:
			value = f.images.read(r)
		case `"tool_calls"`:
			value = f.toolCalls.read(r)
		default:
			value = r.value(anyKind)
		}
		f.message = append(f.message, rawField{name, value})
	}
}

func (f *recordFolder) body() ([]byte, error) {
	answer := f.last
	if f.chat {
		m := f.message.set(messageKeys, `"content"`, f.said.value())
		m = m.set(messageKeys, `"thinking"`, f.thinking.valueIfAny())
		m = m.set(messageKeys, `"images"`, f.images.valueIfAny())
		m = m.set(messageKeys, `"tool_calls"`, f.toolCalls.valueIfAny())
		answer = answer.set(f.keys, `"message"`, m.appendTo(nil))
	} else {
		answer = answer.set(f.keys, `"response"`, f.said.value())
		answer = answer.set(f.keys, `"thinking"`, f.thinking.valueIfAny())
		answer = answer.set(f.keys, `"tool_calls"`, f.toolCalls.valueIfAny())
	}
	answer = answer.set(f.keys, `"logprobs"`, f.logprobs.valueIfAny())
	return answer.appendTo(nil), nil
}

// A joinedText is a string out of pieces. They stay escaped: what a node writes for the whole
// is what it writes for the pieces.
type joinedText struct{ pieces []byte }

// read reads the next piece and gives it as it is spelt; null is an empty one.
func (t *joinedText) read(r *frameReader) []byte {
	if r.peek() == 'n' {
		return r.value('n')
	}
	v := r.value('"')
	t.add(v)
	return v
}

// add joins a string as it is spelt.
func (t *joinedText) add(v []byte) {
	if len(v) > len(`""`) {
		t.pieces = append(t.pieces, v[1:len(v)-1]...)
	}
}

func (t *joinedText) value() []byte {
	return append(append([]byte{'"'}, t.pieces...), '"')
}

// valueIfAny is nil if the text is empty: such a field is left out.
func (t *joinedText) valueIfAny() []byte {
	if len(t.pieces) == 0 {
		return nil
	}
	return t.value()
}

// A joinedList is an array out of pieces.
type joinedList struct{ pieces []byte }

// read reads the next piece and gives it as it is spelt; null is an empty one.
func (l *joinedList) read(r *frameReader) []byte {
	if r.peek() == 'n' {
		return r.value('n')
	}
	v := r.value('[')
	l.add(v)
	return v
}

// add joins a list as it is spelt.
func (l *joinedList) add(v []byte) {
	if len(v) > len("[]") {
		l.addElements(bytes.TrimSpace(v[1 : len(v)-1]))
	}
}

// addElements joins elements as they stand between brackets.
func (l *joinedList) addElements(elements []byte) {
	if len(elements) == 0 {
		return
	}
	if len(l.pieces) > 0 {
		l.pieces = append(l.pieces, ',')
	}
	l.pieces = append(l.pieces, elements...)
}

// valueIfAny is nil if the list is empty: such a field is left out.
func (l *joinedList) valueIfAny() []byte {
	if len(l.pieces) == 0 {
		return nil
	}
	return append(append([]byte{'['}, l.pieces...), ']')
}
