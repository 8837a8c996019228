// Package replica has what several gateways share through Redis: one client for all that do.
//
// No operation takes longer than its budget, none is tried twice, and while Redis does not answer
// none is tried at all. So Redis can be slow, full, empty or gone: what it costs is the budget,
// three times. replica knows nothing of what is kept there.
package replica

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// DefaultBudget of one operation: ten times what a Redis in the same data centre takes at worst,
// and not yet felt by who waits for a model.
const DefaultBudget = 50 * time.Millisecond

// probeInterval is about how often a Redis that is down is asked whether it is back.
const probeInterval = time.Second

var (
	// ErrMissing: there is nothing under the key.
	ErrMissing = errors.New("replica: no such key")
	// ErrDown: Redis has not answered lately, so it was not asked. Also after Close.
	ErrDown = errors.New("replica: redis is down")
)

// Options say which Redis, and how long it may take.
type Options struct {
	// URL is redis://user:password@host:port/db, rediss:// for TLS, or
	// unix://user:password@/path/of.sock?db=0. The certificate is verified against the system's
	// pool (SSL_CERT_FILE and SSL_CERT_DIR add to it), or not at all with ?skip_verify=true.
	URL string
	// Budget is the time of one operation, connecting and waiting for a connection included.
	// Default: 50ms.
	Budget time.Duration
}

// A Watcher is told what happens, for metrics. Its methods must not block.
type Watcher interface {
	// Operated is told of each operation that was tried, by the name its caller gave it. A
	// missing key is no error. What was not tried because Redis is down is not reported.
	Operated(op string, took time.Duration, err error)
	// Up is told at the start, as soon as it is known, and on each change.
	Up(bool)
}

// A Client is the connection of this process to Redis. Safe for concurrent use.
type Client struct {
	opts   *redis.Options
	budget time.Duration
	log    *slog.Logger
	watch  Watcher

	// redis is replaced when Redis goes down: connections that were cut without a word would
	// each cost a budget, and the name may lead to another server by now.
	redis   atomic.Pointer[redis.Client]
	breaker breaker

	life  context.Context // of the client: dials and probes end with it
	end   context.CancelFunc
	ended chan struct{} // closed when attend has returned
	once  sync.Once     // of Close
}

// Open makes a client. It does not wait for Redis and fails only for what Check complains of.
// watch may be nil.
func Open(o Options, log *slog.Logger, watch Watcher) (*Client, error) {
	opts, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	if watch == nil {
		watch = nobody{}
	}
	c := &Client{opts: opts, budget: o.Budget, log: log, watch: watch, ended: make(chan struct{})}
	c.breaker.opened, c.breaker.born, c.breaker.spread = make(chan error, 1), time.Now(), c.budget*3/2
	c.life, c.end = context.WithCancel(context.Background())
	c.configure()
	c.redis.Store(redis.NewClient(opts))
	go c.attend() // ends with c.life; Close waits on c.ended
	return c, nil
}

// Close ends the client. Operations that run fail, and so do all later ones.
func (c *Client) Close() error {
	var err error
	c.once.Do(func() {
		c.breaker.end()
		c.end()
		<-c.ended // nobody replaces the client any more
		err = c.redis.Load().Close()
	})
	return err
}

// Up tells whether operations are tried. It is true until the first probe has failed.
func (c *Client) Up() bool { return c.breaker.closed() }

// Get returns the value of the key, ErrMissing if there is none.
func (c *Client) Get(ctx context.Context, key string) ([]byte, error) {
	var value []byte
	err := c.Do(ctx, "get", func(ctx context.Context, r redis.Cmdable) (err error) {
		value, err = r.Get(ctx, key).Bytes()
		return err
	})
	return value, err
}

// Set keeps the value under the key for ttl; 0 or less: until it is deleted.
func (c *Client) Set(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if ttl > 0 {
		ttl = max(ttl, time.Millisecond) // Redis knows nothing shorter
	} else {
		ttl = 0 // a negative one would mean another thing to go-redis
	}
	return c.Do(ctx, "set", func(ctx context.Context, r redis.Cmdable) error {
		return r.Set(ctx, key, value, ttl).Err()
	})
}

