package wire

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/openai"
)

// A kind is what JSON a node takes for a value. null is taken for every kind and changes
// nothing.
type kind uint8

const (
	kindFree     kind = iota // anything: the node does not look, or keeps the text
	kindAny                  // anything; numbers must fit float64
	kindString               //
	kindBool                 //
	kindInt                  // a whole number of so many bits
	kindUint8                // an octet
	kindFloat                // a number of so many bits
	kindBytes                // base64, or a list of octets
	kindList                 // an array of elem
	kindStruct               // an object with fields; its keys fold case
	kindMap                  // an object with any keys and elem as values
	kindOrdered              // the same, read by a parser that takes no bad UTF-8 in keys
	kindDuration             // seconds, or a string as time.ParseDuration takes it
	kindThink                // a bool, or one of api.ThinkLevels
	kindTypes                // a string or strings
	kindTexts                // a string, or an array of elem
	kindUnion                // an object of one of several kinds, which its type tells
)

// A schema is what a node's types say of a value. Schemas are recursive and immutable.
type schema struct {
	kind kind
	bits int     // of a number
	elem *schema // of a list or map
	// decodesItself says that the type has a method for it, whose failure is the end of all
	// decoding.
	decodesItself bool

	fields   []field
	exact    map[string]int // index in fields by name
	folded   map[string]int // the same by folded name
	required uint64         // the fields, by index, without which a node cannot decode the struct

	variants map[string]*schema // of a union, by the word in "type"
	look     *schema            // of a union: what a node reads of it before it knows the type
	word     string             // of a variant of a union: its word

	shadow reflect.Type // the type itself, which words the refusals
}

// A field is one of a struct under its canonical name.
type field struct {
	name   string
	schema *schema
	// later says that a node keeps the text of the value, and decodes it when it has decoded
	// the others.
	later bool
	// unsaid says that it changes nothing in the answer to a request, if it is one of a request.
	unsaid bool
	media  bool // see isMedia
}

// A union is a type that decodes into one of several others.
type union interface {
	// Variants are the types by the word in "type", and a struct of the fields that a node
	// reads first.
	Variants() (look reflect.Type, byWord map[string]reflect.Type)
}

// fieldLimit is how many fields a struct may have: as many as a word has bits.
const fieldLimit = 64

// schemaOf derives the schema of a request from the type that a node decodes it into. It
// panics on a type it does not know how to judge, which only a change of the types can cause.
func schemaOf[T any]() *schema {
	return derive(reflect.TypeFor[T](), map[reflect.Type]*schema{})
}

func derive(t reflect.Type, known map[reflect.Type]*schema) *schema {
	if t.Kind() == reflect.Pointer {
		return derive(t.Elem(), known)
	}
	if s, ok := known[t]; ok {
		return s
	}
	s := &schema{shadow: t}
	known[t] = s
	s.decodesItself = reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
	if u, ok := reflect.Zero(t).Interface().(union); ok {
		s.deriveVariants(u, known)
		return s
	}
	if special, ok := specials[t]; ok {
		s.kind = special
		switch special {
		case kindTexts:
			s.elem = derive(t.Elem(), known)
		case kindTypes:
			s.elem = derive(reflect.TypeFor[string](), known)
		case kindOrdered:
			// A list of members, each a key and a value.
			s.elem = derive(t.Field(0).Type.Elem().Field(1).Type, known)
		}
		return s
	}
	switch t.Kind() {
	case reflect.Interface:
		s.kind = kindAny
	case reflect.String:
		s.kind = kindString
	case reflect.Bool:
		s.kind = kindBool
	case reflect.Int, reflect.Int32, reflect.Int64:
		s.kind, s.bits = kindInt, t.Bits()
	case reflect.Uint8:
		s.kind = kindUint8
	case reflect.Float32, reflect.Float64:
		s.kind, s.bits = kindFloat, t.Bits()
	case reflect.Slice:
		s.kind, s.elem = kindList, derive(t.Elem(), known)
		if s.elem.kind == kindUint8 {
			s.kind = kindBytes
		}
	case reflect.Map:
		s.kind, s.elem = kindMap, derive(t.Elem(), known)
	case reflect.Struct:
		s.kind = kindStruct
		s.deriveFields(known)
	default:
		panic(fmt.Sprintf("wire: no schema for %s", t))
	}
	return s
}

func (s *schema) deriveFields(known map[reflect.Type]*schema) {
	s.exact, s.folded = map[string]int{}, map[string]int{}
	for f := range s.shadow.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		i := len(s.fields)
		folded := string(appendFolded(nil, []byte(name)))
		s.fields = append(s.fields, field{name: name, schema: derive(f.Type, known), unsaid: unsaid[folded], media: isMedia(name)})
		// The tag wire is for what the types do not tell, since they decode such a field themselves.
		switch f.Tag.Get("wire") {
		case "later,required":
			s.required |= 1 << i
			fallthrough
		case "later":
			s.fields[i].later = true
			s.fields[i].schema = &schema{kind: kindTexts, elem: s.fields[i].schema.elem, shadow: f.Type}
		}
		s.exact[name] = i
		s.folded[folded] = i
	}
	if n := len(s.fields); n > fieldLimit || len(s.folded) != n {
		panic(fmt.Sprintf("wire: the fields of %s are too many or fold together", s.shadow))
	}
}

func (s *schema) deriveVariants(u union, known map[reflect.Type]*schema) {
	look, byWord := u.Variants()
	s.kind, s.look, s.variants = kindUnion, derive(look, known), map[string]*schema{}
	for word, t := range byWord {
		variant := derive(t, known)
		if variant.word != "" {
			panic(fmt.Sprintf("wire: %s is two variants", t))
		}
		variant.word = word
		s.variants[word] = variant
	}
}

// specials are the types that decode themselves, a message apart, which decodes like any
// struct.
var specials = map[reflect.Type]kind{
	reflect.TypeFor[json.RawMessage]():               kindFree,
	reflect.TypeFor[api.Duration]():                  kindDuration,
	reflect.TypeFor[api.ThinkValue]():                kindThink,
	reflect.TypeFor[api.PropertyType]():              kindTypes,
	reflect.TypeFor[api.ToolCallFunctionArguments](): kindOrdered,
	reflect.TypeFor[api.ToolPropertiesMap]():         kindOrdered,
	reflect.TypeFor[openai.ResponsesInput]():         kindTexts,
}
