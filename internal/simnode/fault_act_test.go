package simnode_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

const streamA = `{"model":"a","prompt":"x","options":{"num_predict":5,"temperature":0}}`

// loadedBubble has the model a loaded and the clock at zero.
func loadedBubble(t *testing.T, f func(t *testing.T, b *bubble)) {
	t.Helper()
	inBubble(t, simnode.Options{KeepAlive: -1, CheckHost: false}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", `{"model":"a"}`)
		b.begun = time.Now()
		f(t, b)
	})
}

func lines(body string) int { return strings.Count(body, "\n") }

func TestFault_Ends(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  simnode.Fault
		path   string
		body   string
		frames int  // 0: no answer at all
		whole  bool // the transfer itself is complete
	}{
		"reset at once":           {simnode.Fault{End: "reset"}, "/api/generate", streamA, 0, false},
		"reset":                   {simnode.Fault{End: "reset", Frames: 2}, "/api/generate", streamA, 2, false},
		"close at once":           {simnode.Fault{End: "close"}, "/api/generate", streamA, 0, false},
		"close":                   {simnode.Fault{End: "close", Frames: 2}, "/api/generate", streamA, 2, false},
		"half":                    {simnode.Fault{End: "half", Frames: 2}, "/api/generate", streamA, 2, false},
		"clean":                   {simnode.Fault{End: "clean", Frames: 2}, "/api/generate", streamA, 2, true},
		"behind the end":          {simnode.Fault{End: "reset", Frames: 99}, "/api/generate", streamA, 6, true},
		"SSE, two lines a frame":  {simnode.Fault{End: "clean", Frames: 2}, "/v1/completions", `{"model":"a","prompt":"x","stream":true}`, 4, true},
		"half of one whole":       {simnode.Fault{End: "half", Frames: 0}, "/api/generate", askA, 0, false},
		"one whole short of ten":  {simnode.Fault{End: "close", Bytes: 10}, "/api/generate", askA, 0, false},
		"one whole reset":         {simnode.Fault{End: "reset", Bytes: 10}, "/api/generate", askA, 0, false},
		"one whole, clean":        {simnode.Fault{End: "clean", Bytes: 10}, "/api/generate", askA, 0, true},
		"a stream after 30 bytes": {simnode.Fault{End: "clean", Bytes: 30}, "/api/generate", streamA, 0, true},
		"too long":                {simnode.Fault{TooLong: 7}, "/api/generate", askA, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			loadedBubble(t, func(t *testing.T, b *bubble) {
				b.faults(tt.fault)
				a := b.call(t.Context(), tt.path, tt.body)
				if (a.err == nil) != tt.whole || lines(a.body) != tt.frames {
					t.Errorf("status %d, error %v, body %q", a.status, a.err, a.body)
				}
				if tt.fault.End == "reset" || tt.fault.End == "close" {
					if atOnce := tt.fault.Frames == 0 && tt.fault.Bytes == 0; atOnce != (a.status == 0) {
						t.Errorf("status %d", a.status)
					}
				}
				if tt.fault.Bytes > 0 && len(a.body) != tt.fault.Bytes {
					t.Errorf("%d bytes came", len(a.body))
				}
				synctest.Wait()
				s := b.node.Stats()
				if s.Running != 0 || s.Models["a:latest"].Running != 0 || s.Cancelled != 0 {
					t.Errorf("left behind: %+v", s)
				}
				b.faults()
				if a := b.post("/api/generate", askA); a.status != http.StatusOK {
					t.Errorf("afterwards: %d %s", a.status, a.body)
				}
			})
		})
	}
}

func TestFault_Waits(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		plain := b.post("/api/generate", streamA)
		b.begun = time.Now()
		b.faults(simnode.Fault{FirstByte: 100 * time.Second})
		if a := b.post("/api/generate", streamA); a.first != 100*time.Second || lines(a.body) != lines(plain.body) {
			t.Errorf("first byte after %v", a.first)
		}
		b.begun = time.Now()
		b.faults(simnode.Fault{Gap: 100 * time.Second})
		// Six frames, of which the last came a token later: four tokens and five gaps lie between.
		if a := b.post("/api/generate", streamA); a.first != 0 || a.end != 504*time.Second {
			t.Errorf("first %v, end %v", a.first, a.end)
		}
		b.begun = time.Now()
		b.faults(simnode.Fault{Slow: 20})
		if a := b.post("/api/generate", streamA); a.end != 80*time.Second {
			t.Errorf("slow: end %v", a.end)
		}
		b.begun = time.Now()
		if b.post("/api/generate", `{"model":"b"}`); b.elapsed() != 200*time.Second {
			t.Errorf("slow: load took %v", b.elapsed())
		}
	})
}

