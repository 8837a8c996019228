package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/anthropic"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
	"github.com/caddy-ollama/caddy-ollama/internal/wire/openai"
)

func FuzzParse_Generate(f *testing.F)   { fuzzParse(f, "/api/generate", "generate") }
func FuzzParse_Chat(f *testing.F)       { fuzzParse(f, "/api/chat", "chat") }
func FuzzParse_Embed(f *testing.F)      { fuzzParse(f, "/api/embed", "embed") }
func FuzzParse_Embeddings(f *testing.F) { fuzzParse(f, "/api/embeddings", "embeddings") }
func FuzzParse_Show(f *testing.F)       { fuzzParse(f, "/api/show", "models") }
func FuzzParse_OpenAIChat(f *testing.F) { fuzzParse(f, "/v1/chat/completions", "openai-chat") }
func FuzzParse_Completions(f *testing.F) {
	fuzzParse(f, "/v1/completions", "openai-completions")
}

func FuzzParse_OpenAIEmbeddings(f *testing.F) {
	fuzzParse(f, "/v1/embeddings", "openai-embeddings")
}
func FuzzParse_Responses(f *testing.F) { fuzzParse(f, "/v1/responses", "openai-responses") }
func FuzzParse_Messages(f *testing.F)  { fuzzParse(f, "/v1/messages", "anthropic") }

