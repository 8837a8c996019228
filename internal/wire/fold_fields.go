package wire

import "slices"

// A fieldList is the fields of a JSON object in their order, names and values as they are spelt.
type fieldList []rawField

type rawField struct{ name, value []byte }

// get gives the value of a field, nil if there is none. name is in quotes.
func (l fieldList) get(name string) []byte {
	for i := range l {
		if string(l[i].name) == name {
			return l[i].value
		}
	}
	return nil
}

// set gives a field its value, nil leaves it alone. A new field stands behind those that come
// before it in keys, or behind all if it is not there.
func (l fieldList) set(keys []string, name string, value []byte) fieldList {
	if value == nil {
		return l
	}
	at, rank := 0, rankOf(keys, name)
	for i, m := range l {
		if string(m.name) == name {
			l[i].value = value
			return l
		}
		if rank == len(keys) || rankOf(keys, string(m.name)) < rank {
			at = i + 1
		}
	}
	l = append(l, rawField{})
	copy(l[at+1:], l[at:])
	l[at] = rawField{[]byte(name), value}
	return l
}

// ordered gives the fields in the order of keys, others behind them.
func (l fieldList) ordered(keys []string) fieldList {
	slices.SortStableFunc(l, func(a, b rawField) int {
		return rankOf(keys, string(a.name)) - rankOf(keys, string(b.name))
	})
	return l
}

// rankOf is the place of a name in keys, past all of them if it is not there.
func rankOf(keys []string, name string) int {
	for i, key := range keys {
		if key == name {
			return i
		}
	}
	return len(keys)
}

// appendTo writes the object.
func (l fieldList) appendTo(b []byte) []byte {
	b = append(b, '{')
	for i, m := range l {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, m.name...), ':'), m.value...)
	}
	return append(b, '}')
}
