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
	leave := context.AfterFunc(ctx, func() { _ = b.control.SetReadDeadline(time.Unix(1, 0)) }) // long past
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
	_ = b.control.SetReadDeadline(time.Now().Add(b.stall))
	if b.ctx.Err() != nil { // after the deadline: AfterFunc sets an earlier one at any time later
		return 0, context.Cause(b.ctx)
	}
	return b.body.Read(p)
}
