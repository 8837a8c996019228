package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// goldenRequests gives every recorded request for text or vectors that the parser takes.
func goldenRequests(t testing.TB, f func(id string, route Route, body []byte)) {
	n := 0
	for _, file := range []string{
		"general", "generate", "chat", "embed", "embeddings", "openai-chat", "openai-completions", "openai-embeddings",
		"openai-responses", "anthropic", "faults", "queue", "sched", "encoding", "hostile",
	} {
		for _, record := range golden.Load(t, file) {
			route, ok := testRoute(record)
			if !ok || route.Operation == Show {
				continue
			}
			if _, err := Parse(route, record.Request.Body); err == nil {
				n++
				f(file+"/"+record.ID, route, record.Request.Body)
			}
		}
	}
	if n < 250 {
		t.Errorf("only %d recorded requests were tried", n)
	}
}

// sayTheSame changes whatever makes no difference.
func sayTheSame(t testing.TB, r *rand.Rand, route Route, n *node) []byte {
	native := route.Dialect == Ollama
	for _, name := range []string{"temperature", "top_p", "frequency_penalty", "presence_penalty"} {
		if number := n.member(name); number != nil && !native {
			number.respell(r)
		}
	}
	options := n.member("options")
	if native && options != nil && options.kind == '{' {
		options.respell(r)
	}
	if native && r.IntN(2) == 0 {
		if options == nil || options.kind != '{' {
			n.set(t, "options", "{}")
			options = n.member("options")
		}
		for _, name := range []string{"num_gpu", "main_gpu", "num_thread", "num_batch", "use_mmap"} {
			options.set(t, name, []string{"1", "null", "2.5", `"x"`}[r.IntN(4)])
		}
	}
	if native && options != nil {
		options.shuffle(r)
	}
	for _, name := range []string{"stream", "stream_options", "user", "metadata", "keep_alive"} {
		values := map[string][]string{
			"stream": {"true", "false", "null"}, "stream_options": {`{"include_usage":true}`, "null"},
			"user": {`"me"`, "null"}, "metadata": {`{"user_id":"me"}`, "null"}, "keep_alive": {`"5m"`, "-1", "7"},
		}[name]
		if r.IntN(2) == 0 {
			n.set(t, name, values[r.IntN(len(values))])
		}
	}
	n.set(t, "model", `"another"`)
	n.shuffle(r)
	s := speller{
		space: func(sign string) string { return " " + sign + []string{"", "\n", "\t\r "}[r.IntN(3)] },
		text: func(text string) string {
			var b strings.Builder
			for _, c := range text {
				switch {
				case r.IntN(3) > 0:
					plain := quoted(string(c))
					b.Write(plain[1 : len(plain)-1])
				case c < 0x10000:
					fmt.Fprintf(&b, `\u%04X`, c)
				default:
					fmt.Fprintf(&b, `\ud%03x\ud%03x`, 0x800+(c-0x10000)>>10, 0xc00+(c-0x10000)&0x3ff)
				}
			}
			return `"` + b.String() + `"`
		},
	}
	return s.body(n)
}

func TestCanonical_IsTheSameForWhateverSaysTheSame(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	goldenRequests(t, func(id string, route Route, body []byte) {
		want, _ := Parse(route, body)
		for range 8 {
			same := sayTheSame(t, r, route, treeOf(t, body))
			got, err := Parse(route, same)
			if err != nil {
				t.Errorf("%s: %.2000s: %v", id, same, err)
				continue
			}
			if !bytes.Equal(got.Canonical(), want.Canonical()) {
				t.Errorf("%s: two forms of\n%.2000s\n%.2000s\n%.2000q\n%.2000q", id, body, same, want.Canonical(), got.Canonical())
			}
		}
	})
}

// says tells whether what stands there can change an answer. The path may be that of an
// object, and the change take one of its members.
func says(route Route, path []string, what string) bool {
	if key, ok := strings.CutPrefix(what, "without "); ok {
		path = append(slices.Clip(path), key)
	}
	switch {
	case len(path) > 0 && unsaid[foldedKey(path[0])]:
		return false
	case route.Dialect == Ollama && len(path) > 1 && path[0] == "options":
		return !isPlacement(path[1])
	}
	return true
}

