package simnode

import (
	"bytes"
	"encoding/json"
)

// An object is a JSON object whose keys come in the order they were written in.
type object []field

type field struct {
	key   string
	value any
}

// MarshalJSON writes the object in its own order.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		v, err := json.Marshal(f.value)
		if err != nil {
			return nil, err
		}
		b.WriteString(quote(f.key))
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// sorted returns v with the keys of every object in it in their alphabetic order, as maps have them.
func sorted(v any) any {
	switch v := v.(type) {
	case object:
		m := make(map[string]any, len(v))
		for _, f := range v {
			m[f.key] = sorted(f.value)
		}
		return m
	case []object:
		if v == nil {
			return nil
		}
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = sorted(e)
		}
		return list
	}
	return v
}
