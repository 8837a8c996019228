package golden

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

func TestCompare_EveryRecordAgreesWithItself(t *testing.T) {
	for _, file := range all {
		for _, rec := range Load(t, file) {
			for _, opts := range []Options{{}, {PerRecord: true}} {
				if rec.Response.Truncated {
					continue // it ends within a frame, which is reported
				}
				if d := Compare(rec.Response, rec.Response, opts); len(d) > 0 {
					t.Errorf("%s/%s: %s", file, rec.ID, d)
				}
			}
		}
	}
}

// An answer with an NDJSON stream, an SSE stream and a JSON body, to be damaged.
func streamAnswer(kind string, chunks ...string) Response {
	a := Response{
		Status: 200, Line: "HTTP/1.1 200 OK", Framing: "chunked",
		Headers: [][2]string{{"Content-Type", kind}, {"Transfer-Encoding", "chunked"}},
	}
	for _, c := range chunks {
		a.Chunks = append(a.Chunks, []byte(c))
		a.Body = append(a.Body, c...)
	}
	return a
}

func jsonAnswer(status int, body string) Response {
	return Response{
		Status: status, Line: "HTTP/1.1 " + map[int]string{200: "200 OK", 400: "400 Bad Request"}[status],
		Framing: "content-length", Body: []byte(body),
		Headers: [][2]string{{"Content-Type", "application/json; charset=utf-8"}, {"Content-Length", "1"}},
	}
}

const (
	word = `{"model":"m","created_at":"2026-11-23T13:01:25Z","response":" a","done":false}` + "\n"
	end  = `{"model":"m","created_at":"2026-11-23T13:01:25Z","response":"","done":true,"done_reason":"stop","context":[1,2],"eval_count":3}` + "\n"
	part = `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"role":"assistant","content":"a"},"finish_reason":null}]}` + "\n\n"
	stop = `data: {"id":"chatcmpl-1","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":"stop"}]}` + "\n\n"
	done = "data: [DONE]\n\n"
)

