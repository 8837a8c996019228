package wire

import (
	"strings"
)

// LastPrompt is what the user wrote last, as a node reads it: of messages and items the last
// of the role user that has a text, its parts joined by line ends; the prompt; the texts to
// embed, joined by line ends. A message that holds only an image, or what a tool gave, is
// passed over. It is "" where nothing was written.
func (r *Request) LastPrompt() string {
	if r.source == nil {
		return ""
	}
	switch r.Route.Operation {
	case Chat:
		return lastWritten(r.source.raw("messages"))
	case Responses:
		if input := r.source.raw("input"); input != nil && input[0] == '[' {
			return lastWritten(input)
		}
		return r.source.string("input")
	case Embed:
		if input := r.source.raw("input"); input != nil {
			return written(input)
		}
	}
	return r.source.string("prompt")
}

// lastWritten is the last text of a user in a list of messages.
func lastWritten(messages []byte) string {
	last := ""
	if messages == nil {
		return last
	}
	for message := range elements(messages) {
		if isRole(pick(message, "role", folds), "user") {
			if text := written(pick(message, "content", folds)); text != "" {
				last = text
			}
		}
	}
	return last
}

// written is the text of a content: a string, or the parts of text in a list.
func written(content []byte) string {
	switch {
	case content == nil:
	case content[0] == '"':
		return string(appendText(nil, content[1:len(content)-1]))
	case content[0] == '[':
		var all []byte
		for part := range elements(content) {
			text := partText(part)
			if isText(part) {
				text = part[1 : len(part)-1]
			}
			if text == nil {
				continue
			}
			if len(all) > 0 {
				all = append(all, '\n')
			}
			all = appendText(all, text)
		}
		return string(all)
	}
	return ""
}

// isRole tells whether a JSON value is a role. A node takes roles in any case
// (ollama-api 5).
func isRole(value []byte, role string) bool {
	return isText(value) && strings.ToLower(string(appendText(nil, value[1:len(value)-1]))) == role
}

// SingleTurn tells whether no conversation comes before what the user wrote: one message of
// the user and, apart from those of the system, no other; a prompt without a native context;
// items likewise, and no earlier response to go on from. Texts to embed have nothing before
// them.
func (r *Request) SingleTurn() bool {
	if r.source == nil {
		return false
	}
	switch r.Route.Operation {
	case Chat:
		return isSingleTurn(r.source.raw("messages"))
	case Responses:
		if r.source.raw("conversation") != nil || r.hasUnknown("previous_response_id") {
			return false
		}
		input := r.source.raw("input")
		return input == nil || input[0] == '"' || isSingleTurn(input)
	case Generate:
		return r.source.isEmpty("context")
	}
	return true
}

// isSingleTurn tells so of a list of messages. A role that is not known may be anybody's.
func isSingleTurn(messages []byte) bool {
	if messages == nil {
		return false
	}
	users := 0
	for message := range elements(messages) {
		role := pick(message, "role", folds)
		kind := pick(message, "type", folds) // of an item
		switch {
		case hasText(kind) && !hasWord(kind, "message"):
			return false
		case isRole(role, "user"):
			users++
		case !isRole(role, "system") && !isRole(role, "developer"):
			return false
		}
	}
	return users == 1
}

// hasUnknown tells whether a request has a field that the schema has not, and is not null.
func (r *Request) hasUnknown(name string) bool {
	return pick(r.source.body[r.source.from:], name, folds) != nil
}

// HasTools tells whether the request gives the model tools to call.
func (r *Request) HasTools() bool {
	return r.source != nil && r.source.raw("tools") != nil && !r.source.isEmpty("tools")
}

// PrintsDate tells whether the request brings a template that prints the date.
func (r *Request) PrintsDate() bool {
	return r.source != nil && PrintsDate(r.source.string("template"))
}

// PrintsDate tells whether a template of a model prints the date, so that what it is used for
// differs from day to day: it has one of the two functions for that (template/template.go of
// 0.24.0). It may say so of a template that only mentions them.
func PrintsDate(template string) bool {
	return strings.Contains(template, "currentDate") || strings.Contains(template, "yesterdayDate")
}
