package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

const (
	sqliteKind   = "sqlite"
	postgresKind = "postgres"

	// blogFile is where a blog is that says nothing else.
	blogFile = "blog.db"
)

// A blogSource is where a blog is kept, with nothing left to be replaced. It may hold a password.
type blogSource struct{ kind, source string }

// key names the source in the pool without its password.
func (s blogSource) key() string {
	sum := sha256.Sum256([]byte(s.kind + "\x00" + s.source))
	return hex.EncodeToString(sum[:])
}

// open opens the database, without touching it.
func (s blogSource) open() (blog.Store, error) {
	if s.kind == postgresKind {
		return store.OpenPostgres(s.source)
	}
	return store.OpenSQLite(s.source)
}

// check tells what is wrong as far as it can be seen before placeholders are replaced.
func (b *BlogDatabase) check() error {
	switch {
	case b.Kind != sqliteKind && b.Kind != postgresKind:
		return fmt.Errorf("unrecognized kind %q; use sqlite or postgres", b.Kind)
	case b.Source == "":
		return fmt.Errorf("%s needs a source: the path of a file for sqlite, a URL for postgres", b.Kind)
	case b.Kind == postgresKind && hasPassword(b.Source):
		return errors.New("a password would be saved with the configuration; write a placeholder, as in {env.BLOG_DATABASE_URL}")
	case b.Kind == postgresKind && !hasPlaceholder(b.Source):
		return checkPostgres(b.Source)
	}
	return nil
}

// resolve replaces placeholders. A nil database is the default one.
func (b *BlogDatabase) resolve() (blogSource, error) {
	if b == nil {
		b = &BlogDatabase{Kind: sqliteKind, Source: blogFile}
	}
	if err := b.check(); err != nil {
		return blogSource{}, err
	}
	source, err := caddy.NewReplacer().ReplaceOrErr(b.Source, true, true)
	if err != nil {
		return blogSource{}, err
	}
	if b.Kind == postgresKind {
		return blogSource{postgresKind, source}, checkPostgres(source)
	}
	if !filepath.IsAbs(source) {
		source = filepath.Join(caddy.AppDataDir(), source) // the working directory is / under systemd
	}
	source, err = filepath.Abs(source)
	return blogSource{sqliteKind, source}, err
}

// checkPostgres opens and closes: nobody is asked by that. The error shows no password.
func checkPostgres(source string) error {
	if strings.Contains(source, "://") && !strings.HasPrefix(source, "postgres://") && !strings.HasPrefix(source, "postgresql://") {
		return errors.New("the URL of a PostgreSQL begins with postgres://")
	}
	s, err := store.OpenPostgres(source)
	if err != nil {
		return err
	}
	return s.Close()
}

var passwordWord = regexp.MustCompile(`(?i)\bpassword\s*=\s*[^{\s]`)

// hasPassword tells whether a password stands in a source itself.
func hasPassword(source string) bool {
	if passwordWord.MatchString(source) {
		return true
	}
	_, rest, _ := strings.Cut(source, "://")
	user, _, ok := strings.Cut(rest, "@")
	_, password, _ := strings.Cut(user, ":")
	return ok && password != "" && !hasPlaceholder(password)
}

// checkOrigin tells why a text is not the address of a site alone.
func checkOrigin(text, example string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("it is not an address; write it as in %s", example) // its error would repeat a password
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("%q is not an address with http:// or https:// and a host; write it as in %s", text, example)
	case u.User != nil:
		return errors.New("an address has no user or password in it")
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return fmt.Errorf("%q has something behind the host; leave it out, as in %s", text, example)
	}
	return nil
}

// checkBlogKey refuses what is no placeholder without repeating it: it would be saved with the
// configuration.
func checkBlogKey(key string) error {
	if key != "" && !isPlaceholder(key) {
		return errors.New("write a placeholder that stands for the key, as in {env.BLOG_KEY}")
	}
	return nil
}

// readBlogKey reads the key that a placeholder stands for; "" is none.
func readBlogKey(placeholder string) (string, error) {
	if placeholder == "" {
		return "", nil
	}
	key, err := caddy.NewReplacer().ReplaceOrErr(placeholder, true, true)
	if err != nil {
		return "", err
	}
	key = strings.TrimSpace(key)
	if err := checkHeaderValue(key); err != nil {
		return "", err
	}
	return key, nil
}
