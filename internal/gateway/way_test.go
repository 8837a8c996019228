package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

func TestServe_NotReadyIsToldWithinABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{}, goldenNode(t, 0.01))
		// An engine of its own that nobody has attached to: its fleet never becomes ready.
		bare := NewEngine(r.engine.log)
		r.settings = NewSettings(bare, Config{})
		began := time.Now()
		code, answer, header := r.ask("/api/chat", chatBody)
		if took := time.Since(began); code != 503 || header.Get("Retry-After") == "" || took != inventoryWait {
			t.Errorf("%d %s after %v, want 503 after %v", code, answer, took, inventoryWait)
		}
		bare.Close()
		<-bare.Closed()
		if code, answer, _ := r.ask("/v1/chat/completions", openAIBody); code != 503 || !strings.HasPrefix(answer, `{"error":{"message":`) {
			t.Errorf("a closed engine answers %d %s, want 503 in the dialect", code, answer)
		}
	})
}

func TestServe_HangingNodeHangsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		})
		r := newRig(t, rigOptions{}, hang, goldenNode(t, 0.01))
		began := time.Now()
		for _, path := range []string{"/api/show", "/api/chat"} {
			if code, answer, _ := r.ask(path, chatBody); code != 200 {
				t.Errorf("%s: %d %s", path, code, answer)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("took %v with a node that hangs", took)
		}
	})
}

func TestServe_LimitsOfBodies(t *testing.T) {
	config := Config{Limits: Limits{Body: 1000, BodyTimeout: time.Second}}
	big := `{"model":"tiny","prompt":"` + strings.Repeat("x", 1000) + `"}`
	for _, c := range []struct {
		name string
		body io.Reader
		want int
	}{
		{"with a length", strings.NewReader(big), 413},
		{"in chunks", io.MultiReader(strings.NewReader(big)), 413},
		{"too slow", &slowly{left: 10}, 408},
		{"just right", strings.NewReader(chatBody), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOptions{config: config}, goldenNode(t, 0.01))
				q, _ := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/api/chat", c.body)
				resp, err := r.front.RoundTrip(q)
				if err != nil {
					t.Fatal(err)
				}
				answer, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != c.want || c.want != 200 && !strings.HasPrefix(string(answer), `{"error":"`) {
					t.Errorf("%d %s, want %d in the dialect", resp.StatusCode, answer, c.want)
				}
				time.Sleep(time.Hour) // the slow body has come to its end
				r.idle()
			})
		})
	}
}

// slowly gives a byte a minute.
type slowly struct{ left int }

func (s *slowly) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(time.Minute)
	p[0] = ' '
	return 1, nil
}

func TestServe_MemoryOfAllBodiesIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{config: Config{Limits: Limits{Bodies: 150}}}, goldenNode(t, 1))
		first, err := r.post(t.Context(), "/api/chat", chatBody)
		if err != nil {
			t.Fatal(err)
		}
		code, answer, header := r.ask("/api/chat", chatBody)
		if code != 503 || header.Get("Retry-After") == "" {
			t.Errorf("%d %s %v, want 503 with Retry-After", code, answer, header)
		}
		io.Copy(io.Discard, first.Body)
		first.Body.Close()
		synctest.Wait()
		if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 {
			t.Errorf("%d %s after the first had gone", code, answer)
		}
	})
}

func TestServe_StreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{config: Config{Limits: Limits{Streams: 1}}}, goldenNode(t, 1))
		first, err := r.post(t.Context(), "/api/chat", chatBody)
		if err != nil {
			t.Fatal(err)
		}
		if code, answer, _ := r.ask("/api/chat", chatBody); code != 503 {
			t.Errorf("%d %s, want 503", code, answer)
		}
		first.Body.Close()
	})
}

func TestServe_LoopIsToldApart(t *testing.T) {
	r := newRig(t, rigOptions{}, goldenNode(t, 0.01))
	q, _ := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/api/chat", strings.NewReader(chatBody))
	q.Header.Set("Via", "1.1 "+r.engine.via)
	resp, err := r.front.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusLoopDetected {
		t.Errorf("%d, want 508", resp.StatusCode)
	}
}

