package attempt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/suspect"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const key = "registry.ollama.ai/library/m:latest"

// reports keeps what a Step told the fleet.
type reports struct {
	mu   sync.Mutex
	said []string

	usual time.Duration // until the first byte; 0: not known
}

func (r *reports) say(what string, n *fleet.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, what+" "+n.Name())
}

func (r *reports) Answered(n *fleet.Node)                               { r.say("answered", n) }
func (r *reports) Loaded(n *fleet.Node, _ string, _ wire.RunnerOptions) { r.say("loaded", n) }
func (r *reports) Begun(n *fleet.Node, o fleet.Outcome) {
	if o.FirstFrame > 0 {
		r.say("begun", n)
	}
}

func (r *reports) Report(n *fleet.Node, o fleet.Outcome) {
	switch o.Kind {
	case fleet.OK:
		if o.Told {
			r.say("ended, told", n)
		}
	case fleet.Missing:
		r.say("missing", n)
	case fleet.Connect, fleet.TLS:
		r.say("unreachable", n)
	}
}

func (r *reports) FirstByte(*fleet.Node, string, bool) (time.Duration, bool) {
	return r.usual, r.usual > 0
}

// still is a fleet that never changes.
type still struct{ snap *fleet.Snapshot }

func (s still) Snapshot() *fleet.Snapshot { return s.snap }
func (s still) Subscribe(func()) func()   { return func() {} }
func first([]schedule.Candidate) int      { return 0 }
func parse(t testing.TB, path, body string) *wire.Request {
	t.Helper()
	r, err := wire.Parse(*wire.Find("POST", path).Route, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A bench is a Step before nodes n0, n1, ..., which are tried in that order.
type bench struct {
	*Step
	*reports
	end   context.CancelFunc
	queue *schedule.Queue
	nodes []*fleet.Node
}

func newBench(t *testing.T, opts Options, at []string, transports ...http.RoundTripper) *bench {
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{reports: &reports{}, end: cancel}
	snap := &fleet.Snapshot{Ready: true, Asked: true, Models: map[string]*fleet.Model{}}
	for i, tr := range transports {
		u, err := url.Parse(at[i])
		if err != nil {
			t.Fatal(err)
		}
		n := fleet.NewNode(fleet.NodeConfig{Name: fmt.Sprintf("n%d", i), URL: u, Transport: tr})
		b.nodes = append(b.nodes, n)
		snap.Nodes = append(snap.Nodes, fleet.NodeView{Node: n, State: fleet.Up})
	}
	snap.Models[key] = &fleet.Model{Key: key, Nodes: b.nodes}
	b.queue = schedule.NewQueue(still{snap}, first, nil)
	var pumps sync.WaitGroup
	b.Step = New(Base{Context: ctx, Queue: b.queue, Fleet: b.reports, Budget: new(Budget), Suspects: suspect.New(), Log: nobody{}, Pumps: &pumps, Via: "test"}, opts)
	t.Cleanup(func() { cancel(); pumps.Wait() })
	return b
}

func (b *bench) ask(t *testing.T, ctx context.Context) (*recording.Reader, *call.Call, error) {
	c := &call.Call{
		Request:  parse(t, "/api/chat", `{"model":"m","messages":[{"role":"user","content":"x"}]}`),
		Upstream: call.NewUpstream(b.Retries()),
	}
	r, err := b.Answer(ctx, c)
	return r, c, err
}

func (b *bench) idle(t *testing.T) {
	t.Helper()
	for _, n := range b.nodes {
		if used := b.queue.InFlight(n); used != 0 {
			t.Errorf("%s: %d slots still in use", n.Name(), used)
		}
	}
}

// a roundTrip answers without a network, after it has told the trace of a connection.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

const done = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop"}` + "\n"

func serve(t *testing.T, tlsOn bool, h http.HandlerFunc) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = nil
	if tlsOn {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func well(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/x-ndjson")
	io.WriteString(w, done)
}

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return "http://" + l.Addr().String()
}

// Real sockets, because what a connection tells is the point.
func TestAnswer_TriesWithoutAConnectionCostNoRetry(t *testing.T) {
	plain, secure := serve(t, false, well), serve(t, true, well)
	for _, c := range []struct {
		name, at string
		outcome  Outcome
	}{
		{"refused", closedPort(t), ConnectError},
		{"untrusted certificate", secure.URL, TLSError},
		{"TLS to a plain port", "https" + plain.URL[len("http"):], TLSError},
	} {
		t.Run(c.name, func(t *testing.T) {
			transport := &http.Transport{}
			t.Cleanup(transport.CloseIdleConnections)
			b := newBench(t, Options{Retries: -1}, []string{c.at, plain.URL}, transport, transport)
			r, call, err := b.ask(t, t.Context())
			if err != nil {
				t.Fatalf("no answer of the other node: %v", err)
			}
			defer r.Close()
			if got := call.Upstream.Tries()[0]; got.Outcome != string(c.outcome) || got.Node != "n0" || !got.Failed {
				t.Errorf("first try %+v, want %s of n0", got, c.outcome)
			}
			if fmt.Sprint(b.said) != "[unreachable n0 answered n1 loaded n1]" {
				t.Errorf("the fleet was told %v", b.said)
			}
		})
	}
}

func TestAnswer_ConnectionThatWasHadCostsARetry(t *testing.T) {
	reset := serve(t, false, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	good := serve(t, false, well)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	for retries, want := range map[int]bool{-1: false, 1: true} {
		b := newBench(t, Options{Retries: retries}, []string{reset.URL, good.URL}, transport, transport)
		r, c, err := b.ask(t, t.Context())
		if (err == nil) != want {
			t.Errorf("retries %d: %v", retries, err)
		}
		if r != nil {
			r.Close()
		}
		var f *Fault
		if !want && (!errors.As(err, &f) || f.Outcome != Reset) {
			t.Errorf("retries %d: %v, want a reset", retries, err)
		}
		if got := c.Upstream.Tries()[0].Outcome; got != string(Reset) {
			t.Errorf("outcome %s, want reset", got)
		}
	}
}

func TestAnswer_IdleConnectionIsUsedAgain(t *testing.T) {
	var mu sync.Mutex
	dials := 0
	node := serve(t, false, well)
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		mu.Lock()
		dials++
		mu.Unlock()
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	b := newBench(t, Options{}, []string{node.URL}, transport)
	for range 5 {
		r, _, err := b.ask(t, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		frames := make([]recording.Frame, 4)
		for err == nil {
			_, err = r.Read(t.Context(), frames)
		}
		r.Close()
		b.Pumps.Wait() // the body has been drained
	}
	if dials != 1 {
		t.Errorf("%d connections for five calls in a row, want one", dials)
	}
}

func TestAnswer_ClientsContextEndsTheWaitAndTheTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan struct{})
		b := newBench(t, Options{}, []string{"http://n0"}, roundTrip(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			close(gone)
			return nil, r.Context().Err()
		}))
		left := errors.New("client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(left) })
		_, c, err := b.ask(t, ctx)
		if !errors.Is(err, left) {
			t.Errorf("%v, want the cause of the client's context", err)
		}
		<-gone
		if got := c.Upstream.Tries(); len(got) != 1 || got[0].Outcome != string(Canceled) || got[0].Failed {
			t.Errorf("tries %+v, want one that was canceled and is nobody's fault", got)
		}
		if len(b.said) != 0 {
			t.Errorf("the fleet was told %v of a departure", b.said)
		}
		b.idle(t)
	})
}

