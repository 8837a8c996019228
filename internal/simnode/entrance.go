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

// An entrance hands connections to a real http.Server and keeps count of them. Where the handler is a Node it obeys
// the node's door.
type entrance struct {
	node    *Node // nil: the handler is something else, whose door stands open
	server  *http.Server
	accept  chan net.Conn
	closed  chan struct{}  // closed by close
	serving sync.WaitGroup // the goroutines and every connection

	mu    sync.Mutex // guards what follows
	done  bool
	door  door
	conns map[net.Conn]*visit
	held  []net.Conn // those of conns that a deaf node has accepted
}

// A visit is one connection.
type visit struct {
	state  http.ConnState
	births int // of the door it came through: it does not outlive that node
}

var errEntranceClosed = errors.New("connect: connection refused")

// newEntrance returns an entrance that open begins to serve.
func newEntrance(h http.Handler) *entrance {
	e := &entrance{
		accept: make(chan net.Conn), // unbuffered: what was taken has been accepted
		closed: make(chan struct{}),
		conns:  make(map[net.Conn]*visit),
	}
	e.server = &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ConnState: e.track}
	if e.node, _ = h.(*Node); e.node != nil {
		e.door, _, _ = e.node.door()
	}
	return e
}

// open begins to serve. apply, when set, is told of each state of the node's door after the entrance has obeyed it.
func (e *entrance) open(apply func(door)) {
	e.serving.Add(1)
	go func() { // ends when close closes the listener
		defer e.serving.Done()
		_ = e.server.Serve(entranceListener{e}) // always http.ErrServerClosed
	}()
	if e.node == nil {
		return
	}
	e.serving.Add(1)
	go func() { // ends with close
		defer e.serving.Done()
		e.node.watch(e.closed, func(d door) {
			e.obey(d)
			if apply != nil {
				apply(d)
			}
		})
	}()
}

// enter takes a connection in that came through the door, and which belongs to the entrance from then on. A deaf node's
// are held.
func (e *entrance) enter(ctx context.Context, c net.Conn, through door) error {
	e.mu.Lock()
	if e.done {
		e.mu.Unlock()
		_ = c.Close()
		return errEntranceClosed
	}
	e.conns[c] = &visit{http.StateNew, through.births}
	e.serving.Add(1) // given back by forget
	if through.deaf {
		e.held = append(e.held, c)
	}
	e.mu.Unlock()
	if through.deaf {
		return nil
	}
	return e.hand(ctx, c)
}

// hand hands a connection to the server.
func (e *entrance) hand(ctx context.Context, c net.Conn) error {
	select {
	case e.accept <- c:
		return nil
	case <-e.closed:
		_ = c.Close()
		e.forget(c)
		return errEntranceClosed
	case <-ctx.Done():
		_ = c.Close()
		e.forget(c)
		return ctx.Err()
	}
}

func (e *entrance) track(c net.Conn, s http.ConnState) {
	if s == http.StateClosed || s == http.StateHijacked {
		e.forget(c)
		return
	}
	e.mu.Lock()
	if v := e.conns[c]; v != nil {
		v.state = s
	}
	shut := e.door.shut
	e.mu.Unlock()
	if shut && s == http.StateIdle {
		_ = c.Close()
	}
}

func (e *entrance) forget(c net.Conn) {
	e.mu.Lock()
	_, known := e.conns[c]
	delete(e.conns, c)
	e.mu.Unlock()
	if known {
		e.serving.Done()
	}
}

// obey closes what a new state of the door closes, and serves what was held when the node hears again.
func (e *entrance) obey(d door) {
	e.mu.Lock()
	e.door = d
	var cut []net.Conn
	for c, v := range e.conns {
		if v.births < d.births || d.dead && v.births == d.births || d.shut && v.state == http.StateIdle {
			cut = append(cut, c)
		}
	}
	var heard []net.Conn
	if d.dead || !d.deaf {
		heard, e.held = e.held, nil
	}
	e.mu.Unlock()
	for _, c := range cut {
		_ = c.Close()
	}
	for _, c := range heard {
		_ = e.hand(context.Background(), c) // one that is cut is so found by the server
	}
}

// close closes every connection, which cancels the running requests, and waits until the handlers have returned. It
// may be called more than once.
func (e *entrance) close() {
	e.mu.Lock()
	first := !e.done
	e.done = true
	for c := range e.conns {
		_ = c.Close() // also those the server has not begun to track
	}
	held := e.held
	e.held = nil
	e.mu.Unlock()
	if first {
		close(e.closed)
		_ = e.server.Close()
	}
	for _, c := range held {
		e.forget(c)
	}
	e.serving.Wait()
}

// entranceListener gives an entrance's connections to its server.
type entranceListener struct{ e *entrance }

func (l entranceListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.e.accept:
		return c, nil
	case <-l.e.closed:
		return nil, net.ErrClosed
	}
}

func (l entranceListener) Close() error   { return nil }
func (l entranceListener) Addr() net.Addr { return pipeAddr{} }
