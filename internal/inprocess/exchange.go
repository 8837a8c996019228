package inprocess

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"sync"
)

// An exchange is one request and its answer: the handler's http.ResponseWriter on one side, the
// reader's body on the other.
type exchange struct {
	request *http.Request
	cancel  context.CancelFunc
	begun   chan struct{} // closed when the header is there, or the handler has ended without one
	ended   chan struct{} // closed when the handler has ended

	header   http.Header    // the handler's
	response *http.Response // set before begun is closed; nil: there is none
	bodiless bool           // nothing that is written is sent
	length   int64          // as the handler announced it; -1: it did not
	written  int64

	mu     sync.Mutex // guards what follows
	moved  *sync.Cond // something was written, read, or ended
	buffer []byte
	end    error // of reading, once buffer is empty
	left   error // the reader has: writing is of no use
}

func newExchange(r *http.Request, cancel context.CancelFunc) *exchange {
	e := &exchange{
		request: r, cancel: cancel, header: http.Header{}, length: -1,
		begun: make(chan struct{}), ended: make(chan struct{}),
	}
	e.moved = sync.NewCond(&e.mu)
	return e
}

// Header implements http.ResponseWriter. What is set after WriteHeader is not sent.
func (e *exchange) Header() http.Header { return e.header }

// WriteHeader implements http.ResponseWriter. The reader gets the header as it is now. Informational
// ones are left out: there is nobody who would wait for them. Unlike a server, which can wait for the
// first bytes, it guesses no type for who calls it without one.
func (e *exchange) WriteHeader(status int) {
	if e.response != nil || status < 200 {
		return
	}
	h := e.header.Clone()
	for name, values := range h {
		if len(values) == 0 {
			delete(h, name) // nil says that the server is not to guess it
		}
	}
	e.bodiless = e.request.Method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
	if n, err := strconv.ParseInt(h.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		e.length = n
	}
	resp := &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, ContentLength: e.length, Body: body{e}, Request: e.request,
	}
	if status == http.StatusNoContent {
		resp.ContentLength = 0
	}
	e.response = resp
	close(e.begun)
}

// Write implements http.ResponseWriter. It waits while too much is unread, and fails once the reader
// has left.
func (e *exchange) Write(p []byte) (int, error) {
	if e.response == nil {
		if _, told := e.header["Content-Type"]; !told && len(p) > 0 && e.header.Get("Content-Encoding") == "" {
			e.header.Set("Content-Type", http.DetectContentType(p))
		}
		e.WriteHeader(http.StatusOK)
	}
	switch {
	case e.bodiless && e.request.Method == http.MethodHead:
		return len(p), nil // what a GET would get
	case e.bodiless:
		return 0, http.ErrBodyNotAllowed
	case e.length >= 0 && e.written+int64(len(p)) > e.length:
		return 0, http.ErrContentLength
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for n < len(p) {
		for e.left == nil && len(e.buffer) >= pending {
			e.moved.Wait()
		}
		if e.left != nil {
			break
		}
		room := min(len(p)-n, pending-len(e.buffer))
		e.buffer = append(e.buffer, p[n:n+room]...)
		n += room
		e.moved.Broadcast()
	}
	e.written += int64(n)
	if n < len(p) {
		return n, e.left
	}
	return n, nil
}

// Flush implements http.Flusher. What was written can be read already; it sends the header.
func (e *exchange) Flush() {
	if e.response == nil {
		e.WriteHeader(http.StatusOK)
	}
}

// finish ends the answer: whole if err is nil and all that was announced is there.
func (e *exchange) finish(err error) {
	if e.response == nil && err == nil {
		e.WriteHeader(http.StatusOK) // a handler that does nothing has answered 200
	}
	switch {
	case err != nil:
	case !e.bodiless && e.length > e.written:
		err = io.ErrUnexpectedEOF
	default:
		err = io.EOF
	}
	e.mu.Lock()
	e.end = err
	e.moved.Broadcast()
	e.mu.Unlock()
	if e.response == nil {
		close(e.begun)
	}
}

// leave has the reader get no more and the handler's writes fail. The first reason counts.
func (e *exchange) leave(why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left == nil {
		e.left = why
	}
	e.moved.Broadcast()
}

func (e *exchange) read(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		switch {
		case e.left != nil && e.end == nil, e.left == errClosed:
			return 0, e.left
		case len(e.buffer) > 0:
			n := copy(p, e.buffer)
			e.buffer = e.buffer[:copy(e.buffer, e.buffer[n:])]
			e.moved.Broadcast()
			return n, nil
		case e.end != nil:
			return 0, e.end
		}
		e.moved.Wait()
	}
}
