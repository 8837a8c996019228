// Package store keeps a blog in SQLite or PostgreSQL, as blog.Store promises.
//
// Both run the same statements, but for what dialect has: a difference between them would be a
// difference between blogs. Opening touches neither disk nor network; Migrate does, so that a
// configuration can be checked without.
package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// DB is what the stores have in common.
type DB struct {
	write, read *sql.DB // may be the same
	dialect     dialect
}

// dialect is what differs between databases.
type dialect interface {
	migrationsDir() string
	// lock keeps other processes from migrating until unlock.
	lock(ctx context.Context) (unlock func(), err error)
	// begin is called before each write.
	begin() error
	// migrated is called after each Migrate.
	migrated() error
	// taken is called after a post has been stored under an id that the caller gave.
	taken(ctx context.Context, tx *sql.Tx) error
	index(ctx context.Context, tx *sql.Tx, post int64, title, everything []string) error
	unindex(ctx context.Context, tx *sql.Tx, post int64) error
	// found is a condition on posts p, with %s for its argument, for those that have all terms in title
	// and tags, or in everything and not all in title and tags.
	found(terms []term, inTitle bool) (condition string, match any)
	// kind tells what an error of the driver means: one of blog's sentinels, or nil.
	kind(err error) error
}

// Close waits for statements that run.
func (d *DB) Close() error {
	err := d.write.Close()
	if d.read != d.write {
		err = errors.Join(err, d.read.Close())
	}
	return err
}

// failed gives an error its meaning. what was being done is part of its text.
func (d *DB) failed(ctx context.Context, what string, err error) error {
	var netError net.Error
	meaning := d.dialect.kind(err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, blog.ErrNotFound), errors.Is(err, blog.ErrConflict), errors.Is(err, blog.ErrBusy):
		meaning = nil // it has one
	case errors.Is(err, sql.ErrNoRows):
		meaning = blog.ErrNotFound
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("%s: %w", what, context.Canceled) // whoever asked has left; the drivers say this in many ways
	case ctx.Err() != nil, errors.Is(err, driver.ErrBadConn), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &netError):
		meaning = blog.ErrBusy
	}
	if meaning == nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return fmt.Errorf("%s: %w: %w", what, meaning, err)
}

// change runs do in a transaction.
func (d *DB) change(ctx context.Context, what string, do func(tx *sql.Tx) error) error {
	if err := d.dialect.begin(); err != nil {
		return d.failed(ctx, what, err)
	}
	tx, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return d.failed(ctx, what, err)
	}
	defer tx.Rollback() // after Commit it does nothing
	if err := do(tx); err != nil {
		return d.failed(ctx, what, err)
	}
	return d.failed(ctx, what, tx.Commit())
}

// exec runs one statement in a transaction.
func (d *DB) exec(ctx context.Context, what, statement string, args ...any) error {
	return d.change(ctx, what, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, statement, args...)
		return err
	})
}

// one changes one row of what readers see; it is ErrNotFound if there is no such row.
func (d *DB) one(ctx context.Context, what, statement string, args ...any) error {
	return d.change(ctx, what, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, statement, args...)
		if err != nil {
			return err
		}
		if rows, err := result.RowsAffected(); err != nil {
			return err
		} else if rows == 0 {
			return blog.ErrNotFound
		}
		return changed(ctx, tx)
	})
}

// rows is a query whose rows scan reads one by one.
func (d *DB) rows(ctx context.Context, what string, scan func(scanner) error, query string, args ...any) error {
	rows, err := d.read.QueryContext(ctx, query, args...)
	if err != nil {
		return d.failed(ctx, what, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return d.failed(ctx, what, err)
		}
	}
	return d.failed(ctx, what, rows.Err())
}

type scanner interface{ Scan(dest ...any) error }

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

// moment scans what micros wrote.
type moment struct{ to *time.Time }

func (m moment) Scan(v any) error {
	n, ok := v.(int64)
	if !ok {
		return fmt.Errorf("a time is stored as %T", v)
	}
	*m.to = time.Time{}
	if n != 0 {
		*m.to = time.UnixMicro(n).UTC()
	}
	return nil
}