func TestServe_NodeGetsAFreshRequest(t *testing.T) {
	seen := make(chan *http.Request, 1)
	node := &faulty{Handler: goldenNode(t, 0.01), infer: func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Clone(r.Context())
		status(400, `{"error":"enough"}`)(w, r)
	}}
	r := newRig(t, rigOptions{}, node)
	q, _ := http.NewRequestWithContext(t.Context(), "POST", "http://localhost/api/chat?node=other", strings.NewReader(chatBody))
	for name, value := range map[string]string{
		"Authorization": "Bearer secret", "Cookie": "a=b", "X-Api-Key": "secret", "X-Forwarded-For": "1.2.3.4",
		"Forwarded": "for=1.2.3.4", "X-Ollama-Node": "other", "Accept-Encoding": "gzip", "Origin": "http://localhost",
	} {
		q.Header.Set(name, value)
	}
	q.Host = "foreign.localhost"
	resp, err := r.front.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	got := <-seen
	if got.Host != "localhost:11434" || got.URL.RawQuery != "" || got.ContentLength <= 0 {
		t.Errorf("host %q, query %q, length %d; want the node's own host, no query, a length", got.Host, got.URL.RawQuery, got.ContentLength)
	}
	allowed := map[string]bool{"Content-Type": true, "Accept-Encoding": true, "User-Agent": true, "Via": true, "Content-Length": true}
	for name := range got.Header {
		if !allowed[name] {
			t.Errorf("the node was sent %s: %v", name, got.Header[name])
		}
	}
	if got.Header.Get("Accept-Encoding") != "identity" {
		t.Errorf("Accept-Encoding %q, want identity", got.Header.Get("Accept-Encoding"))
	}
}

func TestServe_ManagementAndCloudAreClosed(t *testing.T) {
	r := newRig(t, rigOptions{}, goldenNode(t, 0.01))
	for path, body := range map[string]string{
		"/api/pull": `{"model":"x"}`, "/api/create": `{}`, "/api/copy": `{}`, "/api/push": `{}`, "/api/me": ``,
		"/api/signout": ``, "/api/experimental/web_fetch": `{}`, "/api/blobs/sha256:aa": `x`,
		"/api/generate": `{"model":"tiny","keep_alive":0}`,
		"/api/chat":     `{"model":"tiny:cloud","messages":[]}`,
	} {
		code, answer, _ := r.ask(path, body)
		if code != 403 || !strings.HasPrefix(answer, `{"error":"`) {
			t.Errorf("%s: %d %s, want 403 in the dialect", path, code, answer)
		}
	}
}

func TestSite_ModelsOfASiteAreAllThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{site: SiteConfig{Models: []string{"TINY*"}}}, goldenNode(t, 0.01))
		r2 := newRig(t, rigOptions{site: SiteConfig{Models: []string{"tinythink"}}}, goldenNode(t, 0.01))
		if code, answer, _ := r.ask("/api/chat", chatBody); code != 200 {
			t.Errorf("%d %s for a model of the site", code, answer)
		}
		code, answer, _ := r2.ask("/api/chat", chatBody)
		if code != 404 || answer != `{"error":"model 'tiny' not found"}` {
			t.Errorf("%d %s for a model that is not the site's, want a node's 404", code, answer)
		}
		if code, _, _ := r2.ask("/api/show", `{"model":"tiny"}`); code != 404 {
			t.Errorf("show: %d, want 404", code)
		}
		q, _ := http.NewRequestWithContext(t.Context(), "GET", "http://localhost/api/tags", nil)
		resp, err := r2.front.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		tags, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if strings.Count(string(tags), `"name"`) != 1 || !strings.Contains(string(tags), `"tinythink:latest"`) {
			t.Errorf("tags %s, want tinythink alone", tags)
		}
	})
}

