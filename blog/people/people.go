// Package people signs authors in: by password, by a one-time link, and by the session that follows.
//
// Tokens are 256 random bits and are stored as hashes only. Failed logins slow down the account and
// the address that they come from; how many passwords are computed at once is bounded.
// people knows nothing of HTTP, cookies or databases.
package people

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// Store is what people need of the blog's store.
type Store interface {
	CreateAuthor(ctx context.Context, a blog.Author) (blog.Author, error)
	UpdateAuthor(ctx context.Context, a blog.Author) error
	AuthorByID(ctx context.Context, id int64) (blog.Author, error)
	AuthorByName(ctx context.Context, name string) (blog.Author, error)
	CreateSession(ctx context.Context, s blog.Session) error
	Session(ctx context.Context, hash blog.TokenHash, now time.Time) (blog.Session, error)
	DeleteSession(ctx context.Context, hash blog.TokenHash) error
	DeleteSessions(ctx context.Context, author int64) error
	CreateLink(ctx context.Context, l blog.OneTimeLink) error
	UseLink(ctx context.Context, hash blog.TokenHash, now time.Time) (blog.OneTimeLink, error)
	Attempts(ctx context.Context, key string) (blog.Attempts, error)
	CountAttempt(ctx context.Context, key string, now time.Time, forget time.Duration) (blog.Attempts, error)
	ClearAttempts(ctx context.Context, key string) error
}

var (
	// ErrWrong says that name and password do not fit, and not which of them.
	ErrWrong = errors.New("the name or the password is wrong")
	// ErrName says what a name has to be.
	ErrName = errors.New("a name has 1 to 40 letters a-z, digits, dots, dashes or underscores")
	// ErrPassword says what a password has to be.
	ErrPassword = fmt.Errorf("a password has %d to %d characters", passwordLeast, passwordMost)
)

// SessionLife is how long an author stays signed in.
const SessionLife = 30 * 24 * time.Hour

const (
	passwordLeast = 10
	passwordMost  = 200 // hashing costs the same, but nobody needs to send megabytes
	linkLife      = 24 * time.Hour
	hashesAtOnce  = 2
)

// A WaitError refuses a login after others that failed, until the wait is over.
type WaitError struct{ Wait time.Duration }

func (e *WaitError) Error() string {
	return fmt.Sprintf("too many failed logins: try again in %v", e.Wait.Round(time.Second))
}

// People sign in. Safe for concurrent use.
type People struct {
	store   Store
	hashing hashing
}

// New are the people of a store.
func New(store Store) *People {
	return &People{store: store, hashing: make(hashing, hashesAtOnce)}
}

var nameForm = regexp.MustCompile(`^[a-z0-9._-]{1,40}$`)

// Create makes an author. Without a password they need a link to sign in. The error is ErrName,
// ErrPassword, blog.ErrConflict for a name that is taken, or the store's.
func (p *People) Create(ctx context.Context, name, shown, password string, now time.Time) (blog.Author, error) {
	name = strings.ToLower(name)
	if !nameForm.MatchString(name) {
		return blog.Author{}, ErrName
	}
	if shown = strings.Join(strings.Fields(shown), " "); shown == "" {
		shown = name
	}
	a := blog.Author{Name: name, Shown: shown, Created: now}
	if password != "" {
		var err error
		if a.Password, err = p.hash(ctx, password); err != nil {
			return blog.Author{}, err
		}
	}
	return p.store.CreateAuthor(ctx, a)
}

// SetPassword gives an author another password and ends all of their sessions: who knew the old one
// is out.
func (p *People) SetPassword(ctx context.Context, author int64, password string) error {
	hash, err := p.hash(ctx, password)
	if err != nil {
		return err
	}
	a, err := p.store.AuthorByID(ctx, author)
	if err != nil {
		return err
	}
	a.Password = hash
	if err := p.store.UpdateAuthor(ctx, a); err != nil {
		return err
	}
	return p.store.DeleteSessions(ctx, author)
}

func (p *People) hash(ctx context.Context, password string) (hash string, err error) {
	password = normal(password)
	if n := utf8.RuneCountInString(password); n < passwordLeast || n > passwordMost {
		return "", ErrPassword
	}
	err = p.hashing.do(ctx, func() { hash = hashPassword(password) })
	return hash, err
}

// normal has a password be the same from every keyboard.
func normal(password string) string { return norm.NFKC.String(password) }

// absent stands for the password of who is not there or has none, so that finding that out takes as
// long as a wrong password.
var absent = hashPassword("nobody has this one")

