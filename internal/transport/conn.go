package transport

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"sync"
	"time"
)

const (
	headerLimit = 1 << 20 // bytes of an answer's status line and headers
	informLimit = 5       // answers of 1xx before the real one

	// earlyTimeout is for a node that has answered and closed before it took the whole body, and
	// for the end of a body whose answer is there already.
	earlyTimeout = 100 * time.Millisecond

	// streamedFrom is from how many bytes on a body is sent while the answer is waited for. What
	// is smaller fits into the buffers of a connection, more or less, and is sent before.
	streamedFrom = 1 << 20
)

// Faults of a node's HTTP.
var (
	errHeaderTooLong = errors.New("transport: the headers of the answer are too long")
	errSwitched      = errors.New("transport: the node switched protocols unasked")
	errInforms       = errors.New("transport: too many answers of 1xx")
	errClosed        = errors.New("transport: read of an answer that has been closed")
)

// A conn is a connection to the node. It carries one call at a time.
type conn struct {
	t     *Transport
	net   net.Conn // what is written and read: TLS, or raw itself
	raw   net.Conn
	r     *bufio.Reader
	left  int64     // bytes that may still be read; negative: any
	since time.Time // when it became idle
}

func newConn(t *Transport, through, raw net.Conn) *conn {
	c := &conn{t: t, net: through, raw: raw}
	c.r = bufio.NewReader((*limited)(c))
	return c
}

// limited reads from the connection up to what is left.
type limited conn

func (l *limited) Read(p []byte) (int, error) {
	if l.left < 0 {
		return l.net.Read(p)
	}
	if l.left == 0 {
		return 0, errHeaderTooLong
	}
	n, err := l.net.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// writers are those of requests: a call needs one only until it is sent.
var writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}

// do sends a request and reads the head of its answer. On an error the connection is closed.
func (c *conn) do(r *http.Request) (*http.Response, error) {
	// Closing is what wakes a blocked write or read, whatever the connection is made of.
	release := context.AfterFunc(r.Context(), func() { c.net.Close() })
	resp, err := c.exchange(r)
	if err != nil {
		release()
		c.net.Close()
		return nil, err
	}
	body := &answer{conn: c, body: resp.Body, release: release, keep: !resp.Close && !r.Close}
	if resp.Body == http.NoBody {
		body.end()
	} else {
		resp.Body = body
	}
	return resp, nil
}

func (c *conn) exchange(r *http.Request) (*http.Response, error) {
	if isStreamed(r) {
		return c.exchangeStreamed(r)
	}
	sendErr := c.send(r)
	if sendErr != nil {
		// It may have said why before it stopped reading.
		_ = c.net.SetReadDeadline(time.Now().Add(earlyTimeout))
	}
	resp, err := c.receive(r)
	switch {
	case sendErr != nil && err != nil:
		return nil, sendErr
	case sendErr != nil:
		resp.Close = true
	}
	return resp, err
}

func isStreamed(r *http.Request) bool {
	return r.Body != nil && (r.ContentLength < 0 || r.ContentLength >= streamedFrom)
}

// exchangeStreamed waits for the answer while the body is being sent, and returns when the
// sending has ended.
func (c *conn) exchangeStreamed(r *http.Request) (*http.Response, error) {
	sent := make(chan error, 1)
	go func() { // ends with the body, or when stopSending takes away what it waits for
		err := c.send(r)
		if err != nil {
			_ = c.net.SetReadDeadline(time.Now().Add(earlyTimeout)) // as in exchange
		}
		sent <- err
	}()
	resp, err := c.receive(r)
	if err != nil {
		select {
		case sendErr := <-sent:
			if sendErr != nil {
				err = sendErr // which came first: without it receive would be waiting
			}
		default:
			c.stopSending(r, sent)
		}
		return nil, err
	}
	// A node answers as it takes the last byte, so the sender is mostly about to end.
	grace := time.NewTimer(earlyTimeout)
	defer grace.Stop()
	select {
	case sendErr := <-sent:
		resp.Close = resp.Close || sendErr != nil
	case <-grace.C:
		resp.Close = true
		c.stopSending(r, sent)
	}
	_ = c.net.SetReadDeadline(time.Time{}) // the sender may have set one, which is not for the rest of the answer
	return resp, nil
}

