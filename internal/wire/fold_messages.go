package wire

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
)

// Where the keys of Anthropic's answers stand, in 0.24.0 and at HEAD of November 2026.
var (
	messagesKeys = []string{
		`"id"`, `"type"`, `"role"`, `"model"`, `"content"`, `"stop_reason"`, `"stop_sequence"`, `"usage"`,
	}
	blockKeys = []string{
		`"type"`, `"text"`, `"citations"`, `"source"`, `"id"`, `"name"`, `"input"`, `"tool_use_id"`, `"content"`,
		`"is_error"`, `"thinking"`, `"signature"`,
	}
)

var (
	errNoStart = errors.New("an event before message_start")
	errNoBlock = errors.New("a delta of no block")
)

// A messagesFolder folds the events of /v1/messages.
//
// It knows no kinds of blocks: a delta's texts are joined to the fields of their names,
// partial_json is the block's input, a citation goes to its citations, and whatever else a
// delta has takes the place of what the block had.
type messagesFolder struct {
	reader, inner frameReader
	event, delta  fieldList

	started bool
	message fieldList // without content and usage
	usage   fieldList
	blocks  []*contentBlock
}

func (f *messagesFolder) add(frame []byte) error {
	data, err := eventData(frame)
	if err != nil {
		return err
	}
	if f.event, err = f.reader.fields(data, f.event[:0]); err != nil {
		return err
	}
	kind := string(f.event.get(`"type"`))
	if kind == `"message_start"` {
		return f.start()
	}
	switch kind {
	case `"content_block_start"`, `"content_block_delta"`, `"content_block_stop"`, `"message_delta"`, `"message_stop"`:
		if !f.started {
			return errNoStart
		}
	}
	switch kind {
	case `"content_block_start"`:
		fields, err := f.inner.fields(f.event.get(`"content_block"`), nil)
		f.blocks = append(f.blocks, &contentBlock{index: f.event.get(`"index"`), fields: fields})
		return err
	case `"content_block_delta"`:
		return f.addDelta()
	case `"message_delta"`:
		return f.addEnd()
	}
	return nil // content_block_stop, ping, and what is new, say nothing of the answer
}

// start takes over the message as it begins.
func (f *messagesFolder) start() (err error) {
	f.started = true
	if f.message, err = f.inner.fields(f.event.get(`"message"`), f.message[:0]); err != nil {
		return err
	}
	f.blocks = nil
	if content := f.message.get(`"content"`); !isEmpty(content) {
		return errors.New("content in message_start")
	}
	return f.addUsage(f.message.get(`"usage"`))
}

// addEnd takes over what the message became: why it stopped, its true usage.
func (f *messagesFolder) addEnd() error {
	for _, field := range f.event {
		switch string(field.name) {
		case `"type"`:
		case `"usage"`:
			if err := f.addUsage(field.value); err != nil {
				return err
			}
		case `"delta"`:
			var err error
			if f.delta, err = f.inner.fields(field.value, f.delta[:0]); err != nil {
				return err
			}
			for _, field := range f.delta {
				f.message = f.message.set(messagesKeys, string(field.name), field.value)
			}
		default:
			f.message = f.message.set(messagesKeys, string(field.name), field.value)
		}
	}
	return nil
}

func (f *messagesFolder) addUsage(usage []byte) error {
	if isEmpty(usage) {
		return nil
	}
	fields, err := f.inner.fields(usage, nil)
	for _, field := range fields {
		f.usage = f.usage.set(nil, string(field.name), field.value)
	}
	return err
}

func (f *messagesFolder) addDelta() (err error) {
	if f.delta, err = f.inner.fields(f.event.get(`"delta"`), f.delta[:0]); err != nil {
		return err
	}
	index := f.event.get(`"index"`)
	for _, field := range f.delta {
		if string(field.name) == `"type"` {
			continue
		}
		block := f.blockOf(index, string(field.name))
		if block == nil {
			return errNoBlock
		}
		if err := block.add(field); err != nil {
			return err
		}
	}
	return nil
}

// blockOf finds the block that a field of a delta belongs to: the newest of its index, before
// others one that has the field. 0.24.0 begins to think at the index of an open text and goes
// on with the text at the next index without beginning a block: that one is begun here.
func (f *messagesFolder) blockOf(index []byte, name string) *contentBlock {
	var newest *contentBlock
	for i := len(f.blocks) - 1; i >= 0; i-- {
		if b := f.blocks[i]; bytes.Equal(b.index, index) {
			if b.fields.get(name) != nil {
				return b
			}
			if newest == nil {
				newest = b
			}
		}
	}
	if newest == nil && (name == `"text"` || name == `"thinking"`) {
		newest = &contentBlock{index: index, fields: fieldList{{[]byte(`"type"`), []byte(name)}}}
		f.blocks = append(f.blocks, newest)
	}
	return newest
}

