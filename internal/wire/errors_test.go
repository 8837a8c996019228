package wire

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

var requestIDs = regexp.MustCompile(`"req_[0-9a-f]{24}"`)

// dialectOf is the dialect of a recorded path.
func dialectOf(path string) Dialect {
	switch {
	case strings.HasPrefix(path, "/v1/messages"):
		return Anthropic
	case strings.HasPrefix(path, "/v1/"):
		return OpenAI
	}
	return Ollama
}

func TestErrorBody_IsAsRecorded(t *testing.T) {
	compared := 0
	for _, file := range []string{
		"general", "generate", "chat", "embed", "embeddings", "anthropic", "models", "faults", "queue",
		"openai-chat", "openai-completions", "openai-embeddings", "openai-responses", "hostile",
	} {
		for _, rec := range golden.Load(t, file) {
			body, contentType := rec.Response.Body, headerOf(rec.Response, "Content-Type")
			message := ErrorMessage(body)
			if rec.Response.Status < 400 || message == "" {
				continue
			}
			d := dialectOf(rec.Request.Path)
			if d != Ollama && bytes.HasPrefix(body, []byte(`{"error":"`)) {
				d = Ollama // the hosted service's errors are native ones everywhere
			}
			if d == Ollama && contentType == typeJSON {
				contentType = typeJSONCharset // an error before the first record of a stream
			}
			gotType, got := ErrorBody(d, rec.Response.Status, message, contentType == typeJSONCharset)
			want := requestIDs.ReplaceAll(body, []byte(`"req_"`))
			got = requestIDs.ReplaceAll(got, []byte(`"req_"`))
			if gotType != contentType || !bytes.Equal(got, want) {
				t.Errorf("%s/%s: ErrorBody(%v, %d, %q)\ngot  %s %q\nwant %s %q", file, rec.ID, d, rec.Response.Status, message,
					gotType, got, contentType, want)
			}
			compared++
		}
	}
	if compared < 150 {
		t.Errorf("%d errors compared, want all that are recorded", compared)
	}
}

func TestErrorBody_TypesFollowTheStatus(t *testing.T) {
	tests := []struct {
		status            int
		openAI, anthropic string
	}{
		{400, "invalid_request_error", "invalid_request_error"},
		{401, "invalid_request_error", "authentication_error"},
		{403, "api_error", "permission_error"},
		{404, "not_found_error", "not_found_error"},
		{408, "api_error", "api_error"},
		{413, "api_error", "api_error"},
		{429, "api_error", "rate_limit_error"},
		{500, "api_error", "api_error"},
		{503, "api_error", "overloaded_error"},
		{529, "api_error", "overloaded_error"},
	}
	for _, tt := range tests {
		for d, want := range map[Dialect]string{OpenAI: tt.openAI, Anthropic: tt.anthropic} {
			_, body := ErrorBody(d, tt.status, "x", true)
			if !bytes.Contains(body, []byte(`"type":"`+want+`"`)) {
				t.Errorf("ErrorBody(%v, %d) = %s, want type %s", d, tt.status, body, want)
			}
		}
	}
}

func TestErrorBody_EscapesAsANodeDoes(t *testing.T) {
	const message = "a \"b\" <c> & \u2028 \xff \n"
	const want = `{"error":"a \"b\" \u003cc\u003e \u0026 \u2028 \ufffd \n"}`
	if _, got := ErrorBody(Ollama, 400, message, false); string(got) != want {
		t.Errorf("ErrorBody of %q\ngot  %s\nwant %s", message, got, want)
	}
}

func TestErrorBody_EachRequestHasItsID(t *testing.T) {
	_, a := ErrorBody(Anthropic, 400, "x", true)
	_, b := ErrorBody(Anthropic, 400, "x", true)
	if !requestIDs.Match(a) || bytes.Equal(a, b) {
		t.Errorf("got %s and %s, want two ids of 24 hex digits", a, b)
	}
}

