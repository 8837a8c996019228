package golden

import (
	"bytes"
	"embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

//go:embed testdata/*.jsonl
var files embed.FS

// A Record is one request and the answer a real server gave to it.
type Record struct {
	ID       string // unique within its file
	Note     string
	Request  Request
	Response Response
}

// A Request can be sent as it was, byte for byte but for Content-Length, which was not recorded.
type Request struct {
	Method  string
	Path    string // as in the request line: with a query, or absolute
	Proto   string // "HTTP/1.1" or "HTTP/1.0"
	Headers [][2]string
	Body    []byte
	HasBody bool // false: no body and no Content-Length
}

// A Response is an answer as it stood on the wire.
type Response struct {
	Status    int         // 0: the connection ended without an answer
	Line      string      // the status line
	Headers   [][2]string // in wire order, Date left out
	NoDate    bool        // there was no Date
	Interim   []string    // status lines of 1xx answers before it
	Framing   string      // "content-length", "chunked", "close", or "none" where no body may come
	Body      []byte
	Chunks    [][]byte // of a chunked body, as the server framed them
	Truncated bool     // it ended without the terminating chunk, or short of its Content-Length

	limited bool // the request asked for so few tokens that only their number can have ended the answer
}

// Load returns the records of a file, such as "generate", in their order. It fails the test when there is none.
func Load(tb testing.TB, name string) []Record {
	tb.Helper()
	raw, err := files.ReadFile("testdata/" + name + ".jsonl")
	if err != nil {
		tb.Fatalf("golden: no recordings %q: %v", name, err)
	}
	var out []Record
	for line := range bytes.Lines(raw) {
		rec, err := parse(name, line)
		if err != nil {
			tb.Fatalf("golden: %s, record %d: %v", name, len(out)+1, err)
		}
		out = append(out, rec)
	}
	return out
}

// parse reads one line of a file.
func parse(file string, line []byte) (Record, error) {
	var in struct {
		ID, Note string
		Request  struct {
			Method, Path, Proto string
			Headers             [][2]string
			Body                *string
			BodyB64             []byte `json:"body_b64"`
			BodyNote            string `json:"body_note"`
		}
		Response struct {
			Status    int
			Line      string
			Headers   [][2]string
			NoDate    bool `json:"no_date"`
			Interim   []string
			Framing   string
			Body      string
			BodyB64   []byte `json:"body_b64"`
			Chunks    []string
			ChunksB64 []string `json:"chunks_b64"`
			Truncated bool
		}
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return Record{}, err
	}
	q, a := in.Request, in.Response
	rec := Record{
		ID: in.ID, Note: in.Note,
		Request: Request{Method: q.Method, Path: q.Path, Proto: "HTTP/1.1", Headers: q.Headers},
		Response: Response{
			Status: a.Status, Line: a.Line, Headers: a.Headers, NoDate: a.NoDate, Interim: a.Interim,
			Framing: a.Framing, Truncated: a.Truncated, Body: []byte(numbers(a.Body)),
		},
	}
	if q.Proto != "" {
		rec.Request.Proto = q.Proto
	}
	switch {
	case q.BodyB64 != nil:
		rec.Request.Body, rec.Request.HasBody = q.BodyB64, true
	case q.BodyNote != "":
		body, err := written(file, in.ID, q.BodyNote)
		if err != nil {
			return Record{}, err
		}
		rec.Request.Body, rec.Request.HasBody = body, true
	case q.Body != nil:
		rec.Request.Body, rec.Request.HasBody = []byte(strings.ReplaceAll(repeated(*q.Body), maskedHost, realHost)), true
	}
	if a.BodyB64 != nil {
		rec.Response.Body = a.BodyB64
	}
	for _, c := range a.Chunks {
		if strings.HasSuffix(c, " chunks left out …") {
			continue // chunks like their neighbours, which comparing collapses anyway
		}
		rec.Response.Chunks = append(rec.Response.Chunks, []byte(numbers(c)))
	}
	for _, c := range a.ChunksB64 {
		b, err := base64.StdEncoding.DecodeString(c)
		if err != nil {
			return Record{}, err
		}
		rec.Response.Chunks = append(rec.Response.Chunks, b)
	}
	if rec.Response.Chunks != nil {
		rec.Response.Body = bytes.Join(rec.Response.Chunks, nil)
	}
	rec.Response.limited = limited(rec.Request.Body)
	return rec, nil
}

var (
	repetition = regexp.MustCompile(`<(\d+) times «([^»]*)»>`)
	leftOut    = regexp.MustCompile(`<(\d+) (numbers|vectors)>`)
)

// repeated writes out what a request's body only describes.
func repeated(body string) string {
	return repetition.ReplaceAllStringFunc(body, func(s string) string {
		m := repetition.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[1])
		if err != nil {
			return s
		}
		return strings.Repeat(m[2], n)
	})
}

