package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

// split gives all frames of a body and the error behind them.
func split(r io.Reader, d Dialect) (frames []string, err error) {
	s := NewSplitter(r, d)
	for {
		frame, err := s.Next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, string(frame))
	}
}

func TestSplitter(t *testing.T) {
	tests := []struct {
		name string
		d    Dialect
		in   string
		want []string
		err  error
	}{
		{"empty body", Ollama, "", nil, io.EOF},
		{"lines", Ollama, "{\"a\":1}\n{\"b\":2}\n", []string{"{\"a\":1}\n", "{\"b\":2}\n"}, io.EOF},
		{"blank lines are skipped", Ollama, "\n\r\n {}\n \t\n\n{}\n\n", []string{" {}\n", "{}\n"}, io.EOF},
		{"carriage returns stay", Ollama, "{}\r\n", []string{"{}\r\n"}, io.EOF},
		{"last line without its newline", Ollama, "{}\n{\"done\":true}", []string{"{}\n", "{\"done\":true}\n"}, io.EOF},
		{"white space at the end is nothing", Ollama, "{}\n  ", []string{"{}\n"}, io.EOF},
		{"cut within a line", Ollama, "{}\n{\"done\":tr", []string{"{}\n"}, io.ErrUnexpectedEOF},
		{"a line need not be JSON", Ollama, "x\n", []string{"x\n"}, io.EOF},

		{"empty SSE body", OpenAI, "", nil, io.EOF},
		{"events", OpenAI, "data: 1\n\ndata: [DONE]\n\n", []string{"data: 1\n\n", "data: [DONE]\n\n"}, io.EOF},
		{
			"events of several lines", Anthropic, "event: a\ndata: 1\n\nevent: b\ndata: 2\ndata: 3\n\n",
			[]string{"event: a\ndata: 1\n\n", "event: b\ndata: 2\ndata: 3\n\n"},
			io.EOF,
		},
		{"carriage returns", OpenAI, "data: 1\r\n\r\ndata: 2\r\n\ndata: 3\n\r\n", []string{"data: 1\r\n\r\n", "data: 2\r\n\n", "data: 3\n\r\n"}, io.EOF},
		{"empty lines between events", OpenAI, "\n\r\ndata: 1\n\n\n\ndata: 2\n\n\r\n", []string{"data: 1\n\n", "data: 2\n\n"}, io.EOF},
		{"heartbeats are skipped", OpenAI, ": ping\n\n:\r\n\r\ndata: 1\n\n", []string{"data: 1\n\n"}, io.EOF},
		{"a comment within an event stays", OpenAI, ": x\ndata: 1\n\n", []string{": x\ndata: 1\n\n"}, io.EOF},
		{"cut within an event", OpenAI, "data: 1\n\ndata: 2", []string{"data: 1\n\n"}, io.ErrUnexpectedEOF},
		{"cut before the empty line", OpenAI, "data: {}\n", nil, io.ErrUnexpectedEOF},
		{"cut in the empty line", OpenAI, "data: {}\n\r", nil, io.ErrUnexpectedEOF},
	}
	readers := map[string]func(io.Reader) io.Reader{
		"at once":       func(r io.Reader) io.Reader { return r },
		"byte by byte":  iotest.OneByteReader,
		"with the end":  iotest.DataErrReader,
		"in half reads": iotest.HalfReader,
	}
	for _, tt := range tests {
		for how, reader := range readers {
			t.Run(tt.name+"/"+how, func(t *testing.T) {
				got, err := split(reader(strings.NewReader(tt.in)), tt.d)
				if err != tt.err || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
					t.Errorf("frames of %q\ngot  %q, %v\nwant %q, %v", tt.in, got, err, tt.want, tt.err)
				}
			})
		}
	}
}

