package manage

import (
	"context"
	"io"
	"net/http"
	"time"
)

// ClientBody is the body of a request as Upload needs it: a Read of it takes no longer than stall
// and ends with ctx. done must be called when no more is read, so that the limit is gone from the
// connection. A writer without deadlines, as in tests, has no slow clients.
func ClientBody(ctx context.Context, w http.ResponseWriter, r *http.Request, stall time.Duration) (body io.Reader, done func()) {
	b := &clientBody{ctx: ctx, body: r.Body, control: http.NewResponseController(w), stall: stall}
	leave := context.AfterFunc(ctx, func() { _ = b.control.SetReadDeadline(longPast) })
	return b, func() {
		if leave() {
			_ = b.control.SetReadDeadline(time.Time{})
		}
	}
}

type clientBody struct {
	ctx     context.Context // of the request that it is a part of
	body    io.Reader
	control *http.ResponseController
	stall   time.Duration
}

func (b *clientBody) Read(p []byte) (int, error) {
	b.limit(time.Now().Add(b.stall))
	if b.ctx.Err() != nil {
		return 0, context.Cause(b.ctx)
	}
	n, err := b.body.Read(p)
	if err == nil {
		// Over HTTP/2 it would end the body also while nobody reads: a slow node's time is not the client's.
		b.limit(time.Time{})
	}
	return n, err
}

// limit sets until when the client may send, unless the context has ended: that has set an earlier
// time, or will.
func (b *clientBody) limit(until time.Time) {
	_ = b.control.SetReadDeadline(until)
	if b.ctx.Err() != nil {
		_ = b.control.SetReadDeadline(longPast)
	}
}

var longPast = time.Unix(1, 0)
