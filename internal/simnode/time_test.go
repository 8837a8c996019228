package simnode_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// clockModels have round speeds: a load takes 10 s, a prompt token 10 ms, an answer's token 1 s.
func clockModels() []simnode.Model {
	var out []simnode.Model
	for _, name := range []string{"a", "b", "c", "d"} {
		out = append(out, simnode.Model{
			Name: name, LoadTime: 10 * time.Second, PromptRate: 100, DecodeRate: 1, ShortestAnswer: 30, LongestAnswer: 30, Memory: 1000,
		})
	}
	return append(out, simnode.Model{
		Name: "vectors", LoadTime: 10 * time.Second, PromptRate: 100, Capabilities: []string{simnode.Embedding}, Memory: 1000,
	})
}

// A bubble is a node in virtual time.
type bubble struct {
	*testing.T
	node  *simnode.Node
	pipe  *simnode.Pipe
	begun time.Time
}

func inBubble(t *testing.T, opts simnode.Options, f func(t *testing.T, b *bubble)) {
	t.Helper()
	if opts.Models == nil {
		opts.Models = clockModels()
	}
	synctest.Test(t, func(t *testing.T) {
		node := simnode.New(opts)
		defer node.Close()
		pipe := simnode.NewPipe(node)
		defer pipe.Close()
		f(t, &bubble{t, node, pipe, time.Now()})
	})
}

func (b *bubble) elapsed() time.Duration { return time.Since(b.begun).Round(time.Second) }

func (b *bubble) at(want time.Duration) {
	b.Helper()
	if got := b.elapsed(); got != want {
		b.Errorf("now it is %v, want %v", got, want)
	}
}

// An answer is what a request led to.
type answer struct {
	err    error
	status int
	body   string
	first  time.Duration // since the bubble began, when the headers came
	end    time.Duration
}

// last decodes the last line of a stream, or the whole body.
func (a answer) last(t *testing.T) (out struct {
	Response     string
	Done         bool
	DoneReason   string        `json:"done_reason"`
	PromptCount  int           `json:"prompt_eval_count"`
	PromptTime   time.Duration `json:"prompt_eval_duration"`
	LoadDuration time.Duration `json:"load_duration"`
	Total        time.Duration `json:"total_duration"`
	EvalCount    int           `json:"eval_count"`
	EvalTime     time.Duration `json:"eval_duration"`
	Error        string
	Embeddings   [][]float32
},
) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(a.body, "\n"), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &out); err != nil {
		t.Fatalf("status %d, error %v, body %q: %v", a.status, a.err, a.body, err)
	}
	return out
}

// call is one POST, in the calling goroutine.
func (b *bubble) call(ctx context.Context, path, body string) (a answer) {
	return b.ask(ctx, http.MethodPost, path, body)
}

// ask is one request, in the calling goroutine.
func (b *bubble) ask(ctx context.Context, method, path, body string) (a answer) {
	req, err := http.NewRequestWithContext(ctx, method, "http://node"+path, strings.NewReader(body))
	if err != nil {
		return answer{err: err}
	}
	resp, err := b.pipe.RoundTrip(req)
	if err != nil {
		return answer{err: err, end: b.elapsed()}
	}
	defer resp.Body.Close()
	a.status, a.first = resp.StatusCode, b.elapsed()
	raw, err := io.ReadAll(resp.Body)
	a.body, a.err, a.end = string(raw), err, b.elapsed()
	return a
}

func (b *bubble) post(path, body string) answer {
	b.Helper()
	a := b.call(b.Context(), path, body)
	if a.err != nil {
		b.Errorf("%s %s: %v", path, body, a.err)
	}
	return a
}

// start is call in a goroutine of its own; wait gives the answer.
func (b *bubble) start(ctx context.Context, path, body string) (wait func() answer) {
	done := make(chan answer, 1)
	go func() { done <- b.call(ctx, path, body) }() // ends with the bubble's pipe at the latest
	synctest.Wait()
	return func() answer { return <-done }
}

func (b *bubble) loaded() string {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://node/api/ps", nil)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := b.pipe.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct{ Models []struct{ Name string } }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		b.Fatal(err)
	}
	var names []string
	for _, m := range list.Models {
		names = append(names, strings.TrimSuffix(m.Name, ":latest"))
	}
	return strings.Join(names, " ")
}

func (b *bubble) wantLoaded(want string) {
	b.Helper()
	if got := b.loaded(); got != want {
		b.Errorf("at %v: loaded %q, want %q", b.elapsed(), got, want)
	}
}

const load = `{"model":"a"}`