func TestErrorRecord_IsAFrameAndAFault(t *testing.T) {
	tests := []struct{ path, want string }{
		{"/api/chat", `{"error":"the \u003cnode\u003e is gone"}` + "\n"},
		{"/v1/chat/completions", `data: {"error":{"message":"the \u003cnode\u003e is gone","type":"api_error","param":null,"code":null}}` + "\n\n"},
		{"/v1/completions", `data: {"error":{"message":"the \u003cnode\u003e is gone","type":"api_error","param":null,"code":null}}` + "\n\n"},
		{"/v1/messages", "event: error\n" + `data: {"type":"error","error":{"type":"api_error","message":"the \u003cnode\u003e is gone"}}` + "\n\n"},
		// OpenAI's own libraries throw what stands under error at the top, Vercel's and other
		// clients read response.error.
		{"/v1/responses", "event: response.failed\n" + `data: {"error":{"message":"the \u003cnode\u003e is gone","type":"api_error","param":null,"code":null},` +
			`"response":{"error":{"code":"server_error","message":"the \u003cnode\u003e is gone"},"object":"response","output":[],"status":"failed"},` +
			`"sequence_number":0,"type":"response.failed"}` + "\n\n"},
	}
	for _, tt := range tests {
		route := *Find("POST", tt.path).Route
		got := ErrorRecord(route, "the <node> is gone")
		if string(got) != tt.want {
			t.Errorf("ErrorRecord(%s)\ngot  %q\nwant %q", tt.path, got, tt.want)
		}
		frame, err := NewSplitter(bytes.NewReader(got), route.Dialect).Next()
		if err != nil || !bytes.Equal(frame, got) {
			t.Errorf("%s: the record splits to %q, %v", tt.path, frame, err)
		}
		j := NewJudge(route.Dialect, route.Operation)
		if kind, err := j.Frame(got); kind != Fault || err != nil || j.Message() != "the <node> is gone" {
			t.Errorf("%s: the record is judged %v, %v with message %q", tt.path, kind, err, j.Message())
		}
	}
}

func TestErrorMessage(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"native", `{"error":"no \u003cmodel\u003e"}`, "no <model>"},
		{"openai", `{"error":{"message":"m","type":"api_error","param":null,"code":null}}` + "\n", "m"},
		{"anthropic", `{"type":"error","error":{"type":"api_error","message":"m"},"request_id":"req_0"}`, "m"},
		{"hosted service", `{"StatusCode":401,"Status":"401 Unauthorized","error":"unauthorized"}`, "unauthorized"},
		{"no error", `{"models":[]}`, ""},
		{"null", `{"error":null}`, ""},
		{"number", `{"error":5}`, ""},
		{"no object", `["error"]`, ""},
		{"empty", ``, ""},
		{"plain text", `404 page not found`, ""},
		{"cut", `{"error":"x`, ""},
	}
	for _, tt := range tests {
		if got := ErrorMessage([]byte(tt.body)); got != tt.want {
			t.Errorf("%s: ErrorMessage(%s)\ngot  %q\nwant %q", tt.name, tt.body, got, tt.want)
		}
	}
}

func FuzzErrorBody(f *testing.F) {
	f.Add("x", 400)
	f.Add("\xff\u2028\"\\", 503)
	f.Fuzz(func(t *testing.T, message string, status int) {
		want := strings.ToValidUTF8(message, "") // each bad byte becomes U+FFFD; compare without them
		for _, d := range []Dialect{Ollama, OpenAI, Anthropic} {
			for _, early := range []bool{true, false} {
				_, body := ErrorBody(d, status, message, early)
				got := ErrorMessage(body)
				if !json.Valid(body) || strings.ReplaceAll(got, "\ufffd", "") != strings.ReplaceAll(want, "\ufffd", "") {
					t.Errorf("ErrorBody(%v, %d, %q) = %q", d, status, message, body)
				}
			}
		}
	})
}
