package wire

import (
	"fmt"
	"net/http"
	"strings"
)

// What the translators of /v1 refuse after they have decoded a request, in their order. What
// they refuse because of a tool, an image or a level of thinking is left to the node: its
// versions differ, and nothing is decided by it here.

func translateChat(r *reading) error {
	if r.isEmpty("messages") {
		return early(ReasonNoMessages, "[] is too short - 'messages'")
	}
	return nil
}

func translateCompletion(r *reading) error {
	if stop := r.raw("stop"); stop != nil && stop[0] == '[' {
		for text := range elements(stop) {
			if text[0] != '"' {
				return early(ReasonWrongType, "invalid type for 'stop' field: "+goType(text))
			}
		}
	}
	// Here logprobs says how many top_logprobs there are, and none where it is negative.
	if r.int("logprobs") > mostLogprobs {
		return late(http.StatusBadRequest, ReasonOutOfRange, "top_logprobs must be between 0 and 20")
	}
	return nil
}

func translateEmbeddings(r *reading) error {
	format := r.string("encoding_format")
	if format != "" && !strings.EqualFold(format, "float") && !strings.EqualFold(format, "base64") {
		return early(ReasonWrongType, fmt.Sprintf(
			"Invalid value for 'encoding_format' = %s. Supported values: ['float', 'base64'].", format))
	}
	if input := r.raw("input"); input == nil || isEmptyList(input) {
		return early(ReasonWrongType, "invalid input")
	}
	return nil
}

func translateMessages(r *reading) error {
	switch {
	case r.isEmpty("model"):
		return early(ReasonNoModel, modelRequired)
	case r.int("max_tokens") <= 0:
		return early(ReasonOutOfRange, "max_tokens is required and must be positive")
	case r.isEmpty("messages"):
		return early(ReasonNoMessages, "messages is required")
	}
	return nil
}

// goType is the Go type into which a node decodes a JSON value that may be anything.
func goType(value []byte) string {
	switch value[0] {
	case 'n':
		return "<nil>"
	case 't', 'f':
		return "bool"
	case '"':
		return "string"
	case '[':
		return "[]interface {}"
	case '{':
		return "map[string]interface {}"
	}
	return "float64"
}
