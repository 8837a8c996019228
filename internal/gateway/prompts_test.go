package gateway

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
)

// A promptResult is a line of a batch's answer.
type promptResult struct {
	Index    int
	CustomID string `json:"custom_id"`
	Response struct {
		StatusCode int    `json:"status_code"`
		RequestID  string `json:"request_id"`
		Headers    map[string]string
		Body       json.RawMessage
	}
	Error *struct{ Code, Message string }
}

func resultsOf(t *testing.T, answer string) []promptResult {
	t.Helper()
	var all []promptResult
	for line := range strings.Lines(answer) {
		var r promptResult
		if err := json.Unmarshal([]byte(line), &r); err != nil || !strings.HasSuffix(line, "\n") {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, r)
	}
	return all
}

// batch sends a batch and gives its results.
func (r *rig) batch(path, body string) []promptResult {
	r.Helper()
	code, answer, h := r.ask(path, body)
	if code != http.StatusOK || h.Get("Content-Type") != "application/x-ndjson" || h.Get("X-Request-Id") == "" {
		r.Fatalf("%d %v %s", code, h, answer)
	}
	return resultsOf(r.T, answer)
}

func indices(all []promptResult) []int {
	var is []int
	for _, r := range all {
		is = append(is, r.Index)
	}
	return is
}

const (
	fastItem = `{"model":"tiny","prompt":"hello","stream":true}`
	slowItem = `{"custom_id":"slow","method":"POST","url":"/api/chat","body":` + slowChat + `}`
)

// slowItems are items that are told apart by their prompts.
func slowItems(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `{"model":"tinyslow","prompt":"number %d","options":{"temperature":0}}`+"\n", i)
	}
	return b.String()
}

func TestPrompts_AreAnsweredInEachDialectAsOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 4}, goldenNode(t, 0.01))
		got := r.batch("/api/batch?ordered=true", `[
			{"model":"tiny","prompt":"x","stream":true},
			{"model":"tiny","messages":[{"role":"user","content":"x"}]},
			{"model":"tinyembed","input":"x"},
			{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":`+openAIBody+`},
			{"url":"/v1/completions","body":{"model":"tiny","prompt":"x","stream":true}},
			{"url":"/v1/embeddings","body":{"model":"tinyembed","input":"x"}},
			{"url":"/v1/responses","body":{"model":"tiny","input":"x","stream":true}},
			{"url":"/v1/messages","body":{"model":"tiny","max_tokens":5,"stream":true,"messages":[{"role":"user","content":"x"}]}},
			{"url":"/api/embeddings","body":{"model":"tinyembed","prompt":"x"}}
		]`)
		want := []string{
			`"response":"`, `"message":{`, `"embeddings":[`, `"object":"chat.completion"`, `"object":"text_completion"`, `"object":"list"`, `"object":"response"`, `"type":"message"`, `"embedding":[`,
		}
		if len(got) != len(want) {
			t.Fatalf("got %d results: %+v", len(got), got)
		}
		for i, g := range got {
			if g.Index != i || g.Response.StatusCode != 200 || g.Error != nil || !strings.Contains(string(g.Response.Body), want[i]) {
				t.Errorf("item %d: got %d %s %v, want %s", i, g.Response.StatusCode, g.Response.Body, g.Error, want[i])
			}
		}
		if got[3].CustomID != "a" || got[0].CustomID != "" {
			t.Errorf("custom_id: got %q and %q", got[3].CustomID, got[0].CustomID)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPrompts_ResultsComeWhenTheyAreThereOrInOrder(t *testing.T) {
	const body = slowItem + "\n" + fastItem + "\n\n" + fastItem + "\n"
	for _, c := range []struct {
		name, path, body string
		want             []int
	}{
		{"lines", "/api/batch", body, []int{1, 2, 0}},
		{"lines, in order", "/api/batch?ordered=true", body, []int{0, 1, 2}},
		{"an array", "/api/batch", "[" + slowItem + "," + fastItem + "," + fastItem + "]", []int{1, 2, 0}},
		{"an object", "/api/batch", `{"requests":[` + slowItem + "," + fastItem + "," + fastItem + "]}", []int{1, 2, 0}},
		{"an object, in order", "/api/batch", `{"ordered":true,"requests":[` + slowItem + "," + fastItem + "," + fastItem + "]}", []int{0, 1, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOptions{slots: 2}, goldenNode(t, 1))
				r.ask("/api/generate", `{"model":"tinyslow"}`)
				r.ask("/api/generate", `{"model":"tiny"}`)
				got := r.batch(c.path, c.body)
				is := indices(got)
				if c.want[0] == 1 { // which of two equal ones is first is nobody's promise
					slices.Sort(is[:2])
				}
				if !slices.Equal(is, c.want) {
					t.Errorf("got %v, want %v", is, c.want)
				}
			})
		})
	}
}

