package caddymodule

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/people"
)

// blogWait bounds how long `up` waits for its blog's database before it says what is served without
// it.
const blogWait = 10 * time.Second

//go:embed welcome.md
var welcomePost string

// announceBlog makes what a new blog needs and says how to sign in to it. The link is shown here and
// nowhere else; it works once.
func announceBlog(ctx context.Context, w io.Writer, p upPlan) {
	if !p.servesBlog() {
		return
	}
	url := p.https.url("https")
	fmt.Fprintf(w, "  blog: %s\n", url)
	d, ok := currentBlogDatabase()
	if !ok || !d.enter() {
		return // told to leave while it started
	}
	defer d.leave()
	ctx, cancel := context.WithTimeout(ctx, blogWait)
	defer cancel()
	token, err := "", errors.New("the database cannot be used yet")
	if d.usable(ctx) {
		token, err = seedBlog(ctx, d.store, time.Now())
	}
	switch {
	case err != nil:
		fmt.Fprintf(w, "  Its database: %v. The log says more; the API is not affected.\n\n", err)
	case token == "":
		fmt.Fprintf(w, "  To write in it: %s/login\n\n", url)
	default:
		fmt.Fprintf(w, "  To write in it, open this once, within a day:\n  %s\n\n", loginLink(url, token))
	}
}

// seedBlog makes the author and the first post of a blog that has nobody yet, and the token of a link
// that signs the first author in, if no author has a password.
func seedBlog(ctx context.Context, s blog.Store, now time.Time) (token string, err error) {
	p := people.New(s)
	authors, err := s.Authors(ctx)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(authors, func(a blog.Author) bool { return a.Password != "" }) {
		return "", nil
	}
	if len(authors) == 0 {
		first, err := p.Create(ctx, firstAuthor, "", "", now)
		if err != nil {
			return "", err
		}
		if err := welcome(ctx, s, first, now); err != nil {
			return "", err
		}
		authors = append(authors, first)
	}
	return p.NewLink(ctx, authors[0].ID, now)
}

// welcome publishes the first post, unless there is one.
func welcome(ctx context.Context, s blog.Store, author blog.Author, now time.Time) error {
	page, err := s.Posts(ctx, blog.Query{Limit: 1})
	if err != nil || len(page.Posts) > 0 {
		return err
	}
	post := blog.Post{Title: "Welcome", Body: welcomePost, Tags: []string{"caddy-ollama"}, Author: author.ID}
	if err := post.Prepare(now); err != nil {
		return err
	}
	_, err = s.CreatePost(ctx, post)
	return err
}
