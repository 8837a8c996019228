package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
)

// Content types of answers and errors. A node writes the charset where it answers in its own
// dialect or where a translator refuses by itself, and leaves it out where a translator passes
// on what a handler said.
const (
	typeJSON        = "application/json"
	typeJSONCharset = "application/json; charset=utf-8"
)

// The errors of the dialects, in the order of their fields on the wire.
type (
	ollamaError struct {
		Error string `json:"error"`
	}
	openAIError struct {
		Error struct {
			Message string  `json:"message"`
			Type    string  `json:"type"`
			Param   *string `json:"param"`
			Code    *string `json:"code"`
		} `json:"error"`
	}
	anthropicError struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		RequestID string `json:"request_id,omitempty"`
	}
)

// ErrorBody is the body of an error answer, and its content type, as the dialect spells it.
//
// early says that the request is refused before it has reached a handler: by the reading of
// its body or by a translator. On /v1 such a body has a charset in its type and no newline at
// its end; one that has passed from a handler through the translator has it the other way
// round. The native dialect knows no such difference.
func ErrorBody(d Dialect, status int, message string, early bool) (contentType string, body []byte) {
	switch d {
	case OpenAI:
		var e openAIError
		e.Error.Message, e.Error.Type = message, openAIType(status)
		body = marshal(e)
	case Anthropic:
		e := anthropicError{Type: "error", RequestID: requestID()}
		e.Error.Message, e.Error.Type = message, anthropicType(status)
		body = marshal(e)
	default:
		return typeJSONCharset, marshal(ollamaError{message})
	}
	if early {
		return typeJSONCharset, body
	}
	return typeJSON, append(body, '\n')
}

// ErrorRecord is the frame that ends a stream which failed after its first frame. Nothing
// follows it, no [DONE] either: clients take that for success.
func ErrorRecord(d Dialect, message string) []byte {
	switch d {
	case OpenAI:
		var e openAIError
		e.Error.Message, e.Error.Type = message, openAIType(500)
		return bytes.Join([][]byte{[]byte("data: "), marshal(e), []byte("\n\n")}, nil)
	case Anthropic:
		e := anthropicError{Type: "error"}
		e.Error.Message, e.Error.Type = message, anthropicType(500)
		return bytes.Join([][]byte{[]byte("event: error\ndata: "), marshal(e), []byte("\n\n")}, nil)
	default:
		return append(marshal(ollamaError{message}), '\n')
	}
}

// ErrorMessage reads the message out of an error body of a node, in whichever dialect it is:
// the hosted service's errors are native ones even on /v1. It returns "" if there is none.
func ErrorMessage(body []byte) string {
	var outer struct{ Error json.RawMessage }
	if json.Unmarshal(body, &outer) != nil {
		return ""
	}
	var message string
	if json.Unmarshal(outer.Error, &message) == nil {
		return message
	}
	var inner struct{ Message string }
	if json.Unmarshal(outer.Error, &inner) != nil {
		return ""
	}
	return inner.Message
}

// openAIType is the word that OpenAI's dialect has for a status.
func openAIType(status int) string {
	switch status {
	case 400:
		return "invalid_request_error"
	case 404:
		return "not_found_error"
	}
	return "api_error"
}

// anthropicType is the word that Anthropic's dialect has for a status.
func anthropicType(status int) string {
	switch status {
	case 400:
		return "invalid_request_error"
	case 401:
		return "authentication_error"
	case 403:
		return "permission_error"
	case 404:
		return "not_found_error"
	case 429:
		return "rate_limit_error"
	case 503, 529:
		return "overloaded_error"
	}
	return "api_error"
}

// requestID mints the id that Anthropic's errors carry: "req_" and 24 random hex digits.
func requestID() string {
	var b [12]byte
	rand.Read(b[:]) // never fails: it ends the process instead
	return "req_" + hex.EncodeToString(b[:])
}

// marshal encodes one of the error types above, which cannot fail, with Go's escapes.
func marshal(e any) []byte {
	body, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return body
}
