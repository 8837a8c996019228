package attempt

import (
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

const embedded = `{"model":"m","embeddings":[[1]],"prompt_eval_count":1}`

// sealed is a call whose body is known when it is granted a slot.
func (b *bench) sealed(t *testing.T, body string) (c *call.Call, times *int) {
	c = &call.Call{
		Request:  parse(t, "/api/embed", `{"model":"m","input":["early"]}`),
		Upstream: call.NewUpstream(b.Retries()),
	}
	times = new(int)
	c.Seal = func() (wire.Body, int) {
		*times++
		return wire.Body{[]byte(body)}, 1
	}
	return c, times
}

func TestAnswer_SealsAtTheFirstGrantAndSendsThatInAllTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const late = `{"model":"m","input":["early","late"]}`
		var sent []string
		free := make(chan struct{})
		node := func(fails bool) roundTrip {
			return func(r *http.Request) (*http.Response, error) {
				body, _ := io.ReadAll(r.Body)
				sent = append(sent, string(body))
				if httptrace.ContextClientTrace(r.Context()) != nil {
					httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
				}
				if len(sent) == 1 {
					<-free
				}
				if fails && len(sent) > 1 {
					return nil, io.ErrUnexpectedEOF
				}
				return &http.Response{
					StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(embedded)),
				}, nil
			}
		}
		b := newBench(t, Options{}, []string{"http://n0"}, node(true))
		first, _ := b.sealed(t, "{}")
		c, times := b.sealed(t, late)
		var calls sync.WaitGroup
		calls.Go(func() { // ends when the node is freed
			if r, err := b.Answer(t.Context(), first); err == nil {
				r.Close()
			}
		})
		synctest.Wait()
		calls.Go(func() { b.Answer(t.Context(), c) }) // ends when the node has failed
		synctest.Wait()
		if *times != 0 || len(sent) != 1 {
			t.Errorf("sealed %d times while it waited for a slot, %d sent", *times, len(sent))
		}
		close(free)
		calls.Wait()
		if *times != 1 || len(sent) != 2 || sent[1] != late {
			t.Errorf("sealed %d times, sent %q", *times, sent)
		}
		b.idle(t)

		sent = []string{""}
		b = newBench(t, Options{}, []string{"http://n0", "http://n1"}, node(true), node(false))
		c, times = b.sealed(t, late)
		r, err := b.Answer(t.Context(), c)
		if err != nil || *times != 1 || len(sent) != 3 || sent[1] != late || sent[2] != late {
			t.Fatalf("%v: sealed %d times, sent %q; want the same to both nodes", err, *times, sent)
		}
		r.Close()
		b.idle(t)
	})
}

func TestAnswer_SealedBodyIsTheSuspect(t *testing.T) {
	const deadly = `{"model":"m","input":["deadly"]}`
	b := newBench(t, Options{}, []string{"http://n0"}, roundTrip(func(*http.Request) (*http.Response, error) {
		t.Error("it was sent")
		return nil, io.EOF
	}))
	c, times := b.sealed(t, deadly)
	for _, node := range []string{"n1", "n2"} {
		run := b.Suspects.Running(node, b.Suspects.Fingerprint(c.Request.Model.Key(), [][]byte{[]byte(deadly)}))
		run.Died()
		run.Done()
	}
	if _, err := b.Answer(t.Context(), c); err != ErrDeadly || *times != 1 {
		t.Errorf("%v, sealed %d times", err, *times)
	}
	b.idle(t)
}

// usually is a fleet whose nodes take a tenth of a second.
type usually struct{ reports }

func (*usually) FirstByte(*fleet.Node, string, bool) (time.Duration, bool) {
	return 100 * time.Millisecond, true
}

func TestPatience_GrowsWithTheTexts(t *testing.T) {
	grant := &schedule.Grant{Residency: schedule.Resident, Others: 1}
	c := &call.Call{Request: parse(t, "/api/embed", `{"model":"m","input":["a"]}`), Upstream: call.NewUpstream(0)}
	for texts, want := range map[int]time.Duration{1: time.Second, 8: 3200 * time.Millisecond, 32: 12800 * time.Millisecond, 1e6: time.Minute} {
		tried := &try{
			Step: &Step{Base: Base{Fleet: new(usually)}, opts: Options{FirstByteTimeout: time.Minute}}, call: c, grant: grant,
			sends: c.Request.Body, texts: texts,
		}
		if got := tried.patience(); got != want {
			t.Errorf("%d texts of a tenth of a second each are waited for for %v, want %v", texts, got, want)
		}
	}
}
