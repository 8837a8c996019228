package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// dialTimeout and answerTimeout bound what hangs; nothing that works takes nearly as long.
const (
	dialTimeout   = 5 * time.Second
	answerTimeout = 60 * time.Second
)

var (
	// errCut says that a stream ended before its final record, in whatever way.
	errCut = errors.New("the stream was cut")
	// errFresh says that a node has just made an answer that should have been a stored one.
	errFresh = errors.New("the answer was not stored before")
)

// A client asks one address over one connection that is kept alive, one request at a time.
// It is no net/http client: that one's price is near that of the proxies to be measured.
type client struct {
	ctx  context.Context // the load's: its end closes the connection
	addr string
	from net.Addr // the address it dials from; nil for any
	made []byte   // answers must have been made before, as nodes write times; nil: whenever

	conn    net.Conn // nil before the first request and after a failure
	release func() bool
	r       *bufio.Reader
	body    bodyReader
	out     []byte
	request []byte
}

// An observer is told what a client sees of an answer.
type observer struct {
	stamped bool            // the ages of records are wanted
	ages    []time.Duration // from the node's stamp to the client, of the records with text
	records int
	bytes   int           // of the body
	first   time.Duration // from the request to the first record
}

// ask sends one request, reads the answer to its end and checks every word of it. After an
// error the connection is closed, and the next request dials again.
func (c *client) ask(p prompt, stream bool, o *observer) (err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.request = p.appendRequest(c.request[:0], stream)
	begun, err := c.send(chatPath, answerTimeout)
	if err != nil {
		return err
	}
	if stream {
		return c.readStream(p, begun, o)
	}
	return c.readSingle(p, o)
}

// The paths that clients ask.
const (
	chatPath  = "/api/chat"
	embedPath = "/api/embed"
)

// send sends the request and reads up to the body of an answer with status 200. All of the
// answer must be there within the given time after begun.
func (c *client) send(path string, within time.Duration) (begun time.Time, err error) {
	if err := c.dial(); err != nil {
		return begun, err
	}
	c.out = append(append(append(c.out[:0], "POST "...), path...), " HTTP/1.1\r\nHost: "...)
	c.out = append(append(c.out, c.addr...),
		"\r\nUser-Agent: bench\r\nAccept: application/x-ndjson\r\nContent-Type: application/json\r\nContent-Length: "...)
	c.out = append(strconv.AppendInt(c.out, int64(len(c.request)), 10), "\r\n\r\n"...)
	c.out = append(c.out, c.request...)

	begun = time.Now()
	if err := c.conn.SetDeadline(begun.Add(within)); err != nil {
		return begun, err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return begun, err
	}
	status, length, err := readHead(c.r)
	if err != nil {
		return begun, err
	}
	c.body.open(c.r, length)
	if status != 200 {
		line, _ := c.body.next()
		return begun, fmt.Errorf("status %d: %.200q", status, line)
	}
	return begun, nil
}

func (c *client) readStream(p prompt, begun time.Time, o *observer) error {
	for i := 0; ; i++ {
		record, err := c.body.next()
		if err != nil {
			return fmt.Errorf("%w after record %d of %d: %w", errCut, i, p.words, err)
		}
		if bytes.HasPrefix(record, []byte(`{"error"`)) {
			return fmt.Errorf("%w after record %d of %d: %.200q", errCut, i, p.words, record)
		}
		if i == 0 {
			o.first = time.Since(begun)
		}
		o.records++
		o.bytes += len(record) + 1
		if i == p.words {
			if !bytes.Contains(record, []byte(`"done":true`)) {
				return fmt.Errorf("not the final record: %.200q", record)
			}
			if err := c.checkMade(record); err != nil {
				return err
			}
			if err := p.checkContent(record, p.words, p.words); err != nil {
				return err
			}
			return c.readEnd()
		}
		if o.stamped {
			age, ok := ageOf(record, time.Now())
			if !ok {
				return fmt.Errorf("no stamp in %.200q", record)
			}
			o.ages = append(o.ages, age)
		}
		if err := p.checkContent(record, i, i+1); err != nil {
			return err
		}
	}
}

func (c *client) readSingle(p prompt, o *observer) error {
	object, err := c.body.next()
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if !bytes.Contains(object, []byte(`"done":true`)) {
		return fmt.Errorf("not done: %.200q", object)
	}
	o.bytes += len(object)
	if err := c.checkMade(object); err != nil {
		return err
	}
	if err := p.checkContent(object, 0, p.words); err != nil {
		return err
	}
	return c.readEnd()
}

// checkMade tells an answer that is stored from one that a node has just made, by the node's own
// stamp: what a cache says of itself proves nothing.
func (c *client) checkMade(record []byte) error {
	if c.made == nil {
		return nil
	}
	stamp, ok := stampOf(record)
	if !ok {
		return fmt.Errorf("no stamp in %.200q", record)
	}
	if bytes.Compare(stamp, c.made) >= 0 {
		return fmt.Errorf("%w: %s, not before %s", errFresh, stamp, c.made)
	}
	return nil
}

