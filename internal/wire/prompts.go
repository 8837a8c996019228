package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Prompts is the body of a batch of prompts, taken apart.
type Prompts struct {
	// Items are parts of the body. Only those of a JSON array are known to be JSON: ParsePrompt
	// judges each by itself, so that one that is broken spoils no other.
	Items   [][]byte
	Ordered bool // the results are wanted in the order of the items
}

// A Prompt is one item of a batch: a request and where it goes.
type Prompt struct {
	CustomID string // the client's own name of it, "" if it has none
	Route    Route  // one of access Infer
	Body     []byte // not judged yet, a part of the item
}

// customIDLimit bounds what a client may have repeated to it, in bytes.
const customIDLimit = 512

// The fields of an item that says itself where it goes, as in OpenAI's files of batches.
var envelopeFields = []string{"custom_id", "method", "url", "body"}

// promptRoutes are the routes of items that do not say where they go, by the field that tells.
var promptRoutes = []struct{ field, path string }{
	{"messages", "/api/chat"}, {"prompt", "/api/generate"}, {"input", "/api/embed"},
}

// ParsePrompts takes the body of a batch apart: a JSON array of items, an object with such an
// array as its requests, or a line for each item. Blank lines are nothing. The work is linear in
// the body, and the items are parts of it. More than most items, none, and what is no such body
// is a *BadRequest.
func ParsePrompts(body []byte, most int) (*Prompts, error) {
	rest := trimSpace(body)
	p := new(Prompts)
	var err error
	switch {
	case len(rest) == 0:
	case rest[0] == '[':
		err = p.array(rest, most)
	case rest[0] == '{':
		wrapped, end := beginsWrapped(rest)
		if wrapped {
			err = p.wrapped(rest, most)
			break
		}
		if line := bytes.IndexByte(rest, '\n'); line >= 0 && end > int64(line) {
			return nil, early(ReasonMalformed, "the first item is written over several lines; write each item in one line, or all of them as a JSON array")
		}
		err = p.lines(rest, most)
	default:
		err = p.lines(rest, most)
	}
	if err != nil {
		return nil, err
	}
	if len(p.Items) == 0 {
		return nil, early(ReasonEmptyBody, `there are no items; send a JSON array of requests, an object {"requests":[...]}, or one request a line`)
	}
	return p, nil
}

// array reads the items of a body that is one JSON array.
func (p *Prompts) array(body []byte, most int) error {
	d := newPromptDecoder(body)
	if err := p.elements(d, body, most); err != nil {
		return err
	}
	return ends(d, body)
}

// elements reads the items of the array that is next.
func (p *Prompts) elements(d *jsontext.Decoder, body []byte, most int) error {
	if _, err := d.ReadToken(); err != nil {
		return explainSyntax(body, Ollama)
	}
	for d.PeekKind() != ']' {
		item, err := nextValue(d, body)
		if err != nil {
			return explainSyntax(body, Ollama)
		}
		if err := p.add(item, most); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return explainSyntax(body, Ollama)
	}
	return nil
}

// wrapped reads a body that is one object with the items in it.
func (p *Prompts) wrapped(body []byte, most int) error {
	d := newPromptDecoder(body)
	var seen []string
	err := eachField(d, body, func(name string) error {
		if slices.Contains(seen, name) {
			return duplicateField(name)
		}
		seen = append(seen, name)
		switch name {
		case "requests":
			if d.PeekKind() == '[' {
				return p.elements(d, body, most)
			}
			return early(ReasonWrongType, `"requests" must be an array of items`)
		case "ordered":
			v, err := nextValue(d, body)
			if err != nil {
				return explainSyntax(body, Ollama)
			}
			if p.Ordered = isTrue(v); !p.Ordered && string(v) != "false" {
				return early(ReasonWrongType, `"ordered" must be true or false`)
			}
			return nil
		}
		return early(ReasonUnknownField, fmt.Sprintf(`unknown field %q beside "requests"; there is only "ordered"`, shorten(name, nameLimit)))
	})
	if err != nil {
		return err
	}
	return ends(d, body)
}

// lines reads the items of a body that has one a line.
func (p *Prompts) lines(body []byte, most int) error {
	for line := range bytes.Lines(body) {
		if line = bytes.Trim(line, " \t\r\n"); len(line) == 0 {
			continue
		}
		if err := p.add(line[:len(line):len(line)], most); err != nil {
			return err
		}
	}
	return nil
}

func (p *Prompts) add(item []byte, most int) error {
	if len(p.Items) == most {
		bad := early(ReasonTooMany, fmt.Sprintf("the batch has more than %d items, which is the most that is taken here; send it in parts", most))
		bad.Status = http.StatusRequestEntityTooLarge
		return bad
	}
	p.Items = append(p.Items, item)
	return nil
}

