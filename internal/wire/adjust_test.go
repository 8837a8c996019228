package wire

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire/api"
)

var (
	without = Adjust{WithoutNumCtx: true, WithoutKeepAlive: true}
	limited = Adjust{MaxNumCtx: 4096, MaxKeepAlive: time.Hour}
)

func TestParseAdjusted_ChangesWhatItSaysAndNothingElse(t *testing.T) {
	const chat = "/api/chat"
	tests := []struct {
		name, path   string
		adjust       Adjust
		body         string
		want, change string // what is sent on, without what is added to have it streamed
	}{
		{"a window is taken out", chat, without, `{"model":"a","options":{"num_ctx":8192,"seed":1},"messages":[{}]}`, `{"model":"a","options":{"seed":1},"messages":[{}]}`, "num_ctx"},
		{"the last option", chat, without, `{"model":"a","options":{"seed":1 , "num_ctx" : 8192 },"messages":[{}]}`, `{"model":"a","options":{"seed":1 },"messages":[{}]}`, "num_ctx"},
		{"the only option, escaped", chat, without, `{"model":"a","options":{"num\u005fctx":"x"},"messages":[{}]}`, `{"model":"a","options":{},"messages":[{}]}`, "num_ctx"},
		{"another case is no option", chat, without, `{"model":"a","options":{"NUM_CTX":1},"messages":[{}]}`, `{"model":"a","options":{"NUM_CTX":1},"messages":[{}]}`, ""},
		{"a time to stay is taken out", chat, without, `{"keep_alive":-1,"model":"a","messages":[{}]}`, `{"model":"a","messages":[{}]}`, "keep_alive"},
		{"with the spelling of its name", chat, without, `{"Model":"a","Keep_Alive":"1h" ,"Messages":[{}]}`, `{"model":"a" ,"messages":[{}]}`, "keep_alive"},
		{"at the end", chat, without, `{"model":"a","messages":[{}],"keep_alive":0}`, `{"model":"a","messages":[{}]}`, "keep_alive"},
		{"both", chat, without, `{"options":{"num_ctx":1},"keep_alive":5,"model":"a","messages":[{}]}`, `{"options":{},"model":"a","messages":[{}]}`, "num_ctx keep_alive"},
		{"null is nothing to take out", chat, without, `{"model":"a","options":null,"keep_alive":null,"messages":[{}]}`, `{"model":"a","options":null,"keep_alive":null,"messages":[{}]}`, ""},
		{"nothing there", chat, without, `{"model":"a","messages":[{}]}`, `{"model":"a","messages":[{}]}`, ""},
		{"a load is asked for without a time", chat, without, `{"model":"a","keep_alive":-1}`, `{"model":"a"}`, "keep_alive"},
		{"an unload stays one", chat, without, `{"model":"a","keep_alive":0}`, `{"model":"a","keep_alive":0}`, ""},

		{"a window is lowered", "/api/generate", limited, `{"model":"a","prompt":"x","options":{"num_ctx":1e5}}`, `{"model":"a","prompt":"x","options":{"num_ctx":4096}}`, "num_ctx=4096"},
		{"a window that fits stays", "/api/generate", limited, `{"model":"a","prompt":"x","options":{"num_ctx":4096.7}}`, `{"model":"a","prompt":"x","options":{"num_ctx":4096.7}}`, ""},
		{"what is no number is for the node", "/api/generate", limited, `{"model":"a","prompt":"x","options":{"num_ctx":"8192"}}`, `{"model":"a","prompt":"x","options":{"num_ctx":"8192"}}`, ""},
		{"a longer time is lowered", "/api/embed", limited, `{"model":"a","Keep_Alive":"61m","input":"x"}`, `{"model":"a","keep_alive":3600,"input":"x"}`, "keep_alive=3600"},
		{"for ever is lowered", "/api/embeddings", limited, `{"model":"a","keep_alive":-0.5,"prompt":"x"}`, `{"model":"a","keep_alive":3600,"prompt":"x"}`, "keep_alive=3600"},
		{"a time that fits stays", chat, limited, `{"model":"a","keep_alive":"1h","messages":[{}]}`, `{"model":"a","keep_alive":"1h","messages":[{}]}`, ""},
		{"no time stays", chat, limited, `{"model":"a","keep_alive":0,"messages":[{}]}`, `{"model":"a","keep_alive":0,"messages":[{}]}`, ""},
		{"parts of a second", "/api/embed", Adjust{MaxKeepAlive: 1500 * time.Millisecond}, `{"model":"a","keep_alive":2}`, `{"model":"a","keep_alive":1.5}`, "keep_alive=1.5"},
		{"bad text elsewhere", chat, without, "{\"model\":\"a\",\"keep_alive\":5,\"options\":{\"\xff\":1,\"num_ctx\":1},\"messages\":[{\"content\":\"\xff\"}]}", "{\"model\":\"a\",\"options\":{\"\uFFFD\":1},\"messages\":[{\"content\":\"\uFFFD\"}]}", "num_ctx keep_alive"},

		{"OpenAI has neither", "/v1/chat/completions", without, `{"model":"a","messages":[{}],"options":{"num_ctx":1},"keep_alive":0}`, `{"model":"a","messages":[{}],"options":{"num_ctx":1},"keep_alive":0}`, ""},
		{"Anthropic has neither", "/v1/messages", limited, `{"model":"a","max_tokens":1,"messages":[{"content":"x"}],"options":{"num_ctx":9999},"keep_alive":-1}`, `{"model":"a","max_tokens":1,"messages":[{"content":"x"}],"options":{"num_ctx":9999},"keep_alive":-1}`, ""},
		{"show loads nothing", "/api/show", without, `{"model":"a","options":{"num_ctx":1}}`, `{"model":"a","options":{"num_ctx":1}}`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request, err := ParseAdjusted(routeOf(test.path), []byte(test.body), test.adjust)
			if err != nil {
				t.Fatal(err)
			}
			sent := request.Body.Bytes()
			for _, added := range []string{`,"stream":true`, `,"stream_options":{"include_usage":true}`} {
				sent = bytes.Replace(sent, []byte(added), nil, 1)
			}
			if change := strings.Join(request.Changed, " "); string(sent) != test.want || change != test.change {
				t.Errorf("%s\n got %s, changed %q\nwant %s, changed %q", test.body, sent, change, test.want, test.change)
			}
		})
	}
}