func TestSplitter_CutsTheRecordedStreamsWhereANodeFlushed(t *testing.T) {
	streams := 0
	for _, file := range []string{"generate", "chat", "openai-chat", "openai-completions", "openai-responses", "anthropic", "faults", "pull"} {
		for _, rec := range golden.Load(t, file) {
			d := dialectOf(rec.Request.Path)
			if headerOf(rec.Response, "Content-Type") != StreamType(d) || rec.Response.Chunks == nil {
				continue
			}
			streams++
			frames, err := split(bytes.NewReader(rec.Response.Body), d)
			if err != io.EOF || strings.Join(frames, "") != string(rec.Response.Body) {
				t.Errorf("%s/%s: %d frames, %v, which are not the body", file, rec.ID, len(frames), err)
			}
			if file == "openai-chat" || file == "openai-completions" {
				continue // there the last events share a flush
			}
			if len(frames) != len(rec.Response.Chunks) {
				t.Errorf("%s/%s: %d frames, the node flushed %d times", file, rec.ID, len(frames), len(rec.Response.Chunks))
			}
		}
	}
	if streams < 30 {
		t.Errorf("%d streams compared, want all that are recorded", streams)
	}
}

func TestSplitter_FramesAreTheCallersOwn(t *testing.T) {
	s := NewSplitter(strings.NewReader("{\"a\":1}\n{\"b\":2}\n"), Ollama)
	first, err := s.Next()
	if err != nil {
		t.Fatal(err)
	}
	if cap(first) > len(first)+8 {
		t.Errorf("a frame of %d bytes holds %d", len(first), cap(first))
	}
	for i := range first {
		first[i] = 'x'
	}
	if second, err := s.Next(); string(second) != "{\"b\":2}\n" || err != nil {
		t.Errorf("writing to the first frame changed the second to %q, %v", second, err)
	}
}

func TestSplitter_GivesTheReadersErrorAfterItsFrames(t *testing.T) {
	reset := errors.New("connection reset")
	for _, rest := range []string{"", "{\"half", "{}"} {
		s := NewSplitter(io.MultiReader(strings.NewReader("{}\n"+rest), iotest.ErrReader(reset)), Ollama)
		if frame, err := s.Next(); string(frame) != "{}\n" || err != nil {
			t.Fatalf("first frame before %q: %q, %v", rest, frame, err)
		}
		for range 2 {
			if frame, err := s.Next(); err != reset {
				t.Errorf("after %q: got %q, %v, want %v", rest, frame, err, reset)
			}
		}
	}
}

func TestSplitter_ErrorsRepeat(t *testing.T) {
	for in, want := range map[string]error{"": io.EOF, "{": io.ErrUnexpectedEOF} {
		s := NewSplitter(strings.NewReader(in), Ollama)
		for range 3 {
			if frame, err := s.Next(); frame != nil || err != want {
				t.Errorf("%q: got %q, %v, want %v each time", in, frame, err, want)
			}
		}
	}
}

func TestSplitter_ReaderThatNeverReadsEnds(t *testing.T) {
	if _, err := NewSplitter(stuckReader{}, Ollama).Next(); err != io.ErrNoProgress {
		t.Errorf("got %v, want %v", err, io.ErrNoProgress)
	}
}

type stuckReader struct{}

func (stuckReader) Read([]byte) (int, error) { return 0, nil }

func TestSplitter_LongestFrameIsTheLimit(t *testing.T) {
	for _, d := range []Dialect{Ollama, OpenAI} {
		end := "\n"
		if d != Ollama {
			end = "\n\n"
		}
		line := strings.Repeat("x", FrameLimit-len(end))
		got, err := split(strings.NewReader(line+end+"y"+end), d)
		if err != io.EOF || len(got) != 2 || len(got[0]) != FrameLimit {
			t.Errorf("%v: a frame of the limit: %d frames, %v", d, len(got), err)
		}
		if _, err := split(strings.NewReader(line+"x"+end), d); err != ErrFrameTooLong {
			t.Errorf("%v: a byte more: got %v, want %v", d, err, ErrFrameTooLong)
		}
	}
}

// endless gives the same bytes for ever and counts them.
type endless struct {
	pattern string
	given   int
}

func (e *endless) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], e.pattern)
	}
	e.given += n
	return n, nil
}

