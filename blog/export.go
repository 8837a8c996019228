package blog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
)

// Where an export has what.
const (
	postsDir  = "posts"
	imagesDir = "images"
)

// frontMatter is what a post's file begins with, between lines of three dashes.
type frontMatter struct {
	Title     string    `yaml:"title"`
	ID        int64     `yaml:"id,omitempty"` // keeps the address of a post
	Slug      string    `yaml:"slug,omitempty"`
	Author    string    `yaml:"author,omitempty"` // the name to sign in with
	Tags      []string  `yaml:"tags,omitempty,flow"`
	Draft     bool      `yaml:"draft,omitempty"`
	Created   time.Time `yaml:"created,omitempty"`
	Updated   time.Time `yaml:"updated,omitempty"`
	Published time.Time `yaml:"published,omitempty"`
}

// Exported counts what Export wrote.
type Exported struct{ Posts, Images int }

// Export writes each post, drafts too, as a Markdown file with YAML front matter, and each image,
// into dir, which it makes. Deleted posts stay behind. Files that are there already are replaced,
// others are left. It holds no lock: the blog goes on meanwhile.
func Export(ctx context.Context, s Store, dir string) (Exported, error) {
	var done Exported
	for _, sub := range []string{postsDir, imagesDir} {
		// 0700: drafts are nobody's business.
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return done, err
		}
	}
	authors, err := s.Authors(ctx)
	if err != nil {
		return done, err
	}
	names := map[int64]string{}
	for _, a := range authors {
		names[a.ID] = a.Name
	}
	err = s.EachPost(ctx, func(p Post) error {
		if !p.Deleted.IsZero() {
			return nil
		}
		text, err := format(p, names[p.Author])
		if err != nil {
			return fmt.Errorf("export post %d: %w", p.ID, err)
		}
		done.Posts++
		// The slug is of letters and digits, but may be longer than a file system takes.
		name := fmt.Sprintf("%06d-%.60s.md", p.ID, p.Slug)
		return os.WriteFile(filepath.Join(dir, postsDir, name), text, 0o600)
	})
	if err != nil {
		return done, err
	}
	images, err := s.ImageNames(ctx)
	if err != nil {
		return done, err
	}
	for _, name := range images {
		image, err := s.Image(ctx, name)
		if err != nil {
			return done, err
		}
		if err := os.WriteFile(filepath.Join(dir, imagesDir, name), image.Bytes, 0o600); err != nil {
			return done, err
		}
		done.Images++
	}
	return done, nil
}

func format(p Post, author string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("---\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(frontMatter{
		Title: p.Title, ID: p.ID, Slug: p.Slug, Author: author, Tags: p.Tags, Draft: p.Draft,
		Created: p.Created, Updated: p.Updated, Published: p.Published,
	}); err != nil {
		return nil, err
	}
	b.WriteString("---\n")
	b.WriteString(p.Body)
	return b.Bytes(), nil
}

// errFrontMatter says that a file is not a post.
var errFrontMatter = errors.New("does not begin with front matter between lines of ---")

func parse(file []byte) (frontMatter, string, error) {
	var meta frontMatter
	file = bytes.ReplaceAll(bytes.TrimPrefix(file, []byte("\ufeff")), []byte("\r\n"), []byte("\n"))
	rest, ok := bytes.CutPrefix(file, []byte("---\n"))
	if !ok {
		return meta, "", errFrontMatter
	}
	head, body, ok := bytes.Cut(rest, []byte("\n---\n"))
	if !ok {
		if head, ok = bytes.CutSuffix(rest, []byte("\n---")); !ok { // a file without a body
			return meta, "", errFrontMatter
		}
	}
	// Front matter of other programs has fields of its own: those are left out.
	if err := yaml.Unmarshal(head, &meta); err != nil {
		return meta, "", fmt.Errorf("front matter: %w", err)
	}
	return meta, string(body), nil
}
