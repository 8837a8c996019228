package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// finishToolCalls is the finish_reason of an answer that called tools.
const finishToolCalls = `"tool_calls"`

// A chatTranslator makes of a native chat's records what the translator of a 0.24.0 node makes
// of them for OpenAI's chat. Texts, ids and logprobs pass as they are spelt: a node writes them
// with the same encoder.
type chatTranslator struct {
	head   []byte // of a chunk, up to the time
	middle []byte // from there to the choices
	called bool   // a tool was called

	reader frameReader
	record chatRecord
}

// A chatRecord is what the translator takes of a record, as it is spelt.
type chatRecord struct {
	created           int64
	content, thinking []byte // nil when empty
	calls             []byte // of OpenAI's form, without brackets
	logprobs          []byte // nil when empty
	done              bool
	reason            []byte // nil when empty
	prompt, output    int64
}

// begin sets what is the same in all chunks.
func (c *chatTranslator) begin(number, model []byte) {
	c.head = fmt.Appendf(nil, `data: {"id":"chatcmpl-%s","object":"chat.completion.chunk","created":`, number)
	c.middle = fmt.Appendf(nil, `,"model":%s,"system_fingerprint":"fp_ollama","choices":`, model)
}

// tell appends the chunks of a record: one, or two if it has both thinking and something else;
// after the last record also the usage chunk, if asked for, and [DONE].
func (c *chatTranslator) tell(dst []Told, frame []byte, usage bool) ([]Told, error) {
	if err := c.read(frame); err != nil {
		return dst, err
	}
	r := &c.record
	called := c.called || len(r.calls) > 0
	c.called = called
	if r.done && r.reason == nil {
		r.reason = []byte(`"stop"`) // or clients would take the answer for a broken one
	}
	if r.reason != nil && called {
		r.reason = []byte(finishToolCalls)
	}

	whole := *r
	if r.thinking != nil && (r.content != nil || len(r.calls) > 0) {
		first := *r
		first.content, first.calls, first.reason = nil, nil, nil
		dst = append(dst, Told{c.chunk(&first), Part})
		whole.thinking, whole.logprobs = nil, nil
	}
	dst = append(dst, Told{c.chunk(&whole), Part})
	if !r.done {
		return dst, nil
	}
	if usage {
		dst = append(dst, Told{c.usageChunk(r), Usage})
	}
	return append(dst, Told{[]byte("data: [DONE]\n\n"), Final}), nil
}

// chunk writes a chunk with one choice.
func (c *chatTranslator) chunk(r *chatRecord) []byte {
	const most = len(`[{"index":0,"delta":{"role":"assistant","content":"","reasoning":,"tool_calls":[]},"finish_reason":null,`+
		`"logprobs":{"content":}}]}`) + 20 + len("\n\n")
	b := make([]byte, 0, len(c.head)+len(c.middle)+len(r.content)+len(r.thinking)+len(r.calls)+len(r.reason)+len(r.logprobs)+most)
	b = c.begun(b, r)
	b = append(b, `[{"index":0,"delta":{"role":"assistant","content":`...)
	b = append(b, orElse(r.content, `""`)...)
	if r.thinking != nil {
		b = append(append(b, `,"reasoning":`...), r.thinking...)
	}
	if len(r.calls) > 0 {
		b = append(append(append(b, `,"tool_calls":[`...), r.calls...), ']')
	}
	b = append(append(b, `},"finish_reason":`...), orElse(r.reason, `null`)...)
	if r.logprobs != nil {
		b = append(append(append(b, `,"logprobs":{"content":`...), r.logprobs...), '}')
	}
	return append(b, "}]}\n\n"...)
}

func (c *chatTranslator) usageChunk(r *chatRecord) []byte {
	b := append(c.begun(nil, r), `[],"usage":{"prompt_tokens":`...)
	b = append(strconv.AppendInt(b, r.prompt, 10), `,"completion_tokens":`...)
	b = append(strconv.AppendInt(b, r.output, 10), `,"total_tokens":`...)
	return append(strconv.AppendInt(b, r.prompt+r.output, 10), "}}\n\n"...)
}

