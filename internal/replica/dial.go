package replica

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/redis/go-redis/v9/maintnotifications"
)

// poolSize is how many operations run at once; a connection is made only when it is wanted.
const poolSize = 64

// configure sets what no URL may: one try within the budget, and nothing said on a new connection
// that an old server would refuse.
func (c *Client) configure() {
	o := c.opts
	o.Dialer = c.dial
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	o.DialerRetries = 1
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = c.budget, c.budget, c.budget, c.budget
	o.PipelinePoolSize = -1 // none of its own
	if o.PoolSize == 0 {
		o.PoolSize = poolSize
	}
	if o.Protocol == 0 {
		o.Protocol = 2 // nothing here is pushed, so nothing need be looked for
	}
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
}

// dial connects until ctx, the budget or the client ends. If that fails the connection it returns
// does, instead of dial: go-redis writes each failed dial into the process's standard error, and
// after some it dials no more but once a second, for as long as a second after it was closed.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.budget)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()

	var conn net.Conn
	var err error
	if c.opts.TLSConfig != nil {
		conn, err = (&tls.Dialer{Config: c.opts.TLSConfig}).DialContext(ctx, network, addr)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
	}
	if err != nil {
		return unconnected{fmt.Errorf("dial redis: %w", err)}, nil
	}
	return conn, nil
}

// unconnected is a connection that could not be made. All it can do is say why.
type unconnected struct{ err error }

func (u unconnected) Read([]byte) (int, error)       { return 0, u.err }
func (u unconnected) Write([]byte) (int, error)      { return 0, u.err }
func (unconnected) Close() error                     { return nil }
func (unconnected) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (unconnected) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (unconnected) SetDeadline(time.Time) error      { return nil }
func (unconnected) SetReadDeadline(time.Time) error  { return nil }
func (unconnected) SetWriteDeadline(time.Time) error { return nil }
