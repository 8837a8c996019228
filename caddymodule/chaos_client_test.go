package caddymodule

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"time"
)

// A chaosShape is one way to ask. Where its answers have the text is a path of keys.
type chaosShape struct {
	path, body  string // the body with the prompt for %q, and %t for stream if it can be streamed
	whole, part string
	last        string // type of the last event; "": native records, "[DONE]": events without types
}

var chaosShapes = []chaosShape{
	{"/api/chat", `{"model":"text","messages":[{"role":"user","content":%q}],"options":{"temperature":0},"stream":%t}`, "message.content", "message.content", ""},
	{"/api/generate", `{"model":"text","prompt":%q,"options":{"temperature":0},"stream":%t}`, "response", "response", ""},
	{"/api/embed", `{"model":"vectors","input":[%q,"x"]}`, "embeddings", "", ""},
	{"/v1/chat/completions", `{"model":"text","messages":[{"role":"user","content":%q}],"temperature":0,"stream":%t}`, "choices.0.message.content", "choices.0.delta.content", "[DONE]"},
	{"/v1/responses", `{"model":"text","input":%q,"temperature":0,"stream":%t}`, "output.0.content.0.text", "delta", "response.completed"},
	{"/v1/messages", `{"model":"text","max_tokens":500,"messages":[{"role":"user","content":%q}],"temperature":0,"stream":%t}`, "content.0.text", "delta.text", "message_stop"},
}

// at follows a path of keys; nil is what is not there.
func at(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[key]
		case []any:
			if key != "0" || len(x) == 0 {
				return nil
			}
			v = x[0]
		default:
			return nil
		}
	}
	return v
}

func (s *chaosShape) model() string {
	if s.path == "/api/embed" {
		return "vectors"
	}
	return "text"
}

// fault gives the message of an error of the shape's dialect, or "".
func (s *chaosShape) fault(frame any) string {
	path := "error.message"
	if s.last == "" {
		path = "error"
	}
	message, _ := at(frame, path).(string)
	return message
}

// A chaosAnswer is what a client has got.
type chaosAnswer struct {
	text  string // or the vectors
	fault string // the message of its error record; "": it is complete
}

// read judges the body of a 200. An error says what no answer may look like.
func (s *chaosShape) read(body []byte, stream bool) (a chaosAnswer, err error) {
	if !stream {
		var v any
		if err := json.Unmarshal(body, &v); err != nil {
			return a, err
		}
		text := at(v, s.whole)
		if text == nil || s.fault(v) != "" || s.last == "" && s.path != "/api/embed" && at(v, "done") != true {
			return a, fmt.Errorf("not complete")
		}
		a.text = fmt.Sprint(text)
		return a, nil
	}
	end := "\n\n"
	if s.last == "" {
		end = "\n"
	}
	records, ok := bytes.CutSuffix(body, []byte(end))
	if !ok {
		return a, fmt.Errorf("the last record is cut")
	}
	complete, reason := false, s.last != "[DONE]"
	for record := range bytes.SplitSeq(records, []byte(end)) {
		if complete || a.fault != "" {
			return a, fmt.Errorf("%q follows the end", record)
		}
		if s.last != "" {
			if _, record, ok = bytes.Cut(record, []byte("data: ")); !ok {
				return a, fmt.Errorf("no event")
			}
		}
		if string(record) == "[DONE]" {
			complete = true
			continue
		}
		var v any
		if err := json.Unmarshal(record, &v); err != nil {
			return a, fmt.Errorf("record %q: %w", record, err)
		}
		a.fault = s.fault(v)
		if text, ok := at(v, s.part).(string); ok {
			a.text += text
		}
		reason = reason || at(v, "choices.0.finish_reason") != nil
		complete = s.last == "" && at(v, "done") == true || s.last != "" && at(v, "type") == s.last
	}
	if a.fault == "" && !(complete && reason) {
		return a, fmt.Errorf("it ends without a final record")
	}
	return a, nil
}