func TestAnswer_EnginesEndEndsTheStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, Options{}, []string{"http://n0"}, roundTrip(func(r *http.Request) (*http.Response, error) {
			pr, pw := io.Pipe()
			go func() { // ends with the request
				io.WriteString(pw, `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"x"},"done":false}`+"\n")
				<-r.Context().Done()
				pw.CloseWithError(r.Context().Err())
			}()
			return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/x-ndjson"}}, Body: pr}, nil
		}))
		r, _, err := b.ask(t, t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		frames := make([]recording.Frame, 4)
		if n, err := r.Read(t.Context(), frames); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		b.end()
		var broken *recording.EndError
		if _, err := r.Read(t.Context(), frames); !errors.As(err, &broken) || !broken.Begun {
			t.Errorf("%v, want an answer that broke off", err)
		}
		synctest.Wait()
		b.idle(t)
	})
}

func TestAnswer_TheFleetHearsOfTheFirstFrameBeforeTheEnd(t *testing.T) {
	const frame = `{"model":"m","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"x"},"done":false}` + "\n"
	for _, c := range []struct {
		name        string
		pause       time.Duration // behind the first frame
		early, late []string
	}{
		{"a long answer", time.Minute, []string{"answered n0", "loaded n0", "begun n0"}, []string{"ended, told n0"}},
		{"one that comes at once", 0, []string{"answered n0", "loaded n0"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, Options{StallTimeout: time.Hour}, []string{"http://n0"}, roundTrip(func(r *http.Request) (*http.Response, error) {
					time.Sleep(time.Second)
					body := io.NopCloser(strings.NewReader(frame + done))
					if c.pause > 0 {
						pr, pw := io.Pipe()
						body = pr
						go func() { // ends with what it writes
							io.WriteString(pw, frame)
							time.Sleep(c.pause)
							io.WriteString(pw, done)
							pw.Close()
						}()
					}
					return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/x-ndjson"}}, Body: body}, nil
				}))
				r, _, err := b.ask(t, t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				synctest.Wait()
				b.reports.mu.Lock()
				early := slices.Clone(b.said)
				b.reports.mu.Unlock()
				time.Sleep(2 * time.Minute)
				b.reports.mu.Lock()
				defer b.reports.mu.Unlock()
				if late := b.said[len(early):]; !slices.Equal(early, c.early) || !slices.Equal(late, c.late) {
					t.Errorf("told %q, then %q", early, late)
				}
			})
		})
	}
}

