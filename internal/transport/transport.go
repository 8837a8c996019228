// Package transport speaks HTTP/1.1 to one node: one call on a connection at a time, written
// and read by the goroutine that asks.
//
// net/http's Transport has two goroutines a connection, so that a call costs four wake-ups;
// they were half of the price of a call through this gateway. What is dropped for it: proxies,
// HTTP/2, compression, cookies. Parsing and framing of answers are net/http's own. Only a large
// body, or one of unknown length, is written by a goroutine of its own, for as long as the call
// has no answer: the node may give one before it has taken all. transport knows nothing of
// dialects, calls or health.
package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"sync"
	"time"
)

// Defaults of Options.
const (
	DefaultMaxIdle          = 64
	DefaultIdleTimeout      = 2 * time.Minute
	DefaultHandshakeTimeout = 10 * time.Second
)

// Options of a Transport. The zero value works.
type Options struct {
	// Dial opens a connection. Its own limit of time is its affair. Default: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is for https. Without a ServerName that of the URL is used. Default: Go's own.
	TLS              *tls.Config
	HandshakeTimeout time.Duration // of TLS. Default: 10s.
	MaxIdle          int           // connections kept open without a call. Default: 64. Negative: none.
	IdleTimeout      time.Duration // after which an idle connection is closed. Default: 2m.
}

func (o Options) withDefaults() Options {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.HandshakeTimeout == 0 {
		o.HandshakeTimeout = DefaultHandshakeTimeout
	}
	if o.MaxIdle == 0 {
		o.MaxIdle = DefaultMaxIdle
	}
	if o.IdleTimeout == 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	return o
}

// A Transport is the way to one node. All its requests go to the same scheme and host. It
// leaves no goroutine behind and is safe for concurrent use.
type Transport struct {
	opts Options

	mu    sync.Mutex // guards what follows
	idle  []*conn    // the one used last is at the end
	sweep *time.Timer
	spent bool // told to close what is idle, and not used since
}

// New makes a transport. It opens nothing.
func New(opts Options) *Transport { return &Transport{opts: opts.withDefaults()} }

// errLength refuses a body whose length is said in neither of the two ways.
var errLength = errors.New("transport: a request body needs a length, or -1 for an unknown one")

// RoundTrip implements http.RoundTripper. A body of unknown length has -1 for it; redirects
// and statuses are the caller's affair. The context ends the call until the answer's body has
// been read to its end or closed. Of the hooks of httptrace only GotConn is called.
//
// An answer that comes before the whole body has been sent ends the sending. RoundTrip returns
// when it is over; therefore Close of such a body has to end a Read that waits. A small body of
// known length is sent before anything is heard: it should be in memory.
//
// A request is never sent twice. A kept connection that the node has closed meanwhile is
// noticed before anything is sent, and another one is taken.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
		if r.ContentLength == 0 && r.Body != http.NoBody {
			return nil, errLength
		}
	}
	ctx := r.Context()
	c, reused := t.take()
	if c == nil {
		var err error
		if c, err = t.dial(ctx, r.URL.Scheme, r.URL.Host); err != nil {
			return nil, err
		}
	}
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{Conn: c.net, Reused: reused})
	}
	resp, err := c.do(r)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	return resp, err
}

// CloseIdleConnections closes connections that carry no call, and those that do after it,
// until there is a new one. The transport works on.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	idle := t.idle
	t.idle = nil
	t.spent = true
	if t.sweep != nil {
		t.sweep.Stop()
		t.sweep = nil
	}
	t.mu.Unlock()
	for _, c := range idle {
		c.net.Close()
	}
}

func (t *Transport) dial(ctx context.Context, scheme, host string) (*conn, error) {
	port := "80"
	if scheme == "https" {
		port = "443"
	}
	address, name := host, host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	} else {
		address = net.JoinHostPort(trimBrackets(host), port)
		name = trimBrackets(host)
	}
	raw, err := t.opts.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if scheme != "https" {
		return newConn(t, raw, raw), nil
	}
	secure, err := t.handshake(ctx, raw, name)
	if err != nil {
		raw.Close()
		return nil, err
	}
	return newConn(t, secure, raw), nil
}

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

func (t *Transport) handshake(ctx context.Context, raw net.Conn, name string) (net.Conn, error) {
	config := t.opts.TLS.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName = name
	}
	config.NextProtos = []string{"http/1.1"}
	ctx, cancel := context.WithTimeout(ctx, t.opts.HandshakeTimeout)
	defer cancel()
	secure := tls.Client(raw, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return secure, nil
}

// take gives an idle connection, the one used last, that the node has not closed.
func (t *Transport) take() (c *conn, reused bool) {
	for {
		t.mu.Lock()
		t.spent = false
		n := len(t.idle)
		if n == 0 {
			t.mu.Unlock()
			return nil, false
		}
		c := t.idle[n-1]
		t.idle[n-1] = nil
		t.idle = t.idle[:n-1]
		t.mu.Unlock()
		if !isQuiet(c.raw) {
			c.net.Close()
			continue
		}
		return c, true
	}
}

// keep takes a connection back whose call has ended in order.
func (t *Transport) keep(c *conn) {
	c.since = time.Now()
	t.mu.Lock()
	room := len(t.idle) < t.opts.MaxIdle && !t.spent
	if room {
		t.idle = append(t.idle, c)
		if t.sweep == nil {
			t.sweep = time.AfterFunc(t.opts.IdleTimeout, t.closeOld)
		}
	}
	t.mu.Unlock()
	if !room {
		c.net.Close()
	}
}

// closeOld closes what has been idle for too long, and comes back as long as something is.
func (t *Transport) closeOld() {
	t.mu.Lock()
	if t.sweep == nil {
		t.mu.Unlock()
		return // all have been closed meanwhile
	}
	now := time.Now()
	young := slices.IndexFunc(t.idle, func(c *conn) bool { return now.Sub(c.since) < t.opts.IdleTimeout })
	if young < 0 {
		young = len(t.idle)
	}
	old := slices.Clone(t.idle[:young])
	t.idle = slices.Delete(t.idle, 0, young)
	if len(t.idle) > 0 {
		t.sweep.Reset(t.opts.IdleTimeout - now.Sub(t.idle[0].since))
	} else {
		t.sweep = nil
	}
	t.mu.Unlock()
	for _, c := range old {
		c.net.Close()
	}
}