func TestSplitter_EndlessFrameCostsNoMoreThanTheLimit(t *testing.T) {
	for _, pattern := range []string{"x", " ", "\r", "data: x\n", "data: x\r\n"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		body := &endless{pattern: pattern}
		_, err := NewSplitter(body, OpenAI).Next()
		runtime.ReadMemStats(&after)
		if err != ErrFrameTooLong || body.given > FrameLimit+FrameLimit/8 {
			t.Errorf("endless %q: %v after %d bytes, want %v soon after %d", pattern, err, body.given, ErrFrameTooLong, FrameLimit)
		}
		// Growing by doubling allocates twice the last buffer in all.
		if total := after.TotalAlloc - before.TotalAlloc; total > 3*FrameLimit {
			t.Errorf("endless %q: %d bytes allocated", pattern, total)
		}
	}
}

func TestSplitter_LetsGoOfTheMemoryOfALongFrame(t *testing.T) {
	s := NewSplitter(strings.NewReader(strings.Repeat("x", 1<<20)+"\n{}\n{}\n"), Ollama)
	for range 3 {
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if cap(s.buf) > bufferKeep {
		t.Errorf("the buffer is still %d bytes", cap(s.buf))
	}
}

func TestWithoutUsage(t *testing.T) {
	tests := []struct{ name, frame, want string }{
		{"last", `data: {"choices":[{"text":"\"usage\""}],"usage":{"total_tokens":0}}`, `data: {"choices":[{"text":"\"usage\""}]}`},
		{"between", `data: {"a":1,"usage":null,"b":{"usage":2}}`, `data: {"a":1,"b":{"usage":2}}`},
		{"first", `data: {"usage":{},"b":2}`, `data: {"b":2}`},
		{"alone", `data: {"usage":{}}`, `data: {}`},
		{"in lines", "data: {\"a\":\ndata: 1,\"usage\":{}}", `data: {"a": 1}`},
		{"only within", `data: {"b":{"usage":2}}`, `data: {"b":{"usage":2}}`},
		{"none", `data: {"b":2}`, `data: {"b":2}`},
		{"the end", `data: [DONE]`, `data: [DONE]`},
		{"no JSON", `data: {"usage"`, `data: {"usage"`},
		{"no event", `{"usage":{}}`, `{"usage":{}}`},
	}
	for _, tt := range tests {
		if got := WithoutUsage([]byte(tt.frame + "\n\n")); string(got) != tt.want+"\n\n" {
			t.Errorf("%s: WithoutUsage(%s)\ngot  %q\nwant %q", tt.name, tt.frame, got, tt.want+"\n\n")
		}
	}
}

func TestWithoutUsage_GivesTheRecordedStreamOfAClientThatDidNotAsk(t *testing.T) {
	asked := framesOf(t, record(t, "openai-completions", "stream-usage").Response.Body, OpenAI)
	plain := framesOf(t, record(t, "openai-completions", "stream").Response.Body, OpenAI)
	j := NewJudge(OpenAI, Generate)
	var got [][]byte
	for _, frame := range asked {
		if kind, err := j.Frame(frame); err != nil {
			t.Fatal(err)
		} else if kind != Usage {
			got = append(got, WithoutUsage(frame))
		}
	}
	if g, w := masked(bytes.Join(got, nil)), masked(bytes.Join(plain, nil)); g != w {
		t.Errorf("frames of %s\ngot  %s\nwant %s", bytes.Join(asked, nil), g, w)
	}
}

func FuzzSplitter(f *testing.F) {
	for _, s := range []string{
		"", "{}\n", "{}\n\n{}", "data: 1\n\n", "data: 1\r\n\r\n", ": c\n\ndata: 1\n\n", "\r\n\n\r\r\n", "{\n",
		"event: a\ndata: 1\n\nevent: b\n", " \n\t{}\n",
	} {
		f.Add([]byte(s), uint8(1))
		f.Add([]byte(s), uint8(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, piece uint8) {
		for _, d := range []Dialect{Ollama, OpenAI} {
			frames, err := split(&pieceReader{in, int(piece)%16 + 1}, d)
			want, wantErr := plainSplit(string(in), d)
			if err != wantErr || strings.Join(frames, "|") != strings.Join(want, "|") {
				t.Errorf("%v: frames of %q\ngot  %q, %v\nwant %q, %v", d, in, frames, err, want, wantErr)
			}
		}
	})
}

// pieceReader reads at most n bytes at a time.
type pieceReader struct {
	rest []byte
	n    int
}

func (r *pieceReader) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), r.n)], r.rest)
	r.rest = r.rest[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// plainSplit says line by line what the frames of a body are.
func plainSplit(in string, d Dialect) (frames []string, err error) {
	frame := ""
	for line := range strings.Lines(in) {
		whole := strings.HasSuffix(line, "\n")
		empty := line == "\n" || line == "\r\n"
		if d == Ollama {
			switch {
			case strings.TrimSpace(line) == "":
			case whole:
				frames = append(frames, line)
			case validJSON([]byte(line)):
				frames = append(frames, line+"\n")
			default:
				return frames, io.ErrUnexpectedEOF
			}
			continue
		}
		if frame == "" && empty {
			continue
		}
		frame += line
		if empty {
			comments := true
			for l := range strings.Lines(frame) {
				comments = comments && (l[0] == ':' || l == "\n" || l == "\r\n")
			}
			if !comments {
				frames = append(frames, frame)
			}
			frame = ""
		}
	}
	if strings.TrimSpace(frame) != "" {
		return frames, io.ErrUnexpectedEOF
	}
	return frames, io.EOF
}

func BenchmarkSplitter(b *testing.B) {
	bodies := map[Dialect]string{
		Ollama: `{"model":"tiny","created_at":"2026-11-23T13:02:23.240563359Z","message":{"role":"assistant","content":" green"},"done":false}` + "\n",
		OpenAI: `data: {"id":"chatcmpl-627","object":"chat.completion.chunk","created":1795439002,"model":"tiny","system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant","content":" today"},"finish_reason":null}]}` + "\n\n",
	}
	for d, frame := range bodies {
		body := strings.Repeat(frame, 1000)
		b.Run("dialect="+d.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(frame)))
			s := NewSplitter(strings.NewReader(body), d)
			for b.Loop() {
				if _, err := s.Next(); err != nil {
					s = NewSplitter(strings.NewReader(body), d)
				}
			}
		})
	}
}

