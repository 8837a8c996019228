package redistest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Proxy stands before a Server on a loopback port of its own. It can be slow or broken. Safe for
// concurrent use.
type Proxy struct {
	t      testing.TB
	server *Server
	addr   string

	mu       sync.Mutex // guards what follows
	listener net.Listener
	conns    map[net.Conn]bool // both sides
	accepted int
	delay    time.Duration
	silent   bool
	stirred  chan struct{} // closed and replaced when delay, silent or conns change

	running sync.WaitGroup
}

// Proxy begins a proxy before the server, until the test ends.
func (s *Server) Proxy() *Proxy {
	s.t.Helper()
	p := &Proxy{t: s.t, server: s, addr: "127.0.0.1:0", conns: map[net.Conn]bool{}, stirred: make(chan struct{})}
	s.t.Cleanup(p.Stop)
	p.Start()
	return p
}

// Addr is its host and port, the same over Stop and Start.
func (p *Proxy) Addr() string { return p.addr }

// URL is that of Redis by way of the proxy.
func (p *Proxy) URL() string { return "redis://" + p.addr }

// Start listens again.
func (p *Proxy) Start() {
	p.t.Helper()
	l, err := net.Listen("tcp", p.addr)
	if err != nil {
		p.t.Fatalf("proxy: %v", err)
	}
	p.addr = l.Addr().String()
	p.mu.Lock()
	p.listener = l
	p.mu.Unlock()
	p.running.Go(func() { p.accept(l) }) // ends with l: see Stop
}

// Stop refuses new connections, closes those there are, and waits for what is running.
func (p *Proxy) Stop() {
	p.mu.Lock()
	if p.listener != nil {
		p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.Cut()
	p.running.Wait()
}

// Cut resets all connections there are. New ones are served.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		c.Close()
	}
	clear(p.conns)
	p.stirLocked()
}

// Delay has each reply come so much later.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
	p.stirLocked()
}

// Silence keeps all replies back, without closing anything, until it is called with false. What
// was kept back on connections that are still open comes then.
func (p *Proxy) Silence(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = on
	p.stirLocked()
}

// Accepted counts the connections made so far.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *Proxy) stirLocked() {
	close(p.stirred)
	p.stirred = make(chan struct{})
}

func (p *Proxy) accept(l net.Listener) {
	for {
		near, err := l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", p.server.socket)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.accepted++
		if p.listener != l { // stopped meanwhile: nobody would close them
			near.Close()
			far.Close()
			p.mu.Unlock()
			return
		}
		p.conns[near], p.conns[far] = true, true
		p.mu.Unlock()
		p.running.Go(func() { p.pass(far, near, false) }) // ends with either connection
		p.running.Go(func() { p.pass(near, far, true) })  // likewise
	}
}

func (p *Proxy) pass(to, from net.Conn, replies bool) {
	defer p.drop(to, from)
	chunk := make([]byte, 64<<10)
	for {
		n, err := from.Read(chunk)
		if replies {
			p.hold(from)
		}
		if _, werr := to.Write(chunk[:n]); err != nil || werr != nil {
			return
		}
	}
}

// hold returns when a reply may pass, or when the connection has been closed.
func (p *Proxy) hold(c net.Conn) {
	since := time.Now()
	for {
		p.mu.Lock()
		left, silent, stirred, open := time.Until(since.Add(p.delay)), p.silent, p.stirred, p.conns[c]
		p.mu.Unlock()
		if !open || (!silent && left <= 0) {
			return
		}
		due := time.NewTimer(max(left, time.Millisecond))
		if silent {
			due.Stop()
		}
		select {
		case <-stirred:
		case <-due.C:
		}
		due.Stop()
	}
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.conns, c)
	}
	p.stirLocked()
}
