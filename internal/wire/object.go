package wire

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// IsObject tells whether body is one whole JSON object, as an answer that is not a stream
// must be. It copies nothing.
func IsObject(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) > 0 && body[0] == '{' &&
		jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}
