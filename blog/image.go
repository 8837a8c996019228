package blog

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// ImageLimit is the most bytes of one image.
const ImageLimit = 10 << 20

// An Image is stored in the database beside the posts: one file to back up, one transaction, and a
// second gateway on the same PostgreSQL has it too.
type Image struct {
	Name    string // hash of the bytes and an extension: an address that may be cached for ever
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

var imageName = regexp.MustCompile(`^[0-9a-f]{32}\.(png|jpg|gif|webp)$`)

// IsImageName reports whether name can be one of an image.
func IsImageName(name string) bool { return imageName.MatchString(name) }

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
	return Image{Name: hex.EncodeToString(hash[:16]) + extension, Type: kind, Bytes: content, Author: author, Created: now.UTC()}, nil
}
