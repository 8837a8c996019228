package simnode

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// ServerOptions of a Server. The zero value serves plain HTTP.
type ServerOptions struct {
	// TLS serves HTTPS with certificates that Certificates makes. Default: plain HTTP, and Fault.TLS does nothing.
	TLS *Certificates
}

// A Server serves a Node on a TCP socket and lets the faults of connections act there: it closes the socket and opens
// it again on the same port, stops accepting, does not read, spoils the handshake. Nothing else of a node needs it.
type Server struct {
	opts     ServerOptions
	addr     netip.AddrPort
	entrance *entrance
	ended    context.Context // ends with Close
	end      context.CancelFunc

	// What follows belongs to the entrance's goroutine, and after that to Close.
	socket    *net.TCPListener // nil while it is closed
	filler    net.Conn         // what fills the backlog of a socket that does not accept
	accepting sync.WaitGroup   // the goroutine that accepts, if there is one
	accepts   bool

	mu   sync.Mutex // guards what follows
	door door
}

// Serve serves the node on the socket, which belongs to the Server from then on. Close must be called.
func Serve(socket *net.TCPListener, n *Node, opts ServerOptions) *Server {
	s := &Server{opts: opts, addr: socket.Addr().(*net.TCPAddr).AddrPort(), socket: socket}
	s.ended, s.end = context.WithCancel(context.Background())
	s.entrance = newEntrance(n)
	s.entrance.open(s.obey)
	return s
}

// Addr is where it serves; the port stays the same when the socket is closed for a while.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// URL is how clients on this machine reach it.
func (s *Server) URL() string {
	scheme := "http"
	if s.opts.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + s.reachable().String()
}

// reachable is Addr with a loopback address for one that stands for all.
func (s *Server) reachable() netip.AddrPort {
	host := s.addr.Addr().Unmap()
	switch {
	case host.IsUnspecified() && host.Is4():
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case host.IsUnspecified():
		host = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(host, s.addr.Port())
}

// Close closes the socket and every connection, which cancels the running requests, and waits until the handlers have
// returned. The Node lives on. Close may be called more than once.
func (s *Server) Close() {
	s.end()
	s.entrance.close()
	s.shut()
}

// obey brings the socket into the state of the door.
func (s *Server) obey(d door) {
	s.mu.Lock()
	s.door = d
	s.mu.Unlock()
	switch {
	case d.shut:
		s.shut()
		return
	case s.socket == nil && !s.reopen():
		return
	}
	switch {
	case d.hang && (s.accepts || s.filler == nil):
		s.hang()
	case !d.hang && !s.accepts:
		s.resume()
	}
}

func (s *Server) shut() {
	if s.socket != nil {
		_ = s.socket.Close()
		s.accepting.Wait()
		s.socket, s.accepts = nil, false
	}
	s.unfill()
}

func (s *Server) unfill() {
	if s.filler != nil {
		_ = s.filler.Close()
		s.filler = nil
	}
}

// reopen opens the socket again and reports whether it could. Somebody may have taken the port meanwhile: it waits
// until it is free.
func (s *Server) reopen() bool {
	for s.ended.Err() == nil {
		socket, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(s.addr))
		if err == nil {
			s.socket = socket
			return true
		}
		_ = pass(s.ended, 20*time.Millisecond) // often enough for a test, seldom enough for a machine
	}
	return false
}

// hang stops accepting. The socket still listens; where the backlog can be made short, a connection of our own fills
// it, and the next ones hang.
func (s *Server) hang() {
	_ = s.socket.SetDeadline(time.Unix(1, 0))
	s.accepting.Wait()
	s.accepts = false
	setBacklog(s.socket, 0)
	dialer := net.Dialer{Timeout: time.Second} // it is answered by this machine's kernel
	s.filler, _ = dialer.DialContext(s.ended, "tcp", s.reachable().String())
}

// resume accepts what waits and what comes.
func (s *Server) resume() {
	s.unfill()
	setBacklog(s.socket, 1024)
	_ = s.socket.SetDeadline(time.Time{})
	s.accepts = true
	socket := s.socket
	s.accepting.Go(func() { s.accept(socket) }) // ends when the socket is closed or its deadline set, for which both wait
}

func (s *Server) accept(socket *net.TCPListener) {
	for {
		c, err := socket.AcceptTCP()
		switch {
		case err == nil:
			s.take(c)
		case errors.Is(err, net.ErrClosed) || isTimeout(err):
			return
		default: // out of files, perhaps
			_ = pass(s.ended, 20*time.Millisecond)
		}
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// take serves a connection as the door has it.
func (s *Server) take(c *net.TCPConn) {
	s.mu.Lock()
	d := s.door
	s.mu.Unlock()
	var conn net.Conn = c
	if s.opts.TLS != nil && d.tls != "plain" {
		conn = tls.Server(c, s.opts.TLS.config(d.tls))
	}
	_ = s.entrance.enter(s.ended, conn, d) // else it is closed
}
