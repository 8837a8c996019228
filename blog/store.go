// Package blog is a small blog: posts in Markdown by signed-in authors, for readers in any script.
//
// It owns what a post is, how it becomes safe HTML, and how it leaves and comes back as files. What
// is stored goes through a Store; blog/store has one for SQLite and one for PostgreSQL.
// blog knows nothing of Caddy or databases.
package blog

import (
	"context"
	"errors"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog/fulltext"
)

var (
	// ErrNotFound says that there is no such thing, or no longer.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a post was changed meanwhile, or that a name or id is taken.
	ErrConflict = errors.New("conflicts with what is stored")
	// ErrBusy says that the database cannot do it now: it is locked, full, or gone. Nothing was
	// stored. The same may succeed later, so a page says 503 and keeps what was typed.
	ErrBusy = errors.New("the database is not available")
)

// A Store keeps a blog. Safe for concurrent use; each call ends with its context, at the latest.
// Errors wrap one of the sentinels where a caller would do something different. Times are given by
// the caller, so that one clock rules; they are stored as UTC microseconds.
type Store interface {
	// Migrate brings the database to this program's version, and creates it if there is none. One
	// process at a time does so; others wait. It refuses a database that a newer program wrote.
	Migrate(ctx context.Context) error
	// SchemaVersion is the version that the database has, 0 before Migrate.
	SchemaVersion(ctx context.Context) (int64, error)

	// Posts lists newest first: published ones by when they were published, drafts by when they were
	// last changed. Without Full they have neither Body nor HTML, and of Text the beginning.
	Posts(ctx context.Context, q Query) (Page, error)
	// Addresses lists published posts as Posts does, with ID, Slug, Updated and Published only. Default
	// and most of a page: 1,000.
	Addresses(ctx context.Context, after Cursor, limit int) (Page, error)
	// Changes counts what changed published posts and their authors, from whatever process: while it
	// is the same, so are the pages of readers. Read it before what it is to vouch for.
	Changes(ctx context.Context) (int64, error)
	// Post is any post, draft or deleted too: who asks decides who may see it.
	Post(ctx context.Context, id int64) (Post, error)
	// Search finds published posts: those whose title or tags have it first, then newest first.
	Search(ctx context.Context, q SearchQuery) (SearchPage, error)
	// Tags counts published posts by tag, in order of the tags.
	Tags(ctx context.Context) ([]TagCount, error)
	// CreatePost stores a prepared post and returns it with its ID and Version. A post that has an ID
	// keeps it, or is ErrConflict if that is taken.
	CreatePost(ctx context.Context, p Post) (Post, error)
	// UpdatePost replaces a post if its Version is still that in the store, else it is ErrConflict.
	// Author, Created and Deleted stay as they are.
	UpdatePost(ctx context.Context, p Post) (Post, error)
	// DeletePost has a post not be listed, found or counted until RestorePost, or Sweep for good.
	DeletePost(ctx context.Context, id int64, now time.Time) error
	// RestorePost undoes DeletePost. It is ErrNotFound for a post that is not deleted.
	RestorePost(ctx context.Context, id int64) error
	// EachPost calls yield with every whole post, drafts and deleted ones too, by ID, until it returns
	// an error. Changes meanwhile may or may not be seen; no lock is held during yield.
	EachPost(ctx context.Context, yield func(Post) error) error

	// CreateAuthor stores an author; ErrConflict if there is one of that name.
	CreateAuthor(ctx context.Context, a Author) (Author, error)
	// UpdateAuthor replaces the shown name and the password of an author.
	UpdateAuthor(ctx context.Context, a Author) error
	AuthorByID(ctx context.Context, id int64) (Author, error)
	AuthorByName(ctx context.Context, name string) (Author, error)
	Authors(ctx context.Context) ([]Author, error)

	CreateSession(ctx context.Context, s Session) error
	// Session is that of a token's hash, or ErrNotFound if it has expired.
	Session(ctx context.Context, hash TokenHash, now time.Time) (Session, error)
	DeleteSession(ctx context.Context, hash TokenHash) error
	// DeleteSessions ends all sessions of an author.
	DeleteSessions(ctx context.Context, author int64) error
	CreateLink(ctx context.Context, l OneTimeLink) error
	// UseLink takes a link out and returns it: of callers at once, one gets it, the others ErrNotFound.
	UseLink(ctx context.Context, hash TokenHash, now time.Time) (OneTimeLink, error)

	// Attempts are the failed logins counted for key (an account or an address); none is no error.
	Attempts(ctx context.Context, key string) (Attempts, error)
	// CountAttempt counts one more and returns the count. One that is older than forget counts anew.
	CountAttempt(ctx context.Context, key string, now time.Time, forget time.Duration) (Attempts, error)
	// ClearAttempts forgets them, after a login.
	ClearAttempts(ctx context.Context, key string) error

	// CreateImage stores an image under its Name; one that is there already stays as it is.
	CreateImage(ctx context.Context, i Image) error
	Image(ctx context.Context, name string) (Image, error)
	// ImageNames lists all, in order.
	ImageNames(ctx context.Context) ([]string, error)

	// Sweep removes for good: sessions and links that have expired, attempts older than a day, and posts
	// that were deleted longer than keep ago.
	Sweep(ctx context.Context, now time.Time, keep time.Duration) error
	Close() error
}

// A Query says which posts to list.
type Query struct {
	Tag    string // only those with this tag; empty: all
	Author int64  // only those of this author; 0: all
	Show   Show
	Limit  int    // of a page. Default and most: 100.
	After  Cursor // the Next of the page before; zero: the first page
	Full   bool   // with Body and HTML
}

// Show is which posts a Query means.
type Show int

const (
	Published Show = iota // for readers
	Drafts
	Deleted // those that RestorePost brings back
)

// A Page is a part of a list.
type Page struct {
	Posts []Post
	Next  Cursor // zero: there are no more
}

// A Cursor is a place in a list. It stays right when posts come and go.
type Cursor struct {
	InTitle bool // of a search
	At      time.Time
	ID      int64
}

// IsZero reports whether it is the beginning of a list, or of what comes after its end.
func (c Cursor) IsZero() bool { return c.ID == 0 }

// A SearchQuery says what to search for.
type SearchQuery struct {
	Text  string
	Limit int    // of a page. Default and most: 50.
	After Cursor // as in Query
}

// A SearchPage is a part of what was found.
type SearchPage struct {
	Hits []Hit
	Next Cursor
}

// A Hit is a post as a list shows it, with the place where it was found.
type Hit struct {
	Post
	Snippet []fulltext.Fragment
}

// A TagCount is a tag and how many published posts have it.
type TagCount struct {
	Tag   string
	Posts int
}
