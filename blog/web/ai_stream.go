package web

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/assistant"
)

const (
	heartbeat  = 15 * time.Second // proxies close connections that are silent for a minute
	writeLimit = 10 * time.Second // a browser that takes nothing for so long has left
)

// wantsEvents reports whether a script asks, which shows the answer while it comes.
func wantsEvents(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Accept"))
	return err == nil && kind == "text/event-stream"
}

// stream answers with events: "text" for each piece, then one of "done" and "failed".
func (h *Handler) stream(w http.ResponseWriter, v *visit, q question) {
	ctx, cancel := context.WithCancel(v.Context())
	defer cancel()
	e := newEvents(w, cancel)
	stop := e.beat()
	var text strings.Builder
	reply, err := h.opts.Assistant.Answer(ctx, q.prompt, func(s string) error {
		text.WriteString(s)
		return e.send("text", s)
	})
	stop()
	t := h.settle(v, q.kind, e.err != nil, reply, err)
	switch {
	case t.outcome == "left":
	case t.message != "":
		t.retry(w)
		e.start(t.status)
		e.failed(v.lang.text(t.message))
	default:
		g := newGenerated(v.lang, text.String(), reply, q.page.ReadPart)
		_ = e.send("done", map[string]any{"html": g.HTML, "note": g.Note, "cached": reply.Cached}) // an error is a reader who has left
	}
}

// events writes a stream of events. Its methods may be called by the one who answers and the one who
// beats.
type events struct {
	left func() // called when nobody reads any more

	mu      sync.Mutex // guards what follows, and the writer
	w       http.ResponseWriter
	control *http.ResponseController
	started bool
	err     error // of the first write that failed
}

func newEvents(w http.ResponseWriter, left func()) *events {
	return &events{w: w, control: http.NewResponseController(w), left: left}
}

// start sends the head of the answer. Only the first call counts.
func (e *events) start(status int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.startLocked(status)
}

func (e *events) startLocked(status int) {
	if e.started {
		return
	}
	e.started = true
	e.w.Header().Set("Content-Type", "text/event-stream")
	e.w.Header().Set("Cache-Control", "no-store")
	e.w.WriteHeader(status)
}

// send writes an event. Data is JSON, which has no line breaks, so that no text can be an event.
func (e *events) send(name string, data any) error {
	line, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return e.write(fmt.Sprintf("event: %s\ndata: %s\n\n", name, line))
}

func (e *events) failed(message string) {
	_ = e.send("failed", map[string]string{"message": message}) // an error is a reader who has left
}

func (e *events) write(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	e.startLocked(http.StatusOK)
	// A server without deadlines has limits of its own.
	_ = e.control.SetWriteDeadline(time.Now().Add(writeLimit))
	_, err := e.w.Write([]byte(text))
	if err == nil {
		err = e.control.Flush()
	}
	if err != nil {
		e.err = err
		if e.left != nil {
			e.left()
		}
	}
	return err
}

// beat writes a comment now and then, until stop, so that the connection is not taken for dead while
// a model is loaded.
func (e *events) beat() (stop func()) {
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() { // ends by stop, which waits for it
		defer close(ended)
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				_ = e.write(": the model has not answered yet\n\n") // kept in e.err
			}
		}
	}()
	return func() { close(quit); <-ended }
}

// newGenerated makes what a model wrote ready to be shown, and says in the reader's language that it
// did, and from how much of the post.
func newGenerated(lang language, text string, reply assistant.Reply, readPart bool) *generated {
	g := &generated{Text: text, Note: lang.text("Written by a model (%s). It may be wrong.", reply.Model)}
	add := func(english string) { g.Note += " " + lang.text(english) }
	if reply.Cached {
		add("Answered from the cache.")
	}
	if reply.Cut {
		add("Ended at the limit of length.")
	}
	if readPart {
		add("Only the beginning of this long post was read.")
	}
	var err error
	if g.HTML, err = blog.RenderGenerated(text); err != nil {
		g.HTML = "<pre>" + html.EscapeString(text) + "</pre>" // no person writes Markdown that is refused
	}
	return g
}
