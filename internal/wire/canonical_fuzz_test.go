package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// takeApart reads a canonical form from its beginning, and nothing but it. That it can is why
// two forms are equal only if they tell the same.
func takeApart(form []byte) (err error) {
	rest, ok := bytes.CutPrefix(form, []byte(canonicalVersion))
	if !ok {
		return errors.New("no version")
	}
	take := func(n int) []byte {
		if n < 0 || n > len(rest) {
			panic("cut")
		}
		part := rest[:n]
		rest = rest[n:]
		return part
	}
	length := func() int {
		n, size := binary.Uvarint(rest)
		if size <= 0 || len(binary.AppendUvarint(nil, n)) != size {
			panic("a length that is not the shortest")
		}
		take(size)
		return int(n)
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v, %d bytes before the end", p, len(rest))
		}
	}()
	value := func(tag byte) (opens bool) {
		switch tag {
		case tagObject, tagArray:
			return true
		case tagText, tagSpelt:
			take(length())
		case tagDecimal:
			if sign := take(1)[0]; sign != '+' && sign != '-' {
				panic("no sign")
			}
			_, size := binary.Varint(rest)
			take(size)
			digits := take(length())
			if bytes.HasPrefix(digits, []byte("0")) || bytes.HasSuffix(digits, []byte("0")) {
				panic("zeros at an end")
			}
		case tagTrue, tagFalse, tagNull:
		case tagBase64, tagDigest:
			take(32)
		default:
			panic(fmt.Sprintf("tag %q", tag))
		}
		return false
	}
	if take(1)[0] != tagText {
		panic("no path")
	}
	take(length())
	open := []byte{tagObject} // the request itself
	for len(rest) > 0 {
		tag := take(1)[0]
		switch inside := open[len(open)-1]; {
		case tag == tagEnd && len(open) > 1:
			open = open[:len(open)-1]
			continue
		case inside == tagObject:
			if tag != tagKey {
				panic("no key")
			}
			take(length())
			tag = take(1)[0]
		}
		if value(tag) {
			open = append(open, tag)
		}
	}
	if len(open) > 1 {
		panic("not closed")
	}
	return nil
}

// asRead is what a node reads of a request that can change its answer.
func asRead(t tester, q *Request) (known any, unknown map[string]string) {
	t.Helper()
	sent := q.Body.Bytes()
	v, err := decode(q.Route, sent)
	if err != nil {
		t.Fatalf("%q: %v", sent, err)
	}
	request := reflect.ValueOf(v).Elem()
	for _, name := range []string{"Model", "Stream", "StreamOptions", "Metadata", "KeepAlive"} {
		if f := request.FieldByName(name); f.IsValid() {
			f.SetZero()
		}
	}
	if f := request.FieldByName("Options"); f.IsValid() {
		options := f.Interface().(map[string]any)
		maps.DeleteFunc(options, func(name string, _ any) bool { return isPlacement(name) })
		if len(options) == 0 {
			f.SetZero()
		}
	}
	withoutNullText(request)

	var all map[string]json.RawMessage
	if err := json.Unmarshal(sent, &all); err != nil {
		t.Fatalf("%q: %v", sent, err)
	}
	unknown = map[string]string{}
	for key, value := range all {
		if _, known := forms[q.Route.Path].schema.folded[foldedKey(key)]; !known && !unsaid[foldedKey(key)] {
			unknown[key] = string(readText(value))
		}
	}
	return v, unknown
}

// withoutNullText makes null for a text of JSON none, which it is for a node.
func withoutNullText(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			withoutNullText(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			if text, ok := f.Interface().(json.RawMessage); ok && string(text) == "null" {
				f.SetZero()
			}
			withoutNullText(f)
		}
	}
}

// checkSame holds two bodies to the promise: their forms are equal only if a node reads the
// same from both.
func checkSame(t tester, route Route, a, b []byte) (same bool) {
	t.Helper()
	p, err := Parse(route, a)
	if err != nil {
		return false
	}
	form := p.Canonical()
	if err := takeApart(form); err != nil {
		t.Errorf("%q\n%q cannot be taken apart: %v", a, form, err)
	}
	p.NativeChat()
	q, err := Parse(route, b)
	if err != nil || !bytes.Equal(form, q.Canonical()) {
		return false
	}
	known, unknown := asRead(t, p)
	otherKnown, otherUnknown := asRead(t, q)
	if !reflect.DeepEqual(known, otherKnown) || !reflect.DeepEqual(unknown, otherUnknown) {
		t.Errorf("%q and\n%q are both\n%q\n%+v %v\n%+v %v", a, b, form, known, unknown, otherKnown, otherUnknown)
	}
	if p.LastPrompt() != q.LastPrompt() || p.SingleTurn() != q.SingleTurn() || p.HasTools() != q.HasTools() ||
		p.Sampling() != q.Sampling() || p.PrintsDate() != q.PrintsDate() {
		t.Errorf("%q and\n%q are one and differ in what is decided by", a, b)
	}
	return true
}

