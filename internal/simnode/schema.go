package simnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var errSchema = errors.New("invalid JSON schema in format")

// A schema is the part of JSON Schema that the simulated node can fill in.
type schema struct {
	types      []string
	properties []property
	required   []string
	items      *schema
	choices    []json.RawMessage // enum, const
	anyOf      []*schema
	ref        string
	min        float64
	minItems   int
}

type property struct {
	name   string
	schema *schema
}

// parseFormat reads a request's format: nil without one, and an error with the real server's text for what is neither
// "json" nor an object, or no schema. A nil schema in a non-nil format means any object.
func parseFormat(raw json.RawMessage) (*format, error) {
	switch text := string(bytes.TrimSpace(raw)); {
	case text == "", text == "null", text == `""`:
		return nil, nil
	case text == `"json"`:
		return newFormat(nil, nil), nil
	case text[0] != '{':
		return nil, fmt.Errorf("invalid format: %q; expected \"json\" or a valid JSON Schema object", text)
	}
	var defs struct {
		Defs        map[string]json.RawMessage `json:"$defs"`
		Definitions map[string]json.RawMessage `json:"definitions"`
	}
	if json.Unmarshal(raw, &defs) != nil {
		return nil, errSchema
	}
	s, err := parseSchema(raw, 0)
	if errors.Is(err, errDeadly) {
		return &format{deadly: true}, nil
	}
	if err != nil {
		return nil, err
	}
	known := make(map[string]*schema)
	for prefix, list := range map[string]map[string]json.RawMessage{"#/$defs/": defs.Defs, "#/definitions/": defs.Definitions} {
		for name, body := range list {
			known[prefix+name], err = parseSchema(body, 0)
			if errors.Is(err, errDeadly) {
				return &format{deadly: true}, nil
			}
			if err != nil {
				return nil, err
			}
		}
	}
	var document any
	if json.Unmarshal(raw, &document) != nil || !resolves(document, document) {
		return nil, errSchema
	}
	return newFormat(s, known), nil
}

// resolves reports whether every "$ref" in a value leads to a place in the document.
func resolves(document, value any) bool {
	switch v := value.(type) {
	case []any:
		return !slices.ContainsFunc(v, func(e any) bool { return !resolves(document, e) })
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && strings.HasPrefix(ref, "#/") && !leads(document, ref[2:]) {
			return false
		}
		for _, e := range v {
			if !resolves(document, e) {
				return false
			}
		}
	}
	return true
}

func leads(document any, path string) bool {
	for step := range strings.SplitSeq(path, "/") {
		m, _ := document.(map[string]any)
		next, ok := m[step]
		if !ok {
			return false
		}
		document = next
	}
	return true
}

// Where a runner dies of a schema, which it turns into a grammar. Somewhere between these and the recorded ones that
// is so: 200 levels and 100000 items killed it, 5000 choices did not.
const (
	deepest = 64
	longest = 20000
)

// errDeadly is a schema that a runner dies of.
var errDeadly = errors.New("the schema is deeper or longer than a runner survives")

func parseSchema(raw json.RawMessage, depth int) (*schema, error) {
	if depth > deepest {
		return nil, errDeadly
	}
	var boolean bool
	if json.Unmarshal(raw, &boolean) == nil {
		return &schema{}, nil
	}
	var in struct {
		Type       json.RawMessage   `json:"type"`
		Properties json.RawMessage   `json:"properties"`
		Required   []string          `json:"required"`
		Items      json.RawMessage   `json:"items"`
		Enum       []json.RawMessage `json:"enum"`
		Const      json.RawMessage   `json:"const"`
		AnyOf      []json.RawMessage `json:"anyOf"`
		OneOf      []json.RawMessage `json:"oneOf"`
		Ref        string            `json:"$ref"`
		Minimum    float64           `json:"minimum"`
		MinItems   int               `json:"minItems"`
		MaxItems   int               `json:"maxItems"`
		MinLength  int               `json:"minLength"`
		MaxLength  int               `json:"maxLength"`
	}
	if json.Unmarshal(raw, &in) != nil {
		return nil, errSchema
	}
	if max(in.MinItems, in.MaxItems, in.MinLength, in.MaxLength) > longest {
		return nil, errDeadly
	}
	s := &schema{required: in.Required, choices: in.Enum, ref: in.Ref, min: in.Minimum, minItems: in.MinItems}
	if in.Const != nil {
		s.choices = []json.RawMessage{in.Const}
	}
	var err error
	if s.types, err = parseTypes(in.Type); err != nil {
		return nil, err
	}
	if s.properties, err = parseProperties(in.Properties, depth); err != nil {
		return nil, err
	}
	if len(in.Items) > 0 {
		if s.items, err = parseSchema(in.Items, depth+1); err != nil {
			return nil, err
		}
	}
	for _, one := range append(in.AnyOf, in.OneOf...) {
		sub, err := parseSchema(one, depth+1)
		if err != nil {
			return nil, err
		}
		s.anyOf = append(s.anyOf, sub)
	}
	return s, nil
}

