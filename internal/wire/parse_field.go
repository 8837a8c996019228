package wire

import (
	"net/http"
	"strconv"
)

// span is where the value of a field of the request stands, the zero span where it is absent
// or the schema has no such field.
func (r *reading) span(name string) span {
	if i, ok := r.top.exact[name]; ok && r.values != nil {
		return r.values[i]
	}
	return span{}
}

// raw is the JSON text of a field, nil where it is absent or null.
func (r *reading) raw(name string) []byte {
	s := r.span(name)
	if s.to == 0 || r.body[s.from] == 'n' {
		return nil
	}
	return r.body[s.from:s.to]
}

// string is the text of a string field, "" where it is absent or null.
func (r *reading) string(name string) string {
	raw := r.raw(name)
	if raw == nil {
		return ""
	}
	return string(appendText(nil, raw[1:len(raw)-1]))
}

// int is the value of an int field, 0 where it is absent or null.
func (r *reading) int(name string) int {
	raw := r.raw(name)
	if raw == nil {
		return 0 // an error would be made for it
	}
	n, err := strconv.Atoi(string(raw))
	if err != nil {
		return 0
	}
	return n
}

// isEmpty tells whether a string or list is absent, null or without content.
func (r *reading) isEmpty(name string) bool {
	raw := r.raw(name)
	return raw == nil || len(trimSpace(raw[1:len(raw)-1])) == 0 && (raw[0] == '[' || len(raw) == 2)
}

// isTexts tells whether a field is a string or a list of strings, or not there.
func (r *reading) isTexts(name string) bool {
	raw := r.raw(name)
	if raw == nil || raw[0] == '"' {
		return true
	}
	if raw[0] != '[' {
		return false
	}
	list := reading{body: raw}
	for ok := list.enter(']'); ok; ok = list.next(']') {
		if list.body[list.at] != '"' {
			return false
		}
		list.skipString()
	}
	return true
}

// inner reads a field that is a struct. Where it is absent or null, so are all its fields, and
// values is nil.
func (r *reading) inner(name string) *reading {
	s := r.top.fields[r.top.exact[name]].schema
	if r.raw(name) == nil {
		return &reading{top: s}
	}
	in := newReading(r.body, r.span(name).from, r.clean, s)
	if err := in.value(s); err != nil {
		panic("wire: a field that has been judged is wrong: " + err.Error())
	}
	return in
}

// set gives the patch that makes a field of the object that has been read have a value, in
// its place if it is there, else at the end.
func (r *reading) set(name, value string) []patch {
	if s := r.span(name); s.to > 0 {
		if string(r.body[s.from:s.to]) == value {
			return nil
		}
		return []patch{{s.from, s.to, value}}
	}
	end := r.at - 1
	before := ","
	if len(trimSpace(r.body[r.from+1:end])) == 0 {
		before = ""
	}
	return []patch{{end, end, before + `"` + name + `":` + value}}
}

func isTrue(raw []byte) bool { return string(raw) == "true" }

// mostLogprobs is how many alternatives to a token a node gives.
const mostLogprobs = 20

// checkTopLogprobs refuses what a node's handlers refuse on every route that has the field.
func (r *reading) checkTopLogprobs() error {
	if n := r.int("top_logprobs"); n < 0 || n > mostLogprobs {
		return late(http.StatusBadRequest, ReasonOutOfRange, "top_logprobs must be between 0 and 20")
	}
	return nil
}

// isTwiceSuffixed tells whether a name says twice where its model runs.
func isTwiceSuffixed(name string) bool {
	base, first := cutSource(name)
	_, second := cutSource(base)
	return first != runsAnywhere && second != runsAnywhere
}