func TestPrompts_OneBadItemIsOneErrorLine(t *testing.T) {
	for _, c := range []struct {
		name, item    string
		status        int
		code, message string
		body          string
	}{
		{"broken JSON", `{"model":"tiny",`, 400, "client_error", "unexpected EOF", `{"error":"`},
		{"no object", `17`, 400, "client_error", "must be a JSON object", `{"error":"`},
		{"no route told", `{"model":"tiny"}`, 400, "client_error", "does not tell what it asks", `{"error":"`},
		{"two things told", `{"model":"tiny","prompt":"x","messages":[]}`, 400, "client_error", "leave one out", `{"error":"`},
		{"an unknown field", `{"custom_id":"b","url":"/api/chat","body":{},"modell":"x"}`, 400, "client_error", `unknown field \"modell\"`, `{"error":"`},
		{"a wrong method", `{"custom_id":"b","method":"GET","url":"/api/chat","body":{}}`, 400, "client_error", "POST", `{"error":"`},
		{"a wrong url", `{"url":"/api/pull","body":{"model":"tiny"}}`, 400, "client_error", "not a route that takes prompts", `{"error":"`},
		{"itself", `{"url":"/api/batch","body":{"requests":[]}}`, 400, "client_error", "not a route that takes prompts", `{"error":"`},
		{"no body", `{"url":"/api/chat"}`, 400, "client_error", "needs a \\\"body\\\"", `{"error":"`},
		{"a field twice", `{"model":"tiny","Model":"tiny","prompt":"x"}`, 400, "client_error", "more than once", `{"error":"`},
		{"data behind it", fastItem + `{}`, 400, "client_error", "data after", `{"error":"`},
		{"an unknown model", `{"model":"nope","prompt":"x"}`, 404, "client_error", "model 'nope' not found", `{"error":"`},
		{"an unknown model of OpenAI's", `{"url":"/v1/chat/completions","body":{"model":"nope","messages":[{"role":"user","content":"x"}]}}`, 404, "client_error", "model 'nope' not found", `{"error":{"message":"`},
		{"a model that is hidden here", `{"model":"tiny2","prompt":"x"}`, 404, "client_error", "model 'tiny2' not found", `{"error":"`},
		{"an unload", `{"model":"tiny","prompt":"","keep_alive":0}`, 403, "unauthorized", "not allowed here", `{"error":"`},
		{"what kills a node", `{"model":"tiny","prompt":"x","options":{"num_thread":1000000}}`, 400, "client_error", "guard off", `{"error":"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{}
				r := newRig(t, rigOptions{slots: 2, observer: w, site: SiteConfig{Models: []string{"tiny:latest"}}}, goldenNode(t, 0.01))
				got := r.batch("/api/batch?ordered=1", fastItem+"\n"+c.item+"\n"+fastItem)
				if len(got) != 3 || got[0].Error != nil || got[2].Error != nil {
					t.Fatalf("got %+v, want one error", got)
				}
				bad := got[1]
				said, _ := json.Marshal(bad.Error)
				if bad.Error == nil || bad.Error.Code != c.code || bad.Response.StatusCode != c.status || !strings.Contains(string(said), c.message) || !strings.HasPrefix(string(bad.Response.Body), c.body) {
					t.Errorf("got %d %s %s, want %d %s %q", bad.Response.StatusCode, bad.Response.Body, said, c.status, c.code, c.message)
				}
				if rec := w.last(t); rec.Endpoint != "batch" || rec.Items != 3 || rec.ItemsFailed != 1 || rec.Outcome != OK || len(w.begun) != 4 || len(w.records) != 4 {
					t.Errorf("recorded %+v, begun %v", rec, w.begun)
				}
				r.idle()
			})
		})
	}
}

func TestPrompts_RefusesWhatIsNoBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{config: Config{Prompts: PromptsConfig{MaxItems: 2}}}, goldenNode(t, 0.01))
		for _, c := range []struct {
			name, path, body string
			status           int
			want             string
		}{
			{"nothing", "/api/batch", "", 400, "there are no items"},
			{"blank lines", "/api/batch", "\n\n  \n", 400, "there are no items"},
			{"an empty array", "/api/batch", " [ ] ", 400, "there are no items"},
			{"a broken array", "/api/batch", "[" + fastItem + ",", 400, "unexpected EOF"},
			{"data behind the array", "/api/batch", "[" + fastItem + "] []", 400, "data after"},
			{"an item over lines", "/api/batch", "{\"model\":\n\"tiny\",\"prompt\":\"x\"}", 400, "in one line"},
			{"requests that are none", "/api/batch", `{"requests":5}`, 400, "must be an array"},
			{"an unknown word beside them", "/api/batch", `{"requests":[],"order":true}`, 400, "unknown field"},
			{"requests twice", "/api/batch", `{"requests":[],"requests":[]}`, 400, "more than once"},
			{"ordered that is neither", "/api/batch", `{"requests":[],"ordered":1}`, 400, "true or false"},
			{"ordered in the query that is neither", "/api/batch?ordered=maybe", fastItem, 400, "true or false"},
			{"too many lines", "/api/batch", strings.Repeat(fastItem+"\n", 3), 413, "more than 2 items"},
			{"too many in an array", "/api/batch", "[1,2,3]", 413, "more than 2 items"},
		} {
			code, answer, _ := r.ask(c.path, c.body)
			if code != c.status || !strings.HasPrefix(answer, `{"error":"`) || !strings.Contains(answer, c.want) {
				t.Errorf("%s: got %d %s, want %d %s", c.name, code, answer, c.status, c.want)
			}
		}
		if code, answer, h := r.with(http.MethodGet, "/api/batch", "", http.Header{}); code != 405 || h.Get("Allow") != "POST" {
			t.Errorf("GET: %d %s %v, want 405", code, answer, h)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPrompts_NeedAKeyAndAreItsOwners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		known, secret := keyFor(t)
		r := newRig(t, rigOptions{site: SiteConfig{Keys: known}}, goldenNode(t, 0.01))
		code, answer, h := r.with(http.MethodPost, "/api/batch", fastItem, http.Header{})
		if code != http.StatusUnauthorized || h.Get("WWW-Authenticate") != "Bearer" || !strings.HasPrefix(answer, `{"error":"`) {
			t.Errorf("without a key: %d %s", code, answer)
		}
		seen := &tenants{Answerer: r.settings.steps}
		r.settings.steps = seen
		code, answer, _ = r.with(http.MethodPost, "/api/batch", fastItem+"\n"+fastItem, http.Header{"Authorization": {"Bearer " + secret}})
		if got := resultsOf(t, answer); code != 200 || len(got) != 2 || got[0].Error != nil {
			t.Errorf("with a key: %d %s", code, answer)
		}
		if !slices.Equal(seen.seen, []string{"alice", "alice"}) {
			t.Errorf("tenants: %q", seen.seen)
		}
	})
}

