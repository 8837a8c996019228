package wire

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// embedFiles are the files of recorded embeddings, by their routes.
var embedFiles = map[string]string{"/api/embed": "embed", "/api/embeddings": "embeddings", "/v1/embeddings": "openai-embeddings"}

func TestEmbedding_HasTheTextsInTheirOrder(t *testing.T) {
	const native, old, openAI = "/api/embed", "/api/embeddings", "/v1/embeddings"
	none := []string(nil)
	tests := []struct {
		name, path, fields string
		want               []string
	}{
		{"one text", native, `"input":"a"`, []string{`"a"`}},
		{"texts", native, `"input" : [ "a" , "b","a"]`, []string{`"a"`, `"b"`, `"a"`}},
		{"an empty text in a list", native, `"input":["", "a"]`, []string{`""`, `"a"`}},
		{"another spelling of the field", native, `"INPUT":["a"]`, []string{`"a"`}},
		{"bad UTF-8", native, "\"input\":[\"\xff\",\"\\ud800x\"]", []string{`"` + "\uFFFD" + `"`, `"\ufffdx"`}},
		{"absent", native, `"truncate":true`, none},
		{"null", native, `"input":null`, none},
		{"an empty text", native, `"input":""`, none},
		{"an empty list", native, `"input":[ ]`, none},
		{"more than most", native, `"input":["a","b","c","d","e"]`, none},
		{"a prompt", old, `"prompt":"a"`, []string{`"a"`}},
		{"an empty prompt", old, `"prompt":""`, none},
		{"no prompt", old, `"input":"a"`, none},
		{"an empty text of OpenAI's", openAI, `"input":""`, []string{`""`}},
		{"texts of OpenAI's", openAI, `"input":["a","b"],"encoding_format":"base64"`, []string{`"a"`, `"b"`}},
		{"a chat", "/api/chat", `"messages":[{"role":"user","content":"a"}],"input":"a"`, none},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			e, ok := mustParse(t, test.path, `{"model":"m",`+test.fields+`}`).Embedding(4)
			var got []string
			if ok {
				for _, text := range e.Texts() {
					got = append(got, string(text.JSON))
				}
			}
			if ok != (test.want != nil) || fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("%s: got %q, %v, want %q", test.fields, got, ok, test.want)
			}
		})
	}
}

func TestEmbedding_OneTextHasOneForm(t *testing.T) {
	tests := []struct {
		name, path, a, b string // the first text of each
		same             bool
	}{
		{"a text and a list", "/api/embed", `"input":"x"`, `"input":["x","y"]`, true},
		{"another spelling", "/api/embed", `"input":"ä/"`, `"input":["\u00e4\/"]`, true},
		{"an empty text of OpenAI's", "/v1/embeddings", `"input":""`, `"input":[""]`, true},
		{"who asks", "/v1/embeddings", `"input":"x","user":"a"`, `"input":"x"`, true},
		{"how long it stays", "/api/embed", `"input":"x","keep_alive":5`, `"input":"x"`, true},
		{"another text", "/api/embed", `"input":"x"`, `"input":"X"`, false},
		{"dimensions", "/api/embed", `"input":"x"`, `"input":"x","dimensions":2`, false},
		{"truncate", "/api/embed", `"input":"x","truncate":false`, `"input":"x"`, false},
		{"options", "/api/embed", `"input":"x","options":{"num_ctx":64}`, `"input":"x"`, false},
		{"the format", "/v1/embeddings", `"input":"x","encoding_format":"base64"`, `"input":"x"`, false},
		{"what no node knows", "/api/embed", `"input":"x","task":"query"`, `"input":"x"`, false},
		{"the old route", "/api/embeddings", `"prompt":"x","input":"x"`, `"prompt":"x"`, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var forms, others []string
			for _, fields := range []string{test.a, test.b} {
				e, ok := mustParse(t, test.path, `{"model":"m",`+fields+`}`).Embedding(4)
				if !ok {
					t.Fatalf("%s cannot be taken apart", fields)
				}
				forms = append(forms, string(e.Canonical(e.Texts()[0])))
				others = append(others, e.Others())
			}
			if (forms[0] == forms[1]) != test.same {
				t.Errorf("%s and %s\n%q\n%q, want the same: %v", test.a, test.b, forms[0], forms[1], test.same)
			}
			if want := test.same || test.name == "another text"; (others[0] == others[1]) != want {
				t.Errorf("%s and %s: the others are\n%q\n%q, want the same: %v", test.a, test.b, others[0], others[1], want)
			}
		})
	}
}

