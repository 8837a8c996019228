package assistant

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A gateway answers as a real server was recorded, except where a test has put another handler.
type gateway struct {
	mux    *http.ServeMux
	models string // the answer of /api/tags

	mu   sync.Mutex // guards what follows
	seen []seen
}

// seen is a request as it came.
type seen struct {
	path, body string
	head       http.Header
}

func newGateway(t *testing.T, chat http.HandlerFunc) *gateway {
	t.Helper()
	g := &gateway{mux: http.NewServeMux(), models: string(recorded(t, "general", "tags").Body)}
	g.mux.HandleFunc("GET /api/tags", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, g.models) })
	shows := map[string][]byte{
		"tinyembed": recorded(t, "models", "show-embed").Body,
		"tinythink": recorded(t, "models", "show-think").Body,
		"":          recorded(t, "models", "show").Body,
	}
	g.mux.HandleFunc("POST /api/show", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		for name, show := range shows {
			if name != "" && bytes.Contains(body, []byte(name)) {
				w.Write(show)
				return
			}
		}
		w.Write(shows[""])
	})
	g.mux.HandleFunc("POST /api/chat", chat)
	return g
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	g.mu.Lock()
	g.seen = append(g.seen, seen{r.URL.Path, string(body), r.Header.Clone()})
	g.mu.Unlock()
	g.mux.ServeHTTP(w, r)
}

// asked are the requests for a path.
func (g *gateway) asked(path string) []seen {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(g.seen), func(s seen) bool { return s.path != path })
}

func recorded(t *testing.T, file, id string) golden.Response {
	t.Helper()
	for _, r := range golden.Load(t, file) {
		if r.ID == id {
			return r.Response
		}
	}
	t.Fatalf("no recording %s of %s", id, file)
	return golden.Response{}
}

// replay answers with a recording, chunk by chunk.
func replay(response golden.Response) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for _, h := range response.Headers {
			if h[0] == "Content-Type" {
				w.Header().Set(h[0], h[1])
			}
		}
		w.WriteHeader(response.Status)
		if response.Chunks == nil {
			w.Write(response.Body)
		}
		for _, chunk := range response.Chunks {
			if !strings.HasPrefix(string(chunk), "…") { // what the recording leaves out
				w.Write(chunk)
				_ = http.NewResponseController(w).Flush()
			}
		}
	}
}

