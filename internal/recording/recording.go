// Package recording keeps an answer as it grows: one writer appends frames, many readers
// follow, each at its own pace.
//
// It owns the life of the upstream call: the writer's context is cancelled when the last
// reader has left, so work nobody waits for ends. It knows nothing of HTTP, dialects or
// nodes, starts no goroutine, and its memory is bounded.
package recording

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// DefaultLimit is the bytes of frames a recording keeps for readers that have yet to come:
// some 30,000 frames of a chat, ten times a long answer.
const DefaultLimit = 4 << 20

// firstFrames is how many frames a recording has room for before it grows: a short answer.
const firstFrames = 16

var (
	// ErrAbandoned is the cause of the end of an upstream call whose last reader has left.
	ErrAbandoned = errors.New("nobody waits for the answer any more")
	// ErrSlow ends a reader that fell a whole limit behind the writer.
	ErrSlow = errors.New("reader too slow: it fell behind by more than the recording keeps")
	// ErrPastLimit refuses a further reader when the first frames are no longer kept.
	ErrPastLimit = errors.New("recording past its limit: its beginning is no longer kept")
)

// An EndError tells a reader that the answer ended before its end.
type EndError struct {
	// Begun tells whether the answer broke off in the middle (true) or never began.
	Begun bool
	// Err is what happened upstream; not for clients.
	Err error
}

func (e *EndError) Error() string {
	if e.Begun {
		return "answer broke off: " + e.Err.Error()
	}
	return "no answer: " + e.Err.Error()
}

func (e *EndError) Unwrap() error { return e.Err }

// A Frame is one piece of an answer as the node sent it, whole with its terminator.
type Frame struct {
	Data []byte        // never changed after Append
	At   time.Duration // when it arrived, since the recording was made
	Kind wire.FrameKind
}

// A Writer is the one who appends. Its methods are not safe for concurrent use with each
// other, but with all readers.
type Writer struct {
	*recording
	ctx context.Context
}

type recording struct {
	route   wire.Route
	single  *object       // of a replay: instead of frames, for who wants one object
	request *wire.Request // that it is the answer to, nil of another request's
	start   time.Time
	limit   int
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed at the end, whatever the end is

	// readers is replaced, never changed, so that Append can wake them without the lock.
	readers atomic.Pointer[[]*Reader]

	mu      sync.Mutex // guards what follows
	frames  []Frame    // those still kept
	dropped int        // frames no longer kept, i.e. the number of frames[0]
	kept    int        // bytes in frames
	total   int        // bytes ever appended
	object  *object    // instead of frames
	atEnd   []func(Whole, bool)
	ending  bool // nothing is appended any more
	ended   bool
	err     error // how it ended: nil is complete
	left    bool  // the last reader has left
}

type object struct {
	contentType string
	body        []byte
}

// New begins a recording of the answer to a request. ctx is the engine's: the writer's context
// is made from it. limit is in bytes of frame data; 0 means DefaultLimit.
func New(ctx context.Context, request *wire.Request, limit int) *Writer {
	if limit <= 0 {
		limit = DefaultLimit
	}
	ctx, cancel := context.WithCancelCause(ctx)
	r := &recording{route: request.Route, request: request, start: time.Now(), limit: limit, cancel: cancel, done: make(chan struct{})}
	r.readers.Store(new([]*Reader))
	return &Writer{recording: r, ctx: ctx}
}

// A Whole is what a complete recording is made of: frames, or one object instead.
type Whole struct {
	Frames []Frame // not to be changed

	ContentType string
	Object      []byte

	// For is the request that it was made for, nil if it is another one's.
	For *wire.Request

	// Single is the single answer that the frames make, where that is all that is wanted: there
	// are no frames then.
	Single []byte
}

// Replay is a finished recording of a route's answer, with its only reader.
func Replay(route wire.Route, w Whole) *Reader {
	r := &recording{
		route: route, request: w.For, limit: math.MaxInt, cancel: func(error) {}, done: finished,
		frames: w.Frames, ending: true, ended: true,
	}
	if w.Object != nil {
		r.object = &object{contentType: w.ContentType, body: w.Object}
	}
	if w.Single != nil {
		r.single = &object{contentType: w.ContentType, body: w.Single}
	}
	f := &Reader{rec: r, wake: make(chan struct{}, 1)}
	r.readers.Store(&[]*Reader{f})
	return f
}

