package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// A node keeps the order of arguments and properties with a library that has a parser of its
// own; these are its words. That parser takes a string or an array for a cut object.
var (
	//lint:ignore ST1005 a node's words
	errNotObject = errors.New("Value looks like object, but can't find closing '}' symbol")
	//lint:ignore ST1005 a node's words
	errEscape = errors.New("Encountered an invalid escape sequence in a string")
)

// ToolCallFunctionArguments are the arguments of a call in the order in which they came.
type ToolCallFunctionArguments struct{ Members []Member[any] }

// UnmarshalJSON decodes the arguments. b is valid JSON.
func (t *ToolCallFunctionArguments) UnmarshalJSON(b []byte) (err error) {
	t.Members, err = members[any](b)
	return err
}

// ToolPropertiesMap has the properties of a schema in the order in which they came.
type ToolPropertiesMap struct{ Members []Member[ToolProperty] }

// UnmarshalJSON decodes the properties. b is valid JSON.
func (t *ToolPropertiesMap) UnmarshalJSON(b []byte) (err error) {
	t.Members, err = members[ToolProperty](b)
	return err
}

// A Member is a key and its value.
type Member[V any] struct {
	Key   string
	Value V
}

func members[V any](object []byte) ([]Member[V], error) {
	if bytes.Equal(object, []byte("null")) {
		return nil, nil
	}
	if object[0] != '{' {
		return nil, errNotObject
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(object), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	all := []Member[V]{}
	for d.PeekKind() != '}' {
		raw, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		key, err := unescape(raw[1 : len(raw)-1])
		if err != nil {
			return nil, err
		}
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		m := Member[V]{Key: key}
		if err := json.Unmarshal(value, &m.Value); err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// unescape reads a key. Other than encoding/json it refuses bad UTF-8 and half a surrogate
// pair.
func unescape(s []byte) (string, error) {
	plain := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			plain = append(plain, s[i])
			i++
			continue
		}
		if s[i+1] != 'u' {
			plain = append(plain, map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', '"': '"', '\\': '\\', '/': '/'}[s[i+1]])
			i += 2
			continue
		}
		r := hex(s[i+2:])
		i += 6
		if utf16.IsSurrogate(r) {
			low := hex(s[min(i+2, len(s)):])
			if low < 0xdc00 {
				return "", errEscape
			}
			r = utf16.DecodeRune(r, low)
			i += 6
		}
		plain = utf8.AppendRune(plain, r)
	}
	for i := 0; i < len(plain); {
		r, size := utf8.DecodeRune(plain[i:])
		if r == utf8.RuneError && size <= 1 {
			return "", fmt.Errorf("not a valid UTF-8 string (at position %d): %s", i, plain)
		}
		i += size
	}
	return string(plain), nil
}

// hex reads four digits, -1 if there are none.
func hex(s []byte) rune {
	if len(s) < 4 {
		return -1
	}
	n, err := strconv.ParseUint(string(s[:4]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(n)
}
