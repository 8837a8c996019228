package wire

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

// FrameLimit is the longest frame in bytes, its terminator included. A node's longest
// legitimate one, the last record with the context of a 128k conversation, is under 1 MB.
const FrameLimit = 8_000_000

// ErrFrameTooLong says that a body holds a frame beyond FrameLimit, or never ends one.
var ErrFrameTooLong = errors.New("frame too long")

const (
	bufferSize = 4 << 10  // a frame is a few hundred bytes
	bufferKeep = 64 << 10 // what a stream may hold on to after a long frame
)

// StreamType is the content type of a stream.
func StreamType(d Dialect) string {
	if d == Ollama {
		return "application/x-ndjson"
	}
	return "text/event-stream"
}

// A Splitter cuts the body of a stream into frames: lines of NDJSON, events of SSE. It is not
// safe for concurrent use.
type Splitter struct {
	r   io.Reader
	sse bool

	buf  []byte // what has been read; a frame begins at start and holds no end before scan
	err  error  // what the reader ended with
	from int
	scan int
	end  int               // of the frame at from, where Ready has found it
	lent *[bufferSize]byte // what buf began with, as long as it is that
	slab []byte            // what frames are copied to: one allocation for all that came at once
}

// NewSplitter splits what it reads from r, which speaks d. It reads no further than it must.
func NewSplitter(r io.Reader, d Dialect) *Splitter {
	return &Splitter{r: r, sse: d != Ollama}
}

// Next gives the next whole frame with its terminator: "\n" after a native record, the empty
// line after an event; "\r\n" counts as "\n". The slice is the caller's own and no longer than
// the frame. Blank lines between frames, and events that are nothing but comments, are left
// out, so that each frame carries data.
//
// The error is io.EOF when the body ended between frames and io.ErrUnexpectedEOF when it ended
// within one. A last native line that only lacks its newline is a frame, and gets one, if it
// is a whole JSON value. An unfinished event is none, as SSE has it. Beyond FrameLimit the
// error is ErrFrameTooLong; other errors are the reader's. Errors repeat.
func (s *Splitter) Next() ([]byte, error) {
	for {
		end := s.end
		if s.end = 0; end == 0 {
			s.skipBlank()
			end = s.frameEnd()
		}
		if end > 0 {
			frame := s.buf[s.from:end]
			if len(frame) > FrameLimit {
				return nil, s.fail(ErrFrameTooLong)
			}
			s.from, s.scan = end, end
			if !s.carriesData(frame) {
				continue
			}
			return s.own(frame), nil
		}
		if s.err != nil {
			return s.last()
		}
		if len(s.buf)-s.from > FrameLimit {
			return nil, s.fail(ErrFrameTooLong)
		}
		s.fill()
	}
}

// Ready tells whether Next has a whole frame without reading.
func (s *Splitter) Ready() bool {
	if s.end > 0 {
		return true
	}
	for {
		s.skipBlank()
		end := s.frameEnd()
		if end == 0 {
			return false
		}
		if s.carriesData(s.buf[s.from:end]) {
			s.end = end
			return true
		}
		s.from, s.scan = end, end
	}
}

// own copies a frame.
func (s *Splitter) own(frame []byte) []byte {
	if cap(s.slab)-len(s.slab) < len(frame) {
		s.slab = make([]byte, 0, len(frame)+len(s.buf)-s.from)
	}
	at := len(s.slab)
	s.slab = append(s.slab, frame...)
	return s.slab[at:len(s.slab):len(s.slab)]
}

// skipBlank moves past the empty lines between frames that are wholly there.
func (s *Splitter) skipBlank() {
	for {
		rest := s.buf[s.from:]
		switch {
		case len(rest) > 0 && rest[0] == '\n':
			s.from++
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			s.from += 2
		default:
			s.scan = max(s.scan, s.from)
			return
		}
	}
}

