package wire

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// nested is a schema of objects with one property each.
func nested(levels int, name string, required bool) string {
	open, end := `{"type": "object", "properties": {"`+name+`": `, `}}`
	if required {
		end = `}, "required": ["` + name + `"]}`
	}
	return strings.Repeat(open, levels) + `{"type": "string"}` + strings.Repeat(end, levels)
}

func wide(n int) string {
	properties := make([]string, n)
	for i := range properties {
		properties[i] = fmt.Sprintf(`"p%d": {"type": "string"}`, i)
	}
	return `{"type": "object", "properties": {` + strings.Join(properties, ", ") + `}}`
}

// The sizes are of the grammars that json-schema-to-grammar.cpp of Ollama 0.24.0 made of these
// schemas; what does not fit into grammarLimit is cut.
func TestSchema_SizeOfGrammarIsEstimatedFromBelow(t *testing.T) {
	for _, c := range []struct {
		name, schema string
		size         int64
	}{
		{"a, 20 levels", nested(20, "a", false), 3015},
		{"a, 60 levels", nested(60, "a", false), 18335},
		{"12 letters, 20 levels", nested(20, "abcdefghijkl", false), 12035},
		{"12 letters, 30 levels", nested(30, "abcdefghijkl", false), 25775},
		{"12 letters, 30 levels, required", nested(30, "abcdefghijkl", true), 25625},
		{"100 properties", wide(100), 10645},
		{"200 properties", wide(200), 21942},
		{"1000 properties", wide(1000), 112342},
	} {
		if size := newSchemaGuard([]byte(c.schema)).value(0).size; size > c.size || size < c.size*85/100 {
			t.Errorf("%s: %d, want a little less than %d", c.name, size, c.size)
		}
	}
}

