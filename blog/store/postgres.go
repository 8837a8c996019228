package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

const (
	// connections is how many one process takes of the server's, 100 by default for all.
	connections = 10
	// statementWait ends what a reader would no longer wait for.
	statementWait = 10 * time.Second
)

// Postgres is a store that several gateways may share. It needs PostgreSQL 14 or newer, UTF-8.
type Postgres struct{ *DB }

var _ blog.Store = (*Postgres)(nil)

// OpenPostgres is a store in the database that source names: a URL (postgres://...) or the
// keywords of libpq. The error does not show its password.
func OpenPostgres(source string) (*Postgres, error) {
	config, err := pgx.ParseConfig(source)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"application_name":  "caddy-ollama blog",
		"lock_timeout":      fmt.Sprint(lockWait.Milliseconds()),
		"statement_timeout": fmt.Sprint(statementWait.Milliseconds()),
		// The terms of posts are stored beside their table, which so looks short to the planner: it would read
		// all of them instead of the index (150 ms of 10,000 posts instead of 5).
		// What has no index costs 10^10 then, for which it would compile each statement.
		"enable_seqscan": "off",
		"jit":            "off",
	} {
		if _, ok := config.RuntimeParams[name]; !ok {
			config.RuntimeParams[name] = value
		}
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = 5 * time.Second // a page waits for it; the default is for ever
	}
	db := stdlib.OpenDB(*config)
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections / 2)
	db.SetConnMaxIdleTime(5 * time.Minute)
	return &Postgres{DB: &DB{write: db, read: db, dialect: &postgresDialect{db: db}}}, nil
}

type postgresDialect struct{ db *sql.DB }

func (*postgresDialect) migrationsDir() string { return "postgres" }

// migrating is the advisory lock's number: "ollblog" in ASCII, so that it meets no other program's.
const migrating = 0x6f6c6c626c6f67

// lock is one of the session: the server takes it away when the process dies.
func (d *postgresDialect) lock(ctx context.Context) (func(), error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	// A migration of others may take as long as ctx allows.
	for _, statement := range []string{
		"SET lock_timeout = 0", "SET statement_timeout = 0", fmt.Sprintf("SELECT pg_advisory_lock(%d)", migrating),
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			discard(conn)
			return nil, err
		}
	}
	return func() { discard(conn) }, nil
}

// discard closes a connection instead of giving it back, with its settings and locks.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(c any) error { return c.(*stdlib.Conn).Conn().Close(context.Background()) })
	conn.Close()
}

func (*postgresDialect) begin() error    { return nil }
func (*postgresDialect) migrated() error { return nil }

func (*postgresDialect) taken(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `SELECT setval(pg_get_serial_sequence('posts', 'id'),
		(SELECT greatest(max(posts.id), (SELECT last_value FROM posts_id_seq)) FROM posts))`)
	return err
}

func (*postgresDialect) index(ctx context.Context, tx *sql.Tx, post int64, title, everything []string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO post_search (post, title, everything) VALUES ($1, array_to_tsvector($2), array_to_tsvector($3))",
		post, notNil(title), notNil(everything))
	return err
}

func notNil(terms []string) []string {
	if terms == nil {
		return []string{}
	}
	return terms
}

func (*postgresDialect) unindex(ctx context.Context, tx *sql.Tx, post int64) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM post_search WHERE post = $1", post)
	return err
}

// found has PostgreSQL look the posts up in its indexes once, and go along the list until the page is
// full. MATERIALIZED, or it would read each post's terms along the list, as it does not know how long
// they are; IS TRUE, or it would join, and read and sort each post that has the terms.
func (*postgresDialect) found(terms []term, inTitle bool) (string, any) {
	var all []string
	for _, t := range terms {
		star := ""
		if t.Prefix {
			star = ":*"
		}
		all = append(all, "'"+t.Text+"'"+star)
	}
	match := "title @@ %[1]s::tsquery"
	if !inTitle {
		match = "everything @@ %[1]s::tsquery AND NOT " + match
	}
	return "(p.id IN (WITH f AS MATERIALIZED (SELECT post FROM post_search WHERE " + match + ") SELECT post FROM f)) IS TRUE", strings.Join(all, " & ")
}

func (*postgresDialect) kind(err error) error {
	var refused *pgconn.PgError
	var unconnected *pgconn.ConnectError
	switch {
	case errors.As(err, &refused):
		switch refused.Code {
		case "23505":
			return blog.ErrConflict
		case "23503":
			return blog.ErrNotFound
		}
		switch refused.Code[:2] {
		// Connection, transaction to be repeated, resources (53100 is a full disk), locks, operator (shutdown,
		// statement_timeout), system, read-only replica.
		case "08", "40", "53", "55", "57", "58", "25":
			return blog.ErrBusy
		}
	case errors.As(err, &unconnected), pgconn.Timeout(err), pgconn.SafeToRetry(err):
		return blog.ErrBusy
	}
	return nil
}