func TestPrompts_EqualItemsAreGeneratedOnce(t *testing.T) {
	for name, o := range map[string]*cache.Options{"coalesced": nil, "cached too": {}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newFlightRig(t, o, Coalesce{})
				body := strings.Repeat(`{"url":"/api/chat","body":`+slowChat+"}\n", 10)
				var got []promptResult
				if n := r.costs(func() { got = r.batch("/api/batch", body) }); n != 1 || len(got) != 10 {
					t.Errorf("%d generated for %d results, want 1 for 10", n, len(got))
				}
				for _, g := range got {
					if text(t, string(g.Response.Body)+"\n") == "" || g.Error != nil {
						t.Errorf("got %s %v", g.Response.Body, g.Error)
					}
				}
				if o == nil {
					return
				}
				synctest.Wait()
				if n := r.costs(func() { got = r.batch("/api/batch", body) }); n != 0 || !strings.Contains(got[0].Response.Headers["Cache-Status"], "hit") {
					t.Errorf("again: %d generated, want none; %v", n, got[0].Response.Headers)
				}
			})
		})
	}
}

func TestPrompts_InteractiveRequestsOvertakeThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 1}, goldenNode(t, 1))
		r.ask("/api/generate", `{"model":"tinyslow"}`)
		var running sync.WaitGroup
		var ended time.Time
		running.Go(func() { // ends with the batch
			if got := r.batch("/api/batch", slowItems(8)); len(got) != 8 {
				t.Errorf("got %d results", len(got))
			}
			ended = time.Now()
		})
		time.Sleep(time.Second)
		begun := time.Now()
		r.ask("/api/chat", slowChatOnce)
		took := time.Since(begun)
		running.Wait()
		// It waits for the one that is running, at most, and then it takes as long itself.
		if rest := time.Since(begun); took > rest/2 || ended.Before(begun) {
			t.Errorf("took %v, the batch went on for %v", took, rest)
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPrompts_AClientThatLeavesCancelsWhatHasNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{}
		node := goldenNode(t, 1)
		r := newRig(t, rigOptions{slots: 2, observer: w, config: Config{Prompts: PromptsConfig{Concurrency: 4}}}, node)
		r.ask("/api/generate", `{"model":"tinyslow"}`)
		ctx, leave := context.WithCancel(t.Context())
		resp, err := r.post(ctx, "/api/batch", slowItems(50))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		leave()
		resp.Body.Close()
		time.Sleep(time.Second)
		rec := w.last(t)
		if rec.Endpoint != "batch" || rec.Outcome != ClientCanceled || rec.Items == 0 || rec.Items > 3 {
			t.Errorf("recorded %+v", rec)
		}
		if n := len(w.records); n > 2+rec.Items+4 { // the load, the batch, those answered and those that had begun
			t.Errorf("%d requests, although the client had left", n)
		}
		if n := node.Stats().Running; n != 0 {
			t.Errorf("the node still answers %d", n)
		}
		r.idle()
	})
}