// Delete removes the keys. It is no error if there are none.
func (c *Client) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	return c.Do(ctx, "delete", func(ctx context.Context, r redis.Cmdable) error {
		return r.Del(ctx, keys...).Err()
	})
}

// Do runs f with what is left of one budget. op names it for metrics: it is of a bounded set.
// What Redis replies with is returned as it is (redis.Error), but redis.Nil, which is ErrMissing.
// f returns no errors of its own: any other counts as one of the connection.
func (c *Client) Do(ctx context.Context, op string, f func(context.Context, redis.Cmdable) error) error {
	if !c.breaker.closed() {
		return ErrDown
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	start := time.Now()
	deadline := start.Add(c.budget)
	err := c.run(ctx, deadline, op, f)
	switch {
	case answered(err):
		c.breaker.succeed()
	case withdrawn(ctx, deadline):
	default:
		c.breaker.fail(err, !time.Now().Before(deadline.Add(-c.budget/10)))
	}
	return err
}

func (c *Client) run(ctx context.Context, deadline time.Time, op string, f func(context.Context, redis.Cmdable) error) error {
	start := time.Now()
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := f(ctx, c.redis.Load())
	if errors.Is(err, redis.Nil) {
		c.watch.Operated(op, time.Since(start), nil)
		return ErrMissing
	}
	c.watch.Operated(op, time.Since(start), err)
	return err
}

// answered tells whether Redis said something, be it a refusal: READONLY, OOM, NOAUTH, WRONGTYPE.
func answered(err error) bool {
	var reply redis.Error
	return err == nil || err == ErrMissing || errors.As(err, &reply)
}

// withdrawn tells whether the caller's own context ended what had till the deadline.
func withdrawn(ctx context.Context, deadline time.Time) bool {
	if ctx.Err() != nil {
		return true
	}
	// A connection's deadline may come a moment before the context tells of the same one.
	callers, ok := ctx.Deadline()
	return ok && callers.Before(deadline) && !time.Now().Before(callers)
}

// attend finds out whether Redis is there at first, and then whether it is back whenever it has
// gone. It alone tells of changes, so that they are told in their order. It ends with c.life.
func (c *Client) attend() {
	defer close(c.ended)
	if err := c.probe(); err == nil {
		c.tell(nil)
	} else {
		c.breaker.open(err)
	}
	for {
		select {
		case <-c.life.Done():
			return
		case err := <-c.breaker.opened:
			if c.life.Err() != nil {
				return
			}
			c.tell(err)
		}
		_ = c.redis.Swap(redis.NewClient(c.opts)).Close()
		if !c.await() {
			return
		}
		c.breaker.close()
		c.tell(nil)
	}
}

// await returns when a probe has succeeded. It is false at the end of c.life.
func (c *Client) await() bool {
	for {
		// Several gateways that lost the same Redis do not come back at the same moment.
		pause := time.NewTimer(probeInterval*3/4 + rand.N(probeInterval/2))
		select {
		case <-c.life.Done():
			pause.Stop()
			return false
		case <-pause.C:
		}
		if c.probe() == nil {
			return c.life.Err() == nil
		}
	}
}

// probe asks Redis whether it is of use. One that refuses a PING for its password, or because it
// is loading, is not; one that only has not allowed this user to PING is.
func (c *Client) probe() error {
	err := c.run(c.life, time.Now().Add(c.budget), "ping", func(ctx context.Context, r redis.Cmdable) error {
		return r.Ping(ctx).Err()
	})
	if redis.IsPermissionError(err) {
		return nil
	}
	return err
}

func (c *Client) tell(err error) {
	if err == nil {
		c.log.Info("redis is up", "address", c.opts.Addr)
	} else {
		c.log.Warn("redis is down", "address", c.opts.Addr, "error", err)
	}
	c.watch.Up(err == nil)
}

type nobody struct{}

func (nobody) Operated(string, time.Duration, error) {}
func (nobody) Up(bool)                               {}