func TestCanonical_DiffersWhenAnythingSaidChanges(t *testing.T) {
	tried, refused := 0, 0
	goldenRequests(t, func(id string, route Route, body []byte) {
		root := treeOf(t, body)
		before, _ := Parse(route, body)
		want := before.Canonical()
		places, most := 0, 300
		if len(body) > 4<<10 {
			most = 8 // a long one is long by what is the same everywhere in it
		}
		root.walk(nil, func([]string, *node) { places++ })
		every, at := places/most+1, 0
		root.walk(nil, func(path []string, n *node) {
			if at++; at%every != 0 && len(path) > 1 || len(n.kids) > most {
				return
			}
			for _, c := range n.changes() {
				undo := c.apply()
				changed := speller{}.body(root)
				undo()
				after, err := Parse(route, changed)
				if err != nil {
					refused++
					continue
				}
				tried++
				same := bytes.Equal(after.Canonical(), want)
				empty := len(path) == 1 && path[0] == "options" && !hasSaidOption(n)
				lineEnd := slices.Contains(path, "images") // none in base64
				if differs := says(route, path, c.what) && !(empty && c.what == "null") && !(lineEnd && c.what == "white space before"); same == differs {
					t.Errorf("%s: %s at %v: same is %v\n%.1000s\n%.1000s", id, c.what, path, same, body, changed)
				}
			}
		})
	})
	if tried < 10_000 {
		t.Errorf("only %d changes were tried, %d refused", tried, refused)
	}
}

// hasSaidOption tells whether options have a member that is said.
func hasSaidOption(options *node) bool {
	return slices.ContainsFunc(options.keys, func(key string) bool { return !isPlacement(key) })
}

// Fields that no recorded request has, one by one, with values that are nothing or little.
func TestCanonical_TellsNothingFromAbsent(t *testing.T) {
	least := map[string]string{
		"/api/generate": `{"model":"a"}`, "/api/chat": `{"model":"a"}`, "/api/embed": `{"model":"a"}`, "/api/embeddings": `{"model":"a"}`,
		"/v1/chat/completions": `{"model":"a","messages":[{}]}`, "/v1/completions": `{"model":"a"}`,
		"/v1/embeddings": `{"model":"a","input":"x"}`, "/v1/responses": `{"model":"a"}`,
		"/v1/messages": `{"model":"a","max_tokens":1,"messages":[{"content":"x"}]}`,
	}
	for path, body := range least {
		route, plain := routeOf(path), mustParse(t, path, body).Canonical()
		seen := map[string]string{string(plain): body}
		for _, f := range append(forms[path].schema.names(), "zzz", "extra", "name", "user") {
			for _, value := range []string{"null", `""`, "0", "false", "[]", "{}", `"high"`, "7", "true", `[""]`, `{"a":1}`, `[{}]`, `[[]]`, "[null]"} {
				root := treeOf(t, []byte(body))
				if root.member(f) != nil {
					continue
				}
				root.set(t, f, value)
				changed := speller{}.body(root)
				request, err := Parse(route, changed)
				if err != nil {
					continue
				}
				got := string(request.Canonical())
				known := f != "zzz" && f != "extra"
				// A node makes an input of null.
				nothing := value == "null" && known && (path != "/v1/responses" || f != "input") || value == "{}" && f == "options"
				if unsaid[foldedKey(f)] || nothing {
					if got != string(plain) {
						t.Errorf("%s: %s is not %s", path, changed, body)
					}
					continue
				}
				if other, ok := seen[got]; ok && !(f == "images" && value == "[[]]") { // octets: the same as base64
					t.Errorf("%s: %s is the same as %s", path, changed, other)
				}
				seen[got] = string(changed)
			}
		}
	}
}

// What the form takes for nothing, a node takes for nothing, too.
func TestCanonical_PassesNullOnlyWhereANodeDoes(t *testing.T) {
	known, checked := map[*schema]bool{}, 0
	var visit func(s *schema)
	visit = func(s *schema) {
		if s == nil || known[s] {
			return
		}
		known[s] = true
		visit(s.elem)
		visit(s.look)
		for _, v := range s.variants {
			visit(v)
		}
		for i := range s.fields {
			f := &s.fields[i]
			visit(f.schema)
			if f.schema.kind == kindFree || !f.passesNull() || s.required != 0 {
				continue // of a format null is none: ollama-api 4
			}
			absent, null := reflect.New(s.shadow).Interface(), reflect.New(s.shadow).Interface()
			_ = json.Unmarshal([]byte(`{}`), absent) // a struct may refuse both
			_ = json.Unmarshal([]byte(`{"`+f.name+`":null}`), null)
			if !reflect.DeepEqual(absent, null) {
				t.Errorf("%s.%s: null makes %+v, absent %+v", s.shadow, f.name, null, absent)
			}
			checked++
		}
	}
	for _, f := range forms {
		visit(f.schema)
	}
	if checked < 150 {
		t.Errorf("only %d fields were checked", checked)
	}
}
