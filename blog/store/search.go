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
		posts, next, err := d.candidates(ctx, parsed, page.Next, limit-len(page.Hits))
		if err != nil {
			return blog.SearchPage{}, err
		}
		page.Next = next
		for _, p := range posts {
			h := blog.Hit{Post: p}
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

// candidates have the terms of a query: first those that have all of them in title and tags.
func (d *DB) candidates(ctx context.Context, q fulltext.Query, after blog.Cursor, limit int) (posts []blog.Post, next blog.Cursor, err error) {
	if after.IsZero() || after.InTitle {
		page, err := d.found(ctx, q, true, after, limit)
		page.Next.InTitle = true
		if err != nil || !page.Next.IsZero() {
			return page.Posts, page.Next, err
		}
		posts, after = page.Posts, blog.Cursor{}
	}
	if limit -= len(posts); limit == 0 {
		// The page is full, and whether there is another one is to be found out.
		page, err := d.found(ctx, q, false, blog.Cursor{}, 1)
		if err != nil || len(page.Posts) == 0 {
			return posts, blog.Cursor{}, err
		}
		last := posts[len(posts)-1]
		return posts, blog.Cursor{InTitle: true, At: last.Published, ID: last.ID}, nil
	}
	page, err := d.found(ctx, q, false, after, limit)
	return append(posts, page.Posts...), page.Next, err
}

// found lists what has all terms of a query in title and tags, or only in everything.
func (d *DB) found(ctx context.Context, q fulltext.Query, inTitle bool, after blog.Cursor, limit int) (blog.Page, error) {
	l := listing{at: "p.published_at", where: published}
	condition, match := d.dialect.found(q.Terms, inTitle)
	l.and(fmt.Sprintf(condition, l.arg(match)))
	return d.list(ctx, "search", l, searchColumns, after, limit)
}

// searchColumns have the whole text, for the snippet.
var searchColumns = strings.Replace(columns(true), "p.body, p.html", "'', ''", 1)

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