func says(status int, head map[string]string, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range head {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func dial(t *testing.T, h http.Handler, opts Options) *Assistant {
	t.Helper()
	pipe := simnode.NewPipe(h)
	t.Cleanup(pipe.Close)
	opts.Transport, opts.URL = pipe, "http://blog.internal"
	a, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var prompt = Prompt{System: "You answer.", User: "hi there", Tokens: 64}

// ask collects an answer.
func ask(ctx context.Context, a *Assistant) (text string, reply Reply, err error) {
	reply, err = a.Answer(ctx, prompt, func(s string) error { text += s; return nil })
	return text, reply, err
}

func TestAnswer_IsWhatTheServerSaid(t *testing.T) {
	a := dial(t, newGateway(t, replay(recorded(t, "chat", "stream"))), Options{Model: "tiny"})
	text, reply, err := ask(t.Context(), a)
	if want := " today and a green door ."; text != want || err != nil {
		t.Errorf("text %q, error %v; want %q", text, err, want)
	}
	if want := (Reply{Model: "tiny"}); reply != want {
		t.Errorf("reply %+v, want %+v", reply, want)
	}
}

func TestAnswer_ThoughtsAreNotShown(t *testing.T) {
	a := dial(t, newGateway(t, replay(recorded(t, "chat", "think-stream"))), Options{Model: "tinythink"})
	if text, _, err := ask(t.Context(), a); err != nil || text == "" || strings.Contains(text, "we like a long walk") {
		t.Errorf("text %q, error %v", text, err)
	}
}

func TestAnswer_RequestsOfTwoVisitorsAreEqual(t *testing.T) {
	g := newGateway(t, replay(recorded(t, "chat", "stream")))
	for range 2 {
		a := dial(t, g, Options{APIKey: "secret"})
		if _, _, err := ask(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	got := g.asked("/api/chat")
	if len(got) != 2 || got[0].body != got[1].body {
		t.Fatalf("requests differ: %q", got)
	}
	want := `{"model":"tinyslow:latest","messages":[{"role":"system","content":"You answer."},{"role":"user","content":"hi there"}],` +
		`"stream":true,"think":false,"options":{"temperature":0,"num_predict":64}}`
	if got[0].body != want {
		t.Errorf("request\n%s, want\n%s", got[0].body, want)
	}
	for name := range got[0].head {
		if !slices.Contains([]string{"User-Agent", "Content-Type", "Content-Length", "Authorization", "Accept-Encoding"}, name) {
			t.Errorf("header %s is sent", name)
		}
	}
	if got := got[0].head.Get("Authorization"); got != "Bearer secret" {
		t.Errorf("authorization %q", got)
	}
}

func TestAnswer_WithoutKeySendsNone(t *testing.T) {
	g := newGateway(t, replay(recorded(t, "chat", "stream")))
	if _, _, err := ask(t.Context(), dial(t, g, Options{})); err != nil {
		t.Fatal(err)
	}
	if got := g.asked("/api/chat")[0].head; got.Get("Authorization") != "" {
		t.Errorf("sent %q", got)
	}
}

func TestAnswer_SaysWhetherItWasCached(t *testing.T) {
	for status, want := range map[string]bool{
		"":                                 false,
		"caddy-ollama; fwd=miss; stored":   false,
		"caddy-ollama; hit; ttl=2412":      true,
		"caddy-ollama;hit":                 true,
		"edge; hit, caddy-ollama; fwd=uri": false,
		"edge; fwd=miss, caddy-ollama; hit; ttl=1": true,
		"caddy-ollama; fwd=bypass; detail=hit":     false,
	} {
		chat := recorded(t, "chat", "stream")
		a := dial(t, newGateway(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Status", status)
			replay(chat)(w, r)
		}), Options{})
		if _, reply, err := ask(t.Context(), a); reply.Cached != want || err != nil {
			t.Errorf("%q: cached %v, want %v; error %v", status, reply.Cached, want, err)
		}
	}
}

const (
	record = `{"model":"tiny","message":{"role":"assistant","content":"word "},"done":false}` + "\n"
	last   = `{"model":"tiny","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}` + "\n"
)

func TestAnswer_FaultsAreHonest(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	for name, c := range map[string]struct {
		chat  http.HandlerFunc
		want  error
		text  string
		retry time.Duration
	}{
		"busy":              {says(503, map[string]string{"Retry-After": "7"}, `{"error":"server busy"}`), ErrUnavailable, "", 7 * time.Second},
		"absurd retry":      {says(503, map[string]string{"Retry-After": "999999999"}, ""), ErrUnavailable, "", time.Hour},
		"too many requests": {says(429, nil, ""), ErrUnavailable, "", 0},
		"bad gateway":       {says(502, nil, ""), ErrUnavailable, "", 0},
		"load fails":        {replay(recorded(t, "faults", "load-fails-chat")), ErrUnavailable, "", 0},
		"wrong key":         {says(401, nil, ""), ErrUnavailable, "", 0},
		"no such model":     {replay(recorded(t, "chat", "missing-model")), ErrNoModel, "", 0},
		"bad request":       {replay(recorded(t, "chat", "wrong-type")), ErrRefused, "", 0},
		"too large":         {says(413, nil, ""), ErrRefused, "", 0},
		"redirect":          {says(307, map[string]string{"Location": "http://elsewhere.example/api/chat"}, ""), ErrRefused, "", 0},
		"only loaded":       {replay(recorded(t, "chat", "load")), ErrRefused, "", 0},
		"runner killed":     {replay(recorded(t, "faults", "runner-killed-chat")), ErrTruncated, " you", 0},
		"error at once":     {says(200, nil, `{"error":"it died"}`+"\n"), ErrUnavailable, "", 0},
		"error behind text": {says(200, nil, record+`{"error":"it died"}`+"\n"), ErrTruncated, "word ", 0},
		"error of no text":  {says(200, nil, record+`{"error":{"code":1}}`+"\n"), ErrTruncated, "word ", 0},
		"clean end":         {says(200, nil, record), ErrTruncated, "word ", 0},
		"nothing":           {says(200, nil, ""), ErrUnavailable, "", 0},
		"no JSON":           {says(200, nil, record+"<html>\n"), ErrTruncated, "word ", 0},
		"line too long":     {says(200, nil, record+`{"x":"`+strings.Repeat("x", lineLimit)+"\"}\n"+last), ErrTruncated, "word ", 0},
		"answer too long": {
			says(200, nil, strings.Repeat(`{"message":{"content":"`+long+`"}}`+"\n", 3)+last), ErrTruncated, long + long, 0,
		},
		"cut connection": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, record)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, ErrTruncated, "word ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			text, _, err := ask(t.Context(), dial(t, newGateway(t, c.chat), Options{}))
			var e *Error
			if !errors.Is(err, c.want) || !errors.As(err, &e) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if !strings.HasPrefix(text, c.text) || c.text == "" && text != "" {
				t.Errorf("text %.100q, want %.100q", text, c.text)
			}
			if e.RetryAfter != c.retry {
				t.Errorf("retry after %v, want %v", e.RetryAfter, c.retry)
			}
			if strings.Contains(err.Error(), "died") || strings.Contains(err.Error(), "word") || strings.Contains(err.Error(), "hi there") {
				t.Errorf("the error has text in it: %v", err)
			}
		})
	}
}

func TestAnswer_NobodyListens(t *testing.T) {
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	a, err := New(Options{URL: "http://" + socket.Addr().String(), Transport: &http.Transport{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ask(t.Context(), a); !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v, want %v", err, ErrUnavailable)
	}
}

func TestAnswer_AnErrorOfNothingIsNone(t *testing.T) {
	a := dial(t, newGateway(t, says(200, nil, strings.Replace(record, "{", `{"error":null,`, 1)+"\n"+last)), Options{})
	if text, _, err := ask(t.Context(), a); text != "word " || err != nil {
		t.Errorf("text %q, error %v", text, err)
	}
}

func TestAnswer_CutByItsLength(t *testing.T) {
	a := dial(t, newGateway(t, says(200, nil, record+strings.Replace(last, "stop", "length", 1))), Options{})
	if _, reply, err := ask(t.Context(), a); !reply.Cut || err != nil {
		t.Errorf("reply %+v, error %v", reply, err)
	}
}

// stall begins an answer, if it has a beginning, and then waits for the client to leave.
func stall(beginning string, left chan<- struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if beginning != "" {
			io.WriteString(w, beginning)
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		close(left)
	}
}

func TestAnswer_StallEndsAtItsTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		beginning string
		want      error
	}{"before the first word": {"", ErrUnavailable}, "in the middle": {record, ErrTruncated}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				left := make(chan struct{})
				a := dial(t, newGateway(t, stall(c.beginning, left)), Options{})
				began := time.Now()
				_, _, err := ask(t.Context(), a)
				if took := time.Since(began); !errors.Is(err, c.want) || took != 2*time.Minute {
					t.Errorf("error %v after %v, want %v after 2m", err, took, c.want)
				}
				<-left
			})
		})
	}
}