// hard are bodies at the edges of what decoders agree on, for every route.
var hard = []string{
	`{"model":"a","Model":"b"}`, `{"model":"a","mode\u006c":"b"}`, "{\"model\":\"a\",\"\u017ftream\":false,\"stream\":true}",
	"{\"model\":\"a\",\"\u212aeep_alive\":0}", `{"model":"a","x":1,"X":2}`, "{\"model\":\"a\",\"\xff\":1,\"\ufffd\":2}",
	`{"model":"a","options":{"a":1,"\u0061":2}}`, `{"model":"a","options":{"\ud800":1,"\ufffd":2}}`,
	"{\"model\":\"a\",\"prompt\":\"\xff\xe2\x82\\ud800\\ud800\\udc00\\udc00\\n\"}", `{"model":"a"}{}`, "{\"model\":\"a\"}\x00",
	"\ufeff{}", " ", "", "nul", "null", "nullx", "[]", "5x", `"a`, `{"model":"a","options":{"temperature":1e999}}`,
	`{"model":"a","top_logprobs":1e1}`, `{"model":"a","top_logprobs":-0}`, `{"model":"a","width":2147483648}`,
	`{"model":"a","images":["%%%"]}`, `{"model":"a","images":["aGk\u003d","aGVs\nbG8=\r\n",[1,255,null],null]}`, `{"model":"a","images":[[256]]}`,
	`{"model":"a","think":"\u0068igh"}`, `{"model":"a","think":{}}`, `{"model":"a","keep_alive":"1\u0068"}`, `{"model":"a","keep_alive":[1e999]}`,
	`{"model":"a","keep_alive":-1e-300}`, `{"model":"a","keep_alive":1e300}`, `{"model":"a","messages":[null,{"ROLE":"x","content":null}]}`,
	`{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":"{}"}}]}]}`,
	`{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":null,"index":1.5}}]}]}`,
	`{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"\ud800":1}}}]}]}`,
	"{\"model\":\"a\",\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":{\"\xff\":1}}}]}]}",
	`{"model":"a","messages":[{"tool_calls":[{"function":{"arguments":{"a":{"b":[1,{"c":1,"c":2}]}}}}]}]}`,
	`{"model":"a","tools":[{"function":{"parameters":{"type":["a"]}}}]}`,
	`{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{"type":["a",null],"anyOf":[{"Type":"x","TYPE":"y"}]}}}}}]}`,
	`{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{"type":5}}}}}]}`,
	`{"model":"a","tools":[{"function":{"parameters":{"properties":[],"required":[1]}}}]}`,
	`{"model":"a","tools":[{"function":{"parameters":{"properties":{"p":{"Properties":{"q":{"anyOf":[{"properties":{"r":{"type":{}}}}]}}}}}}}]}`,
	`{"model":"a","messages":[{"content":[{"type":"text","type":"image_url"}]}],"stream_options":{"INCLUDE_USAGE":false}}`,
	`{"model":"a","messages":[{}],"stream_options":{},"temperature":1e999}`,
	`{"raw":0,"keep_alive":[],"zzz":[]}`, `{"logprobs":0,"keep_alive":"x","think":5}`, `{"images":["%"],"raw":1,"think":"x"}`,
	`{"stream":1,"messages":[{"content":5,"tool_calls":[{"id":5,"function":{"arguments":[]}}]},5]}`,
	`{"stream":"x","tools":[{"type":5,"function":{"parameters":{"type":5,"properties":{"p":{"description":5,"type":{}}}}}}]}`,
	`{"options":{"a":1e999,"b":[1e999,{"c":1e999}]},"keep_alive":{"a":1e999}}`,
	`{"model":"a","messages":[{}],"stream_options":null,"stop":[1,1e999],"seed":9223372036854775808}`,
	`{"model":"a","messages":[{"content":[]},{"CONTENT":[ ]}]}`, `{"model":"a","messages":[{"content":[]},{"content":""}]}`,
	`{"model":"a","messages":[{"content":[],"content":[]}]}`, `{"model":"a","prompt":"x","stop":["a",null],"logprobs":21}`,
	`{"model":"a","prompt":"x","top_p":3.5e38,"logprobs":-1}`, `{"model":"a","input":"x","encoding_format":"BA\u017fe64"}`,
	`{"model":"a","input":[ ]}`, `{"input":null,"encoding_format":"FLOAT"}`, `{"model":"a","input":[null]}`, `{"model":"a","input":[{}]}`,
	`{"model":"a","input":[{"type":"message","role":5}]}`, `{"model":"a","input":[{"ROLE":"user","Content":[{"TYPE":"input_text","Text":"x"},{"type":5}]}]}`,
	`{"model":"a","input":[{"type":"zzz","role":"x","Role":"y"}]}`, `{"model":"a","input":[{"type":"zzz","a":{"b":1,"b":2}}],"model":5}`,
	`{"model":"a","input":[{"content":5,"type":"message","type":"reasoning"}]}`, `{"input":[{"type":"x"},{"type":"function_call","name":1,"call_id":2}]}`,
	`{"input":[{"output":5,"call_id":5,"type":"function_call_output"}]}`, `{"input":[{"output":[5],"type":"function_call_output","Output":"x"}]}`,
	`{"model":"a","input":[{"output":[{"type":"output_text","text":5}],"type":"function_call_output"}]}`,
	`{"model":"a","input":[{"type":"reasoning","summary":[{"text":1}],"encrypted_content":"x"},{"type":"re\u0061soning"}]}`,
	`{"model":"a","instructions":"","input":[{"type":"reasoning","encrypted_content":"x"}]}`, `{"model":"a","tools":[{"parameters":{"a":1e999}}]}`,
	`{"model":"a","input":[{"type":"message","content":null},{"type":"message","content":[{"type":"zzz","text":5,"Text":6}]}]}`,
	`{"model":"a","input":[{"type":"message","content":[[]]},5]}`, `{"model":"a","input":[[]]}`, `{"input":{"a":1},"stream":5}`,
	"{\"model\":\"a\",\"input\":[{\"type\":\"input_teÿ\"}],\"text\":{\"format\":{\"schema\":{\"\\ud800\":1}}}}",
	`{"model":"a","max_tokens":1,"messages":[null]}`, `{"model":"a","max_tokens":1,"messages":[{"content":null}]}`,
	`{"messages":[{"content":5,"role":5}]}`, `{"messages":[{"content":{"a":1,"b":[{}]},"role":"x","Content":"x"}]}`,
	`{"model":"a","max_tokens":1,"messages":[{"content":[{"type":"text"},null,{"type":"thinking","thinking":"x"},{"type":"thinking","thinking":""}]}]}`,
	`{"model":"a","max_tokens":1,"system":[{"type":"text","Text":"x"},5,{"type":"text","text":5}],"messages":[{"content":[]}]}`,
	`{"model":"a","max_tokens":1,"messages":[{"content":[{"type":"tool_use","input":{"\ud800\uffff":1}}]}]}`,
	`{"model":"a","max_tokens":1,"messages":[{"content":[{"type":5},{"input":[]},{"text":5}],"role":"x"},{"role":5}],"stream":5}`,
	`{"model":"a","max_tokens":1,"messages":[{"content":"x"}],"tools":[{"input_schema":{"a":1e999,"A":1}}],"System":{"a":1}}`,
	`{"model":"a","max_tokens":1,"messages":[{"content":[{"type":"text","text":"","content":[1e999]}]}]}`, `{"stream":5,"messages":[{}]}`,
}

// translated are the words for what decodes and is of the wrong type all the same.
var translated = regexp.MustCompile("^invalid input( type)?$|^invalid type for 'stop' field: |^Invalid value for 'encoding_format' = ")

// fuzzParse holds the parser to the decoder that a node uses, on anything.
func fuzzParse(f *testing.F, path, recordings string) {
	route := routeOf(path)
	for _, record := range golden.Load(f, recordings) {
		if record.Request.Path == path && len(record.Request.Body) < 4<<10 {
			f.Add(record.Request.Body)
		}
	}
	for _, body := range hard {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { check(t, route, body) })
}

// A tester is what a *testing.T and a *rapid.T have in common.
type tester interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// check holds one body to every promise that can be stated without knowing it.
func check(t tester, route Route, body []byte) {
	t.Helper()
	before := bytes.Clone(body)
	request, err := Parse(route, body)
	if !bytes.Equal(before, body) {
		t.Fatalf("the body was changed\nbefore %q\n after %q", before, body)
	}
	if err == nil {
		checkUpstream(t, route, body, request)
		return
	}
	bad, ok := err.(*BadRequest)
	if !ok {
		t.Fatalf("%q: error %v is no *BadRequest", body, err)
	}
	want, decodeErr := decode(route, body)
	switch bad.Reason {
	case ReasonEmptyBody, ReasonMalformed:
		message := fmt.Sprint(decodeErr)
		if message == "EOF" && route.Dialect == Ollama {
			message = "missing request body"
		}
		if decodeErr == nil || bad.Message != shorten(message, messageLimit) {
			t.Errorf("%q: refused with %q, a node says %v", body, bad.Message, decodeErr)
		}
	case ReasonWrongType:
		if translated.MatchString(bad.Message) && decodeErr == nil {
			break // not a matter of decoding
		}
		if strings.HasPrefix(bad.Message, "deep inside") && decodeErr != nil {
			break // our own words
		}
		if decodeErr == nil || bad.Message != shorten(decodeErr.Error(), messageLimit) {
			t.Errorf("%q: refused with %q, a node says %v", body, bad.Message, decodeErr)
		}
	case ReasonDuplicateField, ReasonTrailingData, ReasonAmbiguous: // our own
	default:
		if decodeErr != nil {
			t.Errorf("%q: refused as %s, which comes after decoding, where a node says %v (%+v)", body, bad.Reason, decodeErr, want)
		}
	}
}

// checkUpstream holds what is sent on to what came: a node decodes both into the same request.
func checkUpstream(t tester, route Route, body []byte, request *Request) {
	t.Helper()
	sent := request.Body.Bytes()
	if request.Body.Len() != int64(len(sent)) {
		t.Errorf("%q: Len is %d, have %d bytes", body, request.Body.Len(), len(sent))
	}
	if !jsontext.Value(sent).IsValid() {
		t.Errorf("%q: sent on as %q, which is not strict JSON", body, sent)
	}
	came, err := decode(route, body)
	if err != nil {
		t.Errorf("%q: accepted, a node says %v", body, err)
	}
	went, err := decode(route, sent)
	if err != nil {
		t.Errorf("%q: sent on as %q, to which a node says %v", body, sent, err)
	}
	if request.Task == Answer {
		streamed(came)
	}
	if !reflect.DeepEqual(came, went) {
		t.Errorf("%q\nsent on as %q\n came %+v\n went %+v", body, sent, came, went)
	}

	again, err := Parse(route, sent)
	if err != nil {
		t.Fatalf("%q: sent on as %q, which is refused: %v", body, sent, err)
	}
	if twice := again.Body.Bytes(); !bytes.Equal(sent, twice) {
		t.Errorf("%q: sent on as %q, and that as %q", body, sent, twice)
	}
	if again.Task != request.Task || again.Model != request.Model || again.Runner != request.Runner ||
		!bytes.Equal(again.Options, request.Options) || !reflect.DeepEqual(again.KeepAlive, request.KeepAlive) ||
		again.Verbose != request.Verbose || again.System != request.System {
		t.Errorf("%q: read as %+v, what is sent on as %+v", body, request, again)
	}
	if told, toldAgain := request.Conversation(), again.Conversation(); !slices.Equal(told, toldAgain) {
		t.Errorf("%q: told as %v, what is sent on as %v", body, told, toldAgain)
	}
	if form, formAgain := request.Canonical(), again.Canonical(); !bytes.Equal(form, formAgain) {
		t.Errorf("%q: has the form %q, what is sent on %q", body, form, formAgain)
	}
	checkRequest(t, body, came, request)
	checkAdjusted(t, route, body)
}

// checkRequest holds the fields of a Request to what the decoder made of the body.
func checkRequest(t tester, body []byte, came any, q *Request) {
	t.Helper()
	var model string
	task, commands := Answer, false
	var keep *api.Duration
	var render bool
	switch c := came.(type) {
	case *api.GenerateRequest:
		model, keep, render, commands = c.Model, c.KeepAlive, c.DebugRenderOnly, c.Prompt == ""
	case *api.ChatRequest:
		model, keep, render, commands = c.Model, c.KeepAlive, c.DebugRenderOnly, len(c.Messages) == 0
	case *api.EmbedRequest:
		model, keep = c.Model, c.KeepAlive
	case *api.EmbeddingRequest:
		model, keep = c.Model, c.KeepAlive
	case *api.ShowRequest:
		if model = c.Model; model == "" {
			model = c.Name
		}
		if q.Verbose != c.Verbose || q.System != (c.System != "") {
			t.Errorf("%q: verbose %v system %v, a node reads %+v", body, q.Verbose, q.System, c)
		}
	case *openai.ChatCompletionRequest:
		model, render, commands = c.Model, c.DebugRenderOnly, true
		for _, m := range c.Messages {
			parts, ok := m.Content.([]any)
			commands = commands && ok && len(parts) == 0
		}
	case *openai.CompletionRequest:
		model, render, commands = c.Model, c.DebugRenderOnly, c.Prompt == ""
	case *openai.EmbedRequest:
		model = c.Model
	case *openai.ResponsesRequest:
		model, commands = c.Model, isNoInput(c)
	case *anthropic.MessagesRequest:
		model, commands = c.Model, isNoContent(c)
	}
	switch {
	case commands && keep != nil && keep.Duration == 0:
		task = Unload
	case commands:
		task = Load
	case render:
		task = Render
	}
	if q.Model.Spelling != model || q.Task != task || (q.KeepAlive == nil) != (keep == nil) {
		t.Errorf("%q: read as %+v, a node reads %+v", body, q, came)
	}
}

// isNoInput translates the messages of a Responses request as a node does, as far as to see
// whether there are any.
func isNoInput(c *openai.ResponsesRequest) bool {
	messages, thinking := 0, ""
	if c.Instructions != "" {
		messages++
	}
	for _, item := range c.Input {
		switch v := item.Value.(type) {
		case *openai.ResponsesReasoningInput:
			thinking = v.EncryptedContent
		case string:
			if v != "" {
				messages++
			}
		default:
			messages++
		}
	}
	return messages == 0 && thinking == ""
}

// isNoContent does so with an Anthropic request.
func isNoContent(c *anthropic.MessagesRequest) bool {
	var kept strings.Builder
	switch system := c.System.(type) {
	case string:
		kept.WriteString(system)
	case []any:
		for _, block := range system {
			if block, ok := block.(map[string]any); ok && block["type"] == "text" {
				text, _ := block["text"].(string)
				kept.WriteString(text)
			}
		}
	}
	for _, m := range c.Messages {
		thinking := ""
		for _, block := range m.Content {
			switch block.Type {
			case "text":
				if block.Text != nil {
					kept.WriteString(*block.Text)
				}
			case "thinking":
				if block.Thinking != nil {
					thinking = *block.Thinking
				}
			case "image", "tool_use", "tool_result", "server_tool_use", "web_search_tool_result":
				kept.WriteString(block.Type)
			}
		}
		kept.WriteString(thinking)
	}
	return kept.Len() == 0
}

// decode decodes as a node does.
func decode(route Route, body []byte) (any, error) {
	v := reflect.New(forms[route.Path].schema.shadow).Interface()
	err := json.NewDecoder(bytes.NewReader(body)).Decode(v)
	// What a node keeps as text it reads later, by the same rules.
	switch v := v.(type) {
	case *api.GenerateRequest:
		v.Format = readText(v.Format)
	case *api.ChatRequest:
		v.Format = readText(v.Format)
	case *openai.ChatCompletionRequest:
		if f := v.ResponseFormat; f != nil && f.JsonSchema != nil {
			f.JsonSchema.Schema = readText(f.JsonSchema.Schema)
		}
	case *openai.ResponsesRequest:
		v.Conversation = readText(v.Conversation)
		if v.Text != nil && v.Text.Format != nil {
			v.Text.Format.Schema = readText(v.Text.Format.Schema)
		}
	case *anthropic.MessagesRequest:
		for i := range v.Tools {
			v.Tools[i].InputSchema = readText(v.Tools[i].InputSchema)
		}
	}
	return v, err
}

// readText spells the strings of a JSON text as they are read and keeps everything else.
func readText(text []byte) []byte {
	if text == nil {
		return nil
	}
	read, err := jsontext.AppendFormat(nil, text, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
	if err != nil {
		return text
	}
	return read
}

// streamed changes a decoded request as upstream does.
func streamed(v any) {
	on := true
	switch v := v.(type) {
	case *api.GenerateRequest:
		v.Stream = &on
	case *api.ChatRequest:
		v.Stream = &on
	case *openai.ChatCompletionRequest:
		v.Stream = true
		v.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
	case *openai.CompletionRequest:
		v.Stream = true
		v.StreamOptions = &openai.StreamOptions{IncludeUsage: true}
	case *openai.ResponsesRequest:
		v.Stream = &on
	case *anthropic.MessagesRequest:
		v.Stream = true
	}
}

// The seeds above are too many to be told apart by number when one of them fails.
func TestParse_HardBodies(t *testing.T) {
	for path := range forms {
		for _, body := range hard {
			check(t, routeOf(path), []byte(body))
		}
	}
}

func TestParse_AgreesOnDepth(t *testing.T) {
	for _, depth := range []int{9998, 9999, 10000, 10001} {
		for _, text := range []string{
			strings.Repeat("[", depth) + strings.Repeat("]", depth),
			strings.Repeat(`{"":`, depth) + "1" + strings.Repeat("}", depth),
		} {
			for _, body := range []string{`{"model":"a","zzz":` + text + "}", `{"model":"a","options":{"a":` + text + "}}"} {
				check(t, routeOf("/api/generate"), []byte(body))
			}
		}
	}
}