// Login signs in by password and returns the session's token. address is where it comes from. The
// error is ErrWrong, a *WaitError, or the store's.
func (p *People) Login(ctx context.Context, name, password, address string, now time.Time) (token string, err error) {
	name = strings.ToLower(name)
	keys := []string{"address:" + address}
	if nameForm.MatchString(name) {
		keys = append(keys, "account:"+name)
	}
	before := make([]blog.Attempts, len(keys))
	for i, key := range keys {
		if before[i], err = p.store.Attempts(ctx, key); err != nil {
			return "", err
		}
		if left := backOff(before[i].Failures) - now.Sub(before[i].Last); left > 0 {
			return "", &WaitError{Wait: left}
		}
	}
	// Counted before the password is looked at, and the count is believed: of guesses that come at once
	// only as many are looked at as one after another.
	for i, key := range keys {
		counted, err := p.store.CountAttempt(ctx, key, now, forget)
		if err != nil {
			return "", err
		}
		if others := counted.Failures - 1; others > before[i].Failures && backOff(others) > 0 {
			return "", &WaitError{Wait: backOff(others)}
		}
	}
	var author blog.Author
	if nameForm.MatchString(name) { // nobody has another one, and PostgreSQL refuses some as no text
		if author, err = p.store.AuthorByName(ctx, name); err != nil && !errors.Is(err, blog.ErrNotFound) {
			return "", err
		}
	}
	stored := author.Password
	if stored == "" {
		stored = absent
	}
	var same bool
	var broken error
	if len(password) > 4*passwordMost {
		password = "" // it cannot be one: not worth normalising
	}
	if err := p.hashing.do(ctx, func() { same, broken = samePassword(stored, normal(password)) }); err != nil {
		return "", err
	}
	if broken != nil {
		return "", broken
	}
	if !same || author.Password == "" {
		return "", ErrWrong
	}
	for _, key := range keys {
		if err := p.store.ClearAttempts(ctx, key); err != nil {
			return "", err
		}
	}
	return p.Begin(ctx, author.ID, now)
}

// forget is after how long without a failure a count begins anew.
const forget = 24 * time.Hour

// backOff is how long to wait after so many failures: nothing for the first four, which are typing
// errors, then 2 s and twice as long each time, 15 minutes at most, so that nobody can lock an author out.
func backOff(failures int) time.Duration {
	if failures < 5 {
		return 0
	}
	return min(2*time.Second<<min(failures-5, 20), 15*time.Minute)
}

// NewLink makes the token of a link that signs an author in once, within a day.
func (p *People) NewLink(ctx context.Context, author int64, now time.Time) (token string, err error) {
	token, hash := newToken()
	return token, p.store.CreateLink(ctx, blog.OneTimeLink{Hash: hash, Author: author, Expires: now.Add(linkLife)})
}

// UseLink signs in by a link. The error is blog.ErrNotFound for one that was used, has expired or
// never was, or the store's.
func (p *People) UseLink(ctx context.Context, token string, now time.Time) (session string, err error) {
	link, err := p.store.UseLink(ctx, hashToken(token), now)
	if err != nil {
		return "", err
	}
	return p.Begin(ctx, link.Author, now)
}

// Begin signs in an author of whom the caller knows who it is. It always makes a new token, so that
// nobody can plant one before a login.
func (p *People) Begin(ctx context.Context, author int64, now time.Time) (token string, err error) {
	token, hash := newToken()
	return token, p.store.CreateSession(ctx, blog.Session{Hash: hash, Author: author, Created: now, Expires: now.Add(SessionLife)})
}

// SignedIn is the author whose session a token is, or blog.ErrNotFound.
func (p *People) SignedIn(ctx context.Context, token string, now time.Time) (blog.Author, error) {
	s, err := p.store.Session(ctx, hashToken(token), now)
	if err != nil {
		return blog.Author{}, err
	}
	return p.store.AuthorByID(ctx, s.Author)
}

// Logout ends a session.
func (p *People) Logout(ctx context.Context, token string) error {
	return p.store.DeleteSession(ctx, hashToken(token))
}

func newToken() (string, blog.TokenHash) {
	random := make([]byte, 32)
	rand.Read(random) // never fails
	token := base64.RawURLEncoding.EncodeToString(random)
	return token, hashToken(token)
}

// hashToken needs no salt and no cost: nobody can guess 256 random bits.
func hashToken(token string) blog.TokenHash { return sha256.Sum256([]byte(token)) }
