package wire

import (
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
		Error openAIErrorObject `json:"error"`
	}
	openAIErrorObject struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	anthropicError struct {
		Type  string `json:"type"`
		Error struct {
			Type    string `json:"type"`
			Message string `json:"message"`
		} `json:"error"`
		RequestID string `json:"request_id,omitempty"`
	}
	failedResponse struct {
		Error    openAIErrorObject `json:"error"`
		Response struct {
			Error struct {
				Code    string `json:"code"`
				Message string `json:"message"`
			} `json:"error"`
			Object string   `json:"object"`
			Output []string `json:"output"`
			Status string   `json:"status"`
		} `json:"response"`
		SequenceNumber int    `json:"sequence_number"`
		Type           string `json:"type"`
	}
)

func newOpenAIError(status int, message string) openAIError {
	e := openAIError{openAIErrorObject{Message: message, Type: openAIType(status)}}
	if status == 401 {
		// A node has none of these. OpenAI's own say so of a key that is missing or unknown.
		e.Error.Type, e.Error.Code = "invalid_request_error", &invalidAPIKey
	}
	return e
}

var invalidAPIKey = "invalid_api_key"

// ErrorBody is the body of an error answer, and its content type, as the dialect spells it.
//
// early says that the request is refused before it has reached a handler: by the reading of
// its body or by a translator. On /v1 such a body has a charset in its type and no newline at
// its end; one that has passed from a handler through the translator has it the other way
// round. The native dialect knows no such difference.
func ErrorBody(d Dialect, status int, message string, early bool) (contentType string, body []byte) {
	switch d {
	case OpenAI:
		body = marshal(newOpenAIError(status, message))
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

// ErrorRecord is the frame that ends a stream of that route which failed after its first
// frame. Nothing follows it, no [DONE] either: clients take that for success.
//
// For /v1/responses it is response.failed with an error beside the response: OpenAI's own
// libraries report only an error at the top, others read that of the response. Its number in
// the sequence is 0, since some clients want one.
func ErrorRecord(route Route, message string) []byte {
	switch {
	case route.Dialect == OpenAI && route.Operation == Responses:
		e := failedResponse{Type: "response.failed"}
		e.Error = newOpenAIError(500, message).Error
		e.Response.Object, e.Response.Status = "response", "failed"
		e.Response.Output = []string{}
		e.Response.Error.Code, e.Response.Error.Message = "server_error", message
		return event("response.failed", e)
	case route.Dialect == OpenAI:
		return event("", newOpenAIError(500, message))
	case route.Dialect == Anthropic:
		e := anthropicError{Type: "error"}
		e.Error.Message, e.Error.Type = message, anthropicType(500)
		return event("error", e)
	default:
		return append(marshal(ollamaError{message}), '\n')
	}
}

// event is an SSE event, named or not.
func event(name string, data any) []byte {
	var b []byte
	if name != "" {
		b = append(append(append(b, "event: "...), name...), '\n')
	}
	return append(append(append(b, "data: "...), marshal(data)...), "\n\n"...)
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
