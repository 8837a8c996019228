package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// When a blog's database is looked after.
const (
	blogRetryFirst = time.Second      // after the first migration that failed; each further wait is twice as long
	blogRetryMost  = 30 * time.Second // so that pages are there soon after the database is
	blogMigrate    = 10 * time.Minute // for one migration, with the wait for another process's
	blogCheckEach  = 15 * time.Second // whether it answers: as often as it is scraped
	blogCheckWait  = 5 * time.Second
	blogSweepEach  = time.Hour
	blogKeep       = 30 * 24 * time.Hour // for which a deleted post can be restored
	blogFirstWait  = 5 * time.Second     // a request waits for the first migration, which mostly takes milliseconds
)

// blogDatabases outlives configurations. Each handler that was provisioned holds a reference, so that
// connections stay open over reloads.
var blogDatabases = caddy.NewUsagePool()

// A blogDatabase is an open database with what looks after it. It closes when no configuration holds
// it and its last request is out.
type blogDatabase struct {
	store blog.Store
	name  string // for metrics, of this process only

	ctx    context.Context // of what looks after it
	cancel context.CancelFunc
	once   sync.Once      // begins that
	keeper sync.WaitGroup // of its goroutine
	tried  chan struct{}  // closed when the first migration has ended, well or not
	ready  atomic.Bool    // migrated

	mu       sync.Mutex // guards what follows
	requests int        // on their way
	closing  bool       // no configuration holds it
}

var blogDatabaseCount atomic.Int64

// holdBlogDatabase takes a reference on the database, which it opens if nobody has. Opening touches
// neither disk nor network.
func holdBlogDatabase(s blogSource) (*blogDatabase, error) {
	d, _, err := blogDatabases.LoadOrNew(s.key(), func() (caddy.Destructor, error) {
		store, err := s.open()
		if err != nil {
			return nil, err
		}
		d := &blogDatabase{store: store, name: fmt.Sprint(blogDatabaseCount.Add(1)), tried: make(chan struct{})}
		d.ctx, d.cancel = context.WithCancel(context.Background())
		return d, nil
	})
	if err != nil {
		return nil, err
	}
	return d.(*blogDatabase), nil
}

// currentBlogDatabase is the database of a blog, if any configuration has one. No reference is taken.
func currentBlogDatabase() (d *blogDatabase, ok bool) {
	blogDatabases.Range(func(_, value any) bool {
		d, ok = value.(*blogDatabase)
		return false
	})
	return d, ok
}

// begin has the database migrated and looked after. Only the first call does.
func (d *blogDatabase) begin() {
	d.once.Do(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.closing {
			d.keeper.Go(func() { d.keep(d.ctx) }) // ends with ctx; shutdown waits
		}
	})
}

// usable tells whether the database has been migrated; before the first try it waits for that.
func (d *blogDatabase) usable(ctx context.Context) bool {
	select {
	case <-d.tried:
	default:
		ctx, cancel := context.WithTimeout(ctx, blogFirstWait)
		defer cancel()
		select {
		case <-d.tried:
		case <-ctx.Done():
		}
	}
	return d.ready.Load()
}

// enter counts a request, unless the database is closing.
func (d *blogDatabase) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closing {
		return false
	}
	d.requests++
	return true
}

func (d *blogDatabase) leave() {
	d.mu.Lock()
	d.requests--
	last := d.closing && d.requests == 0
	d.mu.Unlock()
	if last {
		go d.shutdown() // ends when the database is closed
	}
}

// Destruct implements caddy.Destructor. It returns at once: requests may be on their way.
func (d *blogDatabase) Destruct() error {
	d.mu.Lock()
	d.closing = true
	last := d.requests == 0
	d.mu.Unlock()
	if last {
		go d.shutdown()
	}
	return nil
}

func (d *blogDatabase) shutdown() {
	d.cancel()
	d.keeper.Wait()
	blogMetrics().DatabaseGone(d.name)
	if err := d.store.Close(); err != nil {
		blogLog.logger().Warn("the blog's database did not close well", "error", err)
	}
}

// keep brings the database up to date, however long it takes until it is there, and looks after it
// until ctx ends.
func (d *blogDatabase) keep(ctx context.Context) {
	log := blogLog.logger()
	blogMetrics().Database(d.name, false)
	for wait := blogRetryFirst; ; wait = min(2*wait, blogRetryMost) {
		err := d.migrate(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			d.ready.Store(true)
			blogMetrics().Database(d.name, true)
		} else {
			level := slog.LevelWarn
			if !errors.Is(err, blog.ErrBusy) {
				level = slog.LevelError // a wait alone will not help
			}
			log.Log(ctx, level, "the blog's database cannot be used; its pages say so until it can", "error", err, "again_in", wait)
		}
		d.triedOnce()
		if err == nil {
			break
		}
		if !sleep(ctx, wait) {
			return
		}
	}
	d.invite(ctx, log)
	d.look(ctx, log)
}

func (d *blogDatabase) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, blogMigrate)
	defer cancel()
	return d.store.Migrate(ctx)
}

// triedOnce lets requests no longer wait. Only keep calls it.
func (d *blogDatabase) triedOnce() {
	select {
	case <-d.tried:
	default:
		close(d.tried)
	}
}

// invite tells the operator of a new blog what to do. The link itself signs its reader in, so that it
// must not stand in a log.
func (d *blogDatabase) invite(ctx context.Context, log *slog.Logger) {
	if authors, err := d.store.Authors(ctx); err == nil && len(authors) == 0 {
		log.InfoContext(ctx, "nobody can write in the blog yet: make an author with `caddy-ollama blog user NAME --link`, "+
			"and --config or --database as here; open the link that it prints")
	}
}

// look tells whether the database answers, and sweeps it, until ctx ends.
func (d *blogDatabase) look(ctx context.Context, log *slog.Logger) {
	up := true
	var swept time.Time
	for {
		if now := time.Now(); now.Sub(swept) >= blogSweepEach {
			swept = now
			if err := d.sweep(ctx, now); err != nil && ctx.Err() == nil {
				log.WarnContext(ctx, "the blog's database could not be swept; it is tried again in an hour", "error", err)
			}
		}
		if !sleep(ctx, blogCheckEach) {
			return
		}
		err := d.answers(ctx)
		if ctx.Err() != nil {
			return
		}
		blogMetrics().Database(d.name, err == nil)
		switch {
		case err != nil && up:
			log.WarnContext(ctx, "the blog's database does not answer", "error", err)
		case err == nil && !up:
			log.InfoContext(ctx, "the blog's database answers again")
		}
		up = err == nil
	}
}

func (d *blogDatabase) sweep(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return d.store.Sweep(ctx, now, blogKeep)
}

func (d *blogDatabase) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, blogCheckWait)
	defer cancel()
	_, err := d.store.SchemaVersion(ctx)
	return err
}

// sleep waits, and tells whether ctx goes on.
func sleep(ctx context.Context, wait time.Duration) bool {
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