func TestGenerate_TakesLoadPromptAndTokens(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		a := b.post("/api/generate", `{"model":"a","prompt":"`+strings.Repeat(" river", 195)+`","options":{"num_predict":5}}`)
		last := a.last(t)
		// 195 words, the marker before the prompt and four of the template, 10 ms each; then 4 s from token 1 to 5.
		if last.PromptCount != 199 || last.PromptTime != 1990*time.Millisecond {
			t.Errorf("prompt: %d tokens in %v", last.PromptCount, last.PromptTime)
		}
		if a.first != 12*time.Second || a.end != 16*time.Second {
			t.Errorf("headers at %v, end at %v; want 12s, 16s", a.first, a.end)
		}
		if last.EvalCount != 5 || last.EvalTime != 4*time.Second || last.LoadDuration != 10*time.Second || last.DoneReason != "length" {
			t.Errorf("got %+v", last)
		}
		if sum := last.LoadDuration + last.PromptTime + last.EvalTime; last.Total != sum {
			t.Errorf("total %v, want the sum %v", last.Total, sum)
		}
	})
}

func TestGenerate_ScaleShortensEverything(t *testing.T) {
	inBubble(t, simnode.Options{Scale: 0.5}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		b.at(5 * time.Second)
		if last := b.post("/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`).last(t); last.EvalTime != 5*time.Second {
			t.Errorf("ten tokens took %v, want 5s", last.EvalTime)
		}
	})
}

func TestGenerate_NonStreamSendsNothingBeforeTheEnd(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		a := b.post("/api/generate", `{"model":"a","prompt":"x","stream":false,"options":{"num_predict":11}}`)
		if a.first != 20*time.Second || a.end != 20*time.Second {
			t.Errorf("headers at %v, end at %v; want both at 20s", a.first, a.end)
		}
	})
}

func TestGenerate_FlushesEveryRecord(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://node/api/generate",
			strings.NewReader(`{"model":"a","prompt":"x","options":{"num_predict":4}}`))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := b.pipe.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		r := bufio.NewReader(resp.Body)
		for i := range 4 {
			if _, err := r.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			b.at(10*time.Second + time.Duration(i)*time.Second)
		}
	})
}

func TestSlots_WaitInOrderWithoutBound(t *testing.T) {
	inBubble(t, simnode.Options{MaxQueue: 1}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		var waits []func() answer
		for range 20 {
			waits = append(waits, b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`))
		}
		if s := b.node.Stats().Models["a:latest"]; s.Running != 1 || s.Waiting != 19 {
			t.Errorf("running %d, waiting %d; want 1, 19", s.Running, s.Waiting)
		}
		for i, wait := range waits {
			if a := wait(); a.status != 200 || a.end != time.Duration(20+10*i)*time.Second {
				t.Errorf("request %d: status %d, end %v", i, a.status, a.end)
			}
		}
	})
}

func TestSlots_TwoAnswersShareTheSpeed(t *testing.T) {
	inBubble(t, simnode.Options{Slots: 2}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		one := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`)
		two := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"y","options":{"num_predict":11}}`)
		three := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"z","options":{"num_predict":1}}`)
		// 10 tokens at 2/1.22 s; more than one answer alone takes, less than two in turn.
		if a, z := one(), two(); a.end != 26*time.Second || z.end != 26*time.Second {
			t.Errorf("ends at %v and %v, want 26s", a.end, z.end)
		}
		three()
		if s := b.node.Stats().Models["a:latest"]; s.Peak != 2 || s.PeakWaiting != 1 {
			t.Errorf("peak %d, peak waiting %d", s.Peak, s.PeakWaiting)
		}
	})
}

func TestSlots_EmbeddingModelsHaveOne(t *testing.T) {
	inBubble(t, simnode.Options{Slots: 4}, func(t *testing.T, b *bubble) {
		b.post("/api/embed", `{"model":"vectors"}`)
		one := b.start(t.Context(), "/api/embed", `{"model":"vectors","input":["`+strings.Repeat(" river", 198)+`"]}`)
		two := b.start(t.Context(), "/api/embed", `{"model":"vectors","input":["`+strings.Repeat(" river", 198)+`"]}`)
		if a, z := one(), two(); a.end != 12*time.Second || z.end != 14*time.Second {
			t.Errorf("ends at %v and %v, want 12s and 14s", a.end, z.end)
		}
	})
}

func TestSlots_DepartureFreesPlaceAndSlot(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		running, leave := context.WithCancel(t.Context())
		waiting, giveUp := context.WithCancel(t.Context())
		long := `{"model":"a","prompt":"x"}`
		one := b.start(running, "/api/generate", long)
		two := b.start(waiting, "/api/generate", `{"model":"a","prompt":"x","stream":false}`)
		three := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":1}}`)
		time.Sleep(2500 * time.Millisecond)
		giveUp()
		synctest.Wait()
		if s := b.node.Stats().Models["a:latest"]; s.Waiting != 1 || s.Cancelled != 1 {
			t.Errorf("after one gave up: waiting %d, cancelled %d", s.Waiting, s.Cancelled)
		}
		leave()
		if a := three(); a.end != 13*time.Second { // 2.5 s and a prompt, not the 30 s of the answer that was left
			t.Errorf("the slot came at %v, want 13s", a.end)
		}
		if a := one(); !errors.Is(a.err, context.Canceled) {
			t.Errorf("the one that left: %v", a.err)
		}
		two()
		if s := b.node.Stats(); s.Cancelled != 2 {
			t.Errorf("cancelled %d, want 2", s.Cancelled)
		}
	})
}

