package wire

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParsePrompts_TakesThreeForms(t *testing.T) {
	for _, c := range []struct {
		name, body string
		want       []string
		ordered    bool
	}{
		{"one line", `{"prompt":"a"}`, []string{`{"prompt":"a"}`}, false},
		{"lines", "{\"prompt\":\"a\"}\r\n\n \t\n{\"prompt\":\"b\"} \n", []string{`{"prompt":"a"}`, `{"prompt":"b"}`}, false},
		{"broken lines", "{\"prompt\"\n5\nx y\n", []string{`{"prompt"`, "5", "x y"}, false},
		{"an array", " [ {\"a\":\n1} , 5,[] ]\n", []string{"{\"a\":\n1}", "5", "[]"}, false},
		{"an object", `{"requests":[{"prompt":"a"}],"ordered":true}`, []string{`{"prompt":"a"}`}, true},
		{"an object over lines", "{\n\"ordered\": false,\n\"requests\": [\n{}\n]\n}", []string{"{}"}, false},
		{"keys that fold are others", "{\"Requests\":[1]}\n{}", []string{`{"Requests":[1]}`, "{}"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := ParsePrompts([]byte(c.body), 10)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, item := range p.Items {
				got = append(got, string(item))
			}
			if diff := cmp.Diff(c.want, got); diff != "" || p.Ordered != c.ordered {
				t.Errorf("%q: ordered %v\n%s", c.body, p.Ordered, diff)
			}
		})
	}
}

func TestParsePrompt_FindsTheRoute(t *testing.T) {
	for _, c := range []struct{ item, id, path, body string }{
		{`{"model":"m","messages":[]}`, "", "/api/chat", `{"model":"m","messages":[]}`},
		{`{"model":"m","prompt":""}`, "", "/api/generate", `{"model":"m","prompt":""}`},
		{`{"model":"m","input":[]}`, "", "/api/embed", `{"model":"m","input":[]}`},
		{`{"model":"m","m\u0065ssages":[]}`, "", "/api/chat", `{"model":"m","m\u0065ssages":[]}`},
		{`{"custom_id":"ä\n","method":"POST","url":"/v1/messages","body": { } }`, "ä\n", "/v1/messages", `{ }`},
		{`{"url":"/v1\/responses","body":{"input":"x"}}`, "", "/v1/responses", `{"input":"x"}`},
	} {
		p, err := ParsePrompt([]byte(c.item))
		if err != nil || p.CustomID != c.id || p.Route.Path != c.path || string(p.Body) != c.body {
			t.Errorf("%s: got %q %s %s, %v", c.item, p.CustomID, p.Route.Path, p.Body, err)
		}
	}
}

// What went wrong with an item can be told by its name if that could be read.
func TestParsePrompt_ARefusedItemKeepsItsName(t *testing.T) {
	for _, item := range []string{
		`{"custom_id":"a"}`, `{"custom_id":"a","url":5,"body":{}}`, `{"url":"http://x/api/chat","body":{},"custom_id":"a"}`, `{"custom_id":"a","prompt":"x"}`,
	} {
		if p, err := ParsePrompt([]byte(item)); err == nil || p.CustomID != "a" || p.Body != nil {
			t.Errorf("%s: got %+v, %v", item, p, err)
		}
	}
	for _, item := range []string{`{"custom_id":5,"url":"/api/chat","body":{}}`, `{"custom_id":"` + strings.Repeat("x", customIDLimit) + `","url":"/api/chat","body":{}}`} {
		if p, err := ParsePrompt([]byte(item)); err == nil || p.CustomID != "" {
			t.Errorf("%s: got %+v, %v", item, p, err)
		}
	}
}

// FuzzParsePrompts holds that whatever comes, items are parts of the body, bounded in number, and
// that the request within an item is what encoding/json reads there.
func FuzzParsePrompts(f *testing.F) {
	for _, seed := range []string{
		"", "[", "[]", "[1,", `{"requests":[{}]}`, `{"requests":[{}],"ordered":true} x`, "{}\n{}", "{\n}", "\x00", "[\"\xff\"]", `{"\ud800":1}`,
		`{"custom_id":"a","method":"POST","url":"/api/chat","body":{"model":"m","messages":[]}}`, `{"prompt":1,"prompt":2}`, `{"url":"/api/chat/","body":{}}`,
		"{\"a\xff\":1,\"prompt\":2}\n{\"body\":{},\"url\":\"/\u212api\"}", strings.Repeat("[", 100), `{"requests":[`, "{\"ordered\":true}\n{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		const most = 5
		before := bytes.Clone(body)
		p, err := ParsePrompts(body, most)
		if err != nil {
			if bad, ok := err.(*BadRequest); !ok || bad.Message == "" || len(bad.Message) > messageLimit {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if len(p.Items) == 0 || len(p.Items) > most {
			t.Fatalf("%q: %d items", body, len(p.Items))
		}
		for _, item := range p.Items {
			if !bytes.Contains(body, item) {
				t.Fatalf("%q is no part of %q", item, body)
			}
			prompt, err := ParsePrompt(item)
			if err != nil {
				if bad, ok := err.(*BadRequest); !ok || bad.Status != 400 || len(bad.Message) > messageLimit {
					t.Fatalf("%q: %v", item, err)
				}
				continue
			}
			if prompt.Route.Access != Infer || prompt.Route.Path == "" || len(prompt.Body) == 0 || prompt.Body[0] != '{' {
				t.Fatalf("%q: %+v", item, prompt)
			}
			var all map[string]json.RawMessage
			if json.Unmarshal(item, &all) != nil {
				t.Fatalf("%q is not JSON to encoding/json", item)
			}
			if inner := all["body"]; inner != nil && !bytes.Equal(inner, prompt.Body) {
				t.Fatalf("%q: body %q, encoding/json reads %q", item, prompt.Body, inner)
			}
			if _, err := Parse(prompt.Route, prompt.Body); err != nil {
				if _, ok := err.(*BadRequest); !ok {
					t.Fatalf("%q: %v", prompt.Body, err)
				}
			}
		}
		if !bytes.Equal(body, before) {
			t.Fatal("the body was changed")
		}
	})
}
