package web

import (
	"context"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// eventsOf reads a stream of events as "name data".
func eventsOf(t *testing.T, body string) (all []string) {
	t.Helper()
	for block := range strings.SplitSeq(strings.TrimSuffix(body, "\n\n"), "\n\n") {
		if strings.HasPrefix(block, ":") {
			all = append(all, ":")
			continue
		}
		name, data, ok := strings.Cut(strings.TrimPrefix(block, "event: "), "\ndata: ")
		if !ok || !json.Valid([]byte(data)) {
			t.Fatalf("no event: %q", block)
		}
		all = append(all, name+" "+data)
	}
	return all
}

func TestAI_StreamsWhileItComes(t *testing.T) {
	r := newAIRig(t, &scripted{says: []string{"They\n\nevent: done\ndata: {}\n\n", "<b>are</b> **red**"}, reply: assistant.Reply{Model: "tiny", Cached: true}})
	w := r.do(postForm("/ai-inference", foxes, asScript))
	got := eventsOf(t, w.Body.String())
	want := []string{
		`text "They\n\nevent: done\ndata: {}\n\n"`, `text "\u003cb\u003eare\u003c/b\u003e **red**"`,
	}
	if len(got) != 3 || !slices.Equal(got[:2], want) {
		t.Fatalf("events %q", got)
	}
	var done struct {
		HTML, Note string
		Cached     bool
	}
	if err := json.Unmarshal([]byte(strings.TrimPrefix(got[2], "done ")), &done); err != nil {
		t.Fatal(err)
	}
	contains(t, done.HTML, "<strong>red</strong>")
	if !done.Cached || !strings.HasPrefix(done.Note, "Written by a model (tiny).") || strings.Contains(done.HTML, "<b>") {
		t.Errorf("done %+v", done)
	}
	if w.Header().Get("Content-Type") != "text/event-stream" || w.Header().Get("Cache-Control") != "no-store" || r.observer.last() != "ask cached" {
		t.Errorf("head %v, observed %q", w.Header(), r.observer.last())
	}
}

// front serves a blog without a store over a pipe, in virtual time.
func front(t *testing.T, model Assistant) (*simnode.Pipe, *told) {
	t.Helper()
	observer := &told{}
	h, err := New(Options{Assistant: model, Observer: observer})
	if err != nil {
		t.Fatal(err)
	}
	pipe := simnode.NewPipe(h)
	t.Cleanup(pipe.Close)
	return pipe, observer
}

func TestAI_HeartbeatWhileTheModelIsLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipe, _ := front(t, &scripted{says: []string{"x"}, during: func(context.Context) { time.Sleep(50 * time.Second) }})
		q := postForm("http://blog/ai-inference", foxes, asScript)
		q.RequestURI = ""
		response, err := pipe.RoundTrip(q)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := eventsOf(t, string(body)); len(got) != 5 || !slices.Equal(got[:4], []string{":", ":", ":", `text "x"`}) {
			t.Errorf("events %q", got)
		}
	})
}

func TestAI_ReaderWhoTakesNothingIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		words := slices.Repeat([]string{strings.Repeat("word ", 100)}, 1000)
		pipe, observer := front(t, &scripted{says: words})
		c, err := pipe.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := postForm("http://blog/ai-inference", foxes, asScript).Write(c); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeLimit + time.Second)
		synctest.Wait()
		if got := observer.last(); got != "ask left" {
			t.Errorf("observed %q after %v without reading", got, writeLimit)
		}
	})
}
