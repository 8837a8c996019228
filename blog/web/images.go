package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"path"
	"strings"
	"unicode"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/picture"
)

const (
	imagesPath = "/images"
	// imageFormLimit is an image and what a form adds to it.
	imageFormLimit = blog.ImageLimit + 64<<10
	// imagePolicy has an image that somebody opens by itself be nothing but one.
	imagePolicy = "default-src 'none'; sandbox"
)

// An imagePage is what the template image shows.
type imagePage struct {
	Markdown string // of the image that has been stored; empty: none
	Problem  string // ready to show
}

func (h *Handler) uploadForm(w http.ResponseWriter, v *visit) error {
	return h.showImage(w, v, http.StatusOK, imagePage{})
}

// upload stores an image and answers with the Markdown that shows it: to the script as JSON, else as
// a page to copy it from.
func (h *Handler) upload(w http.ResponseWriter, v *visit) error {
	name, content, err := readImage(v)
	if err == nil {
		content, err = h.pictures.Take(v.Context(), content, blog.ImageLimit)
	}
	var image blog.Image
	if err == nil {
		image, err = blog.NewImage(content, v.author.ID, h.opts.Now())
	}
	if err == nil {
		err = h.store.CreateImage(v.Context(), image)
	}
	if err == nil {
		return h.showImage(w, v, http.StatusCreated, imagePage{Markdown: fmt.Sprintf("![%s](%s%s)", alternative(name), blog.ImagePath, image.Name)})
	}
	status, problem := imageProblem(v.lang, err)
	if status == 0 {
		return err
	}
	return h.showImage(w, v, status, imagePage{Problem: problem})
}

// imageProblem is what to tell a person; the status is 0 for what is not theirs.
func imageProblem(lang language, err error) (status int, text string) {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong), errors.Is(err, blog.ErrImageSize):
		return http.StatusRequestEntityTooLarge, lang.text("An image may have %d MiB. Make it smaller, or save it as JPEG.", blog.ImageLimit>>20)
	case errors.Is(err, picture.ErrPixels):
		return http.StatusUnprocessableEntity, lang.text("The image has too many pixels, or frames. Make it smaller.")
	case errors.Is(err, picture.ErrType):
		return http.StatusUnsupportedMediaType, lang.text("Only PNG, JPEG and GIF images can be shown. Save it as one of them.")
	case errors.Is(err, picture.ErrDamaged):
		return http.StatusUnprocessableEntity, lang.text("The image is damaged. Save it anew.")
	case errors.Is(err, errNoImage):
		return http.StatusBadRequest, lang.text("Choose an image first.")
	}
	return 0, ""
}

func (h *Handler) showImage(w http.ResponseWriter, v *visit, status int, p imagePage) error {
	if v.Header.Get("Accept") != "application/json" {
		return h.show(w, v, status, frame{Name: "image", Title: "Image", Page: p})
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	return json.NewEncoder(w).Encode(map[string]string{"markdown": p.Markdown, "problem": p.Problem})
}

var errNoImage = errors.New("no image was sent")

// readImage is the field image of a form: the name that its file had, and its bytes. It is read
// into memory only, and only as far as an image may be long.
func readImage(v *visit) (name string, content []byte, err error) {
	parts, err := v.MultipartReader()
	if err != nil {
		return "", nil, errNoImage
	}
	var part *multipart.Part
	for part == nil || part.FormName() != "image" {
		switch part, err = parts.NextPart(); {
		case errors.Is(err, io.EOF):
			return "", nil, errNoImage
		case err != nil:
			return "", nil, fmt.Errorf("%w: %w", errNoImage, err)
		}
	}
	content, err = io.ReadAll(io.LimitReader(part, blog.ImageLimit+1))
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("%w: %w", errNoImage, err)
	case len(content) == 0:
		return "", nil, errNoImage
	case len(content) > blog.ImageLimit:
		return "", nil, blog.ErrImageSize
	}
	return part.FileName(), content, nil
}

// alternative is the text for who does not see an image: a first one, from the name of its file. It
// has nothing that means something in Markdown.
func alternative(fileName string) string {
	fileName = strings.TrimSuffix(fileName, path.Ext(fileName))
	text := strings.Join(strings.FieldsFunc(fileName, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.M, r)
	}), " ")
	if runes := []rune(text); len(runes) > 80 {
		text = strings.TrimSpace(string(runes[:80]))
	}
	return text
}

// image sends one. What is under a name never changes.
func (h *Handler) image(w http.ResponseWriter, v *visit) error {
	name := v.PathValue("name")
	if !blog.IsImageName(name) {
		return blog.ErrNotFound
	}
	image, err := h.store.Image(v.Context(), name)
	if err != nil {
		return err
	}
	head := w.Header()
	head.Set("Content-Type", image.Type)
	head.Set("Content-Security-Policy", imagePolicy)
	head.Set("Cache-Control", "public, max-age=31536000, immutable")
	head.Set("ETag", `"`+name+`"`)
	http.ServeContent(w, v.Request, "", image.Created, bytes.NewReader(image.Bytes))
	return nil
}
