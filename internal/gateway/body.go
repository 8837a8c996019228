package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A body is a request body read to its end, and its share of the budget.
type body struct {
	bytes  []byte
	budget *budget
	share  int64
}

// release gives the share back when the call no longer needs the body.
func (b *body) release() {
	b.budget.give(b.share)
	b.share = 0
}

// An awaited body is one that its client sends when it is told to (Expect: 100-continue), which
// the first read does.
type awaited struct {
	io.ReadCloser
	asked atomic.Bool
}

func (a *awaited) Read(p []byte) (int, error) {
	a.asked.Store(true)
	return a.ReadCloser.Read(p)
}

// awaits notes that the client waits to be asked for its body.
func (q *request) awaits() {
	if q.r.ProtoMajor == 1 && q.r.ContentLength != 0 && q.r.Header.Get("Expect") != "" {
		q.awaited = &awaited{ReadCloser: q.r.Body}
		q.r.Body = q.awaited
	}
}

// Faults of a client while its body is read.
var (
	errBodyTooLarge = errors.New("request body too large")
	errBodySlow     = errors.New("request body came too slowly")
	errBodyBroken   = errors.New("request body could not be read")
	errMemory       = errors.New("too many request bodies in memory")
)

const readStep = 64 << 10 // bytes by which a body of unknown length grows at least

// readBody reads a request's body to its end: within the limits, before any node is chosen,
// so that a slow or broken client is never booked against a node. Reading to the end also is
// what lets the server notice a client's departure later.
//
// What a node would decompress is read decompressed, and counted so. The refusal of the
// encoding is a *wire.BadRequest, the others are the errors above.
func (e *Engine) readBody(w http.ResponseWriter, r *http.Request, l Limits, expands bool) (*body, error) {
	b := &body{budget: &e.bodies}
	if r.ContentLength == 0 {
		return b, nil
	}
	if r.ContentLength > l.Body {
		return b, errBodyTooLarge
	}
	// The deadline is set for a body only: one that expires without a body ends the request's
	// context (net/http reads in the background then). A writer without deadlines, as in
	// tests, has no slow clients.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(l.BodyTimeout))
	var source io.Reader = http.MaxBytesReader(w, r.Body, l.Body)
	size := r.ContentLength
	if expands && r.Header.Get("Content-Encoding") == "zstd" {
		expanded, err := wire.Expand(source)
		if err != nil {
			return b, err
		}
		defer expanded.Close()
		source, size = expanded, -1
	}
	err := b.fill(source, size, l.Bodies)
	_ = control.SetReadDeadline(time.Time{})
	if err == nil {
		return b, nil
	}
	b.release()
	var (
		tooLarge *http.MaxBytesError
		bad      *wire.BadRequest
	)
	switch {
	case errors.As(err, &bad):
		return b, bad
	case errors.As(err, &tooLarge):
		return b, errBodyTooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return b, errBodySlow
	case errors.Is(err, errMemory):
		return b, errMemory
	}
	return b, errBodyBroken
}

// fill reads r to its end; size is its length if known, else negative.
func (b *body) fill(r io.Reader, size, limit int64) error {
	if size >= 0 {
		if err := b.grow(size, limit); err != nil {
			return err
		}
		b.bytes = b.bytes[:size]
		_, err := io.ReadFull(r, b.bytes)
		return err
	}
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.grow(max(readStep, int64(len(b.bytes))), limit); err != nil {
				return err
			}
		}
		n, err := r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grow makes room for n more bytes.
func (b *body) grow(n, limit int64) error {
	if !b.budget.take(n, limit) {
		return errMemory
	}
	b.share += n
	grown := make([]byte, len(b.bytes), int64(cap(b.bytes))+n)
	copy(grown, b.bytes)
	b.bytes = grown
	return nil
}