func TestCompare_SeesWhatAClientWouldSee(t *testing.T) {
	ndjson := streamAnswer("application/x-ndjson", word, word, end)
	sse := streamAnswer("text/event-stream", part, part, stop+done)
	object := jsonAnswer(200, `{"model":"m","message":{"role":"assistant","content":"x"},"eval_count":3,"size":7,"embedding":[0.5,1]}`)
	refusal := jsonAnswer(400, `{"error":"model is required"}`)

	edit := func(a Response, from, to string) Response {
		t.Helper()
		if !bytes.Contains(a.Body, []byte(from)) {
			t.Fatalf("body has no %q", from)
		}
		a.Body = bytes.ReplaceAll(a.Body, []byte(from), []byte(to))
		a.Chunks = slices.Clone(a.Chunks)
		for i := range a.Chunks {
			a.Chunks[i] = bytes.ReplaceAll(a.Chunks[i], []byte(from), []byte(to))
		}
		return a
	}
	withHeaders := func(a Response, h ...[2]string) Response { a.Headers = h; return a }
	few := func(a Response) Response { a.limited = true; return a }

	for name, tt := range map[string]struct {
		want, got Response
		opts      Options
		same      bool
	}{
		"other status":              {refusal, jsonAnswer(200, `{"error":"model is required"}`), Options{}, false},
		"no answer":                 {refusal, Response{}, Options{}, false},
		"an answer where none was":  {Response{}, refusal, Options{}, false},
		"no answer in both":         {Response{}, Response{}, Options{}, true},
		"other status text":         {refusal, func() Response { a := refusal; a.Line = "HTTP/1.0 400 Bad Request"; return a }(), Options{}, false},
		"missing header":            {object, withHeaders(object), Options{}, false},
		"other header value":        {object, withHeaders(object, [2]string{"Content-Type", "application/json"}), Options{}, false},
		"one header more":           {object, withHeaders(object, object.Headers[0], [2]string{"Via", "x"}), Options{}, false},
		"ignored header":            {object, withHeaders(object, object.Headers[0], [2]string{"via", "x"}), Options{IgnoreHeaders: []string{"Via"}}, true},
		"other content length":      {object, withHeaders(object, object.Headers[0], [2]string{"Content-Length", "2"}), Options{}, true},
		"other framing":             {object, func() Response { a := object; a.Framing = "chunked"; return a }(), Options{}, false},
		"other framing, ignored":    {object, func() Response { a := object; a.Framing = "chunked"; return a }(), Options{IgnoreFraming: true}, true},
		"truncated":                 {object, func() Response { a := object; a.Truncated = true; return a }(), Options{}, false},
		"no date":                   {object, func() Response { a := object; a.NoDate = true; return a }(), Options{}, false},
		"error text":                {refusal, edit(refusal, "required", "needed"), Options{}, false},
		"error newline":             {refusal, edit(refusal, `"}`, `"}`+"\n"), Options{}, false},
		"error key":                 {refusal, edit(refusal, "error", "message"), Options{}, false},
		"registry in an error":      {edit(refusal, "model", maskedHost), edit(refusal, "model", realHost), Options{}, true},
		"missing key":               {object, edit(object, `"size":7,`, ``), Options{}, false},
		"one key more":              {object, edit(object, `"size":7`, `"size":7,"x":1`), Options{}, false},
		"other order":               {object, edit(object, `"eval_count":3,"size":7`, `"size":7,"eval_count":3`), Options{}, false},
		"other nesting":             {object, edit(object, `{"role":"assistant","content":"x"}`, `[{"role":"assistant","content":"x"}]`), Options{}, false},
		"count of another type":     {object, edit(object, `"eval_count":3`, `"eval_count":"3"`), Options{}, false},
		"count with a fraction":     {object, edit(object, `"eval_count":3`, `"eval_count":3.5`), Options{}, false},
		"other count":               {object, edit(object, `"eval_count":3`, `"eval_count":4`), Options{}, true},
		"other size":                {object, edit(object, `"size":7`, `"size":8`), Options{}, false},
		"other text":                {object, edit(object, `"content":"x"`, `"content":"y z"`), Options{}, true},
		"no text":                   {object, edit(object, `"content":"x"`, `"content":""`), Options{}, false},
		"null for text":             {object, edit(object, `"content":"x"`, `"content":null`), Options{}, false},
		"other role":                {object, edit(object, `assistant`, `user`), Options{}, false},
		"other model":               {object, edit(object, `"model":"m"`, `"model":"M"`), Options{}, false},
		"other vector":              {object, edit(object, `[0.5,1]`, `[0.25,3e-5]`), Options{}, true},
		"shorter vector":            {object, edit(object, `[0.5,1]`, `[1]`), Options{}, false},
		"newline at the end":        {object, edit(object, `1]}`, `1]}`+"\n"), Options{}, false},
		"two values":                {object, edit(object, `1]}`, `1]}{}`), Options{}, false},
		"no JSON":                   {object, edit(object, `1]}`, `1]`), Options{}, false},
		"fewer words":               {ndjson, streamAnswer("application/x-ndjson", word, end), Options{PerRecord: true}, true},
		"no words":                  {ndjson, streamAnswer("application/x-ndjson", end), Options{}, false},
		"no end":                    {ndjson, streamAnswer("application/x-ndjson", word, word), Options{}, false},
		"end twice":                 {ndjson, streamAnswer("application/x-ndjson", word, end, word, end), Options{}, false},
		"an error line":             {ndjson, streamAnswer("application/x-ndjson", word, `{"error":"x"}`+"\n"), Options{}, false},
		"no newline at the end":     {ndjson, streamAnswer("application/x-ndjson", word, strings.TrimSuffix(end, "\n")), Options{}, false},
		"records in one chunk":      {ndjson, streamAnswer("application/x-ndjson", word+word+end), Options{}, true},
		"records in one chunk, cut": {ndjson, streamAnswer("application/x-ndjson", word+word+end), Options{PerRecord: true}, false},
		"half records in a chunk":   {ndjson, streamAnswer("application/x-ndjson", word[:9], word[9:], end), Options{PerRecord: true}, false},
		"ended by length":           {ndjson, edit(ndjson, `"stop"`, `"length"`), Options{}, true},
		"ended by a limit":          {few(ndjson), edit(ndjson, `"stop"`, `"length"`), Options{}, false},
		"ended by a load":           {ndjson, edit(ndjson, `"stop"`, `"load"`), Options{}, false},
		"longer context":            {ndjson, edit(ndjson, `[1,2]`, `[1,2,3,4]`), Options{}, true},
		"context of strings":        {ndjson, edit(ndjson, `[1,2]`, `[1,"2"]`), Options{}, false},
		"empty context":             {ndjson, edit(ndjson, `[1,2]`, `[]`), Options{}, false},
		"no time":                   {ndjson, edit(ndjson, `2026-11-23T13:01:25Z`, `yesterday`), Options{}, false},
		"another time":              {ndjson, edit(ndjson, `2026-11-23T13:01:25Z`, `2027-01-01T00:00:00.5Z`), Options{}, true},
		"a time that never comes":   {ndjson, edit(ndjson, `2026-11-23T13:01:25Z`, `2319-01-01T00:00:00Z`), Options{}, false},
		"done missing":              {sse, streamAnswer("text/event-stream", part, part, stop), Options{}, false},
		"done early":                {sse, streamAnswer("text/event-stream", part, done, stop), Options{}, false},
		"done apart":                {sse, streamAnswer("text/event-stream", part, part, stop, done), Options{}, true},
		"done apart, cut":           {sse, streamAnswer("text/event-stream", part, part, stop, done), Options{PerRecord: true}, false},
		"an event name":             {sse, edit(sse, part, "event: x\n"+part), Options{}, false},
		"one line feed":             {sse, edit(sse, part, strings.TrimSuffix(part, "\n")), Options{}, false},
		"another id":                {sse, edit(sse, "chatcmpl-1", "chatcmpl-998"), Options{}, true},
		"another kind of id":        {sse, edit(sse, "chatcmpl-1", "cmpl-1"), Options{}, false},
		"missing finish_reason":     {sse, edit(sse, `,"finish_reason":null`, ``), Options{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			found := Compare(tt.want, tt.got, tt.opts)
			if same := len(found) == 0; same != tt.same {
				t.Errorf("same: want %v, got %v: %s", tt.same, same, found)
			}
		})
	}
}