func parseTypes(raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var types []string
	var one string
	if json.Unmarshal(raw, &one) == nil {
		types = []string{one}
	} else if json.Unmarshal(raw, &types) != nil {
		return nil, errSchema
	}
	for _, t := range types {
		if !slices.Contains([]string{"object", "array", "string", "integer", "number", "boolean", "null"}, t) {
			return nil, errSchema
		}
	}
	return types, nil
}

func parseProperties(raw json.RawMessage, depth int) ([]property, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errSchema
	}
	var out []property
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, errSchema
		}
		var body json.RawMessage
		if err := d.Decode(&body); err != nil {
			return nil, errSchema
		}
		s, err := parseSchema(body, depth+1)
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // a key is always a string
		out = append(out, property{name, s})
	}
	return out, nil
}

// A format is what an answer must look like.
type format struct {
	root   *schema
	known  map[string]*schema // by $ref
	deadly bool               // no runner survives it
	left   int                // values that may still be written: schemas can ask for more than anybody would read
}

func newFormat(root *schema, known map[string]*schema) *format {
	return &format{root: root, known: known}
}

// fill makes up a value that fits, as JSON text.
func (f format) fill(v voice) string {
	f.left = 1000
	root := f.root
	if root == nil {
		root = &schema{properties: []property{{"answer", &schema{types: []string{"string"}}}}}
	}
	var b strings.Builder
	f.write(&b, v, root, "", 0)
	return b.String()
}

func (f *format) write(b *strings.Builder, v voice, s *schema, name string, depth int) {
	f.left--
	for hops := 0; s.ref != "" && f.known[s.ref] != nil && hops < deepest; hops++ {
		s = f.known[s.ref]
	}
	switch {
	case len(s.choices) > 0:
		var compact bytes.Buffer
		if json.Compact(&compact, s.choices[v.IntN(len(s.choices))]) == nil {
			b.Write(compact.Bytes())
		}
		return
	case len(s.anyOf) > 0 && depth < deepest:
		f.write(b, v, s.anyOf[v.IntN(len(s.anyOf))], name, depth+1)
		return
	}
	switch s.kind() {
	case "object":
		f.object(b, v, s, depth)
	case "array":
		f.array(b, v, s, name, depth)
	case "integer":
		fmt.Fprint(b, int(s.min)+v.IntN(100))
	case "number":
		fmt.Fprint(b, s.min+float64(v.IntN(1000))/8)
	case "boolean":
		fmt.Fprint(b, v.IntN(2) == 0)
	case "null":
		b.WriteString("null")
	default:
		quoted, err := json.Marshal(v.word(name))
		if err == nil { // a string always marshals
			b.Write(quoted)
		}
	}
}

func (s *schema) kind() string {
	switch {
	case len(s.types) > 0:
		return s.types[0]
	case s.properties != nil:
		return "object"
	case s.items != nil:
		return "array"
	}
	return "string"
}

// object writes every property that is required, and the optional ones as long as the object stays shallow.
func (f *format) object(b *strings.Builder, v voice, s *schema, depth int) {
	b.WriteByte('{')
	first := true
	for _, p := range s.properties {
		if optional := !slices.Contains(s.required, p.name); depth >= deepest || f.left <= 0 || optional && depth > 3 {
			continue
		}
		if !first {
			b.WriteString(", ")
		}
		first = false
		key, err := json.Marshal(p.name)
		if err != nil { // a string always marshals
			continue
		}
		b.Write(key)
		b.WriteString(": ")
		f.write(b, v, p.schema, p.name, depth+1)
	}
	b.WriteByte('}')
}

func (f *format) array(b *strings.Builder, v voice, s *schema, name string, depth int) {
	items := s.items
	if items == nil {
		items = &schema{}
	}
	b.WriteByte('[')
	for i := range max(s.minItems, 1+v.IntN(2)) {
		if depth >= deepest || f.left <= 0 {
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		f.write(b, v, items, name, depth+1)
	}
	b.WriteByte(']')
}