func TestFault_NeverAnswersUntilTheClientLeaves(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		for i, f := range []simnode.Fault{{Never: true}, {FirstByte: time.Hour}, {FirstByte: time.Hour, Status: 500}, {Gap: time.Hour}} {
			b.faults(f)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			wait := b.start(ctx, "/api/generate", streamA)
			if s := b.node.Stats(); s.Running != 1 {
				t.Errorf("%d run", s.Running)
			}
			a := wait()
			cancel()
			if !errors.Is(a.err, context.DeadlineExceeded) {
				t.Errorf("%+v: %v", f, a.err)
			}
			synctest.Wait()
			if s := b.node.Stats(); s.Cancelled != i+1 || s.Running != 0 {
				t.Errorf("%+v: %d cancelled, %d run", f, s.Cancelled, s.Running)
			}
		}
	})
}

func TestFault_MadeUpAnswers(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		for name, tt := range map[string]struct {
			fault    simnode.Fault
			path     string
			status   int
			kind     string
			contains string
		}{
			"native error":    {simnode.Fault{Status: 500}, "/api/chat", 500, "application/json; charset=utf-8", `{"error":"internal server error"}`},
			"OpenAI error":    {simnode.Fault{Status: 429}, "/v1/chat/completions", 429, "application/json", `"type":"api_error","param":null`},
			"Anthropic error": {simnode.Fault{Status: 503}, "/v1/messages", 503, "application/json", `"type":"overloaded_error"`},
			"body":            {simnode.Fault{Status: 502, Body: "<html>"}, "/api/chat", 502, "text/html; charset=utf-8", "<html>"},
			"captive page":    {simnode.Fault{Status: 200, Body: "<html>", Type: "text/html"}, "/api/chat", 200, "text/html", "<html>"},
			"redirect":        {simnode.Fault{Redirect: "http://elsewhere/"}, "/api/chat", 307, "text/plain; charset=utf-8", ""},
			"moved":           {simnode.Fault{Redirect: "/x", Status: 301}, "/api/chat", 301, "text/plain; charset=utf-8", ""},
			"headers":         {simnode.Fault{Status: 503, Headers: map[string]string{"Retry-After": "9"}}, "/api/chat", 503, "application/json; charset=utf-8", "service unavailable"},
			"lying header":    {simnode.Fault{Headers: map[string]string{"Retry-After": "9"}}, "/api/chat", 404, "application/json; charset=utf-8", "not found"},
			"wrong type":      {simnode.Fault{Type: "text/html"}, "/api/chat", 404, "text/html", "not found"},
		} {
			b.faults(tt.fault)
			resp := b.raw(tt.path, `{"model":"nobody","messages":[{}],"max_tokens":1}`)
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != tt.status || resp.Header.Get("Content-Type") != tt.kind || !strings.Contains(string(body), tt.contains) {
				t.Errorf("%s: %d %q %s", name, resp.StatusCode, resp.Header.Get("Content-Type"), body)
			}
			if resp.Header.Get("Location") != tt.fault.Redirect || resp.Header.Get("Retry-After") != tt.fault.Headers["Retry-After"] {
				t.Errorf("%s: %v", name, resp.Header)
			}
		}
	})
}

func (b *bubble) raw(path, body string) *http.Response {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://node"+path, strings.NewReader(body))
	if err != nil {
		b.Fatal(err)
	}
	resp, err := b.pipe.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	return resp
}

func TestFault_PutsLinesIn(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{BadLine: `{"model":`, Frames: 2})
		a := b.post("/api/generate", streamA)
		list := strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
		if len(list) != 7 || list[2] != `{"model":` || json.Valid([]byte(list[2])) {
			t.Errorf("got %q", a.body)
		}
		const size = 300_000
		b.faults(simnode.Fault{GiantLine: size, Frames: 1})
		a = b.post("/api/generate", streamA)
		list = strings.SplitAfter(a.body, "\n")
		if len(list[1]) != size || !json.Valid([]byte(list[1])) {
			t.Errorf("a line of %d bytes", len(list[1]))
		}
		b.faults(simnode.Fault{GiantLine: size}, simnode.Fault{BadLine: "oops", Frames: 1})
		a = b.post("/v1/completions", `{"model":"a","prompt":"x","stream":true,"max_tokens":2}`)
		events := strings.SplitAfter(a.body, "\n\n")
		if len(events[0]) != size || !strings.HasPrefix(events[0], `data: {`) || events[2] != "data: oops\n\n" {
			t.Errorf("got %d bytes, then %q", len(events[0]), events[1:])
		}
	})
}