func TestCompare_ArgumentsInAnyOrder(t *testing.T) {
	call := func(args string) Response {
		return jsonAnswer(200, `{"tool_calls":[{"id":"call_abcdefgh","function":{"name":"f","arguments":`+args+`}}]}`)
	}
	want := call(`{"city":"Paris","count":1}`)
	for args, same := range map[string]bool{
		`{"count":2,"city":"Oslo"}`:      true,
		`{"city":"Oslo"}`:                false,
		`{"count":"2","city":"Oslo"}`:    false,
		`"{\"city\":\"x\",\"count\":1}"`: false,
	} {
		if found := Compare(want, call(args), Options{}); (len(found) == 0) != same {
			t.Errorf("arguments %s: want same=%v, got %s", args, same, found)
		}
	}
}

// What is random in the events of /v1/responses and /v1/messages, and what is not.
func TestCompare_EventsOfTheNewerDialects(t *testing.T) {
	event := func(data string) Response { return streamAnswer("text/event-stream", "event: x\ndata: "+data+"\n\n") }
	for name, tt := range map[string]struct {
		want, got string
		same      bool
	}{
		"delta":               {`{"delta":"a","sequence_number":4}`, `{"delta":"b","sequence_number":9}`, true},
		"no delta":            {`{"delta":"a"}`, `{"delta":""}`, false},
		"number as text":      {`{"sequence_number":4}`, `{"sequence_number":"4"}`, false},
		"ids":                 {`{"id":"fc_847975_0","item_id":"rs_resp_1"}`, `{"id":"fc_3_0","item_id":"rs_resp_22"}`, true},
		"id of another call":  {`{"id":"fc_847975_0"}`, `{"id":"fc_847975_1"}`, false},
		"id of another kind":  {`{"id":"rs_resp_1"}`, `{"id":"rs_1"}`, false},
		"moments":             {`{"created_at":1,"completed_at":2}`, `{"created_at":3,"completed_at":4}`, true},
		"not completed":       {`{"completed_at":2}`, `{"completed_at":null}`, false},
		"input of a call":     {`{"input":{"city":"a","unit":"b"}}`, `{"input":{"unit":"c","city":"d"}}`, true},
		"other input":         {`{"input":{"city":"a"}}`, `{"input":{"town":"a"}}`, false},
		"input in a string":   {`{"partial_json":"{\"a\":1}"}`, `{"partial_json":"{\"b\":2}"}`, true},
		"broken in a string":  {`{"partial_json":"{\"a\":1}"}`, `{"partial_json":"{"}`, false},
		"index of an item":    {`{"output_index":0}`, `{"output_index":1}`, false},
		"thoughts, encrypted": {`{"encrypted_content":"a"}`, `{"encrypted_content":"b"}`, true},
	} {
		if diff := Compare(event(tt.want), event(tt.got), Options{}); (len(diff) == 0) != tt.same {
			t.Errorf("%s: same %v, differences %q", name, !tt.same, diff)
		}
	}
}

