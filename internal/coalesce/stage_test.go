package coalesce

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errBoom   = errors.New("boom")
	errLeft   = errors.New("client left")
	errEngine = errors.New("engine ended")
)

// A stage is a step between clients and a next step that the test drives, in a bubble.
type stage struct {
	t       *testing.T
	ctx     context.Context
	end     context.CancelCauseFunc // of the engine
	jobs    sync.WaitGroup
	flights *Flights
	step    call.Answerer
	limit   int  // of recordings
	deaf    bool // the next step does not heed its context

	mu    sync.Mutex // guards what follows
	asked []*upstream
}

// onStage runs a test in a bubble, and checks that nothing is left of it.
func onStage(t *testing.T, o Options, test func(*stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t}
		s.ctx, s.end = context.WithCancelCause(t.Context())
		s.flights = New(Base{Context: s.ctx, Jobs: &s.jobs})
		s.step = s.flights.Step(o, s)
		test(s)
		s.end(errEngine)
		s.jobs.Wait()
		synctest.Wait()
		if n := s.flights.Running(); n != 0 {
			t.Errorf("%d flights are left in the table", n)
		}
		for _, u := range s.upstreams() {
			if u.w == nil {
				continue
			}
			if _, err := u.w.Follow(); err != recording.ErrAbandoned {
				t.Errorf("a reader of upstream call %d is left: a further one gets %v", u.id, err)
			}
		}
	})
}

// An upstream is a call that has come to the next step.
type upstream struct {
	stage *stage
	id    int
	call  *call.Call
	ctx   context.Context
	reply chan reply
	w     *recording.Writer

	mu   sync.Mutex // guards what follows
	gone bool       // it takes no reply any more
}

type reply struct {
	r     *recording.Reader
	err   error
	panic any
	exit  bool
}

// Answer is the next step.
func (s *stage) Answer(ctx context.Context, c *call.Call) (*recording.Reader, error) {
	u := &upstream{stage: s, call: c, ctx: ctx, reply: make(chan reply, 1)}
	s.mu.Lock()
	u.id = len(s.asked)
	s.asked = append(s.asked, u)
	s.mu.Unlock()
	done := ctx.Done()
	if s.deaf {
		done = nil
	}
	select {
	case r := <-u.reply:
		switch {
		case r.panic != nil:
			panic(r.panic)
		case r.exit:
			runtime.Goexit() // as a test's FailNow
		}
		return r.r, r.err
	case <-done:
		u.mu.Lock()
		defer u.mu.Unlock()
		u.gone = true
		select {
		case r := <-u.reply:
			r.drop()
		default:
		}
		return nil, context.Cause(ctx)
	}
}

// answer replies, once, to who asked.
func (u *upstream) answer(r reply) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.gone {
		r.drop()
		return
	}
	u.reply <- r
}

func (r reply) drop() {
	if r.r != nil {
		r.r.Close()
	}
}

func (s *stage) upstreams() []*upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*upstream(nil), s.asked...)
}

// upstream gives the only call that has come to the next step.
func (s *stage) upstream() *upstream {
	s.t.Helper()
	return s.calls(1)[0]
}

// calls gives the calls that have come to the next step, which must be n.
func (s *stage) calls(n int) []*upstream {
	s.t.Helper()
	synctest.Wait()
	got := s.upstreams()
	if len(got) != n {
		s.t.Fatalf("%d upstream calls, want %d", len(got), n)
	}
	return got
}

// record makes the recording of an answer, which ends with its context as that of a pump does.
func (u *upstream) record() *recording.Reader {
	u.w = recording.New(u.stage.ctx, u.call.Request, u.stage.limit)
	r, err := u.w.Follow()
	if err != nil {
		u.stage.t.Fatal(err)
	}
	context.AfterFunc(u.w.Context(), func() { u.w.Break(context.Cause(u.w.Context())) })
	return r
}

// begin answers with the first frame.
func (u *upstream) begin(text string) {
	r := u.record()
	u.say(text)
	u.answer(reply{r: r})
	synctest.Wait()
}

