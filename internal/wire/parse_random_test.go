package wire

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The fuzzers know bytes, this knows requests: bodies with the fields of the schema in all
// spellings, and values of which most are right.
func TestParse_AgreesWithTheDecoderOnWhateverLooksLikeARequest(t *testing.T) {
	for path, f := range forms {
		t.Run(path, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				g := generator{rt, rapid.IntRange(0, 30).Draw(rt, "wrong")}
				body := g.object(f.schema, 0)
				if rapid.Bool().Draw(rt, "model") {
					// Most random bodies have no good name and would be refused for that alone.
					first := `{"model":"tiny",`
					switch path {
					case "/v1/messages":
						first = `{"model":"tiny","max_tokens":1,"messages":[` + g.value(f.schema.fields[f.schema.exact["messages"]].schema.elem, 1) + `],`
					case "/v1/responses":
						first = `{"model":"tiny","input":[` + g.value(f.schema.fields[f.schema.exact["input"]].schema.elem, 1) + `],`
					}
					body = first + strings.TrimPrefix(body, "{")
					body = strings.Replace(body, ",}", "}", 1)
				}
				check(rt, routeOf(path), []byte(body))
			})
		})
	}
}

// A generator draws JSON. wrong is how many values in a hundred do not fit.
type generator struct {
	t     *rapid.T
	wrong int
}

func (g generator) chance(percent int) bool {
	return rapid.IntRange(0, 99).Draw(g.t, "chance") < percent
}

func (g generator) pick(of ...string) string { return rapid.SampledFrom(of).Draw(g.t, "pick") }

func (g generator) value(s *schema, depth int) string {
	if s.kind == kindUnion {
		return g.union(s, depth)
	}
	if depth > 12 || g.chance(5) {
		return "null"
	}
	if g.chance(g.wrong) {
		return g.free(depth)
	}
	switch s.kind {
	case kindString, kindTypes, kindBool, kindInt, kindUint8, kindFloat, kindDuration, kindThink:
		return g.scalar(s)
	case kindBytes:
		return g.pick(`"aGk="`, `"aG\u006b="`, `"aGVsbG8"`, `"aG\nk=\r\n"`, `""`, `"a==="`, `"aGk=aGk="`, `"aGkx"`, `[1,255]`, `[256]`, `["a"]`)
	case kindTexts:
		if g.chance(30) {
			return g.string()
		}
		return g.list(func() string { return g.value(s.elem, depth+1) })
	case kindList:
		return g.list(func() string { return g.value(s.elem, depth+1) })
	case kindStruct:
		return g.object(s, depth)
	case kindMap, kindOrdered:
		return g.keys(func() string { return g.value(s.elem, depth+1) })
	default:
		return g.free(depth)
	}
}

