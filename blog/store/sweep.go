package store

import (
	"context"
	"database/sql"
	"time"
)

// attemptsKept is how long failed logins are of interest.
const attemptsKept = 24 * time.Hour

// Sweep removes what is over.
func (d *DB) Sweep(ctx context.Context, now time.Time, keep time.Duration) error {
	return d.change(ctx, "sweep the blog's database", func(tx *sql.Tx) error {
		for _, s := range []struct {
			statement string
			before    time.Time
		}{
			{"DELETE FROM sessions WHERE expires_at <= $1", now},
			{"DELETE FROM links WHERE expires_at <= $1", now},
			{"DELETE FROM attempts WHERE last_at < $1", now.Add(-attemptsKept)},
		} {
			if _, err := tx.ExecContext(ctx, s.statement, micros(s.before)); err != nil {
				return err
			}
		}
		over, err := deletedBefore(ctx, tx, now.Add(-keep))
		if err != nil {
			return err
		}
		for _, id := range over {
			if err := d.dialect.unindex(ctx, tx, id); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "DELETE FROM posts WHERE id = $1", id); err != nil {
				return err
			}
		}
		return nil
	})
}

func deletedBefore(ctx context.Context, tx *sql.Tx, before time.Time) (ids []int64, err error) {
	rows, err := tx.QueryContext(ctx, "SELECT id FROM posts WHERE deleted_at > 0 AND deleted_at < $1", micros(before))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
