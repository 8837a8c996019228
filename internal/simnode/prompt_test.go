package simnode

import (
	"errors"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

func TestPrompt_Renders(t *testing.T) {
	say := func(pairs ...string) (out []api.Message) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, api.Message{Role: pairs[i], Content: pairs[i+1]})
		}
		return out
	}
	const turns = `{{ if .System }}S:{{ .System }} {{ end }}{{ if .Prompt }}U:{{ .Prompt }} {{ end }}A:{{ .Response }} `
	for name, tt := range map[string]struct {
		template string
		c        conversation
		want     string
	}{
		"neighbours of one role are merged": {
			plainTemplate,
			conversation{messages: say("user", "a", "user", "b", "assistant", "c")},
			"<|user|>a\n\nb<|end|><|assistant|>c<|end|><|assistant|>",
		},
		"tool results stay apart": {
			plainTemplate,
			conversation{messages: say("tool", "a", "tool", "b")},
			"<|tool|>a<|end|><|tool|>b<|end|><|assistant|>",
		},
		"system collected": {
			`{{ .System }}|{{ range .Messages }}{{ .Role }} {{ end }}`,
			conversation{messages: say("system", "a", "user", "b", "system", "c")},
			"a\n\nc|system user system ",
		},
		"older template, one exchange": {turns, conversation{messages: say("system", "s", "user", "u")}, "S:s U:u A:"},
		"older template, history":      {turns, conversation{messages: say("user", "u", "assistant", "a", "user", "v")}, "U:u A:a U:v A:"},
		"suffix":                       {`{{ .Prompt }}<>{{ .Suffix }}`, conversation{messages: say("user", "u"), suffix: "x"}, "u<>x"},
		"thinking":                     {`{{ range .Messages }}{{ end }}{{ .IsThinkSet }} {{ .Think }} {{ .ThinkLevel }}`, conversation{think: &api.ThinkValue{On: true, Level: "low"}}, "true true low"},
		"tools": {
			`{{ range .Messages }}{{ end }}{{ range .Tools }}{{ . }}{{ end }}`,
			conversation{tools: api.Tools{{Type: "function", Function: api.ToolFunction{Name: "f"}}}},
			`{"type":"function","function":{"name":"f","parameters":{"type":"","properties":{}}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parsePrompt(tt.template)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := p.render(tt.c); err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestPrompt_DropsTheOldestThatAreNotTheSystems(t *testing.T) {
	p, err := parsePrompt(plainTemplate)
	if err != nil {
		t.Fatal(err)
	}
	var c conversation
	c.messages = append(c.messages, api.Message{Role: "system", Content: "be short"})
	for i := range 40 {
		role := "user"
		if i%2 == 1 {
			role = "assistant"
		}
		c.messages = append(c.messages, api.Message{Role: role, Content: strings.Repeat("x", i+1)})
	}
	whole, _, err := p.fit(c, 50, false)
	if err != nil || strings.Count(whole, "<|end|>") != 41 {
		t.Errorf("without truncation %d messages are left, %v", strings.Count(whole, "<|end|>"), err)
	}
	for _, limit := range []int{1, 50, 100, 200, 500} {
		text, _, err := p.fit(c, limit, true)
		if err != nil {
			t.Fatal(err)
		}
		kept := strings.Count(text, "<|end|>")
		if !strings.HasPrefix(text, "<|system|>be short<|end|>") || !strings.Contains(text, strings.Repeat("x", 40)) {
			t.Errorf("limit %d: the system or the last message is gone: %s", limit, text)
		}
		if n := len(vocab().encode(text)) + 1; n > limit && kept > 2 {
			t.Errorf("limit %d: %d tokens, %d messages", limit, n, kept)
		}
		c := c
		c.messages = append([]api.Message{c.messages[0]}, c.messages[len(c.messages)-kept:]...)
		if more, err := p.render(c); err != nil || kept < 41 && len(vocab().encode(more))+1 <= limit {
			t.Errorf("limit %d: more than %d messages would have fitted", limit, kept)
		}
	}
}

func TestPrompt_IsBounded(t *testing.T) {
	p, err := parsePrompt(`{{ range .Messages }}{{ $long := .Content }}{{ range 100 }}{{ $long }}{{ end }}{{ end }}`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.render(conversation{messages: []api.Message{{Content: strings.Repeat("x", 1<<20)}}}); !errors.Is(err, errTooLong) {
		t.Errorf("got %v", err)
	}
}
