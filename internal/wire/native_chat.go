package wire

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/openai"
)

// NativeChat is the native chat that Ollama's translator makes of an OpenAI chat
// (openai/openai.go of 0.24.0, FromChatRequest): its Canonical is that of a native client's
// request that says the same. temperature and top_p are 1.0 in it where the OpenAI client gave
// none.
//
// ok is false for all other routes, for commands, and whenever it is not certain what the
// translator makes of something: a field that it does not know, but for those which change no
// answer; calls of tools and what they gave; images and sounds; names; a list of stops that is
// empty or holds more than texts. What it refuses is not certain either.
func (r *Request) NativeChat() (native *Request, ok bool) {
	if r.Route.Path != "/v1/chat/completions" || r.Task != Answer {
		return nil, false
	}
	n := nativeWriter{source: r.source, out: make([]byte, 0, len(r.source.body)+256)}
	if !n.write(r.Stream) {
		return nil, false
	}
	native, err := Parse(nativeChatRoute, n.out)
	return native, err == nil
}

// nativeChatRoute is the row of the native chat.
var nativeChatRoute = routes[slices.IndexFunc(routes[:], func(r Route) bool { return r.Path == "/api/chat" })]

// A nativeWriter writes the body of a native chat, out of the values of an OpenAI one as they
// are spelt: only Parse reads them.
type nativeWriter struct {
	source *reading
	out    []byte
}

// The fields of an OpenAI chat that a translator knows, and those that change no answer.
var chatFields = append(forms["/v1/chat/completions"].schema.names(), "user", "metadata")

// The fields of a message that a translator knows.
var messageFields = schemaOf[openai.Message]().names()

// names are those of the fields of a struct.
func (s *schema) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

func (n *nativeWriter) write(stream bool) bool {
	r := n.source
	if !hasOnly(r.body[r.from:], folds, chatFields...) {
		return false
	}
	n.raw(`{"model":`, r.raw("model"))
	n.raw(`,"stream":`, strconv.AppendBool(nil, stream))
	return n.messages() && n.options() && n.format() && n.think() && n.rest()
}

// raw writes a key and its value as it is spelt, or nothing where there is no value.
func (n *nativeWriter) raw(key string, value []byte) {
	if value != nil {
		n.out = append(append(n.out, key...), value...)
	}
}

// messages writes a message for each text: each part of a content becomes one of its own.
func (n *nativeWriter) messages() bool {
	n.raw(`,"messages":[`, []byte{})
	for message := range elements(n.source.raw("messages")) {
		if message[0] != '{' || !isPlain(message) {
			return false
		}
		role := pick(message, "role", folds)
		if role == nil {
			role = []byte(`""`)
		}
		if isRole(role, "tool") {
			return false
		}
		reasoning := pick(message, "reasoning", folds)
		switch content := pick(message, "content", folds); {
		case content == nil:
			return false
		case content[0] == '"':
			n.message(role, content, reasoning)
		case content[0] == '[' && !hasText(reasoning): // it would be lost
			for part := range elements(content) {
				// The translator keeps these as free maps: case counts.
				text := pick(part, "text", exactly)
				if !hasOnly(part, exactly, "type", "text") || !hasWord(pick(part, "type", exactly), "text") || !isText(text) {
					return false
				}
				n.message(role, text, nil)
			}
		default:
			return false
		}
	}
	n.out = append(bytes.TrimSuffix(n.out, []byte{','}), ']')
	return true
}

func (n *nativeWriter) message(role, content, reasoning []byte) {
	n.raw(`{"role":`, role)
	n.raw(`,"content":`, content)
	if hasText(reasoning) {
		n.raw(`,"thinking":`, reasoning)
	}
	n.out = append(n.out, "},"...)
}

// isPlain tells whether a message has nothing of which it is not certain what becomes of it.
// Clients write null for what there is not.
func isPlain(message []byte) bool {
	return hasOnly(message, folds, messageFields...) && pick(message, "tool_calls", folds) == nil &&
		pick(message, "name", folds) == nil && pick(message, "tool_call_id", folds) == nil
}

// options writes the options that the translator makes.
func (n *nativeWriter) options() bool {
	r := n.source
	n.raw(`,"options":{"temperature":`, orOne(r.raw("temperature")))
	n.raw(`,"top_p":`, orOne(r.raw("top_p")))
	n.raw(`,"num_predict":`, r.raw("max_tokens"))
	n.raw(`,"seed":`, r.raw("seed"))
	n.raw(`,"frequency_penalty":`, r.raw("frequency_penalty"))
	n.raw(`,"presence_penalty":`, r.raw("presence_penalty"))
	switch stop := r.raw("stop"); {
	case stop == nil:
	case stop[0] == '"':
		n.raw(`,"stop":[`, stop)
		n.out = append(n.out, ']')
	case stop[0] == '[' && !isEmptyList(stop) && r.isTexts("stop"):
		n.raw(`,"stop":`, stop)
	default:
		return false
	}
	n.out = append(n.out, '}')
	return true
}

func orOne(value []byte) []byte {
	if value == nil {
		return []byte("1.0")
	}
	return value
}

// format writes the format. A type that the translator does not know is no format, and what a
// schema has beside its text it does not look at.
func (n *nativeWriter) format() bool {
	wanted := n.source.raw("response_format")
	if wanted == nil {
		return true
	}
	named := pick(wanted, "json_schema", folds)
	if !hasOnly(wanted, folds, "type", "json_schema") ||
		named != nil && !hasOnly(named, folds, "name", "description", "strict", "schema") {
		return false
	}
	kind := pick(wanted, "type", folds)
	if kind == nil {
		return true
	}
	switch strings.ToLower(strings.TrimSpace(string(appendText(nil, kind[1:len(kind)-1])))) {
	case "json_object":
		n.raw(`,"format":`, []byte(`"json"`))
	case "json_schema":
		if named != nil {
			n.raw(`,"format":`, pick(named, "schema", folds))
		}
	}
	return true
}

// think writes how to think. reasoning comes before reasoning_effort, also where it says
// nothing.
func (n *nativeWriter) think() bool {
	effort := n.source.raw("reasoning_effort")
	if reasoning := n.source.raw("reasoning"); reasoning != nil {
		if !hasOnly(reasoning, folds, "effort") {
			return false
		}
		effort = pick(reasoning, "effort", folds)
	}
	if !hasText(effort) {
		return true
	}
	switch level := string(appendText(nil, effort[1:len(effort)-1])); {
	case level == "none":
		n.raw(`,"think":`, []byte("false"))
	case slices.Contains(api.ThinkLevels[:], level):
		n.raw(`,"think":`, effort)
	default:
		return false
	}
	return true
}

// rest writes what passes as it is, and is left out where it says nothing.
func (n *nativeWriter) rest() bool {
	r := n.source
	if !r.isEmpty("tools") {
		n.raw(`,"tools":`, r.raw("tools"))
	}
	if isTrue(r.raw("logprobs")) {
		n.raw(`,"logprobs":`, []byte("true"))
	}
	if r.int("top_logprobs") != 0 {
		n.raw(`,"top_logprobs":`, r.raw("top_logprobs"))
	}
	n.out = append(n.out, '}')
	return true
}
