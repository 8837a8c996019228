package simnode

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
)

// A Pipe serves a handler with a real http.Server and reaches it with a real http.Transport, over net.Pipe instead of
// sockets. Everything it does is visible to testing/synctest, so tests that use it run in virtual time. It is an
// http.RoundTripper and safe for concurrent use; any host name in a request's URL leads to the handler.
type Pipe struct {
	server    *http.Server
	transport *http.Transport
	accept    chan net.Conn
	closed    chan struct{}  // closed by Close
	serving   sync.WaitGroup // the accept loop and the server side of every connection

	mu    sync.Mutex // guards what follows
	done  bool
	conns map[net.Conn]struct{} // server sides
}

// NewPipe returns a Pipe to h. Close must be called to end its goroutines.
func NewPipe(h http.Handler) *Pipe {
	p := &Pipe{
		accept: make(chan net.Conn), // unbuffered: a dialled connection is one that has been accepted
		closed: make(chan struct{}),
		conns:  make(map[net.Conn]struct{}),
	}
	p.server = &http.Server{
		Handler:  h,
		ErrorLog: log.New(io.Discard, "", 0),
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				p.forget(c)
			}
		},
	}
	p.transport = &http.Transport{
		DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return p.Dial(ctx) },
		DisableCompression:  true,
		MaxIdleConnsPerHost: 1024, // as many as there were calls, like the transport a gateway uses
	}
	p.serving.Add(1)
	go func() { // ends when Close closes the listener
		defer p.serving.Done()
		_ = p.server.Serve(pipeListener{p}) // always http.ErrServerClosed
	}()
	return p
}

// RoundTrip sends one request to the handler.
func (p *Pipe) RoundTrip(r *http.Request) (*http.Response, error) { return p.transport.RoundTrip(r) }

// Dial opens a bare connection to the handler's server. The caller closes it.
func (p *Pipe) Dial(ctx context.Context) (net.Conn, error) {
	client, server := net.Pipe()
	p.mu.Lock()
	if p.done {
		p.mu.Unlock()
		return nil, errPipeClosed
	}
	p.conns[server] = struct{}{}
	p.serving.Add(1) // given back by forget
	p.mu.Unlock()
	select {
	case p.accept <- server:
		return client, nil
	case <-p.closed:
		p.forget(server)
		return nil, errPipeClosed
	case <-ctx.Done():
		p.forget(server)
		return nil, ctx.Err()
	}
}

var errPipeClosed = errors.New("connect: connection refused")

func (p *Pipe) forget(server net.Conn) {
	p.mu.Lock()
	_, known := p.conns[server]
	delete(p.conns, server)
	p.mu.Unlock()
	if known {
		p.serving.Done()
	}
}

// Close closes every connection, which cancels the running requests, and waits until the handlers have returned. It
// may be called more than once.
func (p *Pipe) Close() {
	p.mu.Lock()
	first := !p.done
	p.done = true
	for c := range p.conns {
		_ = c.Close() // also those the server has not begun to track
	}
	p.mu.Unlock()
	if first {
		close(p.closed)
		_ = p.server.Close()
		p.transport.CloseIdleConnections()
	}
	p.serving.Wait()
}

// pipeListener gives a Pipe's connections to its server.
type pipeListener struct{ p *Pipe }

func (l pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.p.accept:
		return c, nil
	case <-l.p.closed:
		return nil, net.ErrClosed
	}
}

func (l pipeListener) Close() error   { return nil }
func (l pipeListener) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }
