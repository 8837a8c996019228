package simnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"text/template"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// promptLimit bounds a rendered prompt in bytes: a template can ask for any width.
const promptLimit = 16 << 20

// A prompter renders a model's or a client's template.
type prompter struct {
	tmpl   *template.Template
	source string
}

var templateFuncs = template.FuncMap{
	"json": func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return string(b)
	},
	"currentDate": func(...string) string { return time.Now().Format("2006-01-02") },
}

// parsePrompt parses a template. Its errors read like a real server's, which uses text/template as well.
func parsePrompt(source string) (*prompter, error) {
	t, err := template.New("").Funcs(templateFuncs).Parse(source)
	if err != nil {
		return nil, err
	}
	// What the template defines besides itself gets lost on a real server, too, which copies the tree alone.
	alone, err := template.New("").Option("missingkey=zero").Funcs(templateFuncs).AddParseTree("", t.Tree)
	if err != nil {
		return nil, err
	}
	return &prompter{alone, source}, nil
}

// A conversation is what a template sees.
type conversation struct {
	messages []api.Message
	tools    api.Tools
	suffix   string
	think    *api.ThinkValue
}

// handlesThink reports whether the template itself tells the model not to think.
func (p *prompter) handlesThink() bool {
	return strings.Contains(p.source, ".Think ") || strings.Contains(p.source, ".Think)") || strings.Contains(p.source, ".IsThinkSet")
}

// render returns the prompt of a conversation.
func (p *prompter) render(c conversation) (string, error) {
	system, messages := collate(c.messages)
	values := map[string]any{
		"System": system, "Messages": messages, "Tools": c.tools, "Suffix": c.suffix,
		"Think": false, "ThinkLevel": "", "IsThinkSet": c.think != nil, "Prompt": "", "Response": "",
	}
	if c.think != nil {
		values["Think"], values["ThinkLevel"] = c.think.On, c.think.Level
	}
	out := &limited{left: promptLimit}
	switch {
	case c.suffix != "":
		values["Prompt"] = lastContent(messages)
		return out.done(p.tmpl.Execute(out, values))
	case strings.Contains(p.source, ".Messages"):
		return out.done(p.tmpl.Execute(out, values))
	}
	return p.renderTurns(out, values, messages)
}

// renderTurns is for the older templates, which know one exchange: it renders one after the other and cuts the last
// where the model's own words would begin.
func (p *prompter) renderTurns(out *limited, values map[string]any, messages []api.Message) (string, error) {
	const here = "\x00response\x00"
	values["System"] = ""
	exchange := func(response string) error {
		values["Response"] = response
		err := p.tmpl.Execute(out, values)
		values["System"], values["Prompt"] = "", ""
		return err
	}
	for _, m := range messages {
		switch m.Role {
		case "system":
			values["System"] = m.Content
		case "user":
			values["Prompt"] = m.Content
		case "assistant":
			if err := exchange(m.Content); err != nil {
				return out.done(err)
			}
		}
	}
	err := exchange(here)
	text, err := out.done(err)
	before, _, _ := strings.Cut(text, here)
	return before, err
}

// collate merges neighbours of one role, tool results apart, and collects what the system said.
func collate(messages []api.Message) (system string, merged []api.Message) {
	var said []string
	for _, m := range messages {
		if m.Role == "system" {
			said = append(said, m.Content)
		}
		if last := len(merged) - 1; last >= 0 && merged[last].Role == m.Role && m.Role != "tool" {
			merged[last].Content += "\n\n" + m.Content
			merged[last].ToolCalls = append(merged[last].ToolCalls[:len(merged[last].ToolCalls):len(merged[last].ToolCalls)], m.ToolCalls...)
			continue
		}
		merged = append(merged, m)
	}
	return strings.Join(said, "\n\n"), merged
}

func lastContent(messages []api.Message) string {
	if len(messages) == 0 {
		return ""
	}
	return messages[len(messages)-1].Content
}

// fit renders a chat and, when it is longer than limit tokens, leaves out the oldest messages that are not the
// system's, as few as will do; the last one always stays. toil is how long a real node would have taken for that: it
// leaves out one message after the other and renders and spells the rest each time.
func (p *prompter) fit(c conversation, limit int, truncate bool) (text string, toil time.Duration, err error) {
	all := c.messages
	render := func(from int) (string, error) {
		kept := make([]api.Message, 0, len(all))
		for i, m := range all {
			if i >= from || m.Role == "system" {
				kept = append(kept, m)
			}
		}
		c.messages = kept
		return p.render(c)
	}
	fits := func(text string) bool { // a token is a byte or more, which spares most prompts the spelling
		return len(text)+1 <= limit || len(vocab().encode(text))+1 <= limit
	}
	text, err = render(0)
	if err != nil || !truncate || fits(text) {
		return text, 0, err
	}
	var failed error
	from := 1 + sort.Search(len(all)-2, func(i int) bool {
		text, err := render(i + 1)
		failed = errors.Join(failed, err)
		return err != nil || fits(text)
	})
	if failed != nil {
		return "", 0, failed
	}
	before := len(text)
	text, err = render(min(from, len(all)-1))
	return text, time.Duration(from*(before+len(text))/2) * perByte, err
}

// perByte is what a byte that is rendered once more costs: 3000 short messages, of which 2300 were left out, took 17 s.
const perByte = 1300 * time.Nanosecond

// withImages numbers the images of a chat and puts their marks before the text, where a model without eyes reads them.
func withImages(messages []api.Message) []api.Message {
	out := make([]api.Message, len(messages))
	seen := 0
	for i, m := range messages {
		var marks strings.Builder
		for range m.Images {
			fmt.Fprintf(&marks, "[img-%d]", seen)
			seen++
		}
		m.Content = marks.String() + m.Content
		out[i] = m
	}
	return out
}

// limited collects text up to a limit.
type limited struct {
	strings.Builder
	left int
}

var errTooLong = errors.New("the rendered prompt is too long for the simulated node")

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= len(p); l.left < 0 {
		return 0, errTooLong
	}
	return l.Builder.Write(p)
}

func (l *limited) done(err error) (string, error) { return l.String(), err }