// reloading tells whether a reload is going on or was a moment ago.
func (c *chaosRun) reloading() bool {
	return time.Since(time.Unix(0, c.reloaded.Load())) < time.Second
}

// client asks until the time is over.
func (c *chaosRun) client(i int) {
	shape := &chaosShapes[i%len(chaosShapes)]
	random := rand.New(rand.NewPCG(*chaosSeed, uint64(i)+1))
	for n := 0; c.over.Err() == nil && !c.t.Failed(); n++ {
		stream := shape.part != "" && random.IntN(3) > 0
		prompt := fmt.Sprintf("client %d asks for the time %d", i, n)
		body := strings.Replace(shape.body, "%q", fmt.Sprintf("%q", prompt), 1)
		body = strings.Replace(body, "%t", fmt.Sprint(stream), 1)
		limit := chaosHang
		leaves := random.IntN(30) == 0
		if leaves {
			limit = time.Duration(random.IntN(500)) * time.Millisecond
		}
		c.ask(shape, body, stream, limit, leaves)
	}
}

// ask asks once and judges the answer.
func (c *chaosRun) ask(shape *chaosShape, body string, stream bool, limit time.Duration, leaves bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	calm := c.calm.Load()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.address+shape.path, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "x") // a reload closes idle connections: Go's client then asks again, on a new one
	began := time.Now()
	resp, err := c.http.Do(req)
	for ctx.Err() == nil && err != nil && c.reloading() { // Caddy's new listener resets who waits at the old one
		c.count("connections lost to a reload")
		req.Body, _ = req.GetBody()
		resp, err = c.http.Do(req)
	}
	var got []byte
	if err == nil {
		got, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err != nil && leaves && ctx.Err() != nil {
		c.count("left")
		return
	}
	status := 0
	if resp != nil {
		status = resp.StatusCode
	}
	wrong := func(why any) {
		c.t.Errorf("%s %s after %v: %v\n%d %.2000q", shape.path, body, time.Since(began), why, status, got)
	}
	if err != nil {
		wrong(err)
		return
	}
	faulty := ""
	if status == http.StatusOK {
		a, err := shape.read(got, stream)
		if err != nil {
			wrong(err)
			return
		}
		want := httptest.NewRecorder()
		c.oracle.ServeHTTP(want, httptest.NewRequest(http.MethodPost, shape.path, strings.NewReader(body)))
		w, err := shape.read(want.Body.Bytes(), stream)
		if err != nil || w.fault != "" || w.text == "" {
			c.t.Errorf("the oracle says %v, %s", err, want.Body)
		}
		switch {
		case a.fault == "" && a.text != w.text, !strings.HasPrefix(w.text, a.text):
			wrong("another's answer; want " + w.text)
		case a.fault != "":
			faulty = "error record"
		}
	} else {
		// Two nodes that close a connection on it, on which nothing else runs, look as if it had killed them.
		// That is rare: with two of them ill at once, and the same request at both.
		deadly := status == http.StatusBadRequest && strings.Contains(string(got), "two Ollama nodes went down") && c.deadly.Add(1) <= 5
		var v any
		if err := json.Unmarshal(got, &v); err != nil || shape.fault(v) == "" || !deadly && !slices.Contains(chaosStatuses, status) {
			wrong(fmt.Sprintf("no error of the dialect: %v", err))
			return
		}
		faulty = fmt.Sprintf("status %d", status)
		c.mu.Lock()
		c.failures[resp.Header.Get("X-Request-Id")] = failure{
			text: fmt.Sprintf("%d %s", status, shape.fault(v)), model: shape.model(), came: began, got: time.Now(), usable: usable(shape.model()),
		}
		c.mu.Unlock()
	}
	if faulty != "" && calm > 0 && calm == c.calm.Load() {
		wrong("no node has a fault")
	}
	if faulty == "" {
		faulty = "complete"
	}
	c.count(faulty)
}