// say appends a frame, and has everyone hear it.
func (u *upstream) say(text string) {
	if err := u.w.Append([]byte(text), wire.Part, false); err != nil {
		u.stage.t.Errorf("upstream call %d says %q: %v", u.id, text, err)
	}
	synctest.Wait()
}

// complete ends the answer.
func (u *upstream) complete() {
	u.w.Append([]byte("."), wire.Final, true)
	u.w.Complete()
	synctest.Wait()
}

// fail answers with an error instead of frames.
func (u *upstream) fail(err error) {
	u.answer(reply{err: err})
	synctest.Wait()
}

// A client asks, and reads what it is answered. Its fields may be looked at when all wait.
type client struct {
	call     *call.Call
	ctx      context.Context
	leave    func()
	reader   *recording.Reader
	answered bool
	heard    strings.Builder
	object   string
	err      error // how it ended
	done     bool
}

// ask has a client ask; it is there when the goroutines wait.
func (s *stage) ask(c *call.Call) *client {
	k := s.asks(c)
	synctest.Wait()
	return k
}

func (s *stage) asks(c *call.Call) *client { return s.asksAndReads(c, (*client).read) }

func (s *stage) asksAndReads(c *call.Call, read func(*client, *recording.Reader)) *client {
	k := &client{call: c}
	ctx, cancel := context.WithCancelCause(s.t.Context())
	k.ctx, k.leave = ctx, func() { cancel(errLeft) }
	go func() { // ends with the answer, or with the client
		defer func() { k.done = true }()
		k.reader, k.err = s.step.Answer(k.ctx, c)
		if k.answered = true; k.err != nil {
			return
		}
		defer k.reader.Close()
		read(k, k.reader)
	}()
	return k
}

func (k *client) read(r *recording.Reader) {
	if _, body, ok := r.Object(); ok {
		k.object, k.err = string(body), io.EOF
		return
	}
	frames := make([]recording.Frame, 3)
	for {
		n, err := r.Read(k.ctx, frames)
		for _, f := range frames[:n] {
			k.heard.Write(f.Data)
		}
		if err != nil {
			k.err = err
			return
		}
	}
}

// hears checks what a client has heard so far, and how its answer has ended; nil: it goes on.
func (k *client) hears(t *testing.T, who, want string, end error) {
	t.Helper()
	if k.done != (end != nil) || !errors.Is(k.err, end) || k.heard.String() != want {
		t.Errorf("%s has heard %q, ended %v with %v; want %q and %v", who, k.heard.String(), k.done, k.err, want, end)
	}
}

// follows checks whose upstream a call was told to share; nil: nobody's.
func (k *client) follows(t *testing.T, who string, lead *call.Upstream) {
	t.Helper()
	if got := k.call.Cached.Result().Lead; got != lead {
		t.Errorf("%s was told to follow %p, want %p", who, got, lead)
	}
}

var (
	nativeChat = route("/api/chat")
	openAIChat = route("/v1/chat/completions")
)

func route(path string) wire.Route { return *wire.Find("POST", path).Route }

func key(s string) (k call.Key) {
	copy(k[:], s)
	return k
}

// chat is a native call with a question, as admit makes it.
func chat(question string) *call.Call {
	return &call.Call{
		Request: &wire.Request{Route: nativeChat}, Upstream: call.NewUpstream(2), Cached: new(call.Cached),
		Joining: &call.Joining{Key: key("native " + question)}, Whole: true,
	}
}

// openAI is the OpenAI call that Ollama makes that native one of.
func openAI(question string) *call.Call {
	c := chat(question)
	native := c.Joining.Key
	c.Request.Route = openAIChat
	c.Joining = &call.Joining{Key: key("openai " + question), Native: &native}
	return c
}

func with(c *call.Call, change func(*call.Call)) *call.Call {
	change(c)
	return c
}

func alone(c *call.Call) { c.Joining.Alone = true }

func ranked(class call.Class) func(*call.Call) {
	return func(c *call.Call) { c.Class = class }
}
