package simnode

import (
	"encoding/json"
	"net/http"
)

// events writes server-sent events. Nothing is sent before the first.
type events struct {
	w     http.ResponseWriter
	begun bool
}

// named announces a stream of events with names. The headers stay when it comes to an error instead.
func (e *events) named() {
	e.w.Header().Set("Cache-Control", "no-cache")
	e.w.Header().Set("Connection", "keep-alive")
}

// send writes one event; one without a name has only data.
func (e *events) send(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		b = errorBody(err.Error())
	}
	out := make([]byte, 0, len(b)+len(name)+len("event: \ndata: \n\n"))
	if name != "" {
		out = append(append(append(out, "event: "...), name...), '\n')
	}
	out = append(append(out, "data: "...), b...)
	e.write(append(out, "\n\n"...))
}

// push is send, and what was sent is on its way before it returns.
func (e *events) push(name string, v any) {
	e.send(name, v)
	flush(e.w)
}

// done writes the mark that ends the streams without event names.
func (e *events) done() { e.write([]byte("data: [DONE]\n\n")) }

func (e *events) write(b []byte) {
	if !e.begun {
		e.begun = true
		e.w.Header().Set("Content-Type", typeSSE)
		e.w.WriteHeader(http.StatusOK)
	}
	_, _ = e.w.Write(b) // an error here means that the client is gone
}