// ParsePrompt finds out where an item goes. It is either a request with an envelope around it, as
// in {"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{...}}, or a native
// request, which is known by its messages, prompt or input. The error is a *BadRequest; what
// could be found out by then is in the Prompt all the same.
func ParsePrompt(item []byte) (Prompt, error) {
	var p Prompt
	d := newPromptDecoder(item)
	if d.PeekKind() != '{' {
		if err := newPromptDecoder(item).SkipValue(); err != nil {
			return p, explainSyntax(item, Ollama)
		}
		return p, early(ReasonWrongType, "an item must be a JSON object")
	}
	envelope := make(map[string][]byte)
	var told []string // fields that tell the route
	unknown := ""
	err := eachField(d, item, func(name string) error {
		value, err := nextValue(d, item)
		if err != nil {
			return explainSyntax(item, Ollama)
		}
		switch {
		case slices.Contains(envelopeFields, name):
			if envelope[name] != nil {
				return duplicateField(name)
			}
			envelope[name] = value
			return nil
		case promptRoute(name) != "" && !slices.Contains(told, name):
			told = append(told, name)
		}
		if unknown == "" {
			unknown = name
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	if err := ends(d, item); err != nil {
		return p, err
	}
	if len(envelope) > 0 {
		return p, p.unwrap(envelope, unknown)
	}
	switch len(told) {
	case 0:
		return p, early(ReasonNoRoute, `the item does not tell what it asks; send one with "messages", "prompt" or "input", or {"url":"/v1/chat/completions","body":{...}}`)
	case 1:
		p.Route, p.Body = *Find(http.MethodPost, promptRoute(told[0])).Route, item
		return p, nil
	}
	return p, early(ReasonNoRoute, fmt.Sprintf(`the item has both %q and %q, so it could be two things; leave one out, or send {"url":"/api/chat","body":{...}}`, told[0], told[1]))
}

// promptRoute is the route of a native request that has a field, "" if the field does not tell.
func promptRoute(field string) string {
	for _, r := range promptRoutes {
		if r.field == field {
			return r.path
		}
	}
	return ""
}

// unwrap reads an item that says where it goes.
func (p *Prompt) unwrap(envelope map[string][]byte, unknown string) error {
	if id, ok := envelope["custom_id"]; ok {
		if id[0] != '"' || len(id) > customIDLimit || json.Unmarshal(id, &p.CustomID) != nil {
			return early(ReasonWrongType, fmt.Sprintf(`"custom_id" must be a text of at most %d bytes`, customIDLimit))
		}
	}
	if unknown != "" {
		return early(ReasonUnknownField, fmt.Sprintf("unknown field %q of an item; use %s, and put the request into body",
			shorten(unknown, nameLimit), strings.Join(envelopeFields, ", ")))
	}
	if method, ok := envelope["method"]; ok && string(method) != `"POST"` {
		return early(ReasonNoRoute, `"method" must be "POST", or left out`)
	}
	var url string
	if envelope["url"] == nil || json.Unmarshal(envelope["url"], &url) != nil {
		return early(ReasonNoRoute, `the item needs a "url" beside its "body", as in "url":"/v1/chat/completions"`)
	}
	m := Find(http.MethodPost, url)
	if m.Status != http.StatusOK || m.Route.Access != Infer {
		return early(ReasonNoRoute, fmt.Sprintf("%q is not a route that takes prompts; use one as /api/chat or /v1/chat/completions, without a host", shorten(url, nameLimit)))
	}
	if body := envelope["body"]; body == nil || body[0] != '{' {
		return early(ReasonWrongType, `the item needs a "body", which is the JSON object of the request`)
	}
	p.Route, p.Body = *m.Route, envelope["body"]
	return nil
}

// newPromptDecoder reads what a node reads: what is twice in a request is the matter of who
// judges the request.
func newPromptDecoder(b []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(b[:len(b):len(b)]), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// nextValue gives the value that is next in b, which d reads, as a part of b.
func nextValue(d *jsontext.Decoder, b []byte) ([]byte, error) {
	v, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	end := d.InputOffset()
	return b[end-int64(len(v)) : end : end], nil
}

// eachField calls read for the name of each field of the object that is next in b. read reads
// the value.
func eachField(d *jsontext.Decoder, b []byte, read func(name string) error) error {
	if _, err := d.ReadToken(); err != nil {
		return explainSyntax(b, Ollama)
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return explainSyntax(b, Ollama)
		}
		if err := read(name.String()); err != nil {
			return err
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return explainSyntax(b, Ollama)
	}
	return nil
}

// ends refuses what stands behind the value that d has read of b.
func ends(d *jsontext.Decoder, b []byte) error {
	if len(trimSpace(b[d.InputOffset():])) > 0 {
		return trailingData()
	}
	return nil
}

// beginsWrapped tells whether the object at the front of a body has requests in it. end is where
// it ends, if it is well-formed, else 0.
func beginsWrapped(body []byte) (wrapped bool, end int64) {
	d := newPromptDecoder(body)
	err := eachField(d, body, func(name string) error {
		wrapped = wrapped || name == "requests"
		if wrapped {
			return errFound
		}
		return d.SkipValue()
	})
	if err != nil {
		return wrapped, 0
	}
	return false, d.InputOffset()
}

// errFound ends a search.
var errFound = early(ReasonMalformed, "")
