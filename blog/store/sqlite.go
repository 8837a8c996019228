package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// lockWait is how long a statement waits for another process's lock before it is ErrBusy: longer
// than any write of ours, shorter than a reader waits for a page.
const lockWait = 2 * time.Second

// readers is how many pages are read at once; further ones wait. Reads take well under a millisecond.
const readers = 8

// SQLite is a store in one file, which only processes on the same machine may share.
type SQLite struct {
	*DB
	path string
}

var _ blog.Store = (*SQLite)(nil)

// OpenSQLite is a store in the file at path, which Migrate creates, with its directory, for this
// user alone.
//
// A stored post survives kill -9 and, because each commit is synced to the disk (synchronous=FULL:
// a blog writes seldom, so the milliseconds do not count), a power cut. One connection writes: a
// second one could only wait for the first. Readers never wait for it (WAL).
func OpenSQLite(path string) (*SQLite, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	write, err := sql.Open("sqlite", sqliteName(path, "_txlock=immediate"))
	if err != nil {
		return nil, err
	}
	read, err := sql.Open("sqlite", sqliteName(path, "_pragma=query_only(1)"))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)
	return &SQLite{DB: &DB{write: write, read: read, dialect: &sqliteDialect{path: path}}, path: path}, nil
}

func sqliteName(path string, more ...string) string {
	name := url.URL{Scheme: "file", Path: filepath.ToSlash(path)}
	return "file:" + name.EscapedPath() + "?" + strings.Join(append([]string{
		"mode=rw", // a file that is gone is an error, not a new blog
		fmt.Sprintf("_pragma=busy_timeout(%d)", lockWait.Milliseconds()),
		"_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)", "_pragma=foreign_keys(1)",
	}, more...), "&")
}

// Backup writes a copy of the database as it is at one moment to a new file, while it is in use.
// What is at path already is replaced only when the copy is whole.
func (s *SQLite) Backup(ctx context.Context, path string) error {
	const what = "back up the blog's database"
	// A connection of its own: the writer's would keep others from writing meanwhile.
	source, err := sql.Open("sqlite", sqliteName(s.path))
	if err != nil {
		return err
	}
	defer source.Close()
	dir, err := os.MkdirTemp(filepath.Dir(path), ".backup-") // 0700: nobody else reads it meanwhile
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer os.RemoveAll(dir)
	copied := filepath.Join(dir, "blog.db")
	if _, err := source.ExecContext(ctx, "VACUUM INTO $1", copied); err != nil {
		return s.failed(ctx, what, err)
	}
	if err := os.Chmod(copied, 0o600); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := syncFile(copied); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := os.Rename(copied, path); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

type sqliteDialect struct {
	path string
	file os.FileInfo // as Migrate left it; set before others use the store
}

func (*sqliteDialect) migrationsDir() string { return "sqlite" }

// lock creates the file, and holds a lock that the system takes away when the process dies: that of
// SQLite on an empty file beside the database, the only one that works alike on all systems.
func (d *sqliteDialect) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(d.path), 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", blog.ErrBusy, err)
	}
	for _, path := range []string{d.path, d.path + ".migrate"} {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", blog.ErrBusy, err)
		}
		f.Close()
	}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: filepath.ToSlash(d.path + ".migrate")}).EscapedPath()+"?_txlock=exclusive")
	if err != nil {
		return nil, err
	}
	for {
		tx, err := db.BeginTx(ctx, nil)
		if err == nil {
			return func() { _ = tx.Rollback(); db.Close() }, nil
		}
		if !errors.Is(d.kind(err), blog.ErrBusy) {
			db.Close()
			return nil, err
		}
		select {
		case <-ctx.Done():
			db.Close()
			return nil, err
		case <-time.After(50 * time.Millisecond): // SQLite cannot wake who waits
		}
	}
}

func (d *sqliteDialect) migrated() (err error) {
	d.file, err = os.Stat(d.path)
	return err
}

// begin notices a file that was removed or replaced: SQLite would go on writing into the old one,
// which is gone when the process ends.
func (d *sqliteDialect) begin() error {
	now, err := os.Stat(d.path)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", blog.ErrBusy, err)
	case d.file != nil && !os.SameFile(now, d.file):
		return fmt.Errorf("%w: %s was replaced: restart", blog.ErrBusy, d.path)
	}
	return nil
}

// taken: AUTOINCREMENT counts on from the highest id by itself.
func (*sqliteDialect) taken(context.Context, *sql.Tx) error { return nil }

func (*sqliteDialect) index(ctx context.Context, tx *sql.Tx, post int64, title, everything []string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO post_search (rowid, title, everything) VALUES ($1, $2, $3)",
		post, strings.Join(title, " "), strings.Join(everything, " "))
	return err
}

func (*sqliteDialect) unindex(ctx context.Context, tx *sql.Tx, post int64) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM post_search WHERE rowid = $1", post)
	return err
}

// found has SQLite look the posts up in FTS5 once, and go along the index of the list until the page
// is full. Without the plus it would read and sort each post that has the terms.
func (*sqliteDialect) found(terms []term, inTitle bool) (string, any) {
	var all []string
	for _, t := range terms {
		star := ""
		if t.Prefix {
			star = "*"
		}
		all = append(all, `"`+t.Text+`"`+star)
	}
	query := "(" + strings.Join(all, " AND ") + ")"
	match := "title : " + query
	if !inTitle {
		match = "(everything : " + query + ") NOT (" + match + ")"
	}
	return "+p.id IN (SELECT rowid FROM post_search WHERE post_search MATCH %s)", match
}

func (*sqliteDialect) kind(err error) error {
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			return blog.ErrBusy
		}
		return nil
	}
	switch code := failure.Code(); code {
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		return blog.ErrConflict
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return blog.ErrNotFound
	default:
		switch code & 0xff { // the rest tells details
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
			sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOMEM,
			sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB: // somebody has to restore it, but no reader can do more than wait
			return blog.ErrBusy
		}
		return nil
	}
}