// checkEmbedding holds a body to what is promised of the parts it is taken into.
func checkEmbedding(t tester, route Route, body []byte, a Adjust) bool {
	t.Helper()
	q, err := ParseAdjusted(route, body, a)
	if err != nil {
		return false
	}
	e, ok := q.Embedding(100)
	if !ok {
		return false
	}
	with := func(value string) *Request {
		changed := string(body[:e.input.from]) + value + string(body[e.input.to:])
		q, err := ParseAdjusted(route, []byte(changed), a)
		if err != nil {
			t.Fatalf("%q: %v", changed, err)
		}
		return q
	}
	listed := func(texts ...string) string {
		if e.Single() {
			return texts[0]
		}
		return "[" + strings.Join(texts, ",") + "]"
	}
	var texts [][]byte
	var all []string
	for _, text := range e.Texts() {
		if got, want := e.Canonical(text), with(listed(string(text.JSON))).Canonical(); !bytes.Equal(got, want) {
			t.Errorf("%q: the form of %s is\n%q, that of the request\n%q", body, text.JSON, got, want)
		}
		if read := appendText(nil, text.JSON[1:len(text.JSON)-1]); len(read) != text.Size {
			t.Errorf("%s has %d bytes, not %d", text.JSON, len(read), text.Size)
		}
		texts, all = append(texts, text.JSON), append(all, string(text.JSON))
	}
	if got, want := e.Body(texts).Bytes(), with(listed(all...)).Body.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("%q: the body is\n%q, parsed\n%q", body, got, want)
	}
	other := []byte(`"other"`)
	if got, want := e.Body([][]byte{other}).Bytes(), with(listed(string(other))).Body.Bytes(); !bytes.Equal(got, want) {
		t.Errorf("%q: with another text the body is\n%q, parsed\n%q", body, got, want)
	}
	return true
}

func embedRoutes() (all []Route) {
	for _, path := range []string{"/api/embed", "/api/embeddings", "/v1/embeddings"} {
		all = append(all, routeOf(path))
	}
	return all
}

func TestEmbedding_PartsAreThoseOfRequestsWithTheTextsAlone(t *testing.T) {
	taken := 0
	for _, route := range embedRoutes() {
		rapid.Check(t, func(rt *rapid.T) {
			text := rapid.Map(rapid.SampledFrom([]string{"", "a", `\u00e4b`, `\"\\`, "ü\u2028", "\xff", `\ud83d\ude00`, `x\udc00`, `<&>`, strings.Repeat("long ", 100)}), func(s string) string { return `"` + s + `"` })
			input := `"` + rapid.SampledFrom([]string{"input", "Input", `inp\u0075t`, "prompt", "PROMPT"}).Draw(rt, "field") + `":`
			if list := rapid.SliceOfN(text, 0, 5).Draw(rt, "texts"); len(list) == 1 && rapid.Bool().Draw(rt, "alone") {
				input += list[0]
			} else {
				input += "[" + strings.Join(list, " , ") + "]"
			}
			if strings.Contains(strings.ToLower(input[:8]), "prompt") {
				input = input[:strings.IndexByte(input, ':')+1] + text.Draw(rt, "prompt")
			}
			fields := rapid.Permutation(append(rapid.SliceOfDistinct(rapid.SampledFrom([]string{
				`"dimensions":2`, `"truncate" : false`, `"KEEP_alive":"5m"`, `"options":{"num_ctx":4096,"num_gpu":1,"x":"` + "\xff" + `"}`,
				`"encoding_format":"base64"`, `"user":"me"`, `"unknown":{"b":[1.0,"` + "\xfe" + `"],"a":null}`,
			}), func(s string) string { return s }).Draw(rt, "others"), `"MODEL":"m"`, input)).Draw(rt, "order")
			a := rapid.SampledFrom([]Adjust{{}, {MaxNumCtx: 1024, MaxKeepAlive: time.Minute}, {WithoutNumCtx: true, WithoutKeepAlive: true}}).Draw(rt, "adjust")
			body := rapid.SampledFrom([]string{"", " \n"}).Draw(rt, "space") + "{" + strings.Join(fields, ",") + "}"
			if checkEmbedding(rt, route, []byte(body), a) {
				taken++
			}
		})
	}
	if taken < 50 {
		t.Errorf("%d requests were taken apart", taken)
	}
}

