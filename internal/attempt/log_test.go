package attempt

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// told keeps what a Log is told.
type told struct {
	mu   sync.Mutex // guards what follows
	ends []Ended
	said []string // of retries
}

func (l *told) Chosen(string) {}

func (l *told) Tried(e Ended) { l.mu.Lock(); defer l.mu.Unlock(); l.ends = append(l.ends, e) }

func (l *told) Retried(reason Outcome, result string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, string(reason)+" "+result)
}

func answers(status int, body string) roundTrip {
	return func(*http.Request) (*http.Response, error) {
		kind := "application/x-ndjson"
		if status != http.StatusOK {
			kind = "application/json"
		}
		return &http.Response{
			StatusCode: status, Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}, nil
	}
}

func TestRetried_TellsWhatBecameOfARetry(t *testing.T) {
	failing, well := answers(500, `{"error":"it broke"}`), answers(200, done)
	for name, c := range map[string]struct {
		nodes  []http.RoundTripper
		spent  bool // the budget is
		opts   Options
		want   string
		failed bool
	}{
		"none was needed":       {nodes: []http.RoundTripper{well}, want: "[]"},
		"it was answered":       {nodes: []http.RoundTripper{failing, well}, want: "[status_5xx ok]"},
		"it failed as well":     {nodes: []http.RoundTripper{failing, failing}, want: "[status_5xx failed]", failed: true},
		"first one, then other": {nodes: []http.RoundTripper{failing, failing, well}, want: "[status_5xx failed status_5xx ok]"},
		"the budget is spent":   {nodes: []http.RoundTripper{failing, well}, spent: true, want: "[status_5xx budget_exhausted]", failed: true},
		"its own are used":      {nodes: []http.RoundTripper{failing, well}, opts: Options{Retries: -1}, want: "[]", failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				at := make([]string, len(c.nodes))
				for i := range at {
					at[i] = fmt.Sprintf("http://n%d", i)
				}
				b := newBench(t, c.opts, at, c.nodes...)
				log := new(told)
				b.Log = log
				for c.spent && b.Budget.Take("other", false, 0) {
				}
				r, _, err := b.ask(t, t.Context())
				if (err != nil) != c.failed {
					t.Errorf("got %v", err)
				}
				if r != nil {
					defer r.Close()
					frames := make([]recording.Frame, 8)
					for err = nil; err == nil; {
						_, err = r.Read(t.Context(), frames)
					}
					if !errors.Is(err, io.EOF) {
						t.Error(err)
					}
				}
				b.Pumps.Wait()
				log.mu.Lock()
				defer log.mu.Unlock()
				if got := fmt.Sprint(log.said); got != c.want {
					t.Errorf("told %s, want %s", got, c.want)
				}
			})
		})
	}
}

func TestEnded_TokenTimeIsThatAfterTheFirst(t *testing.T) {
	for name, c := range map[string]struct {
		end  Ended
		want time.Duration
	}{
		"eleven tokens": {Ended{First: time.Second, Took: 3 * time.Second, Totals: wire.Totals{OutputTokens: 11}}, 200 * time.Millisecond},
		"one token":     {Ended{First: time.Second, Took: time.Second, Totals: wire.Totals{OutputTokens: 1}}, 0},
		"an object":     {Ended{First: time.Second, Took: time.Second}, 0},
		"all at once":   {Ended{First: time.Second, Took: time.Second, Totals: wire.Totals{OutputTokens: 11}}, 0},
	} {
		if got, ok := c.end.TokenTime(); got != c.want || ok != (c.want > 0) {
			t.Errorf("%s: got %v, %t, want %v", name, got, ok, c.want)
		}
	}
}

func TestTried_TellsTheTokensOfVectors(t *testing.T) {
	l := new(told)
	b := newBench(t, Options{}, []string{"http://n0"}, roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(embedded))}, nil
	}))
	b.Log = l
	c, _ := b.sealed(t, "{}")
	r, err := b.Answer(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if len(l.ends) != 1 || l.ends[0].Totals.PromptTokens != 1 || c.Upstream.Totals().PromptTokens != 1 {
		t.Errorf("told %+v and %+v, want one token", l.ends, c.Upstream.Totals())
	}
}