// frameEnd is the offset behind the next frame, 0 while it is not wholly there.
func (s *Splitter) frameEnd() int {
	for {
		i := bytes.IndexByte(s.buf[s.scan:], '\n')
		if i < 0 {
			s.scan = len(s.buf)
			return 0
		}
		line := s.scan + i
		if !s.sse {
			return line + 1
		}
		switch after := s.buf[line+1:]; {
		case len(after) > 0 && after[0] == '\n':
			return line + 2
		case len(after) > 1 && after[0] == '\r' && after[1] == '\n':
			return line + 3
		case len(after) == 0, len(after) == 1 && after[0] == '\r':
			s.scan = line
			return 0
		}
		s.scan = line + 1
	}
}

// last gives what is left when the reader has ended.
func (s *Splitter) last() ([]byte, error) {
	rest := s.buf[s.from:]
	if s.err != io.EOF || len(bytes.TrimSpace(rest)) == 0 {
		return nil, s.err
	}
	if s.sse || !validJSON(rest) {
		return nil, s.fail(io.ErrUnexpectedEOF)
	}
	frame := make([]byte, 0, len(rest)+1)
	frame = append(append(frame, rest...), '\n')
	s.from, s.scan = len(s.buf), len(s.buf)
	return frame, nil
}

// fill reads once, after making room: first by moving what is unread to the front, then by
// doubling, so that the buffer stays below twice FrameLimit.
func (s *Splitter) fill() {
	if s.from > 0 {
		unread := s.buf[s.from:]
		if cap(s.buf) > bufferKeep && len(unread) <= bufferSize {
			s.buf = append(make([]byte, 0, 2*bufferSize), unread...)
		} else {
			s.buf = s.buf[:copy(s.buf, unread)]
		}
		s.from, s.scan = 0, s.scan-s.from
	}
	if len(s.buf) == cap(s.buf) {
		s.grow()
	}
	for range 100 { // as many empty reads as bufio bears
		n, err := s.r.Read(s.buf[len(s.buf):cap(s.buf)])
		s.buf = s.buf[:len(s.buf)+n]
		if n > 0 || err != nil {
			s.err = err
			return
		}
	}
	s.err = io.ErrNoProgress
}

// buffers are those of splitters before a long frame.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// grow doubles the buffer.
func (s *Splitter) grow() {
	if s.buf == nil {
		s.lent = buffers.Get().(*[bufferSize]byte)
		s.buf = s.lent[:0]
		return
	}
	s.buf = append(make([]byte, 0, 2*cap(s.buf)), s.buf...)
	s.Release()
}

// Release gives the buffer to other splitters. Next must not be called again.
func (s *Splitter) Release() {
	if s.lent != nil {
		if cap(s.buf) == bufferSize {
			s.buf = nil
		}
		buffers.Put(s.lent)
		s.lent = nil
	}
}

// fail ends the splitter with err and lets its memory go.
func (s *Splitter) fail(err error) error {
	s.err, s.buf, s.from, s.scan = err, nil, 0, 0
	return err
}

// carriesData tells whether a frame is more than white space or, in SSE, than comments, which
// is what a heartbeat is.
func (s *Splitter) carriesData(frame []byte) bool {
	if !s.sse {
		return len(bytes.TrimSpace(frame)) > 0
	}
	for line := range bytes.Lines(frame) {
		if line[0] != ':' && string(line) != "\n" && string(line) != "\r\n" {
			return true
		}
	}
	return false
}

// WithoutUsage gives a chunk of /v1/completions as a client sees it that asked for no usage: a
// node that is asked puts a zero one into each chunk. A frame without the field, or of another
// form, comes back as it is; otherwise the frame is a new one.
func WithoutUsage(frame []byte) []byte {
	if !bytes.Contains(frame, []byte(`"usage"`)) {
		return frame
	}
	if from, ok := dataOf(frame); ok && from == 0 {
		return frame // no event
	}
	var r respeller
	cut, err := r.respell(frame, usageSpot)
	if err != nil || len(r.edits) == 0 {
		return frame
	}
	return cut
}