// readEnd reads what ends an answer that is complete, so that the connection is free.
func (c *client) readEnd() error {
	line, err := c.body.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("after the final record: %w", err)
	}
	return fmt.Errorf("after the final record: %.200q", line)
}

func (c *client) dial() error {
	if c.conn != nil {
		return nil
	}
	d := net.Dialer{Timeout: dialTimeout, LocalAddr: c.from}
	conn, err := d.DialContext(c.ctx, "tcp", c.addr)
	if err != nil {
		return err
	}
	c.conn = conn
	c.release = context.AfterFunc(c.ctx, func() { conn.Close() })
	if c.r == nil {
		c.r = bufio.NewReaderSize(conn, 8<<10)
	} else {
		c.r.Reset(conn)
	}
	return nil
}

func (c *client) close() {
	if c.conn != nil {
		c.release()
		c.conn.Close()
		c.conn = nil
	}
}

// What readHeader gives in place of a length.
const (
	chunked  = -1
	noLength = -2
)

var (
	errHeader = errors.New("not a header")
	errChunk  = errors.New("not a chunk")
)

// readHead reads the status line and the header of an answer.
func readHead(r *bufio.Reader) (status, length int, err error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return 0, 0, fmt.Errorf("read the status: %w", err)
	}
	const before = "HTTP/1.1 "
	if len(line) < len(before)+3 || string(line[:len(before)]) != before {
		return 0, 0, fmt.Errorf("%w: %.100q", errHeader, line)
	}
	if status, err = strconv.Atoi(string(line[len(before) : len(before)+3])); err != nil {
		return 0, 0, fmt.Errorf("%w: %.100q", errHeader, line)
	}
	length, err = readHeader(r)
	return status, length, err
}

// readHeader reads header lines up to the empty one, and gives the length of the body,
// chunked or noLength.
func readHeader(r *bufio.Reader) (length int, err error) {
	length = noLength
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("read the header: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return 0, fmt.Errorf("%w: %.100q", errHeader, line)
		}
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil || length < 0 {
				return 0, fmt.Errorf("%w: %.100q", errHeader, line)
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			if !bytes.EqualFold(value, []byte("chunked")) {
				return 0, fmt.Errorf("%w: %.100q", errHeader, line)
			}
			length = chunked
		}
	}
}

// A bodyReader reads the lines of an answer, wherever chunks and segments divide them.
type bodyReader struct {
	r       *bufio.Reader
	chunked bool
	left    int  // of the chunk, or of the body
	within  bool // a chunk, or right behind its data
	ended   bool
	line    []byte // begun and not complete yet
}

func (b *bodyReader) open(r *bufio.Reader, length int) {
	*b = bodyReader{r: r, chunked: length == chunked, left: max(length, 0), line: b.line[:0]}
}

// next gives a line without its end, valid until the next call. The last line needs none.
// It gives io.EOF behind a body that ended as its framing says, else another error.
func (b *bodyReader) next() ([]byte, error) {
	b.line = b.line[:0]
	for !b.ended {
		if b.left == 0 {
			if err := b.advance(); err != nil {
				return nil, unexpected(err)
			}
			continue
		}
		if _, err := b.r.Peek(1); err != nil {
			return nil, unexpected(err)
		}
		data, _ := b.r.Peek(min(b.left, b.r.Buffered()))
		part, more := data, true
		taken := len(data)
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			part, more, taken = data[:i], false, i+1
		}
		if more || len(b.line) > 0 {
			b.line = append(b.line, part...)
			part = b.line
		}
		_, _ = b.r.Discard(taken) // it is buffered
		b.left -= taken
		if !more {
			return part, nil
		}
	}
	if len(b.line) > 0 {
		return b.line, nil
	}
	return nil, io.EOF
}

// advance steps into the next chunk, or behind the end.
func (b *bodyReader) advance() error {
	if !b.chunked {
		b.ended = true
		return nil
	}
	if b.within {
		if line, err := b.r.ReadSlice('\n'); err != nil || len(line) > 2 {
			return cmp.Or(err, errChunk)
		}
		b.within = false
	}
	line, err := b.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	size, err := strconv.ParseUint(string(bytes.TrimRight(line, "\r\n")), 16, 31)
	if err != nil {
		return fmt.Errorf("%w: %.100q", errChunk, line)
	}
	if size > 0 {
		b.left, b.within = int(size), true
		return nil
	}
	b.ended = true
	_, err = readHeader(b.r) // trailers, and the empty line
	return err
}

// unexpected keeps the end of a connection apart from the end of an answer.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
