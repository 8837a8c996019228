package golden

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A value is a JSON value that remembers the order of its keys and the spelling of its numbers.
type value struct {
	kind    kind
	text    string // of a string (decoded), a number or a literal (as written)
	members []member
	items   []*value
}

type member struct {
	key string
	*value
}

type kind int

const (
	object kind = iota
	array
	text
	number
	literal // true, false, null
)

// parseJSON reads exactly one value.
func parseJSON(b []byte) (*value, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := parseValue(d)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON value")
	}
	return v, nil
}

func parseValue(d *json.Decoder) (*value, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t := t.(type) {
	case string:
		return &value{kind: text, text: t}, nil
	case json.Number:
		return &value{kind: number, text: t.String()}, nil
	case json.Delim:
		v := &value{kind: array}
		if t == '{' {
			v.kind = object
		}
		for d.More() {
			if err := v.parseElement(d); err != nil {
				return nil, err
			}
		}
		_, err := d.Token() // the closing bracket
		return v, err
	}
	return &value{kind: literal, text: strings.ReplaceAll(fmt.Sprint(t), "<nil>", "null")}, nil
}

func (v *value) parseElement(d *json.Decoder) error {
	var key string
	if v.kind == object {
		t, err := d.Token()
		if err != nil {
			return err
		}
		key, _ = t.(string) // a key is always a string
	}
	e, err := parseValue(d)
	if err != nil {
		return err
	}
	if v.kind == object {
		v.members = append(v.members, member{key, e})
	} else {
		v.items = append(v.items, e)
	}
	return nil
}

// get returns the value of a key, or nil.
func (v *value) get(key string) *value {
	for _, m := range v.members {
		if m.key == key {
			return m.value
		}
	}
	return nil
}

// shape writes a value as lines, one for each leaf, in order, with what is volatile masked.
func shape(v *value, limited bool) []string {
	s := shaper{limited: limited}
	s.walk("", "", v)
	return s.lines
}

type shaper struct {
	limited bool
	lines   []string
}

func (s *shaper) add(path, what string) { s.lines = append(s.lines, path+" = "+what) }

func (s *shaper) walk(path, key string, v *value) {
	switch v.kind {
	case object:
		s.object(path, key, v)
	case array:
		s.array(path, key, v)
	default:
		s.add(path, mask(key, v, s.limited))
	}
}

func (s *shaper) object(path, key string, v *value) {
	if len(v.members) == 0 {
		s.add(path, "{}")
		return
	}
	members := v.members
	arguments := key == "arguments" || key == "input"
	if arguments { // their order changes from run to run, and their values are the model's
		members = slices.Clone(members)
		slices.SortStableFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	}
	for _, m := range members {
		inner := m.key
		if arguments {
			inner = anyText
		}
		s.walk(path+"."+m.key, inner, m.value)
	}
}

func (s *shaper) array(path, key string, v *value) {
	switch {
	case len(v.items) == 0:
		s.add(path, "[]")
	case isVector(key) && v.items[0].kind != array:
		for _, e := range v.items {
			if e.kind != number {
				s.add(path, "a vector with something else than numbers")
				return
			}
		}
		s.add(path, strconv.Itoa(len(v.items))+" numbers")
	case isOpenEnded(key, path): // as long as the answer
		var last []string
		for _, e := range v.items {
			inner := shaper{limited: s.limited}
			inner.walk(path+"[…]", key, e)
			if !slices.Equal(inner.lines, last) {
				s.lines = append(s.lines, inner.lines...)
			}
			last = inner.lines
		}
	default:
		for i, e := range inOrder(key, v.items) {
			s.walk(path+"["+strconv.Itoa(i)+"]", key, e)
		}
	}
}

// inOrder sorts models that were changed in the same second, whose order is random on a real server.
func inOrder(key string, items []*value) []*value {
	stamp, name := "", ""
	switch key {
	case "models":
		stamp, name = "modified_at", "name"
	case "data":
		stamp, name = "created", "id"
	default:
		return items
	}
	second := func(v *value) string {
		t := v.get(stamp)
		if t == nil {
			return "" // /api/ps lists models, too, in a fixed order
		}
		before, _, _ := strings.Cut(t.text, ".")
		return before
	}
	items = slices.Clone(items)
	for begin := 0; begin < len(items); {
		end := begin + 1
		for end < len(items) && second(items[end]) == second(items[begin]) {
			end++
		}
		if second(items[begin]) != "" {
			slices.SortStableFunc(items[begin:end], func(a, b *value) int {
				x, y := a.get(name), b.get(name)
				if x == nil || y == nil {
					return 0
				}
				return strings.Compare(x.text, y.text)
			})
		}
		begin = end
	}
	return items
}

// cutFrames cuts a stream, or a part of one that begins and ends with frames, and returns the frames' shapes.
func cutFrames(kind string, body []byte, limited bool) (frames [][]string, err error) {
	end := "\n"
	if kind == "text/event-stream" {
		end = "\n\n"
	}
	for len(body) > 0 {
		frame, rest, ok := bytes.Cut(body, []byte(end))
		if !ok {
			return frames, fmt.Errorf("ends within a frame: %s", excerpt(body))
		}
		body = rest
		lines, err := frameShape(kind, frame, limited)
		if err != nil {
			return frames, fmt.Errorf("frame %s: %w", excerpt(frame), err)
		}
		frames = append(frames, lines)
	}
	return frames, nil
}

func frameShape(kind string, frame []byte, limited bool) ([]string, error) {
	if kind != "text/event-stream" {
		v, err := parseJSON(frame)
		if err != nil {
			return nil, err
		}
		return shape(v, limited), nil
	}
	var lines []string
	for line := range strings.SplitSeq(string(frame), "\n") {
		data, ok := strings.CutPrefix(line, "data: ")
		if !ok || data == "[DONE]" {
			lines = append(lines, line)
			continue
		}
		v, err := parseJSON([]byte(data))
		if err != nil {
			return nil, err
		}
		lines = append(lines, "data:")
		lines = append(lines, shape(v, limited)...)
	}
	return lines, nil
}
