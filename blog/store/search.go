package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/fulltext"
)

type term = fulltext.Term

const (
	searchLimit   = 50
	snippetLength = 180 // characters: two lines on a phone
	// looksLimit bounds how often a page is filled up when candidates turn out not to be meant.
	looksLimit = 5
)

// Search finds published posts.
func (d *DB) Search(ctx context.Context, q blog.SearchQuery) (blog.SearchPage, error) {
	parsed := fulltext.ParseQuery(q.Text)
	if len(parsed.Terms) == 0 {
		return blog.SearchPage{}, nil
	}
	limit := limited(q.Limit, searchLimit)
	page := blog.SearchPage{Next: q.After}
	for range looksLimit {
		hits, next, err := d.candidates(ctx, parsed, page.Next, limit-len(page.Hits))
		if err != nil {
			return blog.SearchPage{}, err
		}
		page.Next = next
		for _, h := range hits {
			if parsed.NeedsCheck() && !parsed.Found(h.Title, strings.Join(h.Tags, "\n"), h.Text) {
				continue
			}
			h.Snippet = parsed.Snippet(h.Text, snippetLength)
			h.Text = beginning(h.Text, listedText)
			page.Hits = append(page.Hits, h)
		}
		if next.IsZero() || len(page.Hits) == limit {
			break
		}
	}
	return page, nil
}

// candidates have the terms of a query.
func (d *DB) candidates(ctx context.Context, q fulltext.Query, after blog.Cursor, limit int) ([]blog.Hit, blog.Cursor, error) {
	everything, title := d.dialect.match(q.Terms)
	args := []any{everything, title, limit + 1}
	where := ""
	if !after.IsZero() {
		where = "AND (f.in_title, p.published_at, p.id) < ($4, $5, $6)"
		inTitle := 0
		if after.InTitle {
			inTitle = 1
		}
		args = append(args, inTitle, micros(after.At), after.ID)
	}
	// The ids are sorted first, because texts are long.
	query := fmt.Sprintf(`WITH f AS (%s), best AS (
			SELECT p.id, f.in_title FROM f JOIN posts p ON p.id = f.id WHERE NOT p.draft AND p.deleted_at = 0 %s
			ORDER BY f.in_title DESC, p.published_at DESC, p.id DESC LIMIT $3)
		SELECT %s, best.in_title FROM best JOIN posts p ON p.id = best.id JOIN authors a ON a.id = p.author
		ORDER BY best.in_title DESC, p.published_at DESC, p.id DESC`,
		d.dialect.found(), where, strings.NewReplacer("p.body, p.html", "'', ''").Replace(columns(true)))
	var hits []blog.Hit
	var inTitle []bool
	err := d.rows(ctx, "search", func(row scanner) error {
		var in int
		p, err := scanPost(row, &in)
		hits, inTitle = append(hits, blog.Hit{Post: p}), append(inTitle, in == 1)
		return err
	}, query, args...)
	if err != nil {
		return nil, blog.Cursor{}, err
	}
	var next blog.Cursor
	if len(hits) > limit {
		hits = hits[:limit]
		next = blog.Cursor{InTitle: inTitle[limit-1], At: hits[limit-1].Published, ID: hits[limit-1].ID}
	}
	for i := range hits {
		if err := d.addTags(ctx, &hits[i].Post); err != nil {
			return nil, blog.Cursor{}, err
		}
	}
	return hits, next, nil
}

func beginning(text string, characters int) string {
	n := 0
	for i := range text {
		if n == characters {
			return text[:i]
		}
		n++
	}
	return text
}