// finished is the end of whatever has ended before it began.
var finished = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Context is that of the upstream call. It ends with the last reader (cause ErrAbandoned),
// with the engine, or after the recording's end.
func (w *Writer) Context() context.Context { return w.ctx }

// Done is closed when the recording has ended. Watching it keeps nothing alive.
func (w *Writer) Done() <-chan struct{} { return w.done }

// Follow gives a reader from the beginning, counted as a follower. It fails with
// ErrAbandoned once the last reader has left, with ErrPastLimit once the beginning is gone.
func (r *recording) Follow() (*Reader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.left:
		return nil, ErrAbandoned
	case r.total > r.limit:
		return nil, ErrPastLimit
	}
	f := &Reader{rec: r, wake: make(chan struct{}, 1)}
	// Only the newest list is appended to, and who reads an older one looks no further than its end:
	// a thousand who come at once copy it ten times, not a thousand.
	readers := append(*r.readers.Load(), f)
	r.readers.Store(&readers)
	return f, nil
}

// Append adds a frame and wakes the readers. data is kept, not copied. more says that the
// next frame, or the end, is there already: the readers are woken with that one. It returns
// ErrAbandoned when nobody follows any more.
func (w *Writer) Append(data []byte, kind wire.FrameKind, more bool) error {
	w.mu.Lock()
	if w.left || w.ended {
		w.mu.Unlock()
		return ErrAbandoned
	}
	if w.frames == nil {
		w.frames = make([]Frame, 0, firstFrames)
	}
	w.frames = append(w.frames, Frame{Data: data, At: time.Since(w.start), Kind: kind})
	w.kept += len(data)
	w.total += len(data)
	if w.total > w.limit {
		w.trimLocked()
	}
	much := w.kept > w.limit/2
	w.mu.Unlock()
	if !more {
		w.wake(much)
	}
	return nil
}

// Object makes the recording one complete object instead of frames.
func (w *Writer) Object(contentType string, body []byte) {
	w.mu.Lock()
	w.object = &object{contentType: contentType, body: body}
	w.mu.Unlock()
	w.Complete()
}

// Complete ends the recording after its final frame.
func (w *Writer) Complete() { w.end(nil) }

// Break ends the recording before its end: it broke off if a frame was appended, else it
// failed. Further ends are ignored.
func (w *Writer) Break(err error) {
	w.mu.Lock()
	begun := len(w.frames) > 0 || w.dropped > 0
	w.mu.Unlock()
	w.end(&EndError{Begun: begun, Err: err})
}

func (w *Writer) end(err error) {
	w.mu.Lock()
	if w.ending {
		w.mu.Unlock()
		return
	}
	w.ending, w.err = true, err
	told := w.atEnd
	w.atEnd = nil
	whole, ok := w.wholeLocked()
	w.mu.Unlock()
	for _, fn := range told {
		fn(whole, ok)
	}
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
	close(w.done)
	w.cancel(nil)
	w.wake(true)
}

// wholeLocked is all of a recording that has come to its end, if it is still there.
func (r *recording) wholeLocked() (w Whole, ok bool) {
	if !r.ending || r.err != nil || r.dropped > 0 || r.total > r.limit {
		return Whole{}, false
	}
	w.Frames = r.frames
	if r.object != nil {
		w.ContentType, w.Object = r.object.contentType, r.object.body
	}
	return w, true
}

// wake tells the readers to look again, the patient ones only if all is set. Their channels
// hold one token, so it never blocks.
func (r *recording) wake(all bool) {
	for _, f := range *r.readers.Load() {
		if !all && f.patient.Load() {
			continue
		}
		select {
		case f.wake <- struct{}{}:
		default:
		}
	}
}

// trimLocked drops the frames that all have read and cuts readers that hold more than a
// limit back.
func (r *recording) trimLocked() {
	oldest := r.dropped + len(r.frames)
	for _, f := range *r.readers.Load() {
		if !f.slow && f.next < oldest {
			oldest = f.next
		}
	}
	r.dropLocked(oldest)
	for r.kept > r.limit && len(r.frames) > 1 {
		r.dropLocked(r.dropped + 1)
	}
	for _, f := range *r.readers.Load() {
		if f.next < r.dropped {
			f.slow = true
		}
	}
}

// dropLocked forgets the frames before number n.
func (r *recording) dropLocked(n int) {
	for ; r.dropped < n; r.dropped++ {
		r.kept -= len(r.frames[0].Data)
		r.frames[0] = Frame{}
		r.frames = r.frames[1:]
	}
}