func (f *messagesFolder) body() ([]byte, error) {
	blocks := make([]fieldList, 0, len(f.blocks))
	for _, b := range f.blocks {
		whole, err := b.whole()
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, whole)
	}
	m := f.message.set(messagesKeys, `"content"`, appendObjects(nil, asNodeOrders(blocks)))
	if f.usage != nil {
		m = m.set(messagesKeys, `"usage"`, f.usage.appendTo(nil))
	}
	return append(m.appendTo(nil), '\n'), nil
}

// asNodeOrders gives the blocks as they stand in a node's single answer, where there is one
// for all thinking and one for all text, and the calls of tools follow them, whatever the
// order in which the model came to them. Other kinds of blocks leave all as they are.
func asNodeOrders(blocks []fieldList) []fieldList {
	var thinking, text joinedText
	var calls []fieldList
	for _, b := range blocks {
		switch kind := string(b.get(`"type"`)); {
		case kind == `"thinking"` && len(b) == 2 && isText(b.get(kind)):
			thinking.add(b.get(kind))
		case kind == `"text"` && len(b) == 2 && isText(b.get(kind)):
			text.add(b.get(kind))
		case kind == `"tool_use"`:
			calls = append(calls, b)
		default:
			return blocks
		}
	}
	var ordered []fieldList
	if v := thinking.valueIfAny(); v != nil {
		ordered = append(ordered, fieldList{{[]byte(`"type"`), []byte(`"thinking"`)}, {[]byte(`"thinking"`), v}})
	}
	if v := text.valueIfAny(); v != nil {
		ordered = append(ordered, fieldList{{[]byte(`"type"`), []byte(`"text"`)}, {[]byte(`"text"`), v}})
	}
	return append(ordered, calls...)
}

// appendObjects writes a list of objects; without any it is null, as Go writes an empty one.
func appendObjects(b []byte, list []fieldList) []byte {
	if len(list) == 0 {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, l := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = l.appendTo(b)
	}
	return append(b, ']')
}

// A contentBlock is a block of a message: what it began with, and what was joined to it.
type contentBlock struct {
	index     []byte
	fields    fieldList
	texts     []namedText
	citations *joinedList
}

type namedText struct {
	name string
	text joinedText
}

func (b *contentBlock) add(field rawField) error {
	switch name := string(field.name); {
	case isText(field.value):
		return b.addText(name, field.value)
	case name == `"citation"`:
		if b.citations == nil {
			b.citations = new(joinedList)
			if began := b.fields.get(`"citations"`); !isEmpty(began) {
				if began[0] != '[' {
					return errors.New("citations that are no list")
				}
				b.citations.add(began)
			}
		}
		b.citations.addElements(field.value)
	default:
		b.fields = b.fields.set(blockKeys, name, field.value)
	}
	return nil
}

func (b *contentBlock) addText(name string, value []byte) error {
	for i := range b.texts {
		if b.texts[i].name == name {
			b.texts[i].text.add(value)
			return nil
		}
	}
	joined := namedText{name: name}
	if began := b.fields.get(name); isText(began) {
		joined.text.add(began)
	} else if !isEmpty(began) {
		return fmt.Errorf("a text for %s, which is none", name)
	} else if name != `"partial_json"` {
		b.fields = b.fields.set(blockKeys, name, value) // keeps the place
	}
	joined.text.add(value)
	b.texts = append(b.texts, joined)
	return nil
}

// whole gives the block with all that was joined to it.
func (b *contentBlock) whole() (fieldList, error) {
	whole := b.fields
	for i := range b.texts {
		name, value := b.texts[i].name, b.texts[i].text.value()
		if name != `"partial_json"` {
			whole = whole.set(blockKeys, name, value)
			continue
		}
		input, _ := jsontext.AppendUnquote(nil, value) // what is wrong in it is U+FFFD
		if input = bytes.TrimSpace(input); len(input) == 0 {
			continue // the block's own input stays
		}
		if !validJSON(input) {
			return nil, errors.New("partial_json that makes no JSON")
		}
		whole = whole.set(blockKeys, `"input"`, input)
	}
	if b.citations != nil {
		whole = whole.set(blockKeys, `"citations"`, b.citations.valueIfAny())
	}
	return whole, nil
}

// isText tells whether a value is a string.
func isText(v []byte) bool { return len(v) > 0 && v[0] == '"' }
