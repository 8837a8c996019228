package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/fulltext"
)

const (
	pageLimit    = 100
	addressLimit = 1000
	// listedText is how many characters of a post's text a list has: enough for an excerpt.
	listedText = 600
)

// columns of a post p with its author a; scanPost reads them. Tags contain no commas.
func columns(full bool) string {
	body := fmt.Sprintf("'', '', substr(p.text, 1, %d)", listedText)
	if full {
		body = "p.body, p.html, p.text"
	}
	return "p.id, p.slug, p.title, " + body + `, p.author, a.shown, p.draft,
		p.created_at, p.updated_at, p.published_at, p.deleted_at, p.version,
		coalesce((SELECT string_agg(t.tag, ',' ORDER BY t.tag) FROM post_tags t WHERE t.post = p.id), '')`
}

func scanPost(row scanner, more ...any) (p blog.Post, err error) {
	var tags string
	err = row.Scan(append([]any{
		&p.ID, &p.Slug, &p.Title, &p.Body, &p.HTML, &p.Text, &p.Author, &p.AuthorName, &p.Draft,
		moment{&p.Created},
		moment{&p.Updated},
		moment{&p.Published},
		moment{&p.Deleted},
		&p.Version, &tags,
	}, more...)...)
	if tags != "" {
		p.Tags = strings.Split(tags, ",")
	}
	return p, err
}

// A listing selects posts that a page lists.
type listing struct {
	at    string // the column of times to sort by
	where string
	args  []any
}

func (l *listing) arg(v any) string {
	l.args = append(l.args, v)
	return fmt.Sprintf("$%d", len(l.args))
}

func (l *listing) and(condition string) { l.where += " AND " + condition }

// list is the newest posts of a listing that are older than after, with the given columns.
func (d *DB) list(ctx context.Context, what string, l listing, columns string, after blog.Cursor, limit int) (blog.Page, error) {
	if !after.IsZero() {
		l.and(fmt.Sprintf("(%s, p.id) < (%s, %s)", l.at, l.arg(micros(after.At)), l.arg(after.ID)))
	}
	// The ids are sorted first, because texts are long. One more tells whether there is a next page.
	query := fmt.Sprintf(`SELECT %[1]s, %[2]s FROM posts p JOIN authors a ON a.id = p.author
		WHERE p.id IN (SELECT p.id FROM posts p WHERE %[3]s ORDER BY %[2]s DESC, p.id DESC LIMIT %[4]s)
		ORDER BY %[2]s DESC, p.id DESC`, columns, l.at, l.where, l.arg(limit+1))
	var page blog.Page
	var times []time.Time
	err := d.rows(ctx, what, func(row scanner) error {
		var t time.Time
		p, err := scanPost(row, moment{&t})
		page.Posts, times = append(page.Posts, p), append(times, t)
		return err
	}, query, l.args...)
	if err != nil {
		return blog.Page{}, err
	}
	if len(page.Posts) > limit {
		page.Posts = page.Posts[:limit]
		page.Next = blog.Cursor{At: times[limit-1], ID: page.Posts[limit-1].ID}
	}
	return page, nil
}

// published has the conditions of the index of that name, word by word.
const published = "NOT p.draft AND p.deleted_at = 0"

// Posts lists newest first.
func (d *DB) Posts(ctx context.Context, q blog.Query) (blog.Page, error) {
	l := listing{at: "p.published_at", where: published}
	switch q.Show {
	case blog.Drafts:
		l = listing{at: "p.updated_at", where: "p.draft AND p.deleted_at = 0"}
	case blog.Deleted:
		l = listing{at: "p.deleted_at", where: "p.deleted_at > 0"}
	}
	if q.Tag != "" {
		// EXISTS has SQLite go along the index of the list and stop when the page is full.
		l.and("EXISTS (SELECT 1 FROM post_tags t WHERE t.tag = " + l.arg(q.Tag) + " AND t.post = p.id)")
	}
	if q.Author != 0 {
		l.and("p.author = " + l.arg(q.Author))
	}
	return d.list(ctx, "list posts", l, columns(q.Full), q.After, limited(q.Limit, pageLimit))
}

// Addresses lists published posts without what they say.
func (d *DB) Addresses(ctx context.Context, after blog.Cursor, limit int) (page blog.Page, err error) {
	limit = limited(limit, addressLimit)
	where, args := published, []any{limit + 1}
	if !after.IsZero() {
		where += " AND (p.published_at, p.id) < ($2, $3)"
		args = append(args, micros(after.At), after.ID)
	}
	err = d.rows(ctx, "list addresses", func(row scanner) error {
		var p blog.Post
		err := row.Scan(&p.ID, &p.Slug, moment{&p.Updated}, moment{&p.Published})
		page.Posts = append(page.Posts, p)
		return err
	}, "SELECT p.id, p.slug, p.updated_at, p.published_at FROM posts p WHERE "+where+" ORDER BY p.published_at DESC, p.id DESC LIMIT $1", args...)
	if len(page.Posts) > limit {
		page.Posts = page.Posts[:limit]
		page.Next = blog.Cursor{At: page.Posts[limit-1].Published, ID: page.Posts[limit-1].ID}
	}
	return page, err
}

func limited(limit, most int) int {
	if limit <= 0 || limit > most {
		return most
	}
	return limit
}

// Post is any post.
func (d *DB) Post(ctx context.Context, id int64) (blog.Post, error) {
	var found []blog.Post
	what := fmt.Sprintf("read post %d", id)
	err := d.rows(ctx, what, func(row scanner) error {
		p, err := scanPost(row)
		found = append(found, p)
		return err
	}, "SELECT "+columns(true)+" FROM posts p JOIN authors a ON a.id = p.author WHERE p.id = $1", id)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s: %w", what, blog.ErrNotFound)
	}
	if err != nil {
		return blog.Post{}, err
	}
	return found[0], nil
}

