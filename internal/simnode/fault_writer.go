package simnode

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"
)

// A faultWriter lets one answer pass as a fault will have it. Every Write is a frame, which all of this package's
// handlers keep to. It holds the headers back until the first frame, so that nothing at all may be sent.
type faultWriter struct {
	http.ResponseWriter
	node  *Node
	fault *Fault
	ctx   context.Context // the request's

	status        int // 0 until it is said
	begun         bool
	frames, bytes int // what has passed
	held          bytes.Buffer
}

// Unwrap is for http.ResponseController.
func (w *faultWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader remembers the status.
func (w *faultWriter) WriteHeader(status int) { w.status = cmp.Or(w.status, status) }

// FlushError pushes what has passed.
func (w *faultWriter) FlushError() error {
	if w.fault.TooLong > 0 || !w.begun {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

func (w *faultWriter) Write(p []byte) (int, error) {
	if w.fault.TooLong > 0 {
		return w.held.Write(p)
	}
	keep, cut := w.keeps(len(p))
	w.begin(p, cut)
	if w.frames > 0 {
		w.wait(w.fault.Gap)
	}
	if w.frames == w.fault.Frames {
		w.strike(p)
	}
	if cut {
		w.cut(p[:keep], p[keep:])
	}
	n, err := w.ResponseWriter.Write(p)
	w.frames++
	w.bytes += n
	return n, err
}

// begin sends the headers in front of the first frame. An answer in one piece that will not come whole says how long it
// would have been.
func (w *faultWriter) begin(first []byte, cut bool) {
	if w.begun {
		return
	}
	w.wait(w.fault.FirstByte)
	w.begun = true
	h := w.Header()
	if cut && w.fault.End != "clean" && !streamed(h) {
		h.Set("Content-Length", strconv.Itoa(len(first)))
	}
	for key, value := range w.fault.Headers {
		h.Set(key, value)
	}
	if w.fault.Type != "" {
		h.Set("Content-Type", w.fault.Type)
	}
	w.ResponseWriter.WriteHeader(cmp.Or(w.status, http.StatusOK))
}

// wait lets time pass. It does not return when the client leaves meanwhile.
func (w *faultWriter) wait(d time.Duration) {
	if d <= 0 {
		return
	}
	if err := pass(w.ctx, d); err != nil {
		w.node.left(err)
		panic(endOfAnswer{})
	}
}

func streamed(h http.Header) bool {
	kind := h.Get("Content-Type")
	return kind == typeNDJSON || kind == typeSSE
}

// finish is called when the answer is complete.
func (w *faultWriter) finish() {
	if w.fault.TooLong == 0 {
		w.begin(nil, false)
		return
	}
	w.Header().Set("Content-Length", strconv.Itoa(w.held.Len()+w.fault.TooLong))
	w.begin(nil, false)
	_, _ = w.ResponseWriter.Write(w.held.Bytes()) // an error here means that the client is gone
	flush(w.ResponseWriter)
	panic(http.ErrAbortHandler)
}

// strike is what happens after so many frames, besides an end: next is the frame that would follow.
func (w *faultWriter) strike(next []byte) {
	f := w.fault
	if f.BadLine != "" {
		_, _ = w.ResponseWriter.Write(w.framed(f.BadLine, next))
		flush(w.ResponseWriter)
	}
	if f.GiantLine > 0 {
		w.giant(next)
	}
	if f.Die != "" {
		w.node.die(f.Die == "kill", cmp.Or(f.Restart, w.node.opts.Restart))
		panic(http.ErrAbortHandler)
	}
}

// framed makes a frame of text in the form of the stream.
func (w *faultWriter) framed(text string, next []byte) []byte {
	if isEvent(next) {
		return []byte("data: " + text + "\n\n")
	}
	return []byte(text + "\n")
}

func isEvent(frame []byte) bool {
	return bytes.HasPrefix(frame, []byte("data: ")) || bytes.HasPrefix(frame, []byte("event: "))
}

// giant writes a record whose text is as long as the whole shall be, piece by piece.
func (w *faultWriter) giant(next []byte) {
	const head, tail = `{"model":"giant","response":"`, `","done":false}`
	begin, end := head, tail+"\n"
	if isEvent(next) {
		begin, end = "data: "+head, tail+"\n\n"
	}
	piece := bytes.Repeat([]byte("a"), 64<<10)
	_, err := w.ResponseWriter.Write([]byte(begin))
	for left := w.fault.GiantLine - int64(len(begin)+len(end)); left > 0 && err == nil && w.ctx.Err() == nil; left -= int64(len(piece)) {
		_, err = w.ResponseWriter.Write(piece[:min(left, int64(len(piece)))])
	}
	if err == nil {
		_, _ = w.ResponseWriter.Write([]byte(end)) // an error here means that the client is gone
	}
	flush(w.ResponseWriter)
}

// keeps returns how much of a frame of so many bytes still passes, and whether the answer ends there.
func (w *faultWriter) keeps(size int) (keep int, cut bool) {
	f := w.fault
	switch {
	case f.End == "":
	case f.Bytes > 0:
		if w.bytes+size > f.Bytes {
			return f.Bytes - w.bytes, true
		}
	case w.frames == f.Frames:
		return 0, true
	}
	return size, false
}

// cut lets what is kept pass and ends the answer without the rest. It does not return.
func (w *faultWriter) cut(kept, rest []byte) {
	if len(kept) > 0 {
		_, _ = w.ResponseWriter.Write(kept) // an error here means that the client is gone, as in what follows
	}
	if w.begun {
		flush(w.ResponseWriter)
	}
	switch w.fault.End {
	case "clean":
		panic(endOfAnswer{})
	case "half":
		w.half(rest)
	case "reset":
		if conn, err := w.hijack(); err == nil {
			reset(conn)
			panic(endOfAnswer{})
		}
	}
	panic(http.ErrAbortHandler) // net/http's own way of closing a connection without the end of the answer
}

// half closes the connection within a chunk, or within the whole answer.
func (w *faultWriter) half(rest []byte) {
	if w.Header().Get("Content-Length") != "" {
		_, _ = w.ResponseWriter.Write(rest[:len(rest)/2])
		flush(w.ResponseWriter)
		panic(http.ErrAbortHandler)
	}
	if conn, err := w.hijack(); err == nil {
		_, _ = fmt.Fprintf(conn, "%x\r\n%s", len(rest), rest[:len(rest)/2])
		_ = conn.Close()
		panic(endOfAnswer{})
	}
}

func (w *faultWriter) hijack() (net.Conn, error) {
	conn, _, err := http.NewResponseController(w.ResponseWriter).Hijack()
	return conn, err
}

// reset closes a connection so that the client reads an error and not an end, where that can be.
func reset(conn net.Conn) {
	inner := conn
	if t, ok := conn.(*tls.Conn); ok {
		inner = t.NetConn()
	}
	if l, ok := inner.(interface{ SetLinger(sec int) error }); ok {
		_ = l.SetLinger(0) // else it is closed in peace
	}
	_ = inner.Close()
}