// numbers writes as many numbers, or vectors of one, as an answer's body says were left out, but no more than 10000:
// such a long list is a context, whose numbers count as one when they are compared.
func numbers(body string) string {
	return leftOut.ReplaceAllStringFunc(body, func(s string) string {
		m := leftOut.FindStringSubmatch(s)
		n, err := strconv.Atoi(m[1])
		if err != nil || n < 1 {
			return s
		}
		one := "0"
		if m[2] == "vectors" {
			one = "[0.5]"
		}
		return strings.TrimSuffix(strings.Repeat(one+",", min(n, 10000)), ",")
	})
}

// few is the largest number of tokens with which an answer surely does not come to an end of its own.
const few = 3

// limited reports whether the request asks for few tokens, in whatever dialect.
func limited(body []byte) bool {
	var q struct {
		MaxTokens       int `json:"max_tokens"`
		MaxOutputTokens int `json:"max_output_tokens"`
		Options         struct {
			NumPredict float64 `json:"num_predict"`
		} `json:"options"`
	}
	if json.NewDecoder(bytes.NewReader(body)).Decode(&q) != nil {
		return false
	}
	for _, n := range []int{q.MaxTokens, q.MaxOutputTokens, int(q.Options.NumPredict)} {
		if 1 <= n && n <= few {
			return true
		}
	}
	return false
}

// written composes the bodies that were too long to be recorded. Each has the recorded length, which note begins with.
func written(file, id, note string) ([]byte, error) {
	list := func(n int, element func(i int) string) string {
		all := make([]string, n)
		for i := range all {
			all[i] = element(i)
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	same := func(s string) func(int) string { return func(int) string { return s } }
	nested := func(n int, open, inner, end string) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
	}
	var body string
	switch file + "/" + id {
	case "generate/deep":
		body = `{"model":"tiny","prompt":"x","format":` + nested(10000, "[", "", "]") + `}`
	case "openai-chat/deep":
		body = `{"model":"tiny","tools":` + nested(10000, "[", "", "]") + `}`
	case "hostile/context-huge":
		body = `{"model": "tiny", "prompt": "hi", "stream": false, "context": ` + list(5000, same("1")) +
			`, "options": {"num_predict": 1}}`
	case "hostile/format-deep-200":
		body = `{"model": "tiny", "prompt": "hi", "stream": false, "format": ` +
			nested(200, `{"type": "object", "properties": {"a": `, `{"type": "string"}`, "}}") +
			`, "options": {"num_predict": 5}}`
	case "hostile/format-big-enum":
		body = `{"model": "tiny", "prompt": "hi", "stream": false, "format": {"type": "string", "enum": ` +
			list(5000, func(i int) string { return `"v` + strconv.Itoa(i) + `"` }) + `}, "options": {"num_predict": 5}}`
	case "hostile/embed-many":
		body = `{"model": "tinyembed", "input": ` + list(3000, same(`"x"`)) + `, "dimensions": 2}`
	case "hostile/chat-many":
		body = `{"model": "tiny", "messages": ` + list(3000, same(`{"role": "user", "content": "x"}`)) +
			`, "stream": false, "options": {"num_predict": 1}}`
	default:
		return nil, fmt.Errorf("nobody knows the body of %s/%s: %s", file, id, note)
	}
	if want, _, _ := strings.Cut(note, " "); want != strconv.Itoa(len(body)) {
		return nil, fmt.Errorf("%s/%s: body of %d bytes, recorded were %s", file, id, len(body), note)
	}
	return []byte(body), nil
}
