package caddymodule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// Whether a command makes an SQLite database that is not there.
const (
	mayBeNew  = false
	mustExist = true
)

// withBlog has do work with the store that the flags of cmd name, brought up to date.
func withBlog(ctx context.Context, cmd *cobra.Command, there bool, do func(blog.Store) error) (err error) {
	source, err := commandSource(cmd)
	if err != nil {
		return err
	}
	if there && source.kind == sqliteKind {
		if err := source.exists(); err != nil {
			return err
		}
	}
	s, err := source.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	return do(s)
}

// exists tells of an SQLite database that is not there.
func (s blogSource) exists() error {
	_, err := os.Stat(s.source)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no blog at %s; say where it is with --database sqlite:PATH or --config FILE", s.source)
	}
	return err
}

// commandSource is the database that the flags of a command name.
func commandSource(cmd *cobra.Command) (blogSource, error) {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	named, config := f.String("database"), f.String("config")
	switch {
	case named != "" && config != "":
		return blogSource{}, errors.New("say one of --database and --config")
	case named != "":
		return parseSource(named)
	case config != "":
		b, err := configuredBlog(config, f.String("adapter"))
		if err != nil {
			return blogSource{}, err
		}
		return b.Database.resolve()
	}
	return (*BlogDatabase)(nil).resolve()
}

// parseSource reads --database. Unlike in a configuration, a path is relative to where the command is
// called.
func parseSource(text string) (blogSource, error) {
	text, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return blogSource{}, fmt.Errorf("--database: %w", err)
	}
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok && path != "" {
		path, err := filepath.Abs(path)
		return blogSource{sqliteKind, path}, err
	}
	if strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") {
		if err := checkPostgres(text); err != nil {
			return blogSource{}, fmt.Errorf("--database: %w", err)
		}
		return blogSource{postgresKind, text}, nil
	}
	return blogSource{}, errors.New("--database is written as in sqlite:blog.db or postgres://user@host/name") // not what it says: it may be a password
}

// configuredBlog is the blog of a configuration that has one. Several that share a database and an
// address are one.
func configuredBlog(file, adapter string) (*BlogHandler, error) {
	config, _, _, err := caddycmd.LoadConfig(file, adapter)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(config, &tree); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	found := map[string]*BlogHandler{}
	var one *BlogHandler
	err = eachBlog(tree, func(raw []byte) error {
		b := new(BlogHandler)
		if err := json.Unmarshal(raw, b); err != nil {
			return err
		}
		source, err := b.Database.resolve()
		if err != nil {
			return fmt.Errorf("the database of its blog: %w", err)
		}
		found[source.key()+b.URL], one = b, b
		return nil
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", file, err)
	case len(found) == 0:
		return nil, fmt.Errorf("%s has no ollama_blog", file)
	case len(found) > 1:
		return nil, fmt.Errorf("%s has %d blogs; say which with --database", file, len(found))
	}
	return one, nil
}

// eachBlog finds the handlers ollama_blog, wherever in a configuration they stand.
func eachBlog(tree any, visit func(raw []byte) error) error {
	switch t := tree.(type) {
	case []any:
		for _, child := range t {
			if err := eachBlog(child, visit); err != nil {
				return err
			}
		}
	case map[string]any:
		if t["handler"] == "ollama_blog" {
			raw, err := json.Marshal(t)
			if err != nil {
				return err
			}
			return visit(raw)
		}
		for _, child := range t {
			if err := eachBlog(child, visit); err != nil {
				return err
			}
		}
	}
	return nil
}