func (g generator) scalar(s *schema) string {
	switch s.kind {
	case kindBool:
		return g.pick("true", "false")
	case kindInt, kindUint8:
		return g.pick("0", "-0", "7", "-1", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", "1.0", "1e2")
	case kindFloat:
		return g.pick("0", "0.5", "-1e-400", "1e308", "1e309", "3.5e38", "1E2")
	case kindDuration:
		return g.pick("0", "-1", "0.5", "1e300", "1e309", `"0s"`, `"5m"`, `"-1s"`, `"\u0035m"`, `"5"`, `"x"`, "true", "[]", "{}", "[1e999]", `{"a":1,"a":2}`)
	case kindThink:
		return g.pick("true", "false", `"high"`, `"m\u0061x"`, `"High"`, "1", "[]")
	case kindTypes:
		return g.pick(`"string"`, `["string","null"]`, `["string",1]`, "[]", "1", "{}")
	default:
		return g.string()
	}
}

func (g generator) string() string {
	return g.pick(`""`, `"a"`, `"tiny"`, `"a:cloud"`, `" "`, `"text"`, `"thinking"`, `"tool_use"`, `"\u0061\n\"\\"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d\ud83d\ude00"`, "\"\xff\xe2\x82\"", "\"é\u212a\"", `"\\ud800"`)
}

// free is any JSON.
func (g generator) free(depth int) string {
	if depth > 12 {
		return "0"
	}
	switch rapid.IntRange(0, 5).Draw(g.t, "free") {
	case 0:
		return g.list(func() string { return g.free(depth + 1) })
	case 1:
		return g.keys(func() string { return g.free(depth + 1) })
	case 2:
		return g.pick("true", "false", "null")
	case 3:
		return g.pick("0", "1.5", "-0", "1e999", "1e-999", "123456789012345678901234567890")
	default:
		return g.string()
	}
}

func (g generator) list(element func() string) string {
	return "[" + g.join(3, func(int) string { return element() }) + "]"
}

// union is one of the variants, mostly.
func (g generator) union(s *schema, depth int) string {
	if g.chance(g.wrong) {
		return g.free(depth)
	}
	words := append(slices.Sorted(maps.Keys(s.variants)), "zzz")
	word := rapid.SampledFrom(words).Draw(g.t, "word")
	variant := s.variants[word]
	if variant == nil || g.chance(g.wrong) {
		variant = s.look
	}
	body := g.object(variant, depth)
	if g.chance(90) && !strings.Contains(body, `"type"`) {
		if end := strings.TrimSuffix(body, "}"); end == "{" || g.chance(50) {
			body = end + "," + g.spelt("type") + `:"` + word + `"}`
			body = strings.Replace(body, "{,", "{", 1)
		} else {
			body = `{"type":"` + word + `",` + strings.TrimPrefix(body, "{")
		}
	}
	return body
}

// keys is a free map. Its keys are equal sometimes.
func (g generator) keys(value func() string) string {
	return "{" + g.join(3, func(i int) string {
		key := fmt.Sprintf(`"k%d"`, i)
		if g.chance(20) {
			key = g.pick(`"num_ctx"`, `"use_mmap"`, `"a"`, `"A"`, `"\u0061"`, `""`, "\"\xff\"", `"\ud800"`, `"\ud800\uffff"`, `"\udfff"`, `"\n\/"`)
		}
		return key + ":" + value()
	}) + "}"
}

// object has some of the fields of a struct, each at most once but for accidents.
func (g generator) object(s *schema, depth int) string {
	var members []string
	for _, f := range s.fields {
		if g.chance(70) && (s.required == 0 || f.name != "content") || s.word != "" && f.name == "type" {
			continue
		}
		members = append(members, g.spelt(f.name)+":"+g.value(f.schema, depth+1))
	}
	if g.chance(20) {
		members = append(members, g.pick(`"zzz"`, `"ZzZ"`, "\"\xff\"", `"é"`, `"É"`, `"\ud800"`, `"model"`)+":"+g.free(depth+1))
	}
	return "{" + strings.Join(members, g.pick(",", ", ", "\n,")) + "}"
}

func (g generator) spelt(name string) string {
	if g.chance(80) {
		return `"` + name + `"`
	}
	switch rapid.IntRange(0, 3).Draw(g.t, "spelling") {
	case 0:
		return `"` + strings.ToUpper(name) + `"`
	case 1:
		return `"` + strings.NewReplacer("s", "\u017f", "k", "\u212a").Replace(name) + `"`
	case 2:
		return `"` + strings.NewReplacer("s", `\u017F`, "k", `\u212A`, "e", `\u0045`).Replace(name) + `"`
	default:
		return fmt.Sprintf(`"\u%04x%s"`, name[0], name[1:])
	}
}

func (g generator) join(most int, part func(int) string) string {
	parts := make([]string, rapid.IntRange(0, most).Draw(g.t, "parts"))
	for i := range parts {
		parts[i] = part(i)
	}
	return strings.Join(parts, ",")
}
