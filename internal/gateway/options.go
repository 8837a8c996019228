package gateway

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// changedHeader tells a client what of its request was changed: a list of name=value for what
// was lowered, and of the name alone for what was taken out. It is a dictionary of RFC 9651.
const changedHeader = "X-Ollama-Changed"

// checkAdjust tells why what a site changes cannot be meant.
func checkAdjust(a wire.Adjust) error {
	switch {
	case a.MaxNumCtx < 0:
		return errors.New("num_ctx: the most must not be negative")
	case a.MaxKeepAlive < 0:
		return errors.New("keep_alive: the longest must not be negative")
	case a.WithoutNumCtx && a.MaxNumCtx > 0:
		return errors.New("num_ctx: keep takes out whatever is asked for, so there is nothing to limit; leave one out")
	case a.WithoutKeepAlive && a.MaxKeepAlive > 0:
		return errors.New("keep_alive: ignore takes out whatever is asked for, so there is nothing to limit; leave one out")
	}
	return nil
}

// parse judges the request as the site lets it through, and tells the client of a change.
func (q *request) parse(body []byte) (*wire.Request, error) {
	parsed, err := wire.ParseAdjusted(q.route, body, q.site.adjust)
	if err == nil && parsed.Changed != nil {
		q.w.Header().Set(changedHeader, strings.Join(parsed.Changed, ", "))
	}
	return parsed, err
}

// ignoresUnload tells whether an unload is answered and not done: all it says is a keep_alive.
// Who may manage models has been told that an unload does what it says.
func (s *Site) ignoresUnload() bool { return s.adjust.WithoutKeepAlive && !s.manage }

// ignoreUnload answers an unload as a node does, which answers the same when it has nothing to
// unload. Sending it on without its keep_alive would load the model instead.
func (q *request) ignoreUnload(c *call.Call) {
	// Whatever else was changed shows in nothing that has been done.
	q.w.Header().Set(changedHeader, "keep_alive")
	contentType, body := wire.Unloaded(c.Request, time.Now())
	q.answer(http.StatusOK, contentType, body)
}
