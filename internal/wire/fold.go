package wire

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"
)

// ErrNoFold says that the frames of an operation are not folded here: those of a stream that
// is no text of the native or OpenAI's dialect.
var ErrNoFold = errors.New("frames of this operation are not folded")

// ErrIncomplete says that frames are not a whole answer: the last one is missing, or the node
// reported a fault among them.
var ErrIncomplete = errors.New("the answer is not complete")

// Fold makes the single answer of a dialect from all frames of its stream: of /api/generate,
// /api/chat, /v1/chat/completions and /v1/completions. It is, byte for byte, what a node sends
// that was asked for no stream: same order of keys, same escapes, same digits.
//
// Texts and lists are joined; everything else is the last frame's, unknown fields included.
// Usage is that of the usage frame, and absent without one. The frames must not change while
// Fold runs.
//
// The error is ErrNoFold, or wraps ErrIncomplete or ErrFrame.
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
	default:
		return "", nil, ErrNoFold
	}

	judge := NewJudge(d, op)
	for frame := range frames {
		kind, err := judge.Frame(frame)
		if err != nil {
			return "", nil, err
		}
		if kind == Fault {
			return "", nil, fmt.Errorf("%w: %s", ErrIncomplete, judge.Message())
		}
		if err := f.add(frame); err != nil {
			return "", nil, fmt.Errorf("%w: %w", ErrFrame, err)
		}
	}
	if !judge.Complete() {
		return "", nil, ErrIncomplete
	}
	return contentType, f.body(), nil
}

// A folder gathers the frames of one answer, each of which a Judge has passed.
type folder interface {
	add(frame []byte) error
	body() []byte
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

func (f *recordFolder) body() []byte {
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
	return answer.appendTo(nil)
}

// A fieldList is the fields of a JSON object in their order, names and values as they are spelt.
type fieldList []rawField

type rawField struct{ name, value []byte }

// set gives a field its value, nil leaves it alone. A new field stands behind those that come
// before it in keys.
func (l fieldList) set(keys []string, name string, value []byte) fieldList {
	if value == nil {
		return l
	}
	at, rank := 0, rankOf(keys, name)
	for i, m := range l {
		if string(m.name) == name {
			l[i].value = value
			return l
		}
		if rankOf(keys, string(m.name)) < rank {
			at = i + 1
		}
	}
	l = append(l, rawField{})
	copy(l[at+1:], l[at:])
	l[at] = rawField{[]byte(name), value}
	return l
}

// ordered gives the fields in the order of keys, others behind them.
func (l fieldList) ordered(keys []string) fieldList {
	slices.SortStableFunc(l, func(a, b rawField) int {
		return rankOf(keys, string(a.name)) - rankOf(keys, string(b.name))
	})
	return l
}

// rankOf is the place of a name in keys, past all of them if it is not there.
func rankOf(keys []string, name string) int {
	for i, key := range keys {
		if key == name {
			return i
		}
	}
	return len(keys)
}

// appendTo writes the object.
func (l fieldList) appendTo(b []byte) []byte {
	b = append(b, '{')
	for i, m := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, m.name...), ':'), m.value...)
	}
	return append(b, '}')
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
	if len(v) > len("[]") {
		if elements := bytes.TrimSpace(v[1 : len(v)-1]); len(elements) > 0 {
			if len(l.pieces) > 0 {
				l.pieces = append(l.pieces, ',')
			}
			l.pieces = append(l.pieces, elements...)
		}
	}
	return v
}

// valueIfAny is nil if the list is empty: such a field is left out.
func (l *joinedList) valueIfAny() []byte {
	if len(l.pieces) == 0 {
		return nil
	}
	return append(append([]byte{'['}, l.pieces...), ']')
}
