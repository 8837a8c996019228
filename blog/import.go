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

// idLimit is the highest id that a file keeps: far enough from that of the database for all posts to come.
const idLimit = 1 << 53

// Imported counts what Import did with the files of posts, and the images that it read.
type Imported struct{ Created, Updated, Unchanged, Images int }

// Import reads what Export wrote, or Markdown files with front matter from elsewhere, from dir.
//
// A post keeps its id, and with it its address, where that is free; an id that is another post's is
// not kept. A stored post with the file's id or else its slug, that was created at the same moment,
// is the same post: it is updated if the file differs. Where a file does not say when, it is only
// the same if nothing in it differs, so that no post is lost to another one of its title.
// An author who is not known yet is made, without a password. Files that say no author are author's.
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
	i := importing{store: s, author: author, now: now, done: &done, met: map[int64]bool{}}
	for _, path := range posts {
		if err := i.post(ctx, root, path); err != nil {
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

// An importing is one Import of posts.
type importing struct {
	store  Store
	author Author // of files that say none
	now    time.Time
	done   *Imported

	bySlug map[string][]known // what was stored before the first file that needed it; nil: nobody has
	met    map[int64]bool     // posts that one of the files is already
}

// known is what tells a stored post from others of the same slug.
type known struct {
	id      int64
	created time.Time
}

func (i *importing) post(ctx context.Context, root *os.Root, path string) error {
	file, err := read(root, path, fileLimit)
	if err != nil {
		return err
	}
	meta, body, err := parse(file)
	if err != nil {
		return err
	}
	author := i.author
	if meta.Author != "" && strings.ToLower(meta.Author) != author.Name {
		if author, err = authorNamed(ctx, i.store, meta.Author, i.now); err != nil {
			return err
		}
	}
	if meta.ID < 0 || meta.ID > idLimit {
		meta.ID = 0 // no address has it, or the next post would find none
	}
	p := Post{
		ID: meta.ID, Title: meta.Title, Slug: meta.Slug, Body: body, Tags: meta.Tags, Author: author.ID, Draft: meta.Draft,
		Created: storable(meta.Created), Published: storable(meta.Published),
	}
	if err := p.Prepare(i.now); err != nil {
		return err
	}
	if !meta.Updated.IsZero() {
		p.Updated = storable(meta.Updated)
	}
	stored, found, err := i.same(ctx, &p, meta)
	if err != nil {
		return err
	}
	if found {
		return i.update(ctx, stored, p, meta)
	}
	if _, err := i.store.CreatePost(ctx, p); err != nil {
		return err
	}
	i.done.Created++
	return nil
}

// same finds the post that a file is. If the file's id is another post's, p loses it.
func (i *importing) same(ctx context.Context, p *Post, meta frontMatter) (stored Post, found bool, err error) {
	if p.ID != 0 {
		stored, err := i.store.Post(ctx, p.ID)
		if errors.Is(err, ErrNotFound) {
			return Post{}, false, nil
		}
		if err != nil {
			return Post{}, false, err
		}
		if i.is(stored, *p, meta) {
			return stored, true, nil
		}
		p.ID = 0
	}
	if err := i.index(ctx); err != nil {
		return Post{}, false, err
	}
	// Of several the one that is equal, or no second import of them would find them in order.
	for _, k := range i.bySlug[p.Slug] {
		if i.met[k.id] || !meta.Created.IsZero() && !k.created.Equal(p.Created) {
			continue
		}
		candidate, err := i.store.Post(ctx, k.id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return Post{}, false, err
		}
		if !i.is(candidate, *p, meta) {
			continue
		}
		if unchanged(candidate, *p, meta) {
			return candidate, true, nil
		}
		if !found {
			stored, found = candidate, true
		}
	}
	return stored, found, nil
}

// is reports whether a stored post is that of a file: created at the same moment, or, as far as the file
// does not say when, with nothing in it that differs.
func (i *importing) is(stored, p Post, meta frontMatter) bool {
	if i.met[stored.ID] || !stored.Deleted.IsZero() {
		return false
	}
	if meta.Created.IsZero() {
		return unchanged(stored, p, meta)
	}
	return stored.Created.Equal(p.Created)
}

// unchanged reports whether an update from a file would change nothing.
func unchanged(stored, p Post, meta frontMatter) bool {
	return stored.Title == p.Title && stored.Slug == p.Slug && stored.Body == p.Body && slices.Equal(stored.Tags, p.Tags) &&
		stored.Draft == p.Draft && (meta.Published.IsZero() || stored.Published.Equal(p.Published))
}

// index learns which posts there are by slug, once.
func (i *importing) index(ctx context.Context) error {
	if i.bySlug != nil {
		return nil
	}
	bySlug := map[string][]known{}
	if err := i.store.EachPost(ctx, func(p Post) error {
		if p.Deleted.IsZero() {
			bySlug[p.Slug] = append(bySlug[p.Slug], known{p.ID, p.Created})
		}
		return nil
	}); err != nil {
		return err
	}
	i.bySlug = bySlug
	return nil
}

func (i *importing) update(ctx context.Context, stored, p Post, meta frontMatter) error {
	i.met[stored.ID] = true
	if unchanged(stored, p, meta) {
		i.done.Unchanged++
		return nil
	}
	p.ID, p.Version = stored.ID, stored.Version
	if meta.Published.IsZero() && !stored.Published.IsZero() {
		p.Published = stored.Published
	}
	if _, err := i.store.UpdatePost(ctx, p); err != nil {
		return err
	}
	i.done.Updated++
	return nil
}

func storable(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func authorNamed(ctx context.Context, s Store, name string, now time.Time) (Author, error) {
	shown := name
	name = strings.ToLower(name) // as they sign in
	a, err := s.AuthorByName(ctx, name)
	if errors.Is(err, ErrNotFound) {
		return s.CreateAuthor(ctx, Author{Name: name, Shown: shown, Created: now})
	}
	return a, err
}