func TestAnswer_WhoLeavesEndsTheRequestAtTheGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left := make(chan struct{})
		a := dial(t, newGateway(t, stall(record, left)), Options{})
		ctx, cancel := context.WithCancel(t.Context())
		_, err := a.Answer(ctx, prompt, func(string) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrTruncated) {
			t.Errorf("error %v, want %v", err, context.Canceled)
		}
		<-left
	})
}

func TestAnswer_WhoCannotBeToldEndsItToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, gone := make(chan struct{}), errors.New("gone")
		a := dial(t, newGateway(t, stall(record, left)), Options{})
		if _, err := a.Answer(t.Context(), prompt, func(string) error { return gone }); err != gone {
			t.Errorf("error %v, want %v", err, gone)
		}
		<-left
	})
}

func TestAnswer_OfASimulatedNode(t *testing.T) {
	for _, version := range []string{"0.24.0", "0.33.0"} {
		synctest.Test(t, func(t *testing.T) {
			node := simnode.New(simnode.Options{Models: simnode.SimModels(), Version: version})
			defer node.Close()
			a := dial(t, node, Options{})
			first, reply, err := ask(t.Context(), a)
			if err != nil || first == "" || !strings.HasPrefix(reply.Model, "sim-") {
				t.Fatalf("%s: text %q, reply %+v, error %v", version, first, reply, err)
			}
			if again, _, err := ask(t.Context(), a); again != first || err != nil {
				t.Errorf("%s: asked again %q, error %v; want %q", version, again, err, first)
			}
		})
	}
}

func TestNew_RefusesWhatIsNoGateway(t *testing.T) {
	for _, url := range []string{"", "ollama", "ftp://a.example", "http://", "http://u:secret@a.example", "http://a.example?x=1", "http://a b"} {
		if _, err := New(Options{URL: url}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: error %v", url, err)
		}
	}
}

func TestNew_KeepsThePathOfTheGateway(t *testing.T) {
	server := httptest.NewServer(http.StripPrefix("/ai", newGateway(t, says(200, nil, record+last))))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	a, err := New(Options{URL: server.URL + "/ai/", Transport: transport, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if text, _, err := ask(t.Context(), a); text != "word " || err != nil {
		t.Errorf("text %q, error %v", text, err)
	}
}

func FuzzFollow(f *testing.F) {
	f.Add([]byte(record + last))
	f.Add([]byte(record + `{"error":null}` + "\n" + `{"error":"x"}`))
	f.Add([]byte(`{"done":true,"message":null}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		n := 0
		fol := follower{piece: func(s string) error { n += len(s); return nil }}
		err := fol.follow(bytes.NewReader(stream))
		if n > answerLimit || err == nil && n == 0 {
			t.Errorf("%d bytes, error %v", n, err)
		}
	})
}
