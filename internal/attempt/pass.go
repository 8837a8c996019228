package attempt

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// Pass sends a request to one node as it is: method, path, query, body and headers, but for
// those that concern the connection or are secrets between the client and the gateway. It
// takes no grant and gives whatever the node answers; the caller closes its body. ctx and the
// limits of a try bound it.
//
// The error is a *Fault; ConnectError and TLSError tell that the node has seen nothing.
func (s *Step) Pass(ctx context.Context, node *fleet.Node, r *http.Request, body []byte) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watch := time.AfterFunc(s.opts.FirstByteTimeout, func() { cancel(ErrFirstByteTimeout) })
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	resp, err := s.roundTrip(traced, node, r, body)
	if err != nil {
		watch.Stop()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		cancel(nil)
		return nil, faultOf(err, connected.Load())
	}
	s.Fleet.Answered(node)
	for _, name := range hopHeaders(resp.Header) {
		resp.Header.Del(name)
	}
	resp.Body = &watched{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, timer: watch, limit: s.opts.StallTimeout}
	return resp, nil
}

func (s *Step) roundTrip(ctx context.Context, node *fleet.Node, r *http.Request, body []byte) (*http.Response, error) {
	u := target(node.URL(), r.URL.Path)
	u.RawQuery = r.URL.RawQuery
	req, err := http.NewRequestWithContext(ctx, r.Method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = r.Header.Clone()
	for _, name := range hopHeaders(r.Header) {
		req.Header.Del(name)
	}
	for _, name := range secretHeaders {
		req.Header.Del(name)
	}
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Add("Via", "1.1 "+s.Via)
	return node.RoundTrip(req)
}

// hopHeaders are the headers that end at the next hop (RFC 9110 section 7.6.1).
func hopHeaders(h http.Header) []string {
	names := []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// secretHeaders are between the client and the gateway, or make a node judge where a request
// comes from, which is the gateway's affair.
var secretHeaders = []string{
	"Authorization", "Proxy-Authorization", "X-Api-Key", "Cookie", "Origin", "Referer",
	"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip",
}

// A watched body cancels its request when a read takes too long.
type watched struct {
	io.ReadCloser
	ctx    context.Context // of the request, which is what this body is the rest of
	cancel context.CancelCauseFunc
	timer  *time.Timer
	limit  time.Duration
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.limit)
	n, err := w.ReadCloser.Read(p)
	w.timer.Stop() // what the client takes is not the node's time
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); cause == ErrFirstByteTimeout {
			err = ErrStallTimeout
		}
		err = faultOf(err, true)
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.ReadCloser.Close()
}