func TestSite_GlobsMeetNormalisedNames(t *testing.T) {
	for _, c := range []struct {
		glob, short string
		want        bool
	}{
		{"llama3*", "llama3:latest", true},
		{"llama3*", "llama3.2:1b", true},
		{"llama3", "llama3:8b", true},
		{"llama3:latest", "llama3:8b", false},
		{"LLAMA3", "llama3:latest", true},
		{"llama3", "me/llama3:latest", false},
		{"me/*", "me/llama3:latest", true},
		{"*-vision", "x-vision:7b", true},
		{"qwen*", "llama3:latest", false},
	} {
		s, err := NewSite(SiteConfig{Models: []string{c.glob}})
		if err != nil {
			t.Fatal(err)
		}
		if got := s.allows(c.short); got != c.want {
			t.Errorf("%q allows %q: %v, want %v", c.glob, c.short, got, c.want)
		}
	}
	if _, err := NewSite(SiteConfig{Models: []string{"["}}); err == nil {
		t.Error("a broken glob was taken")
	}
	if _, err := NewSite(SiteConfig{Class: "urgent"}); err == nil {
		t.Error("an unknown class was taken")
	}
}

func TestUnload_ReachesEveryNodeThatHoldsTheRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*faulty{{Handler: goldenNode(t, 0.01)}, {Handler: goldenNode(t, 0.01)}, {Handler: goldenNode(t, 0.01)}}
		r := newRig(t, rigOptions{site: SiteConfig{Manage: true}}, nodes[0], nodes[1], nodes[2])
		snap := r.engine.fleet.Snapshot()
		for _, v := range snap.Nodes[:2] {
			r.engine.fleet.Loaded(v.Node, tinyKey, snap.Models[tinyKey].Parameters)
		}
		code, answer, _ := r.ask("/api/generate", `{"model":"tiny","keep_alive":0}`)
		if code != 200 || !strings.Contains(answer, `"done_reason":"unload"`) {
			t.Errorf("%d %s", code, answer)
		}
		var asked []int
		for _, n := range nodes {
			calls, _ := n.count()
			asked = append(asked, calls)
		}
		if fmt.Sprint(asked) != "[1 1 0]" {
			t.Errorf("asked %v, want those two that hold it", asked)
		}
	})
}

func TestLoad_GoesToOneNodeAndAnswersOneObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes := []*faulty{{Handler: goldenNode(t, 0.01)}, {Handler: goldenNode(t, 0.01)}}
		r := newRig(t, rigOptions{}, nodes[0], nodes[1])
		code, answer, header := r.ask("/api/generate", `{"model":"tiny"}`)
		if code != 200 || !strings.Contains(answer, `"done_reason":"load"`) || header.Get("Content-Type") != nativeJSON {
			t.Errorf("%d %s %v", code, answer, header)
		}
		a, _ := nodes[0].count()
		b, _ := nodes[1].count()
		if a+b != 1 {
			t.Errorf("%d nodes were asked, want one", a+b)
		}
		// The next call meets it there.
		if code, _, _ := r.ask("/api/chat", chatBody); code != 200 {
			t.Error(code)
		}
		a2, _ := nodes[0].count()
		b2, _ := nodes[1].count()
		if !(a2 == 2*a && b2 == 2*b) {
			t.Errorf("loaded on %d/%d, answered on %d/%d: not where the model is", a, b, a2-a, b2-b)
		}
	})
}

func TestShow_OnlyWhatANodeMustWorkOutIsForwarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		node := goldenNode(t, 0.01)
		r := newRig(t, rigOptions{}, node)
		time.Sleep(time.Minute) // the fleet has asked what it wants to know
		for body, want := range map[string]int{
			`{"model":"tiny"}`: 0, `{"model":"tiny","verbose":true}`: 1, `{"model":"tiny","system":"be short"}`: 1,
		} {
			before := node.Stats().Requests["/api/show"]
			code, answer, _ := r.ask("/api/show", body)
			if code != 200 || !strings.Contains(answer, `"modelfile"`) {
				t.Errorf("%s: %d %s", body, code, answer)
			}
			if asked := node.Stats().Requests["/api/show"] - before; asked != want {
				t.Errorf("%s: the node was asked %d times, want %d", body, asked, want)
			}
		}
	})
}

