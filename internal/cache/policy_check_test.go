package cache

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"pgregory.net/rapid"
)

func TestRules_RefuseWhatIsImpossible(t *testing.T) {
	for _, test := range []struct {
		name string
		rule Rule
		want string // "": it is possible
	}{
		{"nothing but a time", Rule{TTL: time.Hour}, ""},
		{"a negative time", Rule{TTL: -time.Hour}, "write off"},
		{"a bad model glob", Rule{Models: []string{"llama[3"}}, `model: "llama[3" is not a glob`},
		{"an empty model glob", Rule{Models: []string{""}}, "is not a glob"},
		{"an unknown operation", Rule{Operations: []string{"chat", "chta"}}, `unrecognized operation "chta"; use chat, generate, embed or responses`},
		{"an operation that is not kept", Rule{Operations: []string{"pull"}}, "unrecognized operation"},
		{"an empty prompt", Rule{Prompts: []string{""}}, "write *"},
		{"brackets in a prompt", Rule{Prompts: []string{"["}}, ""},
		{"a bad header", Rule{Headers: []HeaderCondition{{"X Source", "*"}}}, "is not a header name"},
		{"no header", Rule{Headers: []HeaderCondition{{"", "*"}}}, "is not a header name"},
		{"host", Rule{Headers: []HeaderCondition{{"host", "*"}}}, "header Host is not a condition"},
		{"no glob", Rule{Headers: []HeaderCondition{{"X-Source", ""}}}, "write *"},
		{"with a credential or not", Rule{Headers: []HeaderCondition{{"Authorization", "*"}}}, ""},
		{"both classes", Rule{Deterministic: true, Sampled: true}, "never both"},
		{"a class of embeddings", Rule{Operations: []string{"embed"}, Sampled: true}, "neither deterministic nor sampled"},
		{"a class of embeddings or chats", Rule{Operations: []string{"embed", "chat"}, Deterministic: true}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			switch err := (Rules{test.rule}).Check(); {
			case err == nil && test.want != "":
				t.Errorf("%s: it is accepted, want %q", test.rule, test.want)
			case err != nil && (test.want == "" || !strings.Contains(err.Error(), test.want)):
				t.Errorf("%s: got %v, want %q", test.rule, err, test.want)
			}
		})
	}
}

