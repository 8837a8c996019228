package caddymodule

import (
	"context"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// A goneStore is a database that cannot be used: a blog over it shows what needs none, and else the
// page that says so.
type goneStore struct{}

func (goneStore) Migrate(context.Context) error                { return blog.ErrBusy }
func (goneStore) SchemaVersion(context.Context) (int64, error) { return 0, blog.ErrBusy }
func (goneStore) Posts(context.Context, blog.Query) (blog.Page, error) {
	return blog.Page{}, blog.ErrBusy
}

func (goneStore) Addresses(context.Context, blog.Cursor, int) (blog.Page, error) {
	return blog.Page{}, blog.ErrBusy
}
func (goneStore) Changes(context.Context) (int64, error)         { return 0, blog.ErrBusy }
func (goneStore) Post(context.Context, int64) (blog.Post, error) { return blog.Post{}, blog.ErrBusy }

func (goneStore) Search(context.Context, blog.SearchQuery) (blog.SearchPage, error) {
	return blog.SearchPage{}, blog.ErrBusy
}
func (goneStore) Tags(context.Context) ([]blog.TagCount, error) { return nil, blog.ErrBusy }
func (goneStore) CreatePost(context.Context, blog.Post) (blog.Post, error) {
	return blog.Post{}, blog.ErrBusy
}

func (goneStore) UpdatePost(context.Context, blog.Post) (blog.Post, error) {
	return blog.Post{}, blog.ErrBusy
}
func (goneStore) DeletePost(context.Context, int64, time.Time) error    { return blog.ErrBusy }
func (goneStore) RestorePost(context.Context, int64) error              { return blog.ErrBusy }
func (goneStore) EachPost(context.Context, func(blog.Post) error) error { return blog.ErrBusy }
func (goneStore) CreateAuthor(context.Context, blog.Author) (blog.Author, error) {
	return blog.Author{}, blog.ErrBusy
}
func (goneStore) UpdateAuthor(context.Context, blog.Author) error { return blog.ErrBusy }
func (goneStore) AuthorByID(context.Context, int64) (blog.Author, error) {
	return blog.Author{}, blog.ErrBusy
}

func (goneStore) AuthorByName(context.Context, string) (blog.Author, error) {
	return blog.Author{}, blog.ErrBusy
}
func (goneStore) Authors(context.Context) ([]blog.Author, error)    { return nil, blog.ErrBusy }
func (goneStore) CreateSession(context.Context, blog.Session) error { return blog.ErrBusy }
func (goneStore) Session(context.Context, blog.TokenHash, time.Time) (blog.Session, error) {
	return blog.Session{}, blog.ErrBusy
}
func (goneStore) DeleteSession(context.Context, blog.TokenHash) error { return blog.ErrBusy }
func (goneStore) DeleteSessions(context.Context, int64) error         { return blog.ErrBusy }
func (goneStore) CreateLink(context.Context, blog.OneTimeLink) error  { return blog.ErrBusy }
func (goneStore) UseLink(context.Context, blog.TokenHash, time.Time) (blog.OneTimeLink, error) {
	return blog.OneTimeLink{}, blog.ErrBusy
}

func (goneStore) Attempts(context.Context, string) (blog.Attempts, error) {
	return blog.Attempts{}, blog.ErrBusy
}

func (goneStore) CountAttempt(context.Context, string, time.Time, time.Duration) (blog.Attempts, error) {
	return blog.Attempts{}, blog.ErrBusy
}
func (goneStore) ClearAttempts(context.Context, string) error   { return blog.ErrBusy }
func (goneStore) CreateImage(context.Context, blog.Image) error { return blog.ErrBusy }
func (goneStore) Image(context.Context, string) (blog.Image, error) {
	return blog.Image{}, blog.ErrBusy
}
func (goneStore) ImageNames(context.Context) ([]string, error)          { return nil, blog.ErrBusy }
func (goneStore) Sweep(context.Context, time.Time, time.Duration) error { return blog.ErrBusy }
func (goneStore) Close() error                                          { return nil }
