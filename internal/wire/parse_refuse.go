package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
)

// A BadRequest is the refusal of a request body: what a node would have answered, or why the
// body can be read in two ways. It wraps nothing.
type BadRequest struct {
	Status int
	// Message is for the client, in the words of a node where a node refuses too. It is not
	// yet wrapped in the dialect, and at most 1 KiB.
	Message string
	// Early tells that a node says this before its handler runs: when it decodes the body or
	// translates it. See ErrorBody.
	Early bool
	// Reason is one of the Reason constants, for metrics and logs.
	Reason string
	// Dialect is the one the refusal is spelt in: the route's, except that a node refuses
	// hosted models in its own dialect on every route.
	Dialect Dialect
}

// Error is the message.
func (e *BadRequest) Error() string { return e.Message }

// The reasons of a BadRequest.
const (
	ReasonEmptyBody      = "empty_body"      // no body, or white space
	ReasonMalformed      = "malformed"       // not JSON
	ReasonWrongType      = "wrong_type"      // a value that its field cannot take
	ReasonDuplicateField = "duplicate_field" // one field or key twice in an object
	ReasonTrailingData   = "trailing_data"   // something behind the JSON value
	ReasonAmbiguous      = "ambiguous"       // a key that a node's own parsers read differently
	ReasonOutOfRange     = "out_of_range"    // a number that the node refuses by itself
	ReasonNoMessages     = "no_messages"     // a chat of /v1 without messages
	ReasonNoModel        = "no_model"        // no model named
	ReasonBadModelName   = "bad_model_name"  // what is named cannot be a model
	ReasonCloudModel     = "cloud_model"     // a model of the hosted service
	ReasonBadEncoding    = "bad_encoding"    // a compressed body that is none, or too long
	ReasonUnknownField   = "unknown_field"   // a field that the gateway's own form does not have
	ReasonNoRoute        = "no_route"        // an item of a batch that does not tell what it asks
	ReasonTooMany        = "too_many"        // more items than a batch may have
)

const (
	messageLimit = 1 << 10
	nameLimit    = 64 // of a key that a client sees again, in bytes

	// levelLimit bounds how deep a wrong value is explained in a node's words: the decoder
	// reads nested properties once for each level above them.
	levelLimit = 64
)

func duplicateField(name string) error {
	return early(ReasonDuplicateField, fmt.Sprintf(
		"the field %q is there more than once (case and escapes make no difference); send each field once", shorten(name, nameLimit)))
}

func duplicateKey(key string) error {
	return early(ReasonDuplicateField, fmt.Sprintf(
		"the key %q is there more than once in one object; send each key once", shorten(key, nameLimit)))
}

func trailingData() error {
	return early(ReasonTrailingData, "there is data after the JSON value of the request body; send one JSON object and nothing after it")
}

func ambiguous() error {
	return early(ReasonAmbiguous, "the request body can be read in more than one way; send valid UTF-8 and whole surrogate pairs in the keys of its objects")
}

// early is a refusal that comes before a handler runs.
func early(reason, message string) *BadRequest {
	return &BadRequest{Status: http.StatusBadRequest, Message: shorten(message, messageLimit), Early: true, Reason: reason}
}

// late is a refusal of a handler.
func late(status int, reason, message string) *BadRequest {
	return &BadRequest{Status: status, Message: shorten(message, messageLimit), Reason: reason}
}

// explain finds the words for what a reading refused: those of the decoder that a node uses.
func (s *schema) explain(err error) error {
	wrong, ok := err.(*wrongValue)
	if !ok {
		return err
	}
	if len(wrong.before) > levelLimit {
		return early(ReasonWrongType, "deep inside the request body is a value of a type that does not belong there")
	}
	err = json.Unmarshal(wrong.document(), reflect.New(s.shadow).Interface())
	if err == nil {
		return ambiguous()
	}
	return early(ReasonWrongType, wrong.placed(err.Error()))
}

// explainSyntax is explain for a body that is not JSON. The decoder looks no further than the
// fault, before it decodes anything.
func explainSyntax(body []byte, d Dialect) error {
	var fault *json.SyntaxError
	err := json.NewDecoder(bytes.NewReader(body)).Decode(new(struct{}))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &fault):
		return early(ReasonMalformed, err.Error())
	case errors.Is(err, io.EOF) && d == Ollama:
		return early(ReasonEmptyBody, "missing request body")
	case errors.Is(err, io.EOF):
		return early(ReasonEmptyBody, err.Error())
	}
	return ambiguous()
}

// shorten cuts s to limit bytes at most, at a character.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	const dots = "..."
	return strings.ToValidUTF8(s[:limit-len(dots)], "") + dots
}
