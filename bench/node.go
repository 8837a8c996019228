package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// runNode serves one node in this process until its parent has gone. It prints where it
// listens.
//
// The node speaks as much of Ollama as who stands before it needs. It is no net/http server,
// so that it takes little of the cores that it shares with what is measured; its framing is
// that of one: a chunk and a write for each record, as a real node flushes each token.
func runNode(listen string) error {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	go endWithInput()
	fmt.Println(ln.Addr())
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serveNode(c) // ends with its connection
	}
}

// endWithInput ends this process when its standard input does: then its parent has gone.
func endWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// maxBody bounds what a node reads; the bench sends a few hundred bytes.
const maxBody = 1 << 20

// countPath is where a node tells how many chats it was asked for.
const countPath = "/_chats"

// chatsAsked is that number. A node is a process of its own.
var chatsAsked atomic.Int64

// serveNode answers the requests of one connection.
func serveNode(c net.Conn) {
	defer c.Close()
	n := &nodeConn{c: c, r: bufio.NewReaderSize(c, 4<<10)}
	for {
		path, err := n.readRequest()
		if err == nil {
			err = n.answer(path)
		}
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				n.write(400, "text/plain", []byte(err.Error()))
			}
			return
		}
	}
}

// A nodeConn is one connection of a node, with buffers that its answers share.
type nodeConn struct {
	c      net.Conn
	r      *bufio.Reader
	body   []byte // of the request
	record []byte
	out    []byte
	clock  clock
}

// readRequest reads a request with its body and gives its path.
func (n *nodeConn) readRequest() (path string, err error) {
	line, err := n.r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return "", fmt.Errorf("request line %q", line)
	}
	path = string(parts[1])
	length, err := readHeader(n.r)
	if err != nil {
		return "", err
	}
	if length == chunked || length > maxBody {
		return "", errors.New("say a content-length, a small one")
	}
	length = max(length, 0)
	n.body = slices.Grow(n.body[:0], length)[:length]
	_, err = io.ReadFull(n.r, n.body)
	return path, err
}

// answer answers one request.
func (n *nodeConn) answer(path string) error {
	switch path {
	case chatPath:
		chatsAsked.Add(1)
		p, stream, err := parseRequest(n.body)
		if err != nil {
			return err
		}
		if stream {
			return n.stream(p)
		}
		return n.single(p)
	case countPath:
		return n.write(200, jsonType, strconv.AppendInt(nil, chatsAsked.Load(), 10))
	case "/api/version":
		return n.write(200, jsonType, []byte(`{"version":"0.24.0"}`))
	case "/api/tags":
		return n.write(200, jsonType, []byte(`{"models":[`+modelRow+`}]}`))
	case "/api/ps":
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		return n.write(200, jsonType, []byte(`{"models":[`+modelRow+`,"expires_at":"`+until+`","size_vram":4000000000,"context_length":4096}]}`))
	case "/api/show":
		return n.write(200, jsonType, []byte(modelShown))
	}
	return n.write(404, "text/plain", []byte("404 page not found"))
}

const (
	jsonType   = "application/json; charset=utf-8"
	digest     = "5c1f8c2d1f4e4f3a9b6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3"
	details    = `"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],"parameter_size":"7B","quantization_level":"Q4_0"}`
	modelRow   = `{"name":"` + model + `","model":"` + model + `","modified_at":"2026-01-01T00:00:00Z","size":4000000000,"digest":"` + digest + `",` + details
	modelShown = `{"modelfile":"FROM /models/blobs/sha256-` + digest + `\n","template":"{{ .Prompt }}",` + details +
		`,"model_info":{},"capabilities":["completion"],"modified_at":"2026-01-01T00:00:00Z"}`
)