func TestPrompts_NobodyBeginsForAClientThatDoesNotRead(t *testing.T) {
	for _, path := range []string{"/api/batch", "/api/batch?ordered=true"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &witness{}
				r := newRig(t, rigOptions{slots: 2, observer: w, config: Config{Prompts: PromptsConfig{Concurrency: 2}}}, goldenNode(t, 0.01))
				resp, err := r.post(t.Context(), path, strings.Repeat(fastItem+"\n", 200))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				w.mu.Lock()
				begun := len(w.begun)
				w.mu.Unlock()
				if begun > 60 { // the pipe and its buffers take some results
					t.Errorf("%d of 200 began although nobody reads", begun)
				}
				answer, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if got := resultsOf(t, string(answer)); err != nil || len(got) != 200 {
					t.Errorf("got %d results, %v", len(got), err)
				}
				synctest.Wait()
				r.idle()
			})
		})
	}
}

func TestPrompts_AnOrderedBatchRunsAheadWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{}
		r := newRig(t, rigOptions{slots: 2, observer: w, config: Config{Prompts: PromptsConfig{Concurrency: 2}}}, goldenNode(t, 1))
		r.ask("/api/generate", `{"model":"tinyslow"}`)
		r.ask("/api/generate", `{"model":"tiny"}`)
		before := len(w.begun)
		resp, err := r.post(t.Context(), "/api/batch?ordered=true", slowItem+"\n"+strings.Repeat(fastItem+"\n", 100))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(resp.Body)
		if line, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(line, `{"index":0,`) {
			t.Errorf("%s, %v", line, err)
		}
		w.mu.Lock()
		ahead := len(w.records) - before
		w.mu.Unlock()
		if ahead > promptWindow*2+2 {
			t.Errorf("%d items were answered ahead of the first", ahead)
		}
		rest, _ := io.ReadAll(lines)
		resp.Body.Close()
		if got := resultsOf(t, string(rest)); len(got) != 100 || got[99].Index != 100 {
			t.Errorf("got %d results", len(got))
		}
	})
}

