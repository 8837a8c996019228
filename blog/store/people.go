package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

const authorColumns = "id, name, shown, password, created_at"

func scanAuthor(row scanner) (a blog.Author, err error) {
	err = row.Scan(&a.ID, &a.Name, &a.Shown, &a.Password, moment{&a.Created})
	return a, err
}

// CreateAuthor stores an author.
func (d *DB) CreateAuthor(ctx context.Context, a blog.Author) (blog.Author, error) {
	err := d.change(ctx, "create an author", func(tx *sql.Tx) (err error) {
		a, err = scanAuthor(tx.QueryRowContext(ctx, "INSERT INTO authors (name, shown, password, created_at) VALUES ($1, $2, $3, $4) RETURNING "+authorColumns,
			a.Name, a.Shown, a.Password, micros(a.Created)))
		return err
	})
	return a, err
}

// UpdateAuthor replaces shown name and password.
func (d *DB) UpdateAuthor(ctx context.Context, a blog.Author) error {
	return d.one(ctx, "update an author", "UPDATE authors SET shown = $1, password = $2 WHERE id = $3", a.Shown, a.Password, a.ID)
}

// AuthorByID is an author, or ErrNotFound.
func (d *DB) AuthorByID(ctx context.Context, id int64) (blog.Author, error) {
	a, err := scanAuthor(d.read.QueryRowContext(ctx, "SELECT "+authorColumns+" FROM authors WHERE id = $1", id))
	return a, d.failed(ctx, "read an author", err)
}

// AuthorByName is an author, or ErrNotFound.
func (d *DB) AuthorByName(ctx context.Context, name string) (blog.Author, error) {
	a, err := scanAuthor(d.read.QueryRowContext(ctx, "SELECT "+authorColumns+" FROM authors WHERE name = $1", name))
	return a, d.failed(ctx, "read an author", err)
}

// Authors lists all, in the order they came.
func (d *DB) Authors(ctx context.Context) ([]blog.Author, error) {
	var authors []blog.Author
	err := d.rows(ctx, "list authors", func(row scanner) error {
		a, err := scanAuthor(row)
		authors = append(authors, a)
		return err
	}, "SELECT "+authorColumns+" FROM authors ORDER BY id")
	return authors, err
}

// CreateSession stores a session.
func (d *DB) CreateSession(ctx context.Context, s blog.Session) error {
	return d.exec(ctx, "create a session", "INSERT INTO sessions (hash, author, created_at, expires_at) VALUES ($1, $2, $3, $4)",
		s.Hash[:], s.Author, micros(s.Created), micros(s.Expires))
}

// Session is one that has not expired.
func (d *DB) Session(ctx context.Context, hash blog.TokenHash, now time.Time) (blog.Session, error) {
	s := blog.Session{Hash: hash}
	err := d.read.QueryRowContext(ctx, "SELECT author, created_at, expires_at FROM sessions WHERE hash = $1 AND expires_at > $2", hash[:], micros(now)).
		Scan(&s.Author, moment{&s.Created}, moment{&s.Expires})
	return s, d.failed(ctx, "read a session", err)
}

// DeleteSession ends a session, if there is one.
func (d *DB) DeleteSession(ctx context.Context, hash blog.TokenHash) error {
	return d.exec(ctx, "end a session", "DELETE FROM sessions WHERE hash = $1", hash[:])
}

// DeleteSessions ends all of an author.
func (d *DB) DeleteSessions(ctx context.Context, author int64) error {
	return d.exec(ctx, "end sessions", "DELETE FROM sessions WHERE author = $1", author)
}

// CreateLink stores a one-time link.
func (d *DB) CreateLink(ctx context.Context, l blog.OneTimeLink) error {
	return d.exec(ctx, "create a link", "INSERT INTO links (hash, author, expires_at) VALUES ($1, $2, $3)", l.Hash[:], l.Author, micros(l.Expires))
}

// UseLink takes a link out. The deletion itself decides who gets it.
func (d *DB) UseLink(ctx context.Context, hash blog.TokenHash, now time.Time) (blog.OneTimeLink, error) {
	l := blog.OneTimeLink{Hash: hash}
	err := d.change(ctx, "use a link", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, "DELETE FROM links WHERE hash = $1 AND expires_at > $2 RETURNING author, expires_at", hash[:], micros(now)).
			Scan(&l.Author, moment{&l.Expires})
	})
	return l, err
}

// Attempts are those counted for key.
func (d *DB) Attempts(ctx context.Context, key string) (blog.Attempts, error) {
	var a blog.Attempts
	err := d.read.QueryRowContext(ctx, "SELECT failures, last_at FROM attempts WHERE key = $1", key).Scan(&a.Failures, moment{&a.Last})
	if err == sql.ErrNoRows {
		return blog.Attempts{}, nil
	}
	return a, d.failed(ctx, "read attempts", err)
}

// CountAttempt counts one more, in one statement: those that fail at once are all counted.
func (d *DB) CountAttempt(ctx context.Context, key string, now time.Time, forget time.Duration) (blog.Attempts, error) {
	var a blog.Attempts
	err := d.change(ctx, "count an attempt", func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO attempts (key, failures, last_at) VALUES ($1, 1, $2)
			ON CONFLICT (key) DO UPDATE SET last_at = excluded.last_at,
				failures = CASE WHEN attempts.last_at < $3 THEN 1 ELSE attempts.failures + 1 END
			RETURNING failures, last_at`, key, micros(now), micros(now.Add(-forget))).Scan(&a.Failures, moment{&a.Last})
	})
	return a, err
}

// ClearAttempts forgets them.
func (d *DB) ClearAttempts(ctx context.Context, key string) error {
	return d.exec(ctx, "clear attempts", "DELETE FROM attempts WHERE key = $1", key)
}