func TestCompare_ModelsOfOneSecondInAnyOrder(t *testing.T) {
	list := func(names ...string) Response {
		var b []string
		for _, n := range names {
			second := "19"
			if n == "new" {
				second = "20"
			}
			b = append(b, `{"name":"`+n+`","modified_at":"2026-11-23T12:56:`+second+`.5Z"}`)
		}
		return jsonAnswer(200, `{"models":[`+strings.Join(b, ",")+`]}`)
	}
	want := list("new", "a", "b")
	if found := Compare(want, list("new", "b", "a"), Options{}); len(found) > 0 {
		t.Errorf("equal seconds in another order: %s", found)
	}
	for _, got := range []Response{list("a", "new", "b"), list("new", "a"), list("new", "a", "c")} {
		if found := Compare(want, got, Options{}); len(found) == 0 {
			t.Errorf("%s: no difference found", got.Body)
		}
	}
}

// TestCompare_SeesEveryKey damages every JSON object of every recorded 200 in turn.
func TestCompare_SeesEveryKey(t *testing.T) {
	damaged := 0
	for _, file := range []string{"chat", "embed", "general", "generate", "openai-chat", "sched"} {
		for _, rec := range Load(t, file) {
			kind, _ := header(rec.Response.Headers, "Content-Type")
			if rec.Response.Status != 200 || !strings.HasPrefix(kind, "application/json") || len(rec.Response.Body) == 0 {
				continue
			}
			v, err := parseJSON(rec.Response.Body)
			if err != nil {
				t.Fatal(err)
			}
			visitObjects(v, "", func(o *value, key string) {
				whole := o.members
				for i := range whole {
					for what, members := range map[string][]member{
						"without": slices.Delete(slices.Clone(whole), i, i+1),
						"renamed": append(append(slices.Clone(whole[:i]), member{whole[i].key + "x", whole[i].value}), whole[i+1:]...),
						"swapped": swapped(whole, i, key == "arguments"),
					} {
						if members == nil {
							continue
						}
						o.members = members
						got := rec.Response
						got.Body = v.write(nil)
						if bytes.HasSuffix(rec.Response.Body, []byte("\n")) {
							got.Body = append(got.Body, '\n')
						}
						damaged++
						if len(Compare(rec.Response, got, Options{})) == 0 {
							t.Errorf("%s/%s: %s %q was not noticed", file, rec.ID, what, whole[i].key)
						}
					}
				}
				o.members = whole
			})
		}
	}
	if damaged < 1000 {
		t.Errorf("only %d damages tried", damaged)
	}
}

func swapped(members []member, i int, anyOrder bool) []member {
	if i == 0 || anyOrder {
		return nil
	}
	out := slices.Clone(members)
	out[i-1], out[i] = out[i], out[i-1]
	return out
}

func visitObjects(v *value, key string, f func(o *value, key string)) {
	if v.kind == object {
		f(v, key)
	}
	for _, m := range v.members {
		visitObjects(m.value, m.key, f)
	}
	if key == "logprobs" || key == "embeddings" {
		return // its elements look alike: damaging one is enough
	}
	for _, e := range v.items {
		visitObjects(e, key, f)
	}
}

// write is the inverse of parseJSON.
func (v *value) write(b []byte) []byte {
	quoted := func(s string) []byte {
		q, err := json.Marshal(s)
		if err != nil {
			panic(err)
		}
		return q
	}
	switch v.kind {
	case object:
		b = append(b, '{')
		for i, m := range v.members {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(b, quoted(m.key)...), ':')
			b = m.write(b)
		}
		return append(b, '}')
	case array:
		b = append(b, '[')
		for i, e := range v.items {
			if i > 0 {
				b = append(b, ',')
			}
			b = e.write(b)
		}
		return append(b, ']')
	case text:
		return append(b, quoted(v.text)...)
	default:
		return append(b, v.text...)
	}
}