// stopSending ends the sender, which waits for the node or for the body.
func (c *conn) stopSending(r *http.Request, sent <-chan error) {
	_ = c.net.SetWriteDeadline(time.Now())
	_ = r.Body.Close()
	<-sent
}

func (c *conn) send(r *http.Request) error {
	w := writers.Get().(*bufio.Writer)
	w.Reset(c.net)
	defer func() {
		w.Reset(nil)
		writers.Put(w)
	}()
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	w.WriteString(r.Method)
	w.WriteByte(' ')
	w.WriteString(r.URL.RequestURI())
	w.WriteString(" HTTP/1.1\r\nHost: ")
	w.WriteString(host)
	chunked := r.Body != nil && r.ContentLength < 0
	switch {
	case chunked:
		w.WriteString("\r\nTransfer-Encoding: chunked")
	case r.Body != nil && r.Body != http.NoBody || r.Method == http.MethodPost || r.Method == http.MethodPut:
		w.WriteString("\r\nContent-Length: ")
		w.Write(strconv.AppendInt(w.AvailableBuffer(), r.ContentLength, 10))
	}
	w.WriteString("\r\n")
	if err := r.Header.WriteSubset(w, ownHeaders); err != nil {
		return err
	}
	w.WriteString("\r\n")
	if isStreamed(r) {
		if err := w.Flush(); err != nil { // the node may answer before the body has begun
			return err
		}
	}
	switch {
	case chunked:
		if err := sendChunks(w, r.Body); err != nil {
			return err
		}
	case r.Body != nil:
		n, err := io.Copy(w, r.Body)
		if err != nil {
			return err
		}
		if n != r.ContentLength {
			return fmt.Errorf("transport: a body of %d bytes where %d were due", n, r.ContentLength)
		}
	}
	return w.Flush()
}

// sendChunks sends a body of unknown length (RFC 9112 section 7.1). Only one that ended in
// order gets the last chunk, so that a node does not take a part for the whole.
func sendChunks(w io.Writer, body io.Reader) error {
	chunks := httputil.NewChunkedWriter(w)
	if _, err := io.Copy(chunks, body); err != nil {
		return err
	}
	if err := chunks.Close(); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\r\n") // after no trailers
	return err
}

// ownHeaders are those that send writes itself.
var ownHeaders = map[string]bool{"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true}

// receive reads the head of the answer.
func (c *conn) receive(r *http.Request) (*http.Response, error) {
	for range informLimit {
		c.left = headerLimit
		resp, err := http.ReadResponse(c.r, r)
		if err != nil {
			if err == io.ErrUnexpectedEOF {
				err = io.EOF // as net/http says of a connection closed without an answer
			}
			return nil, err
		}
		c.left = -1
		switch {
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitched
		case resp.StatusCode >= 200:
			return resp, nil
		}
	}
	return nil, errInforms
}

// An answer is the body of a node's answer. Reading it to its end, or closing it, ends the
// call.
type answer struct {
	*conn
	body    io.ReadCloser
	release func() bool // from the context, whose end closes the connection
	keep    bool        // the connection can carry another call
	ended   bool
}

func (a *answer) Read(p []byte) (int, error) {
	if a.ended {
		return 0, io.EOF
	}
	if a.conn == nil {
		return 0, errClosed
	}
	n, err := a.body.Read(p)
	switch err {
	case nil:
	case io.EOF:
		a.end()
	default:
		a.Close()
	}
	return n, err
}

// end gives the connection back after the last byte.
func (a *answer) end() {
	a.ended = true
	c := a.conn
	a.conn = nil
	if a.release() && a.keep && c.r.Buffered() == 0 {
		c.t.keep(c)
		return
	}
	c.net.Close()
}

// Close ends the call. What has not been read is given up, and the connection with it: that is
// how a node learns that nobody listens any more.
func (a *answer) Close() error {
	if a.conn == nil {
		return nil
	}
	a.release()
	c := a.conn
	a.conn = nil
	return c.net.Close()
}
