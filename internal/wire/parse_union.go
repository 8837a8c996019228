package wire

import "bytes"

// unions reads a list of values of several types. A node decodes them one by one and gives up
// at the first that is wrong, saying which it is.
func (r *reading) unions(elem *schema) error {
	i := 0
	for ok := r.enter(']'); ok; ok = r.next(']') {
		if err := r.union(elem); err != nil {
			if wrong, ok := err.(*wrongValue); ok && wrong != another {
				wrong.places = append(wrong.places, i)
				wrong.stops = true
			}
			return within(err, "[", "]")
		}
		i++
	}
	return nil
}

// union reads one of them.
func (r *reading) union(s *schema) error {
	from := r.at
	if r.body[from] != '{' {
		return r.wrong(from)
	}
	variant, err := r.variant(s)
	if err != nil {
		return err
	}
	r.at = from
	return r.fields(variant)
}

// variant finds out of which kind the object at r.at is, by the fields that a node reads first.
// An object without type is a message if it has a role, and else wrong. One of an unknown type
// is judged as far as a node looks at any, and left to the node: newer ones know more.
func (r *reading) variant(s *schema) (*schema, error) {
	variant, typed, role := s.look, false, false
	for ok := r.enter('}'); ok; ok = r.next('}') {
		key, _ := r.key()
		i, known := s.look.exact[string(key)]
		if !known {
			r.fold = appendFolded(r.fold[:0], key)
			i, known = s.look.folded[string(r.fold)]
		}
		if !known {
			r.skip()
			continue
		}
		name := s.look.fields[i].name
		// Of two the last counts, as at a node. They are refused when the fields are read.
		switch from := r.at; r.body[from] {
		case 'n':
			r.at += len("null")
		case '"':
			text := r.skipString()
			if name != "type" {
				role = len(text) > 0
				break
			}
			typed = len(text) > 0
			if bytes.IndexByte(text, '\\') >= 0 {
				r.text = appendText(r.text[:0], text)
				text = r.text
			}
			if variant = s.variants[string(text)]; variant == nil {
				variant = s.look
			}
		default:
			return nil, within(r.wrong(from), `{"`+name+`":`, "}")
		}
	}
	switch {
	case typed:
		return variant, nil
	case role:
		return s.variants["message"], nil
	}
	return nil, &wrongValue{value: []byte("{}")}
}