func TestSplitter_ReadyIsNoReading(t *testing.T) {
	for name, c := range map[string]struct {
		dialect Dialect
		text    string
		want    int // frames that are ready once the first has been read
	}{
		"lines":                {Ollama, "{}\n{}\n{}\n{", 2},
		"a line and blanks":    {Ollama, "{}\n\n \n", 0},
		"events":               {OpenAI, "data: 1\n\ndata: 2\n\ndata: 3\n", 1},
		"events and heartbeat": {OpenAI, "data: 1\n\n: beat\n\n: beat\n\ndata: 2\n\n", 1},
		"nothing but beats":    {OpenAI, "data: 1\n\n: beat\n\n", 0},
		"carriage returns":     {OpenAI, "data: 1\r\n\r\n: beat\r\n\r\nevent: x\r\ndata: 2\r\n\r\ndata:", 1},
	} {
		reads := 0
		s := NewSplitter(readerFunc(func(p []byte) (int, error) {
			if reads++; reads > 1 {
				return 0, io.EOF
			}
			return copy(p, c.text), nil
		}), c.dialect)
		if s.Ready() {
			t.Errorf("%s: ready before anything was read", name)
		}
		if _, err := s.Next(); err != nil {
			t.Fatal(err)
		}
		got := 0
		for ; s.Ready(); got++ {
			if !s.Ready() {
				t.Errorf("%s: not ready when asked again", name)
			}
			if _, err := s.Next(); err != nil {
				t.Errorf("%s: %v where a frame was ready", name, err)
			}
		}
		if got != c.want || reads != 1 {
			t.Errorf("%s: %d frames ready, %d reads, want %d and 1", name, got, reads, c.want)
		}
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
