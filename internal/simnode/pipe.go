package simnode

import (
	"context"
	"net"
	"net/http"
	"os"
	"syscall"
)

// A Pipe serves a handler with a real http.Server and reaches it with a real http.Transport, over net.Pipe instead of
// sockets. Everything it does is visible to testing/synctest, so tests that use it run in virtual time. It is an
// http.RoundTripper and safe for concurrent use; any host name in a request's URL leads to the handler.
//
// When the handler is a Node, its faults of connections act as far as there are such things here: dialling is refused
// or hangs, a connection is not read. There is no TLS, so that https is spoken in the clear, and a reset is a close.
type Pipe struct {
	entrance  *entrance
	transport *http.Transport
}

// NewPipe returns a Pipe to h. Close must be called to end its goroutines.
func NewPipe(h http.Handler) *Pipe {
	p := &Pipe{entrance: newEntrance(h)}
	p.entrance.open(nil)
	p.transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Dial(ctx) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1024, // as many as there were calls, like the transport a gateway uses
	}
	return p
}

// RoundTrip sends one request to the handler.
func (p *Pipe) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return p.transport.RoundTrip(r)
	}
	clear, u := *r, *r.URL // not Clone, which copies headers and trailers for nothing
	u.Scheme, clear.URL = "http", &u
	return p.transport.RoundTrip(&clear)
}

var errRefused = &net.OpError{Op: "dial", Net: "pipe", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

// Dial opens a bare connection to the handler's server. The caller closes it.
func (p *Pipe) Dial(ctx context.Context) (net.Conn, error) {
	d, err := p.knock(ctx)
	if err != nil {
		return nil, err
	}
	client, server := net.Pipe()
	if err := p.entrance.enter(ctx, server, d); err != nil {
		return nil, err
	}
	return client, nil
}

// knock waits until the door of the node opens.
func (p *Pipe) knock(ctx context.Context) (door, error) {
	n := p.entrance.node
	if n == nil {
		return door{}, nil
	}
	stop := make(chan struct{})
	defer context.AfterFunc(ctx, func() { close(stop) })()
	for {
		d, next, changed := n.door()
		switch {
		case d.shut:
			return d, errRefused
		case !d.hang:
			return d, nil
		case !waitFor(stop, changed, next):
			return d, ctx.Err()
		}
	}
}

// Close closes every connection, which cancels the running requests, and waits until the handlers have returned. It
// may be called more than once.
func (p *Pipe) Close() {
	p.entrance.close()
	p.transport.CloseIdleConnections()
}

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
