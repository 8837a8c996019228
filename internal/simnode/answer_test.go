package simnode_test

import (
	"context"
	"encoding/json"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// ask sends one request straight to a node's handler.
func ask(t testing.TB, n *simnode.Node, method, path, body string) (status int, answer string) {
	t.Helper()
	w := httptest.NewRecorder()
	n.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

func newNode(t testing.TB, models ...simnode.Model) *simnode.Node {
	n := simnode.New(simnode.Options{Models: models, Scale: 1e-9})
	t.Cleanup(n.Close)
	return n
}

// say returns the text of a generate request.
func say(t testing.TB, n *simnode.Node, body string) (text, reason string) {
	t.Helper()
	status, raw := ask(t, n, http.MethodPost, "/api/generate", body)
	var out struct {
		Response   string
		DoneReason string `json:"done_reason"`
	}
	if err := json.Unmarshal([]byte(raw), &out); err != nil || status != http.StatusOK {
		t.Fatalf("%s: %d %s", body, status, raw)
	}
	return out.Response, out.DoneReason
}

func TestAnswer_SameOnEveryNode(t *testing.T) {
	const cold = `{"model":"sim-chat","prompt":"why is the sky blue","stream":false,"options":{"temperature":0}}`
	const seeded = `{"model":"sim-chat","prompt":"why is the sky blue","stream":false,"options":{"seed":3}}`
	const warm = `{"model":"sim-chat","prompt":"why is the sky blue","stream":false}`
	one, two := newNode(t, simnode.SimModels()...), newNode(t, simnode.SimModels()...)
	for _, body := range []string{cold, seeded} {
		a, _ := say(t, one, body)
		again, _ := say(t, one, body)
		other, _ := say(t, two, body)
		if a != again || a != other {
			t.Errorf("%s: %q, %q, %q", body, a, again, other)
		}
	}
	a, _ := say(t, one, warm)
	if again, _ := say(t, one, warm); a == again {
		t.Errorf("without a seed twice %q", a)
	}
}

func TestAnswer_ShorterIsTheBeginning(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	whole, reason := say(t, n, `{"model":"sim-chat","prompt":"hi","stream":false,"options":{"temperature":0}}`)
	if reason != "stop" {
		t.Errorf("ended by %q", reason)
	}
	short, reason := say(t, n, `{"model":"sim-chat","prompt":"hi","stream":false,"options":{"temperature":0,"num_predict":7}}`)
	if !strings.HasPrefix(whole, short) || short == whole || reason != "length" {
		t.Errorf("%q (%s) does not begin %q", short, reason, whole)
	}
}

func TestAnswer_StopCutsAlsoAcrossTokens(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	const options = `{"model":"sim-chat","prompt":"hi","stream":false,"options":{"temperature":0}}`
	whole, _ := say(t, n, options)
	words := strings.Fields(whole)
	for name, stop := range map[string]string{
		"within a token":   words[4][1:],
		"two tokens":       words[3] + " " + words[4],
		"part of a token":  words[3][1:] + " " + words[4][:1],
		"a whole sentence": strings.Join(words[2:9], " "),
		"at once":          whole[:1],
		"empty":            "",
	} {
		quoted, _ := json.Marshal([]string{"never there", stop})
		want, _, _ := strings.Cut(whole, stop)
		got, reason := say(t, n, strings.Replace(options, `"temperature":0`, `"temperature":0,"stop":`+string(quoted), 1))
		if got != want || reason != "stop" {
			t.Errorf("%s, stop %q: got %q (%s), want %q", name, stop, got, reason, want)
		}
		_, stream := ask(t, n, http.MethodPost, "/api/generate",
			strings.NewReplacer(`"stream":false`, `"stream":true`, `"temperature":0`, `"temperature":0,"stop":`+string(quoted)).Replace(options))
		var streamed strings.Builder
		for line := range strings.Lines(stream) {
			var rec struct{ Response string }
			if err := json.Unmarshal([]byte(line), &rec); err != nil {
				t.Fatal(err)
			}
			streamed.WriteString(rec.Response)
		}
		if streamed.String() != want {
			t.Errorf("%s, stop %q: streamed %q, want %q", name, stop, streamed.String(), want)
		}
	}
}

func TestAnswer_FormatIsJSON(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	text, _ := say(t, n, `{"model":"sim-chat","prompt":"hi","stream":false,"format":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"]}}`)
	var v struct{ N *int }
	if err := json.Unmarshal([]byte(text), &v); err != nil || v.N == nil {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestAnswer_ContextContinues(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	_, raw := ask(t, n, http.MethodPost, "/api/generate", `{"model":"sim-chat","prompt":"hi","stream":false,"options":{"temperature":0,"num_predict":5}}`)
	var first struct {
		Response string
		Context  json.RawMessage
	}
	if err := json.Unmarshal([]byte(raw), &first); err != nil {
		t.Fatal(err)
	}
	_, raw = ask(t, n, http.MethodPost, "/api/generate", `{"model":"sim-chat","prompt":"and","_debug_render_only":true,"context":`+string(first.Context)+`}`)
	if want := `hi\u003c|end|\u003e\u003c|assistant|\u003e` + first.Response + `\u003c|user|\u003eand`; !strings.Contains(raw, want) {
		t.Errorf("rendered %s, want %s in it", raw, want)
	}
}

func TestChat_ToolAgentComesToAnEnd(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	const tools = `"tools":[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}},"required":["city"]}}}]`
	chat := func(messages string) (content string, calls []struct {
		ID       string
		Function struct {
			Name      string
			Arguments map[string]any
		}
	},
	) {
		_, raw := ask(t, n, http.MethodPost, "/api/chat", `{"model":"sim-tool","stream":false,`+tools+`,"messages":`+messages+`}`)
		var out struct {
			Message struct {
				Content string
				Calls   json.RawMessage `json:"tool_calls"`
			}
		}
		if err := json.Unmarshal([]byte(raw), &out); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		if out.Message.Calls != nil {
			if err := json.Unmarshal(out.Message.Calls, &calls); err != nil {
				t.Fatal(err)
			}
		}
		return out.Message.Content, calls
	}
	_, calls := chat(`[{"role":"user","content":"weather?"}]`)
	if len(calls) != 1 || calls[0].Function.Name != "get_weather" {
		t.Fatalf("calls %+v", calls)
	}
	if _, ok := calls[0].Function.Arguments["city"].(string); !ok {
		t.Errorf("arguments %v", calls[0].Function.Arguments)
	}
	if _, ok := calls[0].Function.Arguments["days"].(float64); !ok {
		t.Errorf("arguments %v", calls[0].Function.Arguments)
	}
	content, calls := chat(`[{"role":"user","content":"weather?"},{"role":"assistant","tool_calls":[{"function":{"name":"get_weather","arguments":{"city":"Oslo"}}}]},{"role":"tool","content":"11 C"}]`)
	if len(calls) != 0 || len(content) < 20 {
		t.Errorf("after the result: content %q, calls %+v", content, calls)
	}
}

func TestChat_ArgumentOrderVaries(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	const body = `{"model":"sim-tool","stream":false,"options":{"temperature":0},"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"},"c":{"type":"integer"}}}}}]}`
	seen := make(map[string]bool)
	for range 100 {
		_, raw := ask(t, n, http.MethodPost, "/api/chat", body)
		_, args, _ := strings.Cut(raw, `"arguments":`)
		args, _, _ = strings.Cut(args, "}")
		seen[args] = true
	}
	if len(seen) < 2 || len(seen) > 6 {
		t.Errorf("%d orders of equal arguments: %v", len(seen), seen)
	}
}

func TestChat_ThinkingModelObeysItsTemplate(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	for think, want := range map[string]bool{"": true, `"think":true,`: true, `"think":"low",`: true, `"think":false,`: false} {
		_, raw := ask(t, n, http.MethodPost, "/api/chat", `{"model":"sim-think",`+think+`"stream":false,"messages":[{"role":"user","content":"x"}]}`)
		if got := strings.Contains(raw, `"thinking":"`); got != want || strings.Contains(raw, "think\\u003e") {
			t.Errorf("%s: %s", think, raw)
		}
	}
}

func TestEmbed_VectorsMeanSomething(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	_, raw := ask(t, n, http.MethodPost, "/api/embed",
		`{"model":"sim-embed","input":["the old river boat waits","the old river boat sleeps","teachers share a strange letter","the old river boat waits"]}`)
	var out struct{ Embeddings [][]float64 }
	if err := json.Unmarshal([]byte(raw), &out); err != nil {
		t.Fatal(err)
	}
	dot := func(a, b []float64) (sum float64) {
		for i := range a {
			sum += a[i] * b[i]
		}
		return sum
	}
	v := out.Embeddings
	if len(v) != 4 || len(v[0]) != 768 || math.Abs(dot(v[0], v[0])-1) > 1e-5 {
		t.Fatalf("%d vectors of %d, length %v", len(v), len(v[0]), dot(v[0], v[0]))
	}
	if dot(v[0], v[1]) < dot(v[0], v[2])+0.2 {
		t.Errorf("likeness %v to a like text, %v to another", dot(v[0], v[1]), dot(v[0], v[2]))
	}
	if dot(v[0], v[3]) < 1-1e-6 {
		t.Error("equal texts differ")
	}
}

func TestEmbed_ContextTooSmallToCutTo(t *testing.T) {
	n := newNode(t, simnode.SimModels()...)
	status, raw := ask(t, n, http.MethodPost, "/api/embed", `{"model":"sim-embed","input":"the river","options":{"num_ctx":1}}`)
	if status != 400 || raw != `{"error":"input after truncation exceeds maximum context length"}` {
		t.Errorf("got %d %s", status, raw)
	}
}

func TestChat_LongHistoryIsRenderedFewTimes(t *testing.T) {
	n := newNode(t, simnode.Model{Name: "m", Parameters: map[string]any{"num_ctx": 256}})
	messages := strings.Repeat(`{"role":"user","content":"x"},{"role":"assistant","content":"y"},`, 1500)
	status, raw := ask(t, n, http.MethodPost, "/api/chat",
		`{"model":"m","stream":false,"options":{"num_predict":1},"messages":[{"role":"system","content":"s"},`+messages+`{"role":"user","content":"z"}]}`)
	var out struct {
		Count int `json:"prompt_eval_count"`
	}
	if err := json.Unmarshal([]byte(raw), &out); err != nil || status != 200 || out.Count < 240 || out.Count > 256 {
		t.Errorf("%d %s", status, raw)
	}
}

func TestNode_NotSimulatedSaysSo(t *testing.T) {
	n := newNode(t, simnode.GoldenModels()...)
	for _, path := range []string{"/api/me", "/api/signout"} {
		if status, raw := ask(t, n, http.MethodPost, path, "{}"); status != 501 || !strings.Contains(raw, "simulated node") {
			t.Errorf("%s: %d %s", path, status, raw)
		}
		if status, _ := ask(t, n, http.MethodGet, path, ""); status != 405 {
			t.Errorf("GET %s: %d, want 405", path, status)
		}
	}
}

func TestNode_HostRuleOnlyWhenAsked(t *testing.T) {
	n := newNode(t, simnode.GoldenModels()...)
	r := httptest.NewRequest(http.MethodGet, "/api/version", nil)
	r.Host = "node1:11434"
	w := httptest.NewRecorder()
	if n.ServeHTTP(w, r); w.Code != http.StatusOK {
		t.Errorf("without the Host rule: %d", w.Code)
	}
	r = httptest.NewRequest(http.MethodOptions, "/api/chat", nil)
	w = httptest.NewRecorder()
	if n.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("OPTIONS without the Host rule: %d, want 405", w.Code)
	}
}

// FuzzNode holds every route to this: whatever comes in, an answer goes out, and what calls itself JSON is.
func FuzzNode(f *testing.F) {
	paths := []string{
		"/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show", "/api/copy", "/api/delete", "/v1/chat/completions",
		"/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/images/edits",
	}
	f.Add(0, `{"model":"tiny","prompt":"x","options":{"num_ctx":-1,"num_keep":-9,"num_predict":1e300,"stop":[""]},"top_logprobs":3}`)
	f.Add(0, `{"model":"tiny","prompt":"x","template":"{{ .Prompt }}{{ index .Messages 9 }}","context":[-1]}`)
	f.Add(0, `{"model":"tinythink","prompt":"x","format":{"anyOf":[{"$ref":"#"}]},"keep_alive":1e300,"think":"max"}`)
	f.Add(1, `{"model":"tinytool","messages":[{"tool_calls":[{"function":{"arguments":{}}}]}],"tools":[{},{"function":{"parameters":{"properties":{"a":{"type":9}}}}}]}`)
	f.Add(2, `{"model":"tinyembed","input":["",""],"dimensions":-1,"options":{"num_ctx":3}}`)
	f.Add(3, `{"model":"tiny","prompt":"x"}`)
	f.Add(4, `{"name":"tiny","system":"x"}`)
	f.Add(5, `{"source":"tiny","destination":"h:1/n/m:t"}`)
	f.Add(6, `{"name":"tiny2"}`)
	f.Add(7, `{"model":"tiny","messages":[{"role":"user","content":[{"type":"image_url","image_url":"data:image/png;base64,AA=="}]}],"stop":[1,"x"],"stream":true}`)
	f.Add(8, `{"model":"tiny","prompt":"x","stop":["a","b"],"stream":true,"stream_options":{"include_usage":true},"logprobs":2}`)
	f.Add(9, `{"model":"tinyembed","input":["a",""],"encoding_format":"BASE64","dimensions":2}`)
	f.Add(10, `{"model":"tinythink","input":[{"role":"user","content":[{"type":"input_text","text":"x"}]},{"type":"function_call","arguments":"{}"},{"type":"reasoning"}],"stream":true}`)
	f.Add(11, `{"model":"tinytool","max_tokens":9,"system":[{"type":"text"}],"messages":[{"role":"user","content":[{"type":"tool_result","content":[{"type":"image","source":{}}]}]}],"tools":[{"input_schema":{}}]}`)
	f.Add(12, `{"model":"tiny","prompt":"x","image":"data:;base64,AA=="}`)
	f.Fuzz(func(t *testing.T, route int, body string) {
		if strings.Contains(body, "range") {
			return // a template may loop for as long as it likes
		}
		n := newNode(t, simnode.GoldenModels()...)
		path := paths[uint(route)%uint(len(paths))]
		method := http.MethodPost
		if path == "/api/delete" {
			method = http.MethodDelete
		}
		w := httptest.NewRecorder()
		defer func() {
			if p := recover(); p != nil && (p != any(http.ErrAbortHandler) || n.Stats().Deaths == 0) {
				panic(p) // there are requests that a node dies of
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // there are loads that never end
		defer cancel()
		n.ServeHTTP(w, httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body)))
		if w.Code < 200 || w.Code > 599 {
			t.Fatalf("status %d", w.Code)
		}
		if strings.HasPrefix(w.Header().Get("Content-Type"), "application/json") && !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	})
}
