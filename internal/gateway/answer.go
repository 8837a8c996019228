package gateway

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/recording"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// batchFrames is how many frames are written between two flushes when they are there
// already: a stream that keeps up is flushed frame by frame, a replay in bunches.
const batchFrames = 32

// announceEvents sets what a node sends with the answer to a request for events of these two
// routes, be it an error.
func (q *request) announceEvents() {
	if q.route.Dialect != wire.Anthropic && q.route.Operation != wire.Responses {
		return
	}
	h := q.w.Header()
	h.Set("Cache-Control", "no-cache")
	if q.r.ProtoMajor == 1 {
		h.Set("Connection", "keep-alive")
	}
}

// stream answers with the frames of the recording, as they arrive.
func (q *request) stream(c *call.Call) error {
	q.wantsStream = true
	reader, err := q.steps.Answer(q.ctx(), c)
	if err != nil {
		return err
	}
	defer reader.Close()
	tell, err := newTelling(q, c, reader, c.Request.IncludeUsage)
	if err != nil {
		return err
	}
	q.explain(c)
	q.shared(c)
	if contentType, body, ok := reader.Object(); ok {
		q.answer(http.StatusOK, contentType, body)
		return nil
	}
	q.w.Header().Set("Content-Type", wire.StreamType(q.route.Dialect))
	q.streams = true
	q.answers()
	q.head(http.StatusOK)
	control := http.NewResponseController(q.w)
	s := scratches.Get().(*scratch)
	defer s.release()
	for {
		n, err := reader.Read(q.ctx(), s.frames[:])
		data, untold := tell.frames(s.frames[:n], &s.joined)
		if len(data) > 0 {
			if _, err := q.w.Write(data); err != nil {
				q.record.Outcome = ClientCanceled
				return nil
			}
		}
		if untold != nil {
			err = untold
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		case q.ctx().Err() != nil:
			q.record.Outcome = ClientCanceled
			return nil
		case errors.Is(err, recording.ErrSlow):
			// It does not read, so it could not be told. Aborting is the honest end.
			q.record.Outcome, q.record.Stalled = ClientCanceled, true
			panic(http.ErrAbortHandler)
		default:
			// Said as a record and ended in order: a cut connection is taken for success by
			// Ollama's own client (clients.md).
			q.record.Outcome = Truncated
			q.w.Write(wire.ErrorRecord(q.route, brokenOff(err)))
			return nil
		}
		if control.Flush() != nil {
			q.record.Outcome = ClientCanceled
			return nil
		}
	}
}

// explain tells who asks for it where the answer comes from.
func (q *request) explain(c *call.Call) {
	if node, reason := c.Upstream.Route(); q.site.explain && node != "" {
		q.w.Header().Set("X-Ollama-Route", "node="+node+", reason="+reason)
	}
}

// single answers with one object, folded from the frames. An answer that broke off was not
// shown to anybody yet, so it is asked again.
func (q *request) single(c *call.Call) error {
	var broken *recording.EndError
	for followed := 0; ; {
		reader, err := q.steps.Answer(q.ctx(), c)
		if errors.Is(err, schedule.ErrNoNode) && broken != nil {
			return broken // says more than that no other node is left
		}
		if err != nil {
			return err
		}
		contentType, body, err := q.whole(reader, c)
		reader.Close()
		if err == nil {
			q.answers()
			q.explain(c)
			q.shared(c)
			q.answer(http.StatusOK, contentType, body)
			return nil
		}
		switch {
		case !errors.As(err, &broken):
			return err
		case c.Cached != nil && c.Cached.Result().Lead != nil && followed < q.tries.Retries():
			followed++ // it was another call's answer; this one may do better
			c.Cached.Joined(nil)
		case !q.tries.Again(c):
			return err
		}
	}
}

// whole reads a recording to its end and gives the single answer it makes.
func (q *request) whole(reader *recording.Reader, c *call.Call) (contentType string, body []byte, err error) {
	tell, err := newTelling(q, c, reader, true)
	if err != nil {
		return "", nil, err
	}
	if contentType, body, ok := reader.Object(); ok {
		body, err = tell.object(body)
		return contentType, body, err
	}
	if contentType, body, ok := reader.Single(); ok {
		body, err = tell.single(body)
		return contentType, body, err
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	reader.WaitForMuch()
	contentType, body, folded := wire.Fold(q.route.Dialect, q.route.Operation, func(yield func([]byte) bool) {
		for err == nil {
			var n int
			asked := time.Now()
			n, err = reader.Read(q.ctx(), s.frames[:])
			q.record.Nodes += time.Since(asked)
			if untold := tell.each(s.frames[:n], yield); untold != nil {
				err = untold
			}
		}
	})
	if !errors.Is(err, io.EOF) && err != nil {
		return "", nil, err
	}
	return contentType, body, folded
}

// A scratch is what it takes to read a recording.
type scratch struct {
	frames [batchFrames]recording.Frame
	joined []byte
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

func (s *scratch) release() {
	clear(s.frames[:]) // or the frames would live on here
	if cap(s.joined) > 64<<10 {
		s.joined = nil
	}
	scratches.Put(s)
}
