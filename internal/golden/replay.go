package golden

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// Replay sends a record's request over a connection of its own, as it was recorded: bare bytes, with the Host header it
// had or had not. It returns the answer as it stood on the wire. A connection that ends without an answer is one of
// Status 0 and no error. dial is called once; ctx ends the wait for the answer.
func Replay(ctx context.Context, dial func(context.Context) (net.Conn, error), rec Record) (Response, error) {
	conn, err := dial(ctx)
	if err != nil {
		return Response{}, fmt.Errorf("dial: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	written := make(chan struct{})
	go func() { // ends when the request is written or the connection is closed, for which Replay waits
		defer close(written)
		_, _ = conn.Write(rec.Request.Wire()) // the server may answer and hang up before it has read everything
	}()
	got, err := readResponse(bufio.NewReader(conn), rec.Request.Method)
	stop()
	_ = conn.Close()
	<-written
	if ctx.Err() != nil {
		return got, ctx.Err()
	}
	return got, err
}

// Wire returns the request's bytes. Content-Length is added where there is a body.
func (q Request) Wire() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s %s\r\n", q.Method, q.Path, q.Proto)
	for _, h := range q.Headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	if q.HasBody {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(q.Body))
	}
	b.WriteString("\r\n")
	b.Write(q.Body)
	return b.Bytes()
}

// readResponse reads one answer.
func readResponse(r *bufio.Reader, method string) (Response, error) {
	var a Response
	for {
		line, err := readLine(r)
		if err != nil {
			return Response{}, nil // no answer is an answer
		}
		var ok bool
		if a.Status, ok = statusOf(line); !ok {
			return a, fmt.Errorf("status line %q", line)
		}
		a.Line, a.Headers, a.NoDate = line, nil, true
		if err := readHeaders(r, &a); err != nil {
			return a, err
		}
		if a.Status >= 200 || a.Status == http.StatusSwitchingProtocols {
			break
		}
		a.Interim = append(a.Interim, line)
	}
	length, hasLength := header(a.Headers, "Content-Length")
	coding, _ := header(a.Headers, "Transfer-Encoding")
	switch {
	case method == http.MethodHead, a.Status == http.StatusNoContent, a.Status == http.StatusNotModified:
		a.Framing = "none"
	case strings.EqualFold(coding, "chunked"):
		a.Framing = "chunked"
		return a, readChunks(r, &a)
	case hasLength:
		a.Framing = "content-length"
		n, err := strconv.Atoi(length)
		if err != nil || n < 0 {
			return a, fmt.Errorf("Content-Length %q", length)
		}
		a.Body, err = readN(r, n)
		a.Truncated = err != nil
	default:
		a.Framing = "close"
		var err error
		if a.Body, err = io.ReadAll(r); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			a.Truncated = true
		}
	}
	return a, nil
}

func statusOf(line string) (int, bool) {
	proto, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	status, err := strconv.Atoi(code)
	return status, err == nil && strings.HasPrefix(proto, "HTTP/")
}

func readHeaders(r *bufio.Reader, a *Response) error {
	for {
		line, err := readLine(r)
		if err != nil {
			return fmt.Errorf("headers: %w", err)
		}
		if line == "" {
			return nil
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("header line %q", line)
		}
		if strings.EqualFold(key, "Date") {
			a.NoDate = false
			continue
		}
		a.Headers = append(a.Headers, [2]string{key, strings.TrimSpace(value)})
	}
}

// readChunks reads a chunked body; one that ends early is truncated, not an error.
func readChunks(r *bufio.Reader, a *Response) error {
	for {
		line, err := readLine(r)
		if err != nil {
			a.Truncated = true
			return nil
		}
		size, _, _ := strings.Cut(line, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(size), 16, 32)
		if err != nil || n < 0 {
			return fmt.Errorf("chunk size %q", line)
		}
		chunk, err := readN(r, int(n))
		if err != nil {
			a.Truncated = true
			return nil
		}
		if end, err := readLine(r); err != nil || end != "" {
			a.Truncated = true // after the last chunk this is the empty line; trailers are not used by anybody here
			return nil
		}
		if n == 0 {
			return nil
		}
		a.Chunks = append(a.Chunks, chunk)
		a.Body = append(a.Body, chunk...)
	}
}

// readN reads n bytes, or fewer and an error. It believes nobody's length before the bytes are there.
func readN(r io.Reader, n int) ([]byte, error) {
	var b bytes.Buffer
	_, err := io.CopyN(&b, r, int64(n))
	return b.Bytes(), err
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// header returns the first value of a header.
func header(headers [][2]string, name string) (string, bool) {
	for _, h := range headers {
		if textproto.CanonicalMIMEHeaderKey(h[0]) == textproto.CanonicalMIMEHeaderKey(name) {
			return h[1], true
		}
	}
	return "", false
}
