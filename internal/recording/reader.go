package recording

import (
	"context"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// A Reader follows a recording from its beginning. Each has its own place; one reader is
// used by one goroutine at a time, Close and Fork by any.
type Reader struct {
	rec    *recording
	wake   chan struct{} // holds one token: something has changed since the last look
	closed sync.Once

	patient atomic.Bool // not to be woken for each frame

	next int  // number of the frame to read next; guarded by rec.mu
	slow bool // it was cut; guarded by rec.mu
}

// Read fills into with the frames that are there, waiting for the first one, and tells how
// many. It returns io.EOF after the last frame of a complete recording, an *EndError when
// the answer ended before its end, ErrSlow when this reader was cut, and the cause of ctx
// when that ends the wait. A recording that is one object has no frames.
func (f *Reader) Read(ctx context.Context, into []Frame) (int, error) {
	for {
		n, err := f.look(into)
		if n > 0 || err != nil {
			return n, err
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (f *Reader) look(into []Frame) (int, error) {
	f.rec.mu.Lock()
	defer f.rec.mu.Unlock()
	if f.slow {
		return 0, ErrSlow
	}
	n := copy(into, f.rec.frames[f.next-f.rec.dropped:])
	f.next += n
	if n > 0 || !f.rec.ended {
		return n, nil
	}
	if f.rec.err != nil {
		return 0, f.rec.err
	}
	return 0, io.EOF
}

// WaitForMuch makes the reader wait for the end, or for so much that it would soon fall behind:
// who only wants the whole is not woken for each frame.
func (f *Reader) WaitForMuch() { f.patient.Store(true) }

// Object gives the object that the recording is instead of frames, if it is one. It does
// not wait: an Answerer returns when the first frame or the object is there.
func (f *Reader) Object() (contentType string, body []byte, ok bool) {
	f.rec.mu.Lock()
	defer f.rec.mu.Unlock()
	if f.rec.object == nil {
		return "", nil, false
	}
	return f.rec.object.contentType, f.rec.object.body, true
}

// Of is whose answer it is: the route that was asked, and the request that was sent, nil if the
// recording was made of a stored answer.
func (f *Reader) Of() (wire.Route, *wire.Request) { return f.rec.route, f.rec.request }

// Single gives the single answer that a replay is, if it is one.
func (f *Reader) Single() (contentType string, body []byte, ok bool) {
	if f.rec.single == nil {
		return "", nil, false
	}
	return f.rec.single.contentType, f.rec.single.body, true
}

// AtEnd has fn called once when the recording ends, before the end can be read: at once if it has
// ended. whole tells that it is complete, and that all of it is still there; it is neither if it
// broke off, or has passed its limit. AtEnd keeps nothing alive. fn must be quick.
func (f *Reader) AtEnd(fn func(w Whole, whole bool)) {
	r := f.rec
	r.mu.Lock()
	if !r.ending {
		r.atEnd = append(r.atEnd, fn)
		r.mu.Unlock()
		return
	}
	whole, ok := r.wholeLocked()
	r.mu.Unlock()
	fn(whole, ok)
}

// Fork gives a further reader from the beginning, under the conditions of Follow.
func (f *Reader) Fork() (*Reader, error) { return f.rec.Follow() }

// Close gives up following. The last one to leave a running recording cancels its upstream
// call. It may be called several times.
func (f *Reader) Close() { f.closed.Do(f.leave) }

func (f *Reader) leave() {
	r := f.rec
	r.mu.Lock()
	old := *r.readers.Load()
	readers := slices.DeleteFunc(slices.Clone(old), func(o *Reader) bool { return o == f })
	r.readers.Store(&readers)
	abandoned := len(readers) == 0
	if abandoned {
		r.left = true
	}
	r.mu.Unlock()
	if abandoned {
		r.cancel(ErrAbandoned) // after the end it cancels nothing that still runs
	}
}
