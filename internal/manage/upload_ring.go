package manage

import (
	"errors"
	"io"
	"slices"
	"sync"
	"time"
)

// pieceLimit is how many bytes are read or written at once: few enough that a node which takes
// anything at all is seen to within the stall limit.
const pieceLimit = 64 << 10

// What ends the filling or the taking before the end of the blob.
var (
	errNobodyTakes = errors.New("no node takes any more of the blob")
	errLeft        = errors.New("the taking has ended")
)

// A ring is a window of a blob: filled by one, taken by many, each at its own pace. What the
// slowest has not taken is kept, and nothing more than the window.
type ring struct {
	mu      sync.Mutex // guards what follows
	changed sync.Cond  // any of it
	window  []byte
	filled  int64 // bytes of the blob so far
	whole   bool  // all is filled, and is what it should be
	err     error // why there will be no more
	takers  []*taker
}

// newRing makes one with a window of that many bytes, or of as many as the blob has if it is known
// to be shorter.
func newRing(size int, length int64) *ring {
	if length >= 0 {
		size = int(min(int64(size), max(length, 1)))
	}
	r := &ring{window: make([]byte, size)}
	r.changed.L = &r.mu
	return r
}

// room waits until there is room and gives a part of it. It fails when nobody takes any more
// or the blob has been broken off.
func (r *ring) room() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		if r.err != nil {
			return nil, r.err
		}
		if len(r.takers) == 0 {
			return nil, errNobodyTakes
		}
		if free := r.slowestLocked() + int64(len(r.window)) - r.filled; free > 0 {
			at := int(r.filled % int64(len(r.window)))
			return r.window[at : at+min(int(free), len(r.window)-at, pieceLimit)], nil
		}
		r.changed.Wait()
	}
}

func (r *ring) slowestLocked() int64 {
	slowest := r.filled
	for _, t := range r.takers {
		slowest = min(slowest, t.taken)
	}
	return slowest
}

// fill tells that the first n bytes of the room have been filled.
func (r *ring) fill(n int) {
	r.mu.Lock()
	r.filled += int64(n)
	r.mu.Unlock()
	r.changed.Broadcast()
}

// end tells that the blob is complete and right. Until then nobody who takes it gets its end.
func (r *ring) end() {
	r.mu.Lock()
	r.whole = true
	r.mu.Unlock()
	r.changed.Broadcast()
}

// fail breaks the blob off. The first reason stands.
func (r *ring) fail(err error) {
	r.mu.Lock()
	if r.err == nil {
		r.err = err
	}
	r.mu.Unlock()
	r.changed.Broadcast()
}

// A taker takes the blob for one node: it is the body of a request. It is used by one
// goroutine; Close may be called by any.
type taker struct {
	ring  *ring
	stall time.Duration
	watch *time.Timer // of the caller; runs while there is something that the node could take

	taken int64 // guarded by ring.mu
	holds bool  // a piece of the window; guarded by ring.mu
	left  bool  // guarded by ring.mu
}

// taker adds one. It restarts watch for stall with each piece, and stops it while it waits for
// one: what the client needs is not the node's time.
func (r *ring) taker(stall time.Duration, watch *time.Timer) *taker {
	t := &taker{ring: r, stall: stall, watch: watch}
	r.mu.Lock()
	r.takers = append(r.takers, t)
	r.mu.Unlock()
	return t
}

// WriteTo implements io.WriterTo: nothing is copied on the way to the connection.
func (t *taker) WriteTo(w io.Writer) (written int64, err error) {
	for {
		piece, err := t.next()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(piece)
		written += int64(n)
		t.take(n)
		if err != nil {
			return written, err
		}
	}
}

// Read implements io.Reader.
func (t *taker) Read(p []byte) (int, error) {
	piece, err := t.next()
	if err != nil {
		return 0, err
	}
	n := copy(p, piece)
	t.take(n)
	return n, nil
}

// Close ends the taking, and a Read that waits. The others go on.
func (t *taker) Close() error {
	t.ring.mu.Lock()
	t.left = true
	t.leaveLocked()
	t.ring.mu.Unlock()
	t.ring.changed.Broadcast()
	return nil
}

// leaveLocked takes it off the ring, unless a piece is being written: that must not be filled
// anew before the write has ended.
func (t *taker) leaveLocked() {
	if !t.left || t.holds {
		return
	}
	if i := slices.Index(t.ring.takers, t); i >= 0 {
		t.ring.takers = slices.Delete(t.ring.takers, i, i+1)
	}
}

// next waits for a piece, which is held until take.
func (t *taker) next() ([]byte, error) {
	r := t.ring
	t.watch.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		switch {
		case t.left:
			return nil, errLeft
		case r.err != nil:
			return nil, r.err
		case t.taken < r.filled:
			t.watch.Reset(t.stall)
			t.holds = true
			at := int(t.taken % int64(len(r.window)))
			return r.window[at : at+min(int(r.filled-t.taken), len(r.window)-at, pieceLimit)], nil
		case r.whole:
			t.watch.Reset(t.stall) // for the answer
			return nil, io.EOF
		}
		r.changed.Wait()
	}
}

// take tells that n bytes of the piece have been taken.
func (t *taker) take(n int) {
	t.ring.mu.Lock()
	t.holds = false
	t.taken += int64(n)
	t.leaveLocked()
	t.ring.mu.Unlock()
	t.ring.changed.Broadcast()
}
