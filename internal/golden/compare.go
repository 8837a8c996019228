package golden

import (
	"bytes"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strings"
)

// Options soften or sharpen a comparison. The zero value compares everything that is not volatile.
type Options struct {
	// IgnoreHeaders are names of headers that may be there or not and have any value, such as Via.
	IgnoreHeaders []string

	// IgnoreFraming lets an answer have a Content-Length instead of chunks, or the other way round.
	IgnoreFraming bool

	// PerRecord also holds the borders of chunks to the recording: each record of a stream, or the same group of
	// records as there, in one chunk of its own.
	PerRecord bool
}

// Compare returns the differences between the recorded answer and another one to the same request, in words; none means
// that a client would have seen the same.
//
// Compared exactly are the status line, every header but Date and Content-Length, the framing, and the bodies of errors
// and of answers that are not JSON. Of JSON bodies, NDJSON lines and SSE events the keys are compared in their order,
// with their types and nesting and all values that are the server's. What a model or the clock made is compared by
// type: see the table in mask.go. In a stream, neighbours that look the same count as one. Ends by "stop" and by
// "length" are the same unless the request allowed only very few tokens.
func Compare(want, got Response, opts Options) []string {
	if want.Status != got.Status || want.Status == 0 {
		if want.Status == got.Status {
			return nil
		}
		return []string{fmt.Sprintf("status: want %d, got %d, body %s", want.Status, got.Status, excerpt(got.Body))}
	}
	var d differences
	d.equal("status line", want.Line, got.Line)
	d.equal("interim answers", strings.Join(want.Interim, "; "), strings.Join(got.Interim, "; "))
	d.equal("without Date", fmt.Sprint(want.NoDate), fmt.Sprint(got.NoDate))
	d.headers(want, got, opts.IgnoreHeaders)
	if !opts.IgnoreFraming {
		d.equal("framing", want.Framing, got.Framing)
	}
	d.equal("truncated", fmt.Sprint(want.Truncated), fmt.Sprint(got.Truncated))
	d.body(want, got, opts)
	return d
}

// differences are collected in the order they are found.
type differences []string

func (d *differences) addf(format string, args ...any) { *d = append(*d, fmt.Sprintf(format, args...)) }

func (d *differences) equal(what, want, got string) {
	if want != got {
		d.addf("%s: want %q, got %q", what, want, got)
	}
}

// headers compares the values of each header. Content-Length counts only where no body follows, so that nothing else
// tells it; Transfer-Encoding is the framing.
func (d *differences) headers(want, got Response, ignored []string) {
	skip := append([]string{"Date", "Transfer-Encoding"}, ignored...)
	if want.Framing != "none" {
		skip = append(skip, "Content-Length")
	}
	collect := func(list [][2]string) map[string][]string {
		m := make(map[string][]string)
		for _, h := range list {
			if !slices.ContainsFunc(skip, func(s string) bool { return strings.EqualFold(s, h[0]) }) {
				key := strings.ToLower(h[0])
				m[key] = append(m[key], h[1])
			}
		}
		return m
	}
	w, g := collect(want.Headers), collect(got.Headers)
	names := make([]string, 0, len(w)+len(g))
	for _, m := range []map[string][]string{w, g} {
		for name := range m {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !slices.Equal(w[name], g[name]) {
			d.addf("header %s: want %q, got %q", name, w[name], g[name])
		}
	}
}

// body compares the bodies after the recorded answer's content type.
func (d *differences) body(want, got Response, opts Options) {
	value, _ := header(want.Headers, "Content-Type")
	kind, _, _ := mime.ParseMediaType(value)
	switch {
	case want.Framing == "none":
		if len(got.Body) > 0 {
			d.addf("body: want none, got %s", excerpt(got.Body))
		}
	case want.Status >= 400, kind != "application/json" && kind != "application/x-ndjson" && kind != "text/event-stream":
		d.equal("body", string(exactly(want.Body)), string(exactly(got.Body)))
	case kind == "application/json":
		d.json(want, got)
	default:
		d.stream(kind, want, got, opts.PerRecord)
	}
}

var requestID = regexp.MustCompile(`"request_id":"req_[0-9a-f]{24}"`)

// exactly masks what is random or private even in a body that is compared exactly.
func exactly(body []byte) []byte {
	body = bytes.ReplaceAll(body, []byte(realHost), []byte(maskedHost))
	return requestID.ReplaceAll(body, []byte(`"request_id":"req_"`))
}

// json compares one JSON value. Whether a newline follows it tells which part of a real server wrote it.
func (d *differences) json(want, got Response) {
	d.equal("newline at the end", fmt.Sprint(endsLine(want.Body)), fmt.Sprint(endsLine(got.Body)))
	w, err := parseJSON(want.Body)
	if err != nil {
		d.addf("recorded body: %v", err)
		return
	}
	g, err := parseJSON(got.Body)
	if err != nil {
		d.addf("body %s: %v", excerpt(got.Body), err)
		return
	}
	d.lines("body", shape(w, want.limited), shape(g, want.limited))
}

func endsLine(body []byte) bool { return bytes.HasSuffix(body, []byte("\n")) }

// stream compares the frames of a stream, or with perRecord the frames by chunk.
func (d *differences) stream(kind string, want, got Response, perRecord bool) {
	cut := func(r Response, whose string) [][]string {
		var frames [][]string
		parts := [][]byte{r.Body}
		if perRecord && r.Framing == "chunked" {
			parts = r.Chunks
		}
		for _, part := range parts {
			list, err := cutFrames(kind, part, want.limited)
			if err != nil {
				d.addf("%s stream: %v", whose, err)
			}
			if perRecord {
				frames = append(frames, slices.Concat(list...))
			} else {
				frames = append(frames, list...)
			}
		}
		return slices.CompactFunc(frames, slices.Equal[[]string])
	}
	w, g := cut(want, "recorded"), cut(got, "")
	for i := range max(len(w), len(g)) {
		what := fmt.Sprintf("frame %d", i)
		switch {
		case i >= len(g):
			d.addf("%s: missing, want\n\t%s", what, strings.Join(w[i], "\n\t"))
		case i >= len(w):
			d.addf("%s: not wanted, got\n\t%s", what, strings.Join(g[i], "\n\t"))
		case !slices.Equal(w[i], g[i]):
			d.lines(what, w[i], g[i])
		default:
			continue
		}
		return // what follows is only shifted
	}
}

// lines tells what two shapes have not in common.
func (d *differences) lines(what string, want, got []string) {
	if slices.Equal(want, got) {
		return
	}
	before := len(*d)
	for _, l := range without(want, got) {
		d.addf("%s: want %s", what, l)
	}
	for _, l := range without(got, want) {
		d.addf("%s: got  %s", what, l)
	}
	if len(*d) == before {
		d.addf("%s: other order, want\n\t%s\ngot\n\t%s", what, strings.Join(want, "\n\t"), strings.Join(got, "\n\t"))
	}
}

// without returns the lines of a that b has not, each as often as it is too many.
func without(a, b []string) []string {
	count := make(map[string]int)
	for _, l := range b {
		count[l]++
	}
	var out []string
	for _, l := range a {
		if count[l]--; count[l] < 0 {
			out = append(out, l)
		}
	}
	return out
}

func excerpt(b []byte) string {
	const most = 300
	if len(b) > most {
		return fmt.Sprintf("%q…", b[:most])
	}
	return fmt.Sprintf("%q", b)
}