func TestParseAdjusted_NodesAreChosenByWhatIsLeft(t *testing.T) {
	body := []byte(`{"model":"a","messages":[{}],"options":{"num_ctx":8192,"num_gpu":1},"keep_alive":"2h"}`)
	tests := []struct {
		name    string
		adjust  Adjust
		runner  RunnerOptions
		options string
		keep    time.Duration // -1: none
	}{
		{"nothing changed", Adjust{}, RunnerOptions{NumCtx: OptionalInt{8192, true}, NumGPU: OptionalInt{1, true}}, `{"num_ctx":8192,"num_gpu":1}`, 2 * time.Hour},
		{"without", without, RunnerOptions{NumGPU: OptionalInt{1, true}}, `{"num_gpu":1}`, -1},
		{"limited", limited, RunnerOptions{NumCtx: OptionalInt{4096, true}, NumGPU: OptionalInt{1, true}}, `{"num_ctx":4096,"num_gpu":1}`, time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request, err := ParseAdjusted(routeOf("/api/chat"), body, test.adjust)
			if err != nil {
				t.Fatal(err)
			}
			keep := time.Duration(-1)
			if request.KeepAlive != nil {
				keep = *request.KeepAlive
			}
			if request.Runner != test.runner || string(request.Options) != test.options || keep != test.keep {
				t.Errorf("got %+v, options %s, keep_alive %v\nwant %+v", request.Runner, request.Options, keep, test)
			}
		})
	}
}

// checkAdjusted holds what is sent on to what came, as a node decodes both.
func checkAdjusted(t tester, route Route, body []byte) {
	t.Helper()
	for _, a := range []Adjust{without, limited} {
		request, err := ParseAdjusted(route, body, a)
		if err != nil {
			t.Fatalf("%q: refused when adjusted: %v", body, err)
		}
		came, _ := decode(route, body)
		if request.Task == Answer {
			streamed(came)
		}
		if route.Operation != Show {
			adjusted(came, a, request.Task)
		}
		sent := request.Body.Bytes()
		went, err := decode(route, sent)
		if err != nil || !reflect.DeepEqual(came, went) {
			t.Errorf("%q\nadjusted to %q (%v)\n came %+v\n went %+v", body, sent, err, came, went)
		}
		again, err := ParseAdjusted(route, sent, a)
		if err != nil {
			t.Fatalf("%q: adjusted to %q, which is refused: %v", body, sent, err)
		}
		if again.Changed != nil || again.Task != request.Task || again.Runner != request.Runner ||
			!bytes.Equal(again.Options, request.Options) || !reflect.DeepEqual(again.KeepAlive, request.KeepAlive) ||
			!bytes.Equal(again.Canonical(), request.Canonical()) {
			t.Errorf("%q: adjusted to %+v, what is sent on to %+v", body, request, again)
		}
	}
}

// adjusted does to a decoded request what is promised of the body.
func adjusted(request any, a Adjust, task Task) {
	v := reflect.ValueOf(request).Elem()
	if options := v.FieldByName("Options"); options.IsValid() {
		options := options.Interface().(map[string]any)
		if a.WithoutNumCtx {
			delete(options, "num_ctx")
		} else if n, ok := options["num_ctx"].(float64); ok && saturate(n) > a.MaxNumCtx {
			options["num_ctx"] = float64(a.MaxNumCtx)
		}
	}
	field := v.FieldByName("KeepAlive")
	if !field.IsValid() || field.IsNil() {
		return
	}
	keep := field.Interface().(*api.Duration)
	switch {
	case a.WithoutKeepAlive && task != Unload:
		field.SetZero()
	case a.MaxKeepAlive > 0 && (keep.Duration < 0 || keep.Duration > a.MaxKeepAlive):
		keep.Duration = a.MaxKeepAlive
	}
}

func TestUnloaded_IsANodesAnswer(t *testing.T) {
	at := time.Date(2026, 11, 23, 13, 2, 23, 951760753, time.UTC)
	for path, want := range map[string]string{
		"/api/chat":     `{"model":"tiny","created_at":"2026-11-23T13:02:23.951760753Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"unload"}`,
		"/api/generate": `{"model":"tiny","created_at":"2026-11-23T13:02:23.951760753Z","response":"","done":true,"done_reason":"unload"}`,
	} {
		contentType, got := Unloaded(mustParse(t, path, `{"model":"tiny","keep_alive":0}`), at.In(time.FixedZone("", 3600)))
		if string(got) != want || contentType != "application/json; charset=utf-8" {
			t.Errorf("%s: got %s (%s)\nwant %s", path, got, contentType, want)
		}
	}
}