// begun writes a chunk up to its choices.
func (c *chatTranslator) begun(b []byte, r *chatRecord) []byte {
	return append(strconv.AppendInt(append(b, c.head...), r.created, 10), c.middle...)
}

// read reads a record.
func (c *chatTranslator) read(frame []byte) error {
	r, rec := &c.reader, &c.record
	*rec = chatRecord{calls: rec.calls[:0]}
	dated := false
	r.open(frame)
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"created_at"`:
			at := r.value('"')
			created, err := time.Parse(time.RFC3339Nano, string(bytes.Trim(at, `"`)))
			if err != nil && r.err == nil {
				r.fail(fmt.Errorf("created_at %s", at))
			}
			rec.created, dated = created.Unix(), true
		case `"message"`:
			c.readMessage()
		case `"logprobs"`:
			if v := r.value(anyKind); !isEmpty(v) {
				rec.logprobs = v
			}
		case `"done"`:
			rec.done = r.flag()
		case `"done_reason"`:
			rec.reason = textIfAny(r)
		case `"prompt_eval_count"`:
			rec.prompt = r.count()
		case `"eval_count"`:
			rec.output = r.count()
		default:
			r.skip(anyKind)
		}
	}
	if !dated {
		rec.created = time.Now().Unix()
	}
	return r.close()
}

func (c *chatTranslator) readMessage() {
	r, rec := &c.reader, &c.record
	r.enter('{')
	for name := r.field(); name != nil; name = r.field() {
		switch string(name) {
		case `"content"`:
			rec.content = textIfAny(r)
		case `"thinking"`:
			rec.thinking = textIfAny(r)
		case `"tool_calls"`:
			if r.peek() == 'n' {
				r.skip('n')
				continue
			}
			for r.enter('['); r.more(); {
				c.readCall()
			}
		default:
			r.skip(anyKind)
		}
	}
}

// readCall reads a call of a tool, whose arguments are an object natively and text here.
func (c *chatTranslator) readCall() {
	r := &c.reader
	var id, name, index, arguments []byte
	r.enter('{')
	for field := r.field(); field != nil; field = r.field() {
		switch string(field) {
		case `"id"`:
			id = textIfAny(r)
		case `"function"`:
			r.enter('{')
			for field := r.field(); field != nil; field = r.field() {
				switch string(field) {
				case `"name"`:
					name = textIfAny(r)
				case `"index"`:
					index = r.value('0')
				case `"arguments"`:
					arguments = r.value(anyKind)
				default:
					r.skip(anyKind)
				}
			}
		default:
			r.skip(anyKind)
		}
	}
	text, err := argumentsText(arguments)
	if err != nil {
		r.fail(err)
	}
	b := c.record.calls
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = append(append(b, `{"id":`...), orElse(id, `""`)...)
	b = append(append(b, `,"index":`...), orElse(index, `0`)...)
	b = append(append(b, `,"type":"function","function":{"name":`...), orElse(name, `""`)...)
	b = append(append(b, `,"arguments":`...), text...)
	c.record.calls = append(b, "}}"...)
}

// argumentsText gives an object as a text in JSON, as a node's encoder spells both.
func argumentsText(object []byte) ([]byte, error) {
	if isEmpty(object) {
		object = []byte("{}")
	}
	if object[0] != '{' {
		return nil, errors.New("arguments that are no object")
	}
	var compact, escaped bytes.Buffer
	if err := json.Compact(&compact, object); err != nil {
		return nil, err
	}
	json.HTMLEscape(&escaped, compact.Bytes())
	return quoted(escaped.String()), nil
}

// textIfAny reads a string as it is spelt; an empty one, or null, is nil.
func textIfAny(r *frameReader) []byte {
	if r.peek() == 'n' {
		r.skip('n')
		return nil
	}
	v := r.value('"')
	if len(v) <= len(`""`) {
		return nil
	}
	return v
}

// orElse gives a value, or what stands for none.
func orElse(v []byte, none string) []byte {
	if v == nil {
		return []byte(none)
	}
	return v
}