func FuzzEmbedding(f *testing.F) {
	routes := embedRoutes()
	for i, route := range routes {
		for _, rec := range golden.Load(f, embedFiles[route.Path]) {
			if len(rec.Request.Body) < 1<<10 {
				f.Add(uint8(i), rec.Request.Body)
			}
		}
		for _, body := range hard {
			f.Add(uint8(i), []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		checkEmbedding(t, routes[int(route)%len(routes)], body, Adjust{})
	})
}

func TestEmbeddings_ApartAndTogetherIsTheRecordedAnswer(t *testing.T) {
	told := 0
	for path, file := range embedFiles {
		for _, rec := range golden.Load(t, file) {
			body := rec.Response.Body
			if rec.Response.Status != 200 {
				continue
			}
			route := routeOf(path)
			e, err := Embeddings(route, body)
			if err != nil {
				t.Errorf("%s/%s: %v", file, rec.ID, err)
				continue
			}
			contentType, got := e.Answer(route, modelOf(t, rec))
			if !bytes.Equal(got, body) {
				t.Errorf("%s/%s\ngot  %s\nwant %s", file, rec.ID, got, body)
			}
			for _, h := range rec.Response.Headers {
				if h[0] == "Content-Type" && h[1] != contentType {
					t.Errorf("%s/%s: content type %s, want %s", file, rec.ID, contentType, h[1])
				}
			}
			told++
		}
	}
	if told < 24 {
		t.Errorf("%d answers put together, want all that are recorded", told)
	}
}

func TestEmbeddedTokens_AreThoseOfTheWholeAnswer(t *testing.T) {
	for path, file := range embedFiles {
		for _, rec := range golden.Load(t, file) {
			if e, err := Embeddings(routeOf(path), rec.Response.Body); err == nil && EmbeddedTokens(routeOf(path), rec.Response.Body) != e.Tokens {
				t.Errorf("%s/%s: %d tokens, want %d", file, rec.ID, EmbeddedTokens(routeOf(path), rec.Response.Body), e.Tokens)
			}
		}
	}
	for _, body := range []string{"", `{"prompt_eval_count":`, `{"prompt_eval_count":-1}`, `{"prompt_eval_count":x}`} {
		if n := EmbeddedTokens(routeOf("/api/embed"), []byte(body)); n != 0 {
			t.Errorf("%s: %d", body, n)
		}
	}
}

func TestEmbeddings_TellWhatTheyCost(t *testing.T) {
	e, err := Embeddings(routeOf("/api/embed"), record(t, "embed", "dims").Response.Body)
	if err != nil || e.Tokens != 7 || e.Total != 2905907 || e.Load != 1454456 || len(e.Vectors) != 1 ||
		string(e.Vectors[0]) != "[-0.36013004,0.85740215,0.19647522,-0.31074977]" {
		t.Errorf("got %+v, %v", e, err)
	}
	e, err = Embeddings(routeOf("/v1/embeddings"), record(t, "openai-embeddings", "batch").Response.Body)
	if err != nil || e.Tokens != 11 || len(e.Vectors) != 2 {
		t.Errorf("got %+v, %v", e, err)
	}
}

func TestEmbeddings_RefuseOtherShapes(t *testing.T) {
	tests := []struct{ name, path, body string }{
		{"no vectors", "/api/embed", `{"model":"m"}`},
		{"vectors twice", "/api/embed", `{"embeddings":[],"embeddings":[[1]]}`},
		{"no list", "/api/embed", `{"embeddings":{"a":1}}`},
		{"null", "/api/embed", `{"embeddings":null}`},
		{"a null among them", "/api/embed", `{"embeddings":[[1],null]}`},
		{"another route's", "/api/embed", `{"embedding":[1]}`},
		{"no object", "/api/embed", `[[1]]`},
		{"out of order", "/v1/embeddings", `{"data":[{"embedding":[1],"index":1}]}`},
		{"an entry without vector", "/v1/embeddings", `{"data":[{"index":0}]}`},
		{"an entry with two", "/v1/embeddings", `{"data":[{"embedding":[1],"embedding":[2]}]}`},
		{"cut", "/v1/embeddings", `{"data":[{"embedding":[1`},
		{"nothing", "/api/embeddings", ``},
	}
	for _, test := range tests {
		if e, err := Embeddings(routeOf(test.path), []byte(test.body)); !errors.Is(err, ErrFrame) || e.Vectors != nil {
			t.Errorf("%s: %s\ngot %+v, %v", test.name, test.body, e, err)
		}
	}
}

func FuzzEmbeddings(f *testing.F) {
	routes := embedRoutes()
	for i, route := range routes {
		for _, rec := range golden.Load(f, embedFiles[route.Path]) {
			f.Add(uint8(i), rec.Response.Body)
		}
	}
	f.Fuzz(func(t *testing.T, at uint8, body []byte) {
		route := routes[int(at)%len(routes)]
		e, err := Embeddings(route, body)
		if err != nil || !IsObject(body) {
			return
		}
		_, again := e.Answer(route, "m")
		same, err := Embeddings(route, again)
		if err != nil || !IsObject(again) || same.Tokens != e.Tokens || !bytes.Equal(bytes.Join(same.Vectors, nil), bytes.Join(e.Vectors, nil)) {
			t.Errorf("%q\nput together %q: %v", body, again, err)
		}
		if route.Path == "/api/embed" && (same.Total != e.Total || same.Load != e.Load) {
			t.Errorf("%q\nput together %q", body, again)
		}
	})
}

func BenchmarkEmbedding(b *testing.B) {
	for _, n := range []int{1, 32} {
		body := `{"model":"m","input":["` + strings.TrimSuffix(strings.Repeat(strings.Repeat("the river ", 20)+`","`, n), `,"`) + `]}`
		q := mustParse(b, "/api/embed", body)
		b.Run(fmt.Sprintf("texts=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e, ok := q.Embedding(100)
				if !ok {
					b.Fatal(body)
				}
				for _, text := range e.Texts() {
					e.Canonical(text)
				}
			}
		})
	}
}
