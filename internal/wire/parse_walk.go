package wire

import (
	"bytes"
	"iter"
	"slices"
)

// Walks over parts of a body that has been judged. None of them copies anything.

// elements gives the JSON texts of the elements of an array.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r := reading{body: array}
		for ok := r.enter(']'); ok; ok = r.next(']') {
			from := r.at
			r.skip()
			if !yield(array[from:r.at]) {
				return
			}
		}
	}
}

// How keys are told apart: as those of a struct, or as those of a map.
const (
	folds   = true
	exactly = false
)

// pick gives the JSON text of a member of an object, nil where it is absent or null, or where
// there is no object.
func pick(object []byte, name string, folding bool) []byte {
	if object[0] != '{' {
		return nil
	}
	r := reading{body: object}
	for ok := r.enter('}'); ok; ok = r.next('}') {
		key, _ := r.key()
		found := string(key) == name || folding && bytes.EqualFold(key, []byte(name))
		from := r.at
		r.skip()
		if found && object[from] != 'n' {
			return object[from:r.at]
		}
	}
	return nil
}

// hasOnly tells whether an object that a body begins with has no keys but these.
func hasOnly(body []byte, folding bool, names ...string) bool {
	if body[0] != '{' {
		return false
	}
	r := reading{body: body}
	for ok := r.enter('}'); ok; ok = r.next('}') {
		key, _ := r.key()
		if !slices.ContainsFunc(names, func(name string) bool {
			return string(key) == name || folding && bytes.EqualFold(key, []byte(name))
		}) {
			return false
		}
		r.skip()
	}
	return true
}

// hasWord tells whether a JSON value is a string of that text.
func hasWord(value []byte, text string) bool {
	if len(value) < 2 || value[0] != '"' {
		return false
	}
	inside := value[1 : len(value)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return string(inside) == text
	}
	return string(appendText(nil, inside)) == text
}

// hasText tells whether a JSON value is a string that is not empty.
func hasText(value []byte) bool { return len(value) > 2 && value[0] == '"' }

// isEmptyList tells whether a JSON value is an array of nothing.
func isEmptyList(value []byte) bool {
	return len(value) > 0 && value[0] == '[' && len(trimSpace(value[1:len(value)-1])) == 0
}