// Many prompts for one slot take longer than anybody may wait in the queue, and more than it holds.
func TestPrompts_WaitForTheirTurnAsLongAsTheirClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 1, config: Config{Queue: schedule.Options{MaxLength: 2, MaxWait: time.Second}}}, goldenNode(t, 1))
		r.ask("/api/generate", `{"model":"tinyslow"}`)
		got := r.batch("/api/batch", slowItems(20))
		for _, g := range got {
			if g.Error != nil {
				t.Errorf("item %d: %d %+v", g.Index, g.Response.StatusCode, g.Error)
			}
		}
		if len(got) != 20 {
			t.Errorf("got %d results", len(got))
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPrompts_OutliveANodeThatIsStartedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := goldenNode(t, 1)
		r := newRig(t, rigOptions{slots: 1}, node)
		r.ask("/api/generate", `{"model":"tinyslow"}`)
		var got []promptResult
		var running sync.WaitGroup
		running.Go(func() { got = r.batch("/api/batch", slowItems(20)) }) // ends with the batch
		time.Sleep(10 * time.Second)
		node.Kill()
		time.Sleep(2 * time.Minute)
		node.ReapOrphans()
		node.Restart()
		running.Wait()
		failed := 0
		for _, g := range got {
			if g.Error != nil {
				failed++
			}
		}
		if len(got) != 20 || failed > 2 { // what the node had taken is lost with it, as by itself
			t.Errorf("%d of %d failed", failed, len(got))
		}
	})
}

func TestPrompts_AFleetThatIsGoneIsNotWaitedForByEachItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := goldenNode(t, 1)
		r := newRig(t, rigOptions{slots: 1}, node)
		node.Kill()
		time.Sleep(time.Minute)
		begun := time.Now()
		got := r.batch("/api/batch", slowItems(200))
		if len(got) != 200 || got[199].Error == nil || got[199].Error.Code != string(Overloaded) || got[199].Response.StatusCode != 503 {
			t.Errorf("got %d results, the last %+v", len(got), got[len(got)-1])
		}
		if took := time.Since(begun); took > itemPatience+time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

func TestPrompts_AreRefusedWhenTheProcessLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 1}, goldenNode(t, 1))
		r.ask("/api/generate", `{"model":"tinyslow"}`)
		var got []promptResult
		var running sync.WaitGroup
		running.Go(func() { got = r.batch("/api/batch", slowItems(100)) }) // ends with the batch
		time.Sleep(time.Second)
		begun := time.Now()
		r.engine.Stop()
		running.Wait()
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("took %v after the stop", took)
		}
		ok := 0
		for _, g := range got {
			if g.Error == nil {
				ok++
			} else if g.Error.Code != string(Overloaded) || !strings.Contains(g.Error.Message, "shutting down") {
				t.Errorf("item %d: %+v", g.Index, g.Error)
			}
		}
		if len(got) != 100 || ok != 1 {
			t.Errorf("%d results, %d of them answers, want 100 and the one that was running", len(got), ok)
		}
	})
}

func TestPrompts_APanicIsAnErrorOfOneItem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &witness{}
		r := newRig(t, rigOptions{observer: w}, goldenNode(t, 0.01))
		r.settings.steps = panicking{}
		got := r.batch("/api/batch", fastItem+"\n{}\n")
		if len(got) != 2 || w.panics != 1 {
			t.Fatalf("got %+v, %d panics", got, w.panics)
		}
		i := slices.IndexFunc(got, func(g promptResult) bool { return g.Index == 0 })
		if got[i].Response.StatusCode != 500 || got[i].Error.Code != string(InternalError) {
			t.Errorf("got %+v", got[i])
		}
		synctest.Wait()
		r.idle()
	})
}

func TestPrompts_TheirRouteIsNotPassedToANode(t *testing.T) {
	if _, err := NewSite(SiteConfig{Pass: []string{"/api/batch"}}); err == nil || !strings.Contains(err.Error(), "route of the gateway itself") {
		t.Errorf("got %v", err)
	}
}
