package cache

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/replica"
)

// sweepEvery is how often what nobody can ask for any more is looked for.
const sweepEvery = time.Minute

// sharedLimit bounds an answer in the second tier, in bytes: a larger one takes more than the time
// of an operation on a network of 1 Gbit/s, and would look like trouble.
const sharedLimit = 2 << 20

// A Watcher is told of what the cache does, for metrics. It must be quick.
type Watcher interface {
	CacheOperated(backend, op string, took time.Duration)
	CacheEvicted(backend, reason string)
	CacheCorrupt(backend string)
	CacheStored(class string, ttl time.Duration)
	CacheRefreshed(result string) // of Refreshed
}

// The words for backends in metrics and logs.
const (
	Memory = "memory"
	Redis  = "redis"
)

// Backends lists both.
var Backends = [...]string{Memory, Redis}

// A Base is what a Cache needs of the engine it lives in.
type Base struct {
	Context context.Context // ends what runs in the background
	Jobs    *sync.WaitGroup // counts that; each ends with its work or with Context
	Log     *slog.Logger
	Watch   Watcher

	// Excusable tells of an error of the next step whether a stale answer is better.
	Excusable func(error) bool
	// VersionAt is the version of Ollama on a node.
	VersionAt func(node string) string
	// Identities are those of the models that the fleet has.
	Identities func() map[string]bool
	// Purged is told when another gateway has purged something. It must be quick.
	Purged func()
}

// A Cache keeps answers as long as the engine lives. It is safe for concurrent use.
type Cache struct {
	Base
	now       atomic.Pointer[tiers] // nil: no configuration wants a cache
	refreshes refreshes
	arrivals  arrivals
	sending   atomic.Int32 // answers on their way to the second tier

	mu       sync.Mutex // guards what follows
	opts     Options    // those that rule
	own      *Sealer    // where there is no secret
	secret   string     // of the sealer of now
	sweeping bool
	wanted   bool // by the configuration that rules
	unused   int  // sweeps in a row that found nobody who wants a cache
}

// The tiers are where answers are kept now.
type tiers struct {
	memory *memory
	shared *shared // nil: there is none
	purges *purges
	sealer *Sealer
	client *replica.Client // of shared
	stop   context.CancelFunc
}

// New makes a cache that keeps nothing before it is configured.
func New(b Base) *Cache {
	return &Cache{Base: b, own: RandomSealer(), refreshes: refreshes{running: make(map[call.Key]struct{})}}
}

// Configure makes o rule what is kept, from now on. nil: nothing is to be cached; what is there is
// forgotten when that has been so for a while, for a failed reload must cost nothing. It does no
// I/O.
func (c *Cache) Configure(o *Options) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wanted = o != nil
	if o == nil {
		return
	}
	c.unused = 0
	before, first := c.opts, c.now.Load() == nil
	c.opts = o.withDefaults()
	switch {
	case first:
		memory := newMemory(c.opts.Memory, c.opts.MaxEntry, func(reason string) { c.Watch.CacheEvicted(Memory, reason) })
		c.now.Store(c.openLocked(&tiers{memory: memory, sealer: c.own, purges: c.newPurges(c.own)}))
	case c.opts.Redis != before.Redis || c.opts.Secret != before.Secret:
		was := c.now.Load()
		c.now.Store(c.openLocked(was))
		was.close()
	}
	if !first && (c.opts.Memory != before.Memory || c.opts.MaxEntry != before.MaxEntry) {
		c.now.Load().memory.resize(c.opts.Memory, c.opts.MaxEntry)
	}
	if !c.sweeping {
		c.sweeping = true
		c.Jobs.Go(c.sweeps) // ends with Context
	}
}

// openLocked gives the tiers that the options want, with what they keep of those before. The
// options have been checked: what fails here all the same costs the second tier.
func (c *Cache) openLocked(was *tiers) *tiers {
	t := &tiers{memory: was.memory, sealer: was.sealer, purges: was.purges}
	if sealer := c.sealerLocked(); sealer != nil {
		// Scopes have other names now, so what was purged is not known any more.
		c.arrivals.settleAll()
		t.memory.deleteFunc(func(*Meta) bool { return true })
		t.sealer, t.purges = sealer, c.newPurges(sealer)
	}
	if c.opts.Redis == "" {
		return t
	}
	client, err := replica.Open(replica.Options{URL: c.opts.Redis}, c.Log, redisWatch{c.Watch})
	if err != nil {
		c.Log.Error("the cache goes without its Redis", "error", err)
		return t
	}
	ctx, stop := context.WithCancel(c.Context)
	t.client, t.stop = client, stop
	t.shared = newShared(client, t.sealer, min(c.opts.MaxEntry, sharedLimit), func(string) { c.Watch.CacheCorrupt(Redis) })
	c.Jobs.Go(func() { // ends with ctx
		t.purges.run(ctx, client)
		if err := client.Close(); err != nil {
			c.Log.Warn("closing the cache's Redis", "error", err)
		}
	})
	return t
}

func (c *Cache) newPurges(s *Sealer) *purges {
	p := newPurges(s)
	p.told = c.Purged
	return p
}

// sealerLocked gives a sealer if another one than that of now is wanted.
func (c *Cache) sealerLocked() *Sealer {
	if c.opts.Secret == c.secret {
		return nil
	}
	c.secret = c.opts.Secret
	if c.secret == "" {
		return c.own
	}
	sealer, err := NewSealer([]byte(c.secret))
	if err != nil {
		c.Log.Error("the cache's secret cannot be used", "error", err)
		return nil
	}
	return sealer
}

// close lets the second tier go. Whoever uses it still has a miss.
func (t *tiers) close() {
	if t.stop != nil {
		t.stop()
	}
}

// sweeps forgets now and then what nobody can ask for any more.
func (c *Cache) sweeps() {
	every := time.NewTicker(sweepEvery)
	defer every.Stop()
	for {
		select {
		case <-c.Context.Done():
			return
		case <-every.C:
			c.sweep()
		}
	}
}

func (c *Cache) sweep() {
	c.arrivals.settleAll()
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.now.Load()
	if t == nil {
		return
	}
	if c.unused++; c.wanted {
		c.unused = 0
	}
	if c.unused > 1 {
		c.now.Store(nil)
		t.close()
		return
	}
	now, known := time.Now(), c.Identities()
	t.forget(func(m *Meta) bool {
		return m.left(now, call.Forever) < -m.outlast(c.opts.stale()) || !known[m.Identity] || !t.valid(m)
	}, func(m *Meta) bool { return known[m.Identity] && m.left(now, call.Forever) >= -m.Past.Keep })
}

// redisWatch tells of the second tier.
type redisWatch struct{ watch Watcher }

func (w redisWatch) Operated(op string, took time.Duration, _ error) {
	w.watch.CacheOperated(Redis, op, took)
}

func (w redisWatch) Up(bool) {} // Stats tells
