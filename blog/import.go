package blog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// fileLimit is the most bytes of a post's file: its body and generous front matter.
const fileLimit = BodyLimit + 64<<10

// Imported counts what Import did with the files of posts, and the images that it read.
type Imported struct{ Created, Updated, Unchanged, Images int }

// Import reads what Export wrote, or Markdown files with front matter from elsewhere, from dir.
//
// A post keeps its id, and with it its address, where that is free. A stored post that has the id and
// was created at the same moment is the same post: it is updated if the file differs. An id that is
// another post's is not kept. An author who is not known yet is made, without a password. Files that
// say no author are author's.
//
// It ends at the first file that is wrong, and says which; what came before it stays, and the
// same Import again does not make it twice.
func Import(ctx context.Context, s Store, dir string, author Author, now time.Time) (Imported, error) {
	var done Imported
	root, err := os.OpenRoot(dir) // no link in it leads out
	if err != nil {
		return done, err
	}
	defer root.Close()
	images, err := files(root, imagesDir, "")
	if err != nil {
		return done, err
	}
	for _, path := range images {
		if err := importImage(ctx, s, root, path, author.ID, now); err != nil {
			return done, fmt.Errorf("import %s: %w", path, err)
		}
		done.Images++
	}
	in := postsDir
	if _, err := root.Stat(in); errors.Is(err, os.ErrNotExist) {
		in = "." // of elsewhere
	}
	posts, err := files(root, in, ".md")
	if err != nil {
		return done, err
	}
	for _, path := range posts {
		if err := importPost(ctx, s, root, path, author, now, &done); err != nil {
			return done, fmt.Errorf("import %s: %w", path, err)
		}
	}
	return done, nil
}

// files lists those with an extension in a directory, in order; none if there is no directory.
func files(root *os.Root, dir, extension string) ([]string, error) {
	f, err := root.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	var paths []string
	for _, e := range entries {
		if e.Type().IsRegular() && strings.HasSuffix(e.Name(), extension) {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, err
}

// read is a file of at most limit bytes; a longer one is an error.
func read(root *os.Root, path string, limit int64) ([]byte, error) {
	f, err := root.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("it is longer than %d bytes", limit)
	}
	return content, err
}

func importImage(ctx context.Context, s Store, root *os.Root, path string, author int64, now time.Time) error {
	content, err := read(root, path, ImageLimit)
	if err != nil {
		return err
	}
	image, err := NewImage(content, author, now)
	if err != nil {
		return err
	}
	if name := filepath.Base(path); IsImageName(name) {
		image.Name = name // posts call it so, even if somebody has since made it smaller
	}
	return s.CreateImage(ctx, image)
}

func importPost(ctx context.Context, s Store, root *os.Root, path string, author Author, now time.Time, done *Imported) error {
	file, err := read(root, path, fileLimit)
	if err != nil {
		return err
	}
	meta, body, err := parse(file)
	if err != nil {
		return err
	}
	if meta.Author != "" && meta.Author != author.Name {
		if author, err = authorNamed(ctx, s, meta.Author, now); err != nil {
			return err
		}
	}
	p := Post{
		ID: meta.ID, Title: meta.Title, Slug: meta.Slug, Body: body, Tags: meta.Tags, Author: author.ID, Draft: meta.Draft,
		Created: storable(meta.Created), Published: storable(meta.Published),
	}
	if err := p.Prepare(now); err != nil {
		return err
	}
	if !meta.Updated.IsZero() {
		p.Updated = storable(meta.Updated)
	}
	if p.ID != 0 {
		stored, err := s.Post(ctx, p.ID)
		switch {
		case errors.Is(err, ErrNotFound):
		case err != nil:
			return err
		case stored.Created.Equal(p.Created) && stored.Deleted.IsZero():
			return updateImported(ctx, s, stored, p, done)
		default:
			p.ID = 0
		}
	}
	if _, err := s.CreatePost(ctx, p); err != nil {
		return err
	}
	done.Created++
	return nil
}

func updateImported(ctx context.Context, s Store, stored, p Post, done *Imported) error {
	if stored.Title == p.Title && stored.Slug == p.Slug && stored.Body == p.Body && slices.Equal(stored.Tags, p.Tags) &&
		stored.Draft == p.Draft && stored.Published.Equal(p.Published) {
		done.Unchanged++
		return nil
	}
	p.Version = stored.Version
	if _, err := s.UpdatePost(ctx, p); err != nil {
		return err
	}
	done.Updated++
	return nil
}

func storable(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func authorNamed(ctx context.Context, s Store, name string, now time.Time) (Author, error) {
	a, err := s.AuthorByName(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return s.CreateAuthor(ctx, Author{Name: name, Shown: name, Created: now})
	}
	return a, err
}