// Tags counts published posts by tag.
func (d *DB) Tags(ctx context.Context) ([]blog.TagCount, error) {
	var tags []blog.TagCount
	err := d.rows(ctx, "count tags", func(row scanner) error {
		var t blog.TagCount
		err := row.Scan(&t.Tag, &t.Posts)
		tags = append(tags, t)
		return err
	}, `SELECT tag, count(*) FROM post_tags
		WHERE +post IN (SELECT p.id FROM posts p WHERE NOT p.draft AND p.deleted_at = 0) GROUP BY tag ORDER BY tag`)
	return tags, err
}

// Changes is the version of what readers see.
func (d *DB) Changes(ctx context.Context) (n int64, err error) {
	err = d.rows(ctx, "ask for changes", func(row scanner) error { return row.Scan(&n) }, "SELECT n FROM changes")
	return n, err
}

// changed is called in each transaction that changes what readers see.
func changed(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, "UPDATE changes SET n = n + 1")
	return err
}

// CreatePost stores a post.
func (d *DB) CreatePost(ctx context.Context, p blog.Post) (blog.Post, error) {
	err := d.change(ctx, "create a post", func(tx *sql.Tx) error {
		names := []string{"slug", "title", "body", "html", "text", "author", "draft", "created_at", "updated_at", "published_at", "deleted_at"}
		args := []any{p.Slug, p.Title, p.Body, p.HTML, p.Text, p.Author, p.Draft, micros(p.Created), micros(p.Updated), micros(p.Published), micros(p.Deleted)}
		given := p.ID != 0
		if given {
			names, args = append(names, "id"), append(args, p.ID)
		}
		var places []string
		for i := range args {
			places = append(places, fmt.Sprintf("$%d", i+1))
		}
		insert := fmt.Sprintf("INSERT INTO posts (%s) VALUES (%s) RETURNING id, version", strings.Join(names, ", "), strings.Join(places, ", "))
		if err := tx.QueryRowContext(ctx, insert, args...).Scan(&p.ID, &p.Version); err != nil {
			return err
		}
		if given {
			if err := d.dialect.taken(ctx, tx); err != nil {
				return err
			}
		}
		return d.describe(ctx, tx, p)
	})
	if err != nil {
		return blog.Post{}, err
	}
	return d.Post(ctx, p.ID)
}

// UpdatePost replaces a post.
func (d *DB) UpdatePost(ctx context.Context, p blog.Post) (blog.Post, error) {
	what := fmt.Sprintf("update post %d", p.ID)
	err := d.change(ctx, what, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, `UPDATE posts SET slug = $1, title = $2, body = $3, html = $4, text = $5, draft = $6,
			updated_at = $7, published_at = $8, version = version + 1 WHERE id = $9 AND version = $10 AND deleted_at = 0`,
			p.Slug, p.Title, p.Body, p.HTML, p.Text, p.Draft, micros(p.Updated), micros(p.Published), p.ID, p.Version)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			// Absent or deleted, or changed by somebody else?
			var version int64
			if err := tx.QueryRowContext(ctx, "SELECT version FROM posts WHERE id = $1 AND deleted_at = 0", p.ID).Scan(&version); err != nil {
				return err
			}
			return fmt.Errorf("%w: it has version %d, not %d", blog.ErrConflict, version, p.Version)
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM post_tags WHERE post = $1", p.ID); err != nil {
			return err
		}
		if err := d.dialect.unindex(ctx, tx, p.ID); err != nil {
			return err
		}
		return d.describe(ctx, tx, p)
	})
	if err != nil {
		return blog.Post{}, err
	}
	return d.Post(ctx, p.ID)
}

// describe stores what a post is found by.
func (d *DB) describe(ctx context.Context, tx *sql.Tx, p blog.Post) error {
	tags := slices.Compact(slices.Sorted(slices.Values(p.Tags)))
	for _, tag := range tags {
		if _, err := tx.ExecContext(ctx, "INSERT INTO post_tags (post, tag) VALUES ($1, $2)", p.ID, tag); err != nil {
			return err
		}
	}
	named := append([]string{p.Title}, tags...)
	if err := d.dialect.index(ctx, tx, p.ID, fulltext.Terms(named...), fulltext.Terms(append(named, p.Text)...)); err != nil {
		return err
	}
	return changed(ctx, tx)
}

// DeletePost hides a post.
func (d *DB) DeletePost(ctx context.Context, id int64, now time.Time) error {
	return d.one(ctx, fmt.Sprintf("delete post %d", id),
		"UPDATE posts SET deleted_at = $1, version = version + 1 WHERE id = $2 AND deleted_at = 0", micros(now), id)
}

// RestorePost shows it again.
func (d *DB) RestorePost(ctx context.Context, id int64) error {
	return d.one(ctx, fmt.Sprintf("restore post %d", id),
		"UPDATE posts SET deleted_at = 0, version = version + 1 WHERE id = $1 AND deleted_at > 0", id)
}

// EachPost goes over all posts, one query each: a reader that lasts would keep SQLite's log from
// being emptied.
func (d *DB) EachPost(ctx context.Context, yield func(blog.Post) error) error {
	for last := int64(0); ; {
		row := d.read.QueryRowContext(ctx, "SELECT "+columns(true)+" FROM posts p JOIN authors a ON a.id = p.author WHERE p.id > $1 ORDER BY p.id LIMIT 1", last)
		p, err := scanPost(row)
		if err == sql.ErrNoRows {
			return nil
		}
		if err != nil {
			return d.failed(ctx, "read all posts", err)
		}
		if err := yield(p); err != nil {
			return err
		}
		last = p.ID
	}
}