func TestEngine_NewestLiveAttachmentRules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{}, goldenNode(t, 0.01), goldenNode(t, 0.01))
		names := func() string {
			var b strings.Builder
			for _, v := range r.engine.fleet.Snapshot().Nodes {
				b.WriteString(v.Node.Name())
			}
			return b.String()
		}
		only := func(i int) *Attachment {
			return NewSettings(r.engine, Config{Nodes: []fleet.NodeConfig{r.settings.config.Nodes[i]}}).Attach()
		}
		second := only(1)
		if names() != "n1" || r.engine.Ruling() != second.settings {
			t.Errorf("after a newer one: %s", names())
		}
		failed := only(0)
		failed.Detach()
		failed.Detach()
		if names() != "n1" || r.engine.Ruling() != second.settings {
			t.Errorf("after a failed newer one: %s, want the one before to rule again", names())
		}
		r.hold.Detach() // the old configuration's cleanup
		if names() != "n1" {
			t.Errorf("after the old one's cleanup: %s", names())
		}
		second.Detach()
		if names() != "n1" || r.engine.Ruling() != nil {
			t.Errorf("after the last: %s, want what runs to finish", names())
		}
	})
}

// Of nodes that a reload brings nothing is known for a moment, which no client is to notice.
func TestEngine_NodesOfAReloadAreWaitedFor(t *testing.T) {
	for _, path := range []string{"/api/chat", "/api/tags", "/api/show", "/v1/models"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, rigOptions{}, goldenNode(t, 0.01), goldenNode(t, 0.01))
				NewSettings(r.engine, Config{Nodes: r.settings.config.Nodes[:1]}).Attach()
				NewSettings(r.engine, Config{Nodes: r.settings.config.Nodes[1:]}).Attach()
				method, body := http.MethodPost, chatBody
				if path == "/api/tags" || path == "/v1/models" {
					method, body = http.MethodGet, ""
				}
				q, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp, err := r.front.RoundTrip(q)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if answer, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || err != nil || !strings.Contains(string(answer), "tiny") {
					t.Errorf("%d %.200s %v", resp.StatusCode, answer, err)
				}
			})
		})
	}
}

// Who waits in the queue while a reload takes all nodes away is served by those that it brings.
func TestEngine_WhoWaitsIsServedByTheNodesOfAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 1, warm: true}, goldenNode(t, 1), goldenNode(t, 0.01))
		NewSettings(r.engine, Config{Nodes: r.settings.config.Nodes[:1]}).Attach()
		answers := make(chan string, 2)
		for range 2 { // the first has the only slot
			go func() { // ends with its answer
				code, answer, _ := r.ask("/api/chat", chatBody)
				answers <- fmt.Sprintf("%d %.200s", code, answer)
			}()
			synctest.Wait()
		}
		NewSettings(r.engine, Config{Nodes: r.settings.config.Nodes[1:]}).Attach()
		for range 2 {
			if got := <-answers; !strings.HasPrefix(got, "200 ") {
				t.Error(got)
			}
		}
	})
}

func TestEngine_ANodeOfAReloadThatHangsIsWaitedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		r := newRig(t, rigOptions{}, goldenNode(t, 0.01), hangs)
		NewSettings(r.engine, Config{Nodes: r.settings.config.Nodes[:1]}).Attach()
		if err := r.engine.fleet.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		NewSettings(r.engine, Config{Nodes: r.settings.config.Nodes[1:]}).Attach()
		began := time.Now()
		if code, answer, _ := r.ask("/api/chat", chatBody); code != http.StatusServiceUnavailable || time.Since(began) > 3*time.Second {
			t.Errorf("%d %.200s after %v, want 503 soon", code, answer, time.Since(began))
		}
	})
}

func TestEngine_CloseLetsStreamsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{}, goldenNode(t, 1))
		resp, err := r.post(t.Context(), "/api/chat", chatBody)
		if err != nil {
			t.Fatal(err)
		}
		r.hold.Detach()
		r.engine.Close()
		synctest.Wait()
		select {
		case <-r.engine.Closed():
			t.Fatal("closed under a stream")
		default:
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(answer), `"done":true`) {
			t.Errorf("%v: %s", err, answer)
		}
		<-r.engine.Closed()
	})
}
