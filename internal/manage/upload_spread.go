package manage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// spread sends a blob to all nodes that lack it at once, and sets their failures anew. The error is
// that of the blob or of ctx; then no node has got the end of it.
func (u *Uploads) spread(ctx context.Context, lacking []*Result, digest string, length int64, body io.Reader) (created bool, err error) {
	asked := ctx
	ctx, cancel := context.WithCancelCause(asked)
	defer cancel(nil)
	ring := newRing(u.opts.Window, length)
	defer context.AfterFunc(ctx, func() { ring.fail(context.Cause(ctx)) })()

	news := make([]bool, len(lacking))
	var sending sync.WaitGroup
	for i, r := range lacking {
		s := u.sending(ctx, ring)
		sending.Go(func() { // ends with the node's answer, ctx, or the limit of stalls
			defer s.end()
			news[i], r.Failure = s.send(r.Node, digest)
		})
	}
	err = pump(ring, digest, length, body)
	if err != nil {
		ring.fail(err)
		cancel(err) // ends writes that wait for nodes
	}
	sending.Wait()
	if asked.Err() != nil {
		// Which of the two came first cannot be told: a server ends the one with the other.
		if err == nil {
			return false, context.Cause(asked)
		}
		return false, fmt.Errorf("%w (%w)", context.Cause(asked), err)
	}
	return slices.Contains(news, true), err
}

// pump fills the ring from body, which has that length unless it is negative, and checks the digest.
// It ends early, without an error, when no node takes any more.
func pump(r *ring, digest string, length int64, body io.Reader) error {
	sum := sha256.New()
	var read int64
	for read != length {
		room, err := r.room()
		if err == errNobodyTakes {
			return nil
		}
		if err != nil {
			return err
		}
		if length >= 0 {
			room = room[:min(int64(len(room)), length-read)]
		}
		n, err := body.Read(room)
		sum.Write(room[:n])
		read += int64(n)
		r.fill(n)
		if err == io.EOF && (length < 0 || read == length) {
			break
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return &BodyError{err}
		}
	}
	if got := digestOf(sum.Sum(nil)); got != digest {
		return &DigestMismatch{digest, got}
	}
	r.end()
	return nil
}

func digestOf(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// A sending is one node's part of an upload.
type sending struct {
	ctx    context.Context // of its request, which it is the rest of
	cancel context.CancelCauseFunc
	watch  *time.Timer // the node's time
	opts   Options
	taker  *taker
}

// sending begins one node's part. The ring waits for it until its end.
func (u *Uploads) sending(ctx context.Context, r *ring) *sending {
	s := &sending{opts: u.opts.Options}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.watch = time.AfterFunc(s.opts.Stall, func() { s.cancel(errStalled) })
	s.taker = r.taker(s.opts.Stall, s.watch)
	return s
}

func (s *sending) end() {
	s.watch.Stop()
	s.cancel(nil)
	_ = s.taker.Close() // cannot fail
}

// send sends the blob. created tells that the node did not have it.
func (s *sending) send(n Node, digest string) (created bool, failure *Failure) {
	// Without a length, as Ollama's own client sends it: so a node knows that it has all of it by
	// the end alone, which it gets only of a blob that is right.
	resp, failure := s.opts.exchange(s.ctx, n, http.MethodPost, blobPath(digest), "application/octet-stream", -1, s.taker)
	if failure != nil {
		return false, failure
	}
	defer resp.Body.Close()
	_ = s.taker.Close() // what it has not taken, the others need not wait for
	s.watch.Reset(s.opts.Stall)
	switch resp.StatusCode {
	case http.StatusCreated:
		return true, nil
	case http.StatusOK:
		return false, nil
	}
	return false, refusal(resp)
}