func TestPrefix_HitSavesTimeButNotCount(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		ask := func(prompt string) (int, time.Duration) {
			last := b.post("/api/generate", `{"model":"a","prompt":"`+prompt+`","options":{"num_predict":2,"temperature":0}}`).last(t)
			return last.PromptCount, last.PromptTime
		}
		long := strings.Repeat(" river", 196)
		count, cold := ask(long)
		again, warm := ask(long)
		more, longer := ask(long + " boat")
		if count != 200 || again != 200 || more != 201 {
			t.Errorf("counts %d, %d, %d; want 200, 200, 201", count, again, more)
		}
		if cold != 2*time.Second || warm != 10*time.Millisecond || longer > 50*time.Millisecond {
			t.Errorf("times %v, %v, %v", cold, warm, longer)
		}
		if _, other := ask("something else"); other < 20*time.Millisecond {
			t.Errorf("another prompt took %v", other)
		}
		if _, back := ask(long); back < 1900*time.Millisecond {
			t.Errorf("one slot remembers two conversations: %v", back)
		}
		if hits := b.node.Stats().PrefixHits; hits < 2 || hits > 3 {
			t.Errorf("%d prefix hits", hits)
		}
	})
}

func TestClose_CutsWhatRuns(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		stream := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x"}`)
		single := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","stream":false}`)
		time.Sleep(3500 * time.Millisecond)
		b.node.Close()
		a := stream()
		if a.status != 200 || !errors.Is(a.err, io.ErrUnexpectedEOF) || strings.Contains(a.body, `"done":true`) {
			t.Errorf("stream: status %d, error %v, body %s", a.status, a.err, a.body)
		}
		if a := single(); a.err == nil {
			t.Errorf("single answer: %d %s", a.status, a.body)
		}
		if a := b.call(t.Context(), "/api/generate", load); a.err == nil {
			t.Errorf("a closed node answered %d %s", a.status, a.body)
		}
		b.node.Close() // more than once is fine
	})
}

func TestClose_DoesNotWaitForAClientThatDoesNotRead(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		b.post("/api/generate", load)
		conn, err := b.pipe.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		const body = `{"model":"a","prompt":"x"}`
		if _, err := fmt.Fprintf(conn, "POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		b.node.Close()
	})
}

func TestPipe_TracesLikeARealTransport(t *testing.T) {
	inBubble(t, simnode.Options{}, func(t *testing.T, b *bubble) {
		var fresh, reused int
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				reused++
			} else {
				fresh++
			}
		}})
		b.call(ctx, "/api/generate", load)
		b.call(ctx, "/api/generate", load)
		if fresh != 1 || reused != 1 {
			t.Errorf("%d fresh and %d reused connections, want 1 and 1", fresh, reused)
		}
		b.pipe.Close()
		if a := b.call(ctx, "/api/generate", load); a.err == nil {
			t.Error("a closed pipe answered")
		}
		if fresh != 1 || reused != 1 {
			t.Error("GotConn fired without a connection")
		}
	})
}

func TestBusy_IsTheTimeWithASlotInUse(t *testing.T) {
	inBubble(t, simnode.Options{Slots: 2}, func(t *testing.T, b *bubble) {
		busy := func() time.Duration { return b.node.Stats().Models["a:latest"].Busy.Round(time.Second) }
		b.post("/api/generate", load) // takes no slot
		one := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"x","options":{"num_predict":11}}`)
		two := b.start(t.Context(), "/api/generate", `{"model":"a","prompt":"y","options":{"num_predict":11}}`)
		time.Sleep(4 * time.Second)
		if got := busy(); got != 4*time.Second {
			t.Errorf("busy for %v while two answers run, want 4s", got)
		}
		one() // at 26s, as two answers share the speed
		two()
		time.Sleep(time.Hour)
		if got := busy(); got != 16*time.Second {
			t.Errorf("busy for %v, want the 16s of both answers", got)
		}
	})
}

func TestEmbed_ACallHasItsPriceAndItsInputsTheirs(t *testing.T) {
	models := []simnode.Model{{
		Name: "vectors", LoadTime: time.Second, PromptRate: 100, EmbedCall: 5 * time.Second, Capabilities: []string{simnode.Embedding},
	}}
	inBubble(t, simnode.Options{Models: models}, func(t *testing.T, b *bubble) {
		text := `"` + strings.Repeat(" river", 98) + `"` // a second with the tokens around it
		b.post("/api/embed", `{"model":"vectors"}`)
		b.at(time.Second)
		b.post("/api/embed", `{"model":"vectors","input":[`+text+`,`+text+`,`+text+`]}`)
		b.at(9 * time.Second)
		b.post("/api/embed", `{"model":"vectors","input":`+text+`}`)
		b.at(15 * time.Second)
	})
}
