package simnode_test

import (
	"fmt"
	"net/http"
	"regexp"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// The numbers of events are masked when recordings are compared, so they are held here.
func TestResponses_EventsAreNumberedFromZero(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	_, raw := ask(t, n, http.MethodPost, "/v1/responses", `{"model":"sim-think","input":"x","stream":true}`)
	found := regexp.MustCompile(`"sequence_number":(\d+),`).FindAllStringSubmatch(raw, -1)
	for i, m := range found {
		if m[1] != fmt.Sprint(i) {
			t.Fatalf("event %d has the number %s", i, m[1])
		}
	}
	if len(found) < 20 {
		t.Errorf("%d events", len(found))
	}
}

func TestResponses_HistoryBecomesMessages(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	count := func(input string) string {
		t.Helper()
		status, raw := ask(t, n, http.MethodPost, "/v1/responses", `{"model":"sim-tool","input":[`+input+`]}`)
		if status != 200 {
			t.Fatalf("%s: %d %s", input, status, raw)
		}
		return regexp.MustCompile(`"input_tokens":\d+`).FindString(raw)
	}
	const user = `{"role":"user","content":"hello"}`
	const call = `{"type":"function_call","call_id":"1","name":"f","arguments":"{\"a\":1}"}`
	if a, b := count(user), count(user+`,`+call+`,{"type":"function_call_output","call_id":"1","output":"11 C"}`); a == b {
		t.Errorf("a call and its result add nothing to %s", a)
	}
	if a, b := count(`{"role":"user","content":"a b"}`), count(`{"type":"message","role":"USER","content":[{"type":"input_text","text":"a"},{"type":"input_text","text":" b"}]}`); a != b {
		t.Errorf("parts: %s, whole: %s", b, a)
	}
	for input, want := range map[string]string{
		`{"type":"function_call","arguments":"x"}`:          "failed to parse function call arguments: ",
		`{"role":"user","content":[{"type":"input_file"}]}`: "file inputs are not currently supported",
		`{"role":"user","content":[{"type":"sound"}]}`:      "input[0]: content[0]: unknown content type: sound",
		`{"content":"x"}`:                            "input[0]: input item missing required 'type' field",
		`{"type":"computer_call"}`:                   `input[0]: unknown input item type: \"computer_call\"`,
		`{"type":"function_call_output","output":7}`: "input[0]: output must be a string or array: ",
		`{"role":"user","content":[{"type":"input_image","image_url":"http://x"}]}`: "image URLs are not currently supported",
	} {
		if status, raw := ask(t, n, http.MethodPost, "/v1/responses", `{"model":"sim-tool","input":[`+input+`]}`); status != 400 || !regexp.MustCompile(regexp.QuoteMeta(want)).MatchString(raw) {
			t.Errorf("%s: %d %s", input, status, raw)
		}
	}
}