func TestRules_RepeatNoCredential(t *testing.T) {
	for _, name := range []string{"authorization", "Cookie", "X-API-Key"} {
		err := Rules{{Headers: []HeaderCondition{{name, "*sesame*"}}}}.Check()
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestRules_RefuseWhatNoRequestCanReach(t *testing.T) {
	for _, test := range []struct {
		name          string
		first, second Rule
		reached       bool
	}{
		{"behind one without conditions", Rule{}, Rule{Models: []string{"llama3"}}, false},
		{"a repeat", Rule{Prompts: []string{"*a*"}}, Rule{Prompts: []string{"*A*"}}, false},
		{"a further condition", Rule{Models: []string{"llama3"}}, Rule{Models: []string{"llama3"}, Operations: []string{"chat"}}, false},
		{"a condition less", Rule{Models: []string{"llama3"}, Operations: []string{"chat"}}, Rule{Models: []string{"llama3"}}, true},
		{"another value", Rule{Operations: []string{"chat"}}, Rule{Operations: []string{"embed"}}, true},
		{"fewer values", Rule{Operations: []string{"chat", "embed"}}, Rule{Operations: []string{"embed"}}, false},
		{"more values", Rule{Operations: []string{"embed"}}, Rule{Operations: []string{"chat", "embed"}}, true},
		{"behind every operation", Rule{Operations: []string{"responses", "embed", "generate", "chat"}}, Rule{}, false},
		{"a narrower model", Rule{Models: []string{"llama*"}}, Rule{Models: []string{"llama3:8b"}}, false},
		{"a wider model", Rule{Models: []string{"llama3"}}, Rule{Models: []string{"llama*"}}, true},
		{"a model in a namespace", Rule{Models: []string{"*"}}, Rule{Models: []string{"team/*"}}, true},
		{"every model and every one in a namespace", Rule{Models: []string{"*"}}, Rule{}, true},
		{"every prompt", Rule{Prompts: []string{"*"}}, Rule{}, false},
		{"a narrower prompt", Rule{Prompts: []string{"*urgent*"}}, Rule{Prompts: []string{"very urgent*"}}, false},
		{"a wider prompt", Rule{Prompts: []string{"very urgent*"}}, Rule{Prompts: []string{"*urgent*"}}, true},
		{"one prompt of two is left", Rule{Prompts: []string{"*a*"}}, Rule{Prompts: []string{"*a*", "*b*"}}, true},
		{"one character and any", Rule{Prompts: []string{"a?"}}, Rule{Prompts: []string{"a*"}}, true},
		{"a header there and a value of it", Rule{Headers: []HeaderCondition{{"x-a", "*"}}}, Rule{Headers: []HeaderCondition{{"X-A", "b"}}}, false},
		{"a value and a header there", Rule{Headers: []HeaderCondition{{"X-A", "b"}}}, Rule{Headers: []HeaderCondition{{"X-A", "*"}}}, true},
		{"a further header", Rule{Headers: []HeaderCondition{{"X-A", "*"}}}, Rule{Headers: []HeaderCondition{{"X-A", "*"}, {"X-B", "*"}}}, false},
		{"a header less", Rule{Headers: []HeaderCondition{{"X-A", "*"}, {"X-B", "*"}}}, Rule{Headers: []HeaderCondition{{"X-A", "*"}}}, true},
		{"a class", Rule{Deterministic: true}, Rule{Deterministic: true, SingleTurn: true}, false},
		{"the other class", Rule{Deterministic: true}, Rule{Sampled: true}, true},
		{"tools", Rule{Tools: true}, Rule{}, true},
		{"no tools", Rule{SingleTurn: true}, Rule{SingleTurn: true, Tools: true}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.first.TTL, test.second.TTL = time.Hour, time.Minute
			rules := withText(test.first, test.second)
			err := rules.Check()
			if test.reached != (err == nil) {
				t.Fatalf("%s, then %s: %v", test.first, test.second, err)
			}
			if err != nil && (!strings.Contains(err.Error(), rules[0].Text) || !strings.Contains(err.Error(), rules[1].Text) || !strings.Contains(err.Error(), "move it up")) {
				t.Errorf("both rules and the way out are not in: %v", err)
			}
		})
	}
}

// What a list of rules refuses as out of reach is so, whatever the call.
func TestRules_WhatIsRefusedIsNeverReached(t *testing.T) {
	globs := func(values ...string) *rapid.Generator[[]string] {
		return rapid.SliceOfN(rapid.SampledFrom(values), 0, 2)
	}
	rule := rapid.Custom(func(t *rapid.T) Rule {
		r := Rule{
			Models:     globs("*", "a*", "a", "a:b", "n/*", "n/a*", "?").Draw(t, "models"),
			Operations: globs(cached...).Draw(t, "operations"),
			Prompts:    globs("*", "*a*", "a?", "?", "a*b").Draw(t, "prompts"),
			SingleTurn: rapid.Bool().Draw(t, "single turn"),
			Tools:      rapid.Bool().Draw(t, "tools"),
		}
		if rapid.Bool().Draw(t, "header") {
			r.Headers = []HeaderCondition{{"X-A", rapid.SampledFrom([]string{"*", "a*", "ab"}).Draw(t, "glob")}}
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		first, second := rule.Draw(t, "first"), rule.Draw(t, "second")
		if !first.covers(&second) {
			return
		}
		prompt := rapid.SampledFrom([]string{"", "a", "ab", "AXB", "xax"}).Draw(t, "prompt")
		value := rapid.SampledFrom([]string{"a", "ab", "b"}).Draw(t, "value")
		single, tools := rapid.Bool().Draw(t, "single"), rapid.Bool().Draw(t, "with tools")
		f := Facts{
			Model:      rapid.SampledFrom([]string{"a:b", "a:latest", "ab:c", "n/a:b", "n/b:c", "b:a"}).Draw(t, "model"),
			Operation:  rapid.SampledFrom(cached).Draw(t, "operation"),
			Prompt:     func() string { return prompt },
			Header:     http.Header{"X-A": {value}},
			SingleTurn: func() bool { return single }, Tools: func() bool { return tools },
		}
		tried := trial{Facts: &f}
		if tried.holds(&second) && !tried.holds(&first) {
			t.Fatalf("%s does not cover %s", first, second)
		}
	})
}

func TestRule_TextIsWhatOneWrites(t *testing.T) {
	for _, test := range []struct {
		rule Rule
		want string
	}{
		{Rule{TTL: time.Hour}, "ttl 1h"},
		{Rule{TTL: time.Minute, Prompts: []string{"*urgent*"}}, "ttl 60s prompt *urgent*"},
		{Rule{TTL: 30 * 24 * time.Hour, Operations: []string{"embed"}}, "ttl 30d operation embed"},
		{Rule{TTL: 24 * time.Hour, Deterministic: true}, "ttl 24h deterministic"},
		{Rule{Models: []string{"*-vision"}, Operations: []string{"chat", "generate"}}, "ttl off model *-vision, operation chat generate"},
		{Rule{TTL: call.Forever, Sampled: true, SingleTurn: true, Tools: true}, "ttl forever sampled, single_turn, tools"},
		{Rule{TTL: 90 * time.Minute, Headers: []HeaderCondition{{"X-A", "*"}, {"X-B", "b c"}}}, `ttl 1h30m header X-A, header X-B "b c"`},
		{Rule{TTL: 10 * time.Minute, Prompts: []string{"a\nb", "{", `"`, "a,b"}}, `ttl 10m prompt "a\nb" "{" "\"" "a,b"`},
		{Rule{TTL: 1500 * time.Millisecond}, "ttl 1.5s"},
		{Rule{TTL: 3*time.Hour + time.Second}, "ttl 3h0m1s"},
		{Rule{TTL: 36 * time.Hour}, "ttl 36h"},
		{Rule{TTL: 100 * time.Second}, "ttl 100s"},
		{Rule{TTL: 150 * time.Second}, "ttl 2m30s"},
	} {
		if got := test.rule.String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}