// inferRoutes are the routes with a form.
func inferRoutes() (all []Route) {
	for _, route := range Routes() {
		if _, judged := forms[route.Path]; judged && route.Operation != Show {
			all = append(all, route)
		}
	}
	return all
}

func FuzzCanonical(f *testing.F) {
	routes := inferRoutes()
	r := rand.New(rand.NewPCG(3, 3))
	goldenRequests(f, func(_ string, route Route, body []byte) {
		if len(body) < 1<<10 {
			i := slices.IndexFunc(routes, func(r Route) bool { return r.Path == route.Path })
			f.Add(uint8(i), body, sayTheSame(f, r, route, treeOf(f, body)))
		}
	})
	for i := range routes {
		for j, body := range hard {
			f.Add(uint8(i), []byte(body), []byte(hard[(j+1)%len(hard)]))
		}
	}
	f.Fuzz(func(t *testing.T, route uint8, a, b []byte) {
		checkSame(t, routes[int(route)%len(routes)], a, b)
	})
}

// The fuzzer finds few pairs that are equal; these are drawn to be nearly so.
func TestCanonical_IsEqualOnlyWhereANodeReadsTheSame(t *testing.T) {
	same := 0
	for _, route := range inferRoutes() {
		rapid.Check(t, func(rt *rapid.T) {
			g := generator{rt, 0}
			s := forms[route.Path].schema
			before, needed := `{"model":"tiny",`, map[string]string{
				"/v1/messages": `"max_tokens":1,"messages":[{"content":"x"}],`, "/v1/chat/completions": `"messages":[{}],`, "/v1/embeddings": `"input":"x",`,
			}[route.Path]
			value := func(name string) string { return g.value(s.fields[s.exact[name]].schema, 1) }
			names := slices.DeleteFunc(s.names(), func(name string) bool {
				return unsaid[foldedKey(name)] || strings.Contains(needed, `"`+name+`"`)
			})
			name := rapid.SampledFrom(names).Draw(rt, "name")
			a := before + needed + `"` + name + `":` + value(name) + "}"
			b := before + needed + g.spelt(name) + ":" + value(name) + "}"
			if g.chance(20) {
				b = before + strings.TrimSuffix(needed, ",") + "}"
			}
			if checkSame(rt, route, []byte(a), []byte(b)) {
				same++
			}
		})
	}
	if same == 0 {
		t.Error("no two bodies were the same")
	}
}

func TestAppendDecimal_ComparesNumbersExactly(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		draw := func(label string) string {
			digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?([eE][+-]?0?[0-9])?`).Draw(rt, label)
			if rapid.Bool().Draw(rt, label+" small") {
				digits = rapid.SampledFrom([]string{"0", "-0", "0.0", "0e9", "1", "1.0", "10e-1", "0.1e1", "100", "1e2", "-1", "-10E-1", "0.001", "1e-3"}).Draw(rt, label+" value")
			}
			return digits
		}
		a, b := draw("a"), draw("b")
		x, _ := new(big.Rat).SetString(a)
		y, _ := new(big.Rat).SetString(b)
		sign := strings.HasPrefix(a, "-") == strings.HasPrefix(b, "-") // a zero keeps its sign
		same := bytes.Equal(appendDecimal(nil, []byte(a)), appendDecimal(nil, []byte(b)))
		if want := x.Cmp(y) == 0 && sign; same != want {
			rt.Errorf("%s and %s: same is %v", a, b, same)
		}
	})
}

func TestAppendDecimal_KeepsWhatNoArithmeticHolds(t *testing.T) {
	tests := []struct {
		a, b string
		same bool
	}{
		{"9007199254740993", "9007199254740992", false},
		{"123456789012345678901234567890", "1.23456789012345678901234567890e29", true},
		{"0.1", "0.1000000000000000055511151231257827", false},
		{"1e-400", "1e-401", false},
		{"1e-99999999999999999999", "0", false},
		{"1e-99999999999999999999", "1e-99999999999999999998", false},
		{"0e99999999999999999999", "0", true},
		{"1e00000000000000000000000002", "100", true},
		{"1e-99999999999999999", "10e-100000000000000000", false}, // the second is told as it is spelt
	}
	for _, test := range tests {
		a, b := appendDecimal(nil, []byte(test.a)), appendDecimal(nil, []byte(test.b))
		if bytes.Equal(a, b) != test.same {
			t.Errorf("%s and %s: %q and %q", test.a, test.b, a, b)
		}
	}
}
