package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif"  // images of posts
	_ "image/jpeg" // images of posts
	_ "image/png"  // images of posts
	"regexp"
	"strings"

	"github.com/maypok86/otter/v2"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// sizes remembers the attributes of images, whose names are hashes: they never change.
type sizes struct {
	store blog.Store
	known *otter.Cache[string, string]
}

// sizesKept is how many images' sizes are remembered, some 100 bytes each.
const sizesKept = 10_000

func newSizes(store blog.Store) sizes {
	return sizes{store: store, known: otter.Must(&otter.Options[string, string]{MaximumSize: sizesKept})}
}

// ownImage is how blog.Render writes an image of this blog.
var ownImage = regexp.MustCompile(`<img src="/images/([0-9a-f]{32}\.[a-z]+)"`)

// fill gives the blog's own images in a post their width and height, so that the text does not move
// when they come. An image that is gone or of a kind that cannot be read is left as it is.
func (s sizes) fill(ctx context.Context, post string) (string, error) {
	places := ownImage.FindAllStringSubmatchIndex(post, -1)
	if places == nil {
		return post, nil
	}
	var b strings.Builder
	at := 0
	for _, m := range places {
		size, err := s.of(ctx, post[m[2]:m[3]])
		if err != nil {
			return "", err
		}
		b.WriteString(post[at:m[1]])
		b.WriteString(size)
		at = m[1]
	}
	return b.String() + post[at:], nil
}

// of is an image's attributes.
func (s sizes) of(ctx context.Context, name string) (string, error) {
	if known, ok := s.known.GetIfPresent(name); ok {
		return known, nil
	}
	stored, err := s.store.Image(ctx, name)
	if errors.Is(err, blog.ErrNotFound) {
		return "", nil // it may come
	} else if err != nil {
		return "", err
	}
	var size string
	if config, _, err := image.DecodeConfig(bytes.NewReader(stored.Bytes)); err == nil {
		size = fmt.Sprintf(` width="%d" height="%d"`, config.Width, config.Height)
	}
	s.known.Set(name, size)
	return size, nil
}