func TestSchema_WhatANodeDoesNotSurvive(t *testing.T) {
	for _, c := range []struct{ name, schema, want string }{
		{"200 deep", nested(200, "a", false), "levels"},
		{"12 letters, 40 deep", nested(40, "abcdefghijkl", false), "too large"},
		{"64 deep fits", nested(60, "a", false), ""},
		{"12 letters, 30 deep fit", nested(30, "abcdefghijkl", false), ""},
		{"1000 properties that may be left out", wide(1000), "too large"},
		{"200 of them fit", wide(200), ""},
		{"deep where nobody looks", `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`, "levels"},
		{"deep in an enum", `{"enum":[` + strings.Repeat(`{"a":`, 200) + `1` + strings.Repeat(`}`, 200) + `]}`, "levels"},
		{"a long name", `{"type":"object","properties":{"` + strings.Repeat(" ", 200_000) + `":{}}}`, "longer"},

		{"minItems 2000", `{"type":"array","items":{"type":"integer"},"minItems":2000}`, ""},
		{"minItems 2001", `{"type":"array","items":{"type":"integer"},"minItems":2001}`, "between 0 and 2000"},
		{"minItems 1e9", `{"type":"array","items":{},"minItems":1e9}`, "between"},
		{"minItems beyond float64", `{"type":"array","items":{},"minItems":1e999}`, "between"},
		{"minItems negative", `{"type":"array","items":{},"minItems":-1}`, "between"},
		{"minItems escaped", `{"type":"array","items":{},"m\u0069nItems":100000}`, "between"},
		{"minItems over maxItems", `{"type":"array","items":{},"minItems":5,"maxItems":3}`, "more than the most"},
		{"maxLength 2001", `{"type":"string","maxLength":2001}`, "between"},
		{"maxLength in a property", `{"properties":{"a":{"anyOf":[{"type":"null"},{"type":"string","maxLength":2001}]}}}`, "between"},
		{"a property of that name", `{"properties":{"maxLength":{"type":"integer"},"minItems":{"type":"string"}}}`, ""},
		{"a reference to the properties", `{"items":{"$ref":"#/properties"},"properties":{"items":{},"minItems":100000}}`, "a number"},
		{"a reference to a default", `{"items":{"$ref":"#/default"},"default":{"items":{},"minItems":100000}}`, "between"},
		{"uniqueItems and others", `{"type":"array","items":{},"uniqueItems":true,"minProperties":100000}`, ""},

		{"a bound of 15 digits", `{"type":"integer","minimum":999999999999999}`, ""},
		{"a bound of 16 digits", `{"type":"integer","minimum":1000000000000000}`, "16 digits"},
		{"below", `{"exclusiveMaximum":-2e16,"type":"integer"}`, "16 digits"},
		{"on both sides", `{"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991}`, ""},
		{"of a number", `{"type":"number","minimum":1e300}`, ""},

		{"types", `{"type":["object","null","array"],"properties":{"a":{"type":["string","null"]}}}`, ""},
		{"a type twice", `{"type":["object","object"],"properties":{}}`, "more than once"},
		{"types with allOf", `{"type":["object","string"],"allOf":[{"properties":{}}]}`, "allOf"},

		{"recursive", `{"$ref":"#/$defs/n","$defs":{"n":{"type":"object","properties":{"n":{"$ref":"#/$defs/n"}}}}}`, ""},
		{"recursive or null", `{"$ref":"#/$defs/n","$defs":{"n":{"properties":{"n":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}}}}}`, ""},
		{"itself", `{"$ref":"#/$defs/n","$defs":{"n":{"$ref":"#/$defs/n"}}}`, "back to itself"},
		{"itself or null", `{"properties":{"a":{"$ref":"#/$defs/n"}},"$defs":{"n":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}}}`, "back to itself"},
		{"two in a circle", `{"items":{"$ref":"#/a"},"a":{"$ref":"#/b"},"b":{"oneOf":[{"$ref":"#/a"}]}}`, "back to itself"},
		{"all of itself", `{"$defs":{"a":{"$ref":"#/$defs/a"}},"allOf":[{"$ref":"#/$defs/a"}]}`, "back to itself"},
		{"recursive through allOf", `{"$ref":"#/definitions/N","definitions":{"N":{"properties":{"next":{"allOf":[{"$ref":"#/definitions/N"}]}}}}}`, "back to itself"},
		{"allOf of a definition", `{"properties":{"x":{"allOf":[{"$ref":"#/$defs/D"}]}},"$defs":{"D":{"properties":{"n":{"type":"string"}}}}}`, ""},
		{"allOf doubled at each level", doubling(30), "parts"},
		{"allOf doubled thrice", doubling(3), ""},
		{"a reference to nothing", `{"$ref":"#/nope"}`, ""},
		{"a reference elsewhere", `{"$ref":"https://example.com/x#/y"}`, ""},
		{"a reference into a list", `{"anyOf":[{"type":"null"},{"$ref":"#/anyOf/0"}]}`, ""},
		{"a chain of deep ones", chain(60, 30), "nested deeper than 1024"},
		{"a chain", chain(60, 1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, at := range []struct{ path, before, after string }{
				{"/api/generate", `{"model":"m","prompt":"x","FORMAT":`, `}`},
				{"/api/chat", `{"model":"m","format":`, `,"messages":[]}`},
				{"/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","JSON_schema":{"ſchema":`, `}}}`},
				{"/v1/responses", `{"model":"m","input":"x","text":{"format":{"type":"json_schema","schema":`, `}}}`},
			} {
				h := hazardOf(t, at.path, at.before+c.schema+at.after)
				switch {
				case h == nil && c.want != "":
					t.Errorf("%s: let through, want %q", at.path, c.want)
				case h != nil && (c.want == "" || !strings.Contains(h.Message, c.want) || h.Reason != ReasonDeadlySchema):
					t.Errorf("%s: %s, want %q", at.path, h.Message, c.want)
				}
			}
		})
	}
}

func doubling(levels int) string {
	var defs strings.Builder
	for i := range levels {
		fmt.Fprintf(&defs, `"D%d":{"properties":{"a":{"allOf":[{"$ref":"#/$defs/D%d"}]},"b":{"allOf":[{"$ref":"#/$defs/D%d"}]}}},`, i, i+1, i+1)
	}
	return fmt.Sprintf(`{"properties":{"x":{"$ref":"#/$defs/D0"}},"$defs":{%s"D%d":{"type":"string"}}}`, defs.String(), levels)
}

func chain(links, levels int) string {
	var defs strings.Builder
	for i := range links {
		fmt.Fprintf(&defs, `"D%d":%s{"$ref":"#/$defs/D%d"}%s,`, i, strings.Repeat(`{"properties":{"a":`, levels), i+1, strings.Repeat("}}", levels))
	}
	return fmt.Sprintf(`{"properties":{"x":{"$ref":"#/$defs/D0"}},"$defs":{%s"D%d":{"type":"string"}}}`, defs.String(), links)
}

// Those that are not translatable crashed or hung the code of Ollama 0.24.0, or made a grammar
// that it cannot read.
func TestPattern_WhatANodeCanTranslate(t *testing.T) {
	for pattern, want := range map[string]bool{
		`^$`: true, `^abc$`: true, `^a.c$`: true, `^(a|b)*$`: true, `^(a+)+$`: true, `^a{3}b{1,}c{,3}d{2,5}$`: true, `^a+?$`: true,
		`^[a-z0-9_.-]+$`: true, `^[^"\\]*$`: true, `^\.\(\)\[\]\{\}\*\+\?\|\^\$$`: true, `^\t\n\r\"\\$`: true, `^[\]\[]$`: true,
		`^\x41\u00e4\U0001F600$`: true, `^ä🙂$`: true, `^(a|)$`: true, `^()$`: true, `^[0-9]{4}-[0-9]{2}$`: true, `^a{2000}$`: true,
		`not anchored (?:`: true, `^`: true, ``: true, `^a`: true, // refused by the node itself

		`^(?:a|b)$`: false, `^(?!a)b$`: false, `^(?<n>a)$`: false, `^*$`: false, `^+a$`: false, `^a|+$`: false, `^(*)$`: false, `^{3}$`: false,
		`^]$`: false, `^a}$`: false, `^a]b$`: false, `^[]$`: false, `^[^]$`: false, `^[a$`: false, `^(a$`: false, `^a)$`: false,
		`^\d{3}$`: false, `^\w+$`: false, `^a\/b$`: false, `^[\d]$`: false, `^[a\-z]$`: false, `^ab\$`: false, `^\xZZ$`: false, `^\u00$`: false,
		`^\u0000$`: false, `^\x00$`: false, `^a{5000}$`: false, `^a{5,3}$`: false, `^a{1,2001}$`: false, `^a{x}$`: false, `^a{}$`: false, `^a{-1}$`: false,
		`^a{1,2,3}$`: false, `^a{1$`: false, "^a\nb$": false, "^a\x00b$": false,
		`^` + strings.Repeat("(", 33) + "a" + strings.Repeat(")", 33) + `$`: false,
		`^` + strings.Repeat("(", 32) + "a" + strings.Repeat(")", 32) + `$`: true,
		`^` + strings.Repeat("a", 5000) + `$`:                               false,
	} {
		if got := isTranslatable([]byte(pattern)); got != want {
			t.Errorf("%.60q: %v, want %v", pattern, got, want)
		}
		text, _ := json.Marshal(pattern) // strings always marshal
		message := deadlySchema([]byte(`{"type":"object","properties":{"a":{"type":"string","pattern":` + string(text) + `}}}`))
		if (message == "") != want {
			t.Errorf("%.60q in a schema: %q", pattern, message)
		}
	}
}

// Whatever the schema is, looking at it takes time that grows with it, and a message says one
// thing.
func TestSchema_LookingIsLinear(t *testing.T) {
	for name, schema := range map[string]string{
		"many references":  `{"anyOf":[` + strings.Repeat(`{"$ref":"#/a"},`, 200_000) + `{}],"a":{}}`,
		"many definitions": chain(100_000, 1),
		"many places":      strings.ReplaceAll(chain(100_000, 1), "$defs", "places"),
		"many types":       `{"type":["` + strings.Repeat(`a","`, 500_000) + `b"]}`,
		"wide":             wide(100_000),
		"open lists":       `{"items":` + strings.Repeat(`[[],`, 100) + `[]` + strings.Repeat(`]`, 100) + `}`,
	} {
		began := time.Now()
		message := deadlySchema([]byte(schema))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: took %v for %d bytes", name, took, len(schema))
		}
		if len(message) > messageLimit {
			t.Errorf("%s: a long message: %.100s", name, message)
		}
	}
}

func FuzzDeadlySchema(f *testing.F) {
	for _, schema := range []string{
		nested(3, "a", true), doubling(2), chain(2, 2), `{"$ref":"#/a/0","a":[{"$ref":"#/a/0"}]}`, `{"type":["a"],"pattern":"^[\\]]$"}`,
		`{"allOf":[{"anyOf":[{"$ref":"#/x"}]}],"x":{"properties":{"allOf":{"$ref":"#/x"}}}}`, `{"minItems":1e999}`, `{"$ref":"#/"}`, `{"$ref":"#//a"}`,
	} {
		f.Add([]byte(schema))
	}
	f.Fuzz(func(t *testing.T, schema []byte) {
		body := append(append([]byte(`{"model":"m","format":`), schema...), '}')
		q, err := Parse(*Find("POST", "/api/chat").Route, body)
		if err != nil {
			return
		}
		if h := q.Hazard; h != nil && (h.Message == "" || len(h.Message) > messageLimit || h.Status != 400) {
			t.Errorf("a strange hazard: %+v", h)
		}
	})
}