func TestDirect_SaysWhatTheNodeSaid(t *testing.T) {
	for _, c := range []struct {
		name, contentType, body string
		status                  int
		check                   func(error) bool
	}{
		{"object", "application/json", `{"a":1}`, 200, func(err error) bool { return err == nil }},
		{"refusal", "application/json", `{"error":"no"}`, 404, func(err error) bool {
			var e *call.StatusError
			return errors.As(err, &e) && e.Code == 404
		}},
		{"no object", "application/json", `[1]`, 200, func(err error) bool { return errors.Is(err, errProtocol) }},
	} {
		node := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", c.contentType)
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		})
		transport := &http.Transport{DisableKeepAlives: true}
		b := newBench(t, Options{}, []string{node.URL}, transport)
		contentType, body, err := b.Direct(t.Context(), b.nodes[0], parse(t, "/api/show", `{"model":"m","verbose":true}`), nil)
		if !c.check(err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && (contentType != c.contentType || string(body) != c.body) {
			t.Errorf("%s: %q %q", c.name, contentType, body)
		}
	}
}

func TestClassify_WhoseAffairAStatusIs(t *testing.T) {
	for _, c := range []struct {
		code int
		body string
		want Outcome
	}{
		{307, ``, Redirected},
		{400, `{"error":"\"m\" does not support chat"}`, Refused},
		{401, ``, Forbidden},
		{403, ``, Forbidden},
		{404, `{"error":"model 'm' not found"}`, ModelMissing},
		{404, `404 page not found`, RouteMissing},
		{413, ``, Refused},
		{429, `{"error":"slow down"}`, Refused},
		{500, `{"error":"llama runner process has terminated: signal: killed"}`, Failed},
		{500, `{"error":"option \"stop\" must be of type array"}`, Refused},
		{500, `{"error":{"message":"invalid format: \"5\"; expected \"json\" or a valid JSON Schema object","type":"api_error"}}`, Refused},
		{500, `{"error":"model requires more system memory (9.1 GiB) than is available (2.0 GiB)"}`, NoMemory},
		{500, `not JSON`, Failed},
		{502, ``, Failed},
		{503, `{"error":"server busy"}`, Busy},
	} {
		if got := classify(&call.StatusError{Code: c.code, Body: []byte(c.body)}); got != c.want {
			t.Errorf("%d %s is %s, want %s", c.code, c.body, got, c.want)
		}
	}
}

func TestFaultOf_NamesWhatHappened(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, c := range []struct {
		err       error
		connected bool
		want      Outcome
	}{
		{refused, false, ConnectError},
		{fmt.Errorf("x: %w", &tls.CertificateVerificationError{Err: errors.New("expired")}), false, TLSError},
		{fmt.Errorf("%w (%w)", ErrFirstByteTimeout, context.Canceled), true, Timeout},
		{fmt.Errorf("%w (%w)", ErrFirstByteTimeout, context.Canceled), false, ConnectError},
		{ErrStallTimeout, true, Timeout},
		{errTruncated, true, Truncated},
		{fmt.Errorf("%w: x", errProtocol), true, Protocol},
		{wire.ErrFrameTooLong, true, Protocol},
		{nodeError("words"), true, Failed},
		{io.ErrUnexpectedEOF, true, Reset},
		{syscall.ECONNRESET, true, Reset},
	} {
		f := faultOf(c.err, c.connected)
		if f.Outcome != c.want || !errors.Is(f, c.err) {
			t.Errorf("%v (connected %v) is %s, want %s", c.err, c.connected, f.Outcome, c.want)
		}
		if c.want == Failed && f.Message != "words" {
			t.Errorf("message %q, want the node's words", f.Message)
		}
	}
}

func TestAnswer_EventsUnderTheNameOfRecordsAreEvents(t *testing.T) {
	if !isStream("application/x-ndjson", wire.Anthropic) || isStream("application/x-ndjson", wire.OpenAI) || isStream("text/event-stream", wire.Ollama) {
		t.Error("only a node with a web search tool misnames its events")
	}
}

type nobody struct{}

func (nobody) Chosen(string) {}

func (nobody) Tried(Ended) {}

func (nobody) Retried(Outcome, string) {}
