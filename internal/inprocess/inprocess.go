// Package inprocess lets an HTTP client ask a handler of the same process, without a socket.
//
// A Transport is an http.RoundTripper. Its answers stream: what the handler writes can be read at
// once, at most so much of it waits, and who stops reading stops the handler. inprocess knows
// nothing of what is asked or answered.
package inprocess

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
)

// pending is how many bytes of an answer wait for their reader. The handler waits for more room:
// enough for a frame of a large answer, little beside what an open request takes anyway.
const pending = 64 << 10

// ErrAborted is how an answer ends that its handler has broken off: it panicked, with
// http.ErrAbortHandler or otherwise. What was read before is not the whole answer.
var ErrAborted = errors.New("the answer was broken off")

// A Transport gives requests to a handler. It is safe for concurrent use.
type Transport struct {
	handler http.Handler
	log     *slog.Logger
}

// New makes a transport. log is told of panics; nil: nobody is.
func New(handler http.Handler, log *slog.Logger) *Transport {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Transport{handler: handler, log: log}
}

// RoundTrip implements http.RoundTripper. It returns when the handler has written its header, or has
// ended. The handler runs in a goroutine of its own until it returns; its context ends with that of
// the request, and when the body of the answer is closed. Close waits for the handler, so that
// nothing of a request is left behind.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	e := newExchange(r, cancel)
	stop := context.AfterFunc(ctx, func() { e.leave(ctx.Err()) })
	go func() { // ends with the handler; body.Close and the error below wait for it
		defer close(e.ended)
		defer cancel() // as a server does when its handler has returned
		defer stop()
		err := t.run(e, arriving(ctx, r))
		if err == nil {
			err = ctx.Err() // a handler that was told to end may have returned before its answer was whole
		}
		e.finish(err)
	}()
	select {
	case <-e.begun:
	case <-ctx.Done():
	}
	select {
	case <-e.begun: // also if both have happened
	default:
		<-e.ended
		cancel()
		return nil, ctx.Err()
	}
	if e.response == nil { // it ended without an answer
		<-e.ended
		cancel()
		return nil, e.end
	}
	return e.response, nil
}

// run has the handler answer and tells how that ended: nil if it returned.
func (t *Transport) run(e *exchange, r *http.Request) (err error) {
	defer r.Body.Close()
	defer func() {
		switch p := recover(); {
		case p == nil:
		case p == http.ErrAbortHandler:
			err = ErrAborted
		default:
			err = ErrAborted
			// Not its value, which may hold what a client sent.
			t.log.ErrorContext(r.Context(), "a handler panicked", "panic", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		}
	}()
	t.handler.ServeHTTP(e, r)
	return nil
}

// arriving is a request as its handler's server would have read it. The body is the sender's.
func arriving(ctx context.Context, r *http.Request) *http.Request {
	in := r.Clone(ctx)
	in.RequestURI = r.URL.RequestURI()
	in.URL = &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery, ForceQuery: r.URL.ForceQuery}
	in.Proto, in.ProtoMajor, in.ProtoMinor = "HTTP/1.1", 1, 1
	in.RemoteAddr = "@" // what net/http says of a peer without an address
	if in.Method == "" {
		in.Method = http.MethodGet
	}
	if in.Host == "" {
		in.Host = r.URL.Host
	}
	if in.Header == nil {
		in.Header = http.Header{}
	}
	if in.Body == nil {
		in.Body = http.NoBody
	}
	in.Close, in.Response, in.GetBody = false, nil, nil
	return in
}

// A body is that of an answer.
type body struct{ *exchange }

func (b body) Read(p []byte) (int, error) { return b.read(p) }

// Close ends the handler's context and waits for the handler.
func (b body) Close() error {
	b.leave(errClosed)
	b.cancel()
	<-b.ended
	return nil
}

var errClosed = errors.New("read on a closed body")

// Interface guards
var (
	_ http.RoundTripper = (*Transport)(nil)
	_ io.ReadCloser     = body{}
	_ http.Flusher      = (*exchange)(nil)
)
