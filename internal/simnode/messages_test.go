package simnode

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/api"
)

// blocks writes records and returns the events in short.
func blocks(newest bool, messages ...api.Message) string {
	w := httptest.NewRecorder()
	o := &messageWriter{events: events{w: w}, streaming: true, newest: newest}
	for i, m := range messages {
		rec := chatRecord{Message: m, Done: i == len(messages)-1}
		o.record(rec)
	}
	var out []string
	for _, m := range regexp.MustCompile(`"type":"content_block_(start|stop)","index":(\d)(?:,"content_block":{"type":"(\w+)")?`).FindAllStringSubmatch(w.Body.String(), -1) {
		out = append(out, strings.TrimSpace(fmt.Sprint(m[2], " ", m[1], " ", m[3])))
	}
	return strings.Join(out, ", ")
}

// The newest order was written from reading anthropic.StreamConverter of Ollama after v0.33.0-rc2; the one before is
// that of v0.24.0, whose other orders are recorded.
func TestMessages_BlocksOpenAndClose(t *testing.T) {
	call := func(id string) []api.ToolCall { return []api.ToolCall{{ID: id}} }
	tests := map[string]struct {
		newest   bool
		messages []api.Message
		want     string
	}{
		"text":                 {messages: []api.Message{{Content: "a"}, {Content: "b"}}, want: "0 start text, 0 stop"},
		"thought and text":     {messages: []api.Message{{Thinking: "a"}, {Content: "b"}, {}}, want: "0 start thinking, 0 stop, 1 start text, 1 stop"},
		"in one record":        {messages: []api.Message{{Thinking: "a", Content: "b"}, {}}, want: "0 start thinking, 0 stop, 1 start text, 1 stop"},
		"thought alone":        {messages: []api.Message{{Thinking: "a"}, {}}, want: "0 start thinking, 0 stop"},
		"text and call":        {messages: []api.Message{{Content: "a"}, {ToolCalls: call("1")}, {}}, want: "0 start text, 0 stop, 1 start tool_use, 1 stop"},
		"the same, newest":     {newest: true, messages: []api.Message{{Content: "a"}, {ToolCalls: call("1")}, {}}, want: "0 start text, 0 stop, 1 start tool_use, 1 stop"},
		"thought and call":     {messages: []api.Message{{Thinking: "a"}, {ToolCalls: call("1")}, {}}, want: "0 start thinking, 0 stop, 1 start tool_use, 1 stop"},
		"two calls":            {messages: []api.Message{{ToolCalls: call("1")}, {ToolCalls: call("2")}, {}}, want: "0 start tool_use, 0 stop, 1 start tool_use, 1 stop"},
		"text between":         {messages: []api.Message{{ToolCalls: call("1")}, {Content: "a"}, {}}, want: "0 start tool_use, 0 stop, 1 start text, 1 stop"},
		"thought after text":   {messages: []api.Message{{Content: "a"}, {Thinking: "b"}, {}}, want: "0 start text, 0 start thinking, 0 stop"},
		"thought then, newest": {newest: true, messages: []api.Message{{Content: "a"}, {Thinking: "b"}, {}}, want: "0 start text, 0 stop, 1 start thinking, 1 stop"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := blocks(tt.newest, tt.messages...); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
