package blog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // for the sizes of images
	_ "image/jpeg"
	_ "image/png"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

const (
	// ImageLimit is the most bytes of one image.
	ImageLimit = 10 << 20
	// ImagePath is what the addresses of the blog's own images begin with; the name follows.
	ImagePath = "/images/"
)

// An Image is stored in the database beside the posts: one file to back up, one transaction, and a
// second gateway on the same PostgreSQL has it too.
type Image struct {
	// Name is a hash of the bytes, width and height where they are known, and an extension: an address
	// that may be cached for ever, and that tells a page how much room to leave.
	Name    string
	Type    string // of content
	Bytes   []byte
	Author  int64
	Created time.Time
}

// Errors of NewImage.
var (
	ErrImageType = errors.New("not a PNG, JPEG, GIF or WebP image")
	ErrImageSize = fmt.Errorf("an image is larger than %d MiB", ImageLimit>>20)
)

// SVG is not among them: it can carry scripts.
var imageExtensions = map[string]string{"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}

var imageName = regexp.MustCompile(`^[0-9a-f]{32}(?:-([1-9][0-9]{0,4})x([1-9][0-9]{0,4}))?\.(png|jpg|gif|webp)$`)

// IsImageName reports whether name can be one of an image.
func IsImageName(name string) bool { return imageName.MatchString(name) }

// imageSize is the width and height in pixels that the name of an image tells, if it does.
func imageSize(name string) (width, height int, ok bool) {
	parts := imageName.FindStringSubmatch(name)
	if parts == nil || parts[1] == "" {
		return 0, 0, false
	}
	width, _ = strconv.Atoi(parts[1]) // they are digits
	height, _ = strconv.Atoi(parts[2])
	return width, height, true
}

// NewImage names content after its hash. Its type is what its bytes say, not what anybody claims.
func NewImage(content []byte, author int64, now time.Time) (Image, error) {
	if len(content) > ImageLimit {
		return Image{}, ErrImageSize
	}
	kind := http.DetectContentType(content)
	extension, ok := imageExtensions[kind]
	if !ok {
		return Image{}, ErrImageType
	}
	hash := sha256.Sum256(content)
	name := hex.EncodeToString(hash[:16])
	if c, _, err := image.DecodeConfig(bytes.NewReader(content)); err == nil && c.Width > 0 && c.Height > 0 {
		name += fmt.Sprintf("-%dx%d", c.Width, c.Height)
	}
	return Image{Name: name + extension, Type: kind, Bytes: content, Author: author, Created: now.UTC()}, nil
}