func TestFault_CrashesTheRunner(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{Crash: true, Frames: 2, First: 1})
		other := b.start(t.Context(), "/api/generate", streamA) // struck
		behind := b.start(t.Context(), "/api/generate", streamA)
		if a := other(); a.status != 200 || lines(a.body) != 3 || !strings.HasSuffix(a.body,
			`{"error":"an error was encountered while running the model: unexpected EOF"}`+"\n") {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := behind(); a.status != 500 || !strings.Contains(a.body, "model runner has unexpectedly stopped") {
			t.Errorf("one that waited for its slot: %d %s", a.status, a.body)
		}
		if got := b.loaded(); got != "" {
			t.Errorf("loaded: %s", got)
		}
		before := b.elapsed()
		if a := b.post("/api/generate", streamA); a.status != 200 || a.first-before != 10*time.Second {
			t.Errorf("the next: %d after %v", a.status, a.first-before)
		}
		for path, body := range map[string]string{
			"/api/embed":           `{"model":"a","input":"x"}`,
			"/api/chat":            `{"model":"a","messages":[{"content":"x"}],"options":{"num_predict":1}}`,
			"/v1/chat/completions": `{"model":"a","messages":[{"content":"x"}],"stream":true}`,
			"/v1/messages":         `{"model":"a","messages":[{"role":"user","content":"x"}],"max_tokens":5}`,
		} {
			b.faults(simnode.Fault{Crash: true})
			if a := b.post(path, body); a.status != 500 || !strings.Contains(a.body, "model runner has unexpectedly stopped") {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
		if s := b.node.Stats(); s.Crashes != 5 || s.Cancelled != 0 || s.Models["a:latest"].Cancelled != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Mid-stream, the OpenAI routes end with a nameless chunk and the others without a word; all end orderly.
func TestFault_CrashInEachDialect(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		for path, tt := range map[string]struct{ body, last, never string }{
			"/v1/chat/completions": {`{"model":"a","messages":[{"content":"x"}],"stream":true}`, `"model":""`, "[DONE]"},
			"/v1/completions":      {`{"model":"a","prompt":"x","stream":true}`, `"model":""`, "[DONE]"},
			"/v1/messages":         {`{"model":"a","messages":[{"role":"user","content":"x"}],"max_tokens":50,"stream":true}`, `"text_delta"`, "message_stop"},
			"/v1/responses":        {`{"model":"a","input":"x","stream":true}`, `"response.output_text.delta"`, "response.completed"},
		} {
			b.faults(simnode.Fault{Crash: true, Frames: 3})
			a := b.post(path, tt.body)
			events := strings.Split(strings.TrimSuffix(a.body, "\n\n"), "\n\n")
			if last := events[len(events)-1]; a.status != 200 || !strings.Contains(last, tt.last) || strings.Contains(a.body, tt.never) || strings.Contains(a.body, "runner") {
				t.Errorf("%s: %d %s", path, a.status, a.body)
			}
		}
	})
}

func TestFault_Troubles(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		for name, tt := range map[string]struct {
			fault  simnode.Fault
			path   string
			body   string
			status int
			text   string
		}{
			"busy":         {simnode.Fault{Busy: true}, "/api/generate", askA, 503, "maximum pending requests exceeded"},
			"missing":      {simnode.Fault{Missing: true}, "/api/generate", askA, 404, "model 'a' not found"},
			"missing, v1":  {simnode.Fault{Missing: true}, "/v1/completions", askA, 404, `"type":"not_found_error"`},
			"file gone":    {simnode.Fault{FileGone: true}, "/api/generate", askA, 400, "does not support generate"},
			"load fails":   {simnode.Fault{LoadFails: "no memory"}, "/api/generate", askB, 500, "no memory"},
			"loaded stays": {simnode.Fault{LoadFails: "no memory"}, "/api/generate", askA, 200, `"done":true`},
		} {
			b.faults(tt.fault)
			if a := b.post(tt.path, tt.body); a.status != tt.status || !strings.Contains(a.body, tt.text) {
				t.Errorf("%s: %d %s", name, a.status, a.body)
			}
		}
	})
}

func TestFault_Lies(t *testing.T) {
	loadedBubble(t, func(t *testing.T, b *bubble) {
		b.faults(simnode.Fault{Tags: []string{"ghost", "-b"}, PS: []string{"c", "-a"}})
		names := func(path string) string {
			resp, err := b.pipe.RoundTrip(b.get(path))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var out struct {
				Models []struct{ Name string }
				Data   []struct{ ID string }
			}
			if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(out.Models, out.Data)
		}
		if got, want := names("/api/tags"), "[{ghost:latest} {a:latest} {c:latest} {d:latest} {vectors:latest}] []"; got != want {
			t.Errorf("tags: %s", got)
		}
		if got, want := names("/v1/models"), "[] [{ghost:latest} {a:latest} {c:latest} {d:latest} {vectors:latest}]"; got != want {
			t.Errorf("models: %s", got)
		}
		if got, want := names("/api/ps"), "[{c:latest}] []"; got != want {
			t.Errorf("ps: %s", got)
		}
		if a := b.post("/api/generate", `{"model":"ghost","prompt":"x"}`); a.status != 404 {
			t.Errorf("the ghost: %d %s", a.status, a.body)
		}
	})
}

func (b *bubble) get(path string) *http.Request {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://node"+path, nil)
	if err != nil {
		b.Fatal(err)
	}
	return req
}