// write answers with a body of known length.
func (n *nodeConn) write(status int, contentType string, body []byte) error {
	out := append(n.out[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(append(append(out, " Status\r\nContent-Type: "...), contentType...), "\r\nContent-Length: "...)
	out = append(strconv.AppendInt(out, int64(len(body)), 10), "\r\n\r\n"...)
	n.out = append(out, body...)
	_, err := n.c.Write(n.out)
	return err
}

// single answers with all words in one object.
func (n *nodeConn) single(p prompt) error {
	n.whole(p)
	return n.write(200, jsonType, n.record)
}

// whole makes the record that has all words.
func (n *nodeConn) whole(p prompt) {
	n.openRecord()
	for i := range p.words {
		n.record = p.appendWord(n.record, i)
	}
	n.closeLast(p)
}

// stream answers with a record a word, each in a chunk and a write of its own.
func (n *nodeConn) stream(p prompt) error {
	begun := time.Now()
	n.out = append(n.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"...)
	for i := range p.words + 1 {
		if i == 1 {
			time.Sleep(time.Duration(p.pause) * time.Second)
		}
		if p.rate > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(p.rate))))
		}
		n.openRecord()
		if i < p.words {
			n.record = append(p.appendWord(n.record, i), `"},"done":false}`...)
		} else {
			n.closeLast(p)
		}
		n.record = append(n.record, '\n')
		n.out = strconv.AppendInt(n.out, int64(len(n.record)), 16)
		n.out = append(append(append(n.out, "\r\n"...), n.record...), "\r\n"...)
		if _, err := n.c.Write(n.out); err != nil {
			return err
		}
		n.out = n.out[:0]
	}
	_, err := n.c.Write([]byte("0\r\n\r\n"))
	return err
}

// openRecord begins a record, up to its content, with the time it is written.
func (n *nodeConn) openRecord() {
	n.record = append(n.record[:0], `{"model":"`+model+`","created_at":"`...)
	n.record = n.clock.appendStamp(n.record, time.Now())
	n.record = append(n.record, `","message":{"role":"assistant","content":"`...)
}

// closeLast ends the final record, or the single one.
func (n *nodeConn) closeLast(p prompt) {
	n.record = append(n.record, `"},"done":true,"done_reason":"stop","total_duration":52000000,"load_duration":9000000,`+
		`"prompt_eval_count":26,"prompt_eval_duration":11000000,"eval_count":`...)
	n.record = strconv.AppendInt(n.record, int64(p.words), 10)
	n.record = append(n.record, `,"eval_duration":30000000}`...)
}

// A clock writes times as nodes do, but with all digits of the nanoseconds always, so that
// they stand at fixed places. It is not safe for concurrent use.
type clock struct {
	second int64
	text   []byte // of the second
}

func (k *clock) appendStamp(b []byte, t time.Time) []byte {
	if s := t.Unix(); s != k.second || k.text == nil {
		k.second, k.text = s, t.UTC().AppendFormat(k.text[:0], "2006-01-02T15:04:05.")
	}
	b = append(b, k.text...)
	nanos := t.Nanosecond()
	for unit := 100_000_000; unit > 0; unit /= 10 {
		b = append(b, byte('0'+nanos/unit%10))
	}
	return append(b, 'Z')
}

var createdKey = []byte(`"created_at":"`)

// stampOf is the time that is written in a record. Of two, the later one is the greater text.
func stampOf(record []byte) (stamp []byte, ok bool) {
	i := bytes.Index(record, createdKey)
	const length = len("2006-01-02T15:04:05.000000000Z")
	if i < 0 || len(record) < i+len(createdKey)+length {
		return nil, false
	}
	stamp = record[i+len(createdKey):][:length]
	return stamp, stamp[length-1] == 'Z'
}

// ageOf is how long before now a record was stamped. It must be less than a minute ago.
func ageOf(record []byte, now time.Time) (age time.Duration, ok bool) {
	stamp, ok := stampOf(record)
	if !ok {
		return 0, false
	}
	var nanos int64
	for _, c := range stamp[20 : len(stamp)-1] {
		nanos = nanos*10 + int64(c-'0')
	}
	nanos += (int64(stamp[17]-'0')*10 + int64(stamp[18]-'0')) * int64(time.Second)
	const minute = int64(time.Minute)
	return time.Duration(((now.UnixNano()-nanos)%minute + minute) % minute), true
}
