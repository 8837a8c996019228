package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"regexp"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

// upload sends a file as the form does; with asks as its script does.
func (b *browser) upload(name string, content []byte, script bool) *http.Response {
	b.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	part, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("image", name)}, "Content-Type": {"text/html"}, // nobody believes it
	})
	if err != nil {
		b.Fatal(err)
	}
	part.Write(content)
	form.Close()
	r := httptest.NewRequest("POST", deskHost+"/images", &body)
	r.Header.Set("Content-Type", form.FormDataContentType())
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if script {
		r.Header.Set("Accept", "application/json")
	}
	return b.send(r)
}

func drawn(t *testing.T, w, h int) []byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, w, h))
	img.SetGray(1, 1, color.Gray{Y: 200})
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUpload_AnswersTheMarkdownThatShowsIt(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	body := d.want(b.upload("My cat.png", drawn(t, 40, 30), false), http.StatusCreated)
	found := regexp.MustCompile(`!\[My cat\]\(/images/([0-9a-f]{32}-40x30\.png)\)`).FindStringSubmatch(body)
	if found == nil {
		t.Fatalf("no Markdown: %s", body)
	}
	var answer struct{ Markdown, Problem string }
	response := b.upload("My cat.png", drawn(t, 40, 30), true)
	if err := json.Unmarshal([]byte(d.want(response, http.StatusCreated)), &answer); err != nil || answer.Markdown != found[0] || answer.Problem != "" {
		t.Errorf("to the script: %+v, %v", answer, err)
	}
	// In a post it has its size, so that the page does not jump.
	d.wantRedirect(b.post("/create", "title", "Cat", "body", found[0], "do", "publish"), "/post/1/cat")
	d.want(d.reader().get("/post/1/cat"), 200, `<img src="/images/`+found[1]+`" alt="My cat" loading="lazy" width="40" height="30"/>`)

	// Readers get it, to be kept for ever, and as nothing but an image.
	image := d.reader().get("/images/" + found[1])
	content := d.want(image, 200)
	if !strings.HasPrefix(content, "\x89PNG") {
		t.Errorf("content %.10q", content)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'; sandbox",
		"Cache-Control": "public, max-age=31536000, immutable",
	} {
		if got := image.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	again := httptest.NewRequest("GET", deskHost+"/images/"+found[1], nil)
	again.Header.Set("If-None-Match", image.Header.Get("ETag"))
	d.want(d.reader().send(again), http.StatusNotModified)
}

func TestImage_OtherNamesAreNotFound(t *testing.T) {
	d := newDesk(t)
	for _, name := range []string{"x.png", "..%2Fblog.db", strings.Repeat("0", 32) + ".png", strings.Repeat("0", 32) + ".svg", "%00"} {
		answer := d.reader().get("/images/" + name)
		d.want(answer, 404)
		if got := answer.Header.Get("Cache-Control"); strings.Contains(got, "immutable") {
			t.Errorf("%s is absent for ever: %s", name, got)
		}
	}
}

func TestUpload_RefusesWithWhatToDo(t *testing.T) {
	d := newDesk(t)
	b := d.author()
	bomb := drawn(t, 7000, 7000)
	for _, c := range []struct {
		name    string
		content []byte
		status  int
		text    string
	}{
		{"svg.png", []byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`), 415, "Only PNG, JPEG and GIF"},
		{"webp.webp", []byte("RIFF\x24\x00\x00\x00WEBPVP8 "), 415, "Only PNG, JPEG and GIF"},
		{"page.gif", []byte("<!doctype html><script>alert(1)</script>"), 415, "Only PNG, JPEG and GIF"},
		{"damaged.gif", []byte("GIF89a/*\x00\x00\x00*/=alert(1)//"), 422, "damaged"},
		{"bomb.png", bomb, 422, "too many pixels"},
		{"large.png", append(drawn(t, 4, 4), make([]byte, 11<<20)...), 413, "An image may have 10 MiB"},
		{"just too large.png", append(drawn(t, 4, 4), make([]byte, blog.ImageLimit)...), 413, "An image may have 10 MiB"},
		{"empty.png", nil, 400, "Choose an image first"},
	} {
		d.want(b.upload(c.name, c.content, false), c.status, c.text, `role="alert"`)
		d.want(b.upload(c.name, c.content, true), c.status, `{"markdown":"","problem":"`, c.text)
	}
	if len(bomb) > 1<<20 {
		t.Errorf("the bomb has %d bytes", len(bomb))
	}
	d.want(b.post("/images", "image", "x"), 400, "Choose an image first")
	r := httptest.NewRequest("POST", deskHost+"/images", strings.NewReader("--x\r\nrubbish"))
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	d.want(b.send(r), 400, "Choose an image first")
	if names, err := d.store.ImageNames(t.Context()); err != nil || len(names) != 0 {
		t.Errorf("stored: %v, %v", names, err)
	}
}

func TestUpload_NameOfAFileIsATextOnly(t *testing.T) {
	for name, want := range map[string]string{
		"My cat.png": "My cat", "": "", ".png": "", "a.b.jpg": "a b",
		"../../etc/passwd": "etc passwd", `C:\temp\photo.jpg`: "C temp photo",
		`x](javascript:alert(1)).png`:        "x javascript alert 1",
		"![a](/b) \"title\" `code` <b>&.gif": "a b title code b",
		"line\r\nend\x00\u202e.png":          "line end",
		"中文 图片_1.png":                        "中文 图片 1",
		strings.Repeat("ä", 100):             strings.Repeat("ä", 80),
		"\xff\xfe.png":                       "",
	} {
		if got := alternative(name); got != want {
			t.Errorf("alternative(%q) = %q, want %q", name, got, want)
		}
	}
	d := newDesk(t)
	b := d.author()
	for _, name := range []string{`"><script>alert(1)</script>.png`, `](x) onerror=alert(1).png`, "../../../blog.db", "\xff\xfe.png"} {
		body := d.want(b.upload(name, drawn(t, 4, 4), false), http.StatusCreated)
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "onerror=") || strings.Contains(body, "..") {
			t.Errorf("%q: %s", name, body)
		}
	}
	if names, err := d.store.ImageNames(t.Context()); err != nil || len(names) != 1 {
		t.Errorf("stored: %v, %v", names, err)
	}
}

// TestUpload_PlaceOfAPhotoIsNotStored looks into the database itself.
func TestUpload_PlaceOfAPhotoIsNotStored(t *testing.T) {
	d := newDesk(t)
	var photo bytes.Buffer
	if err := jpeg.Encode(&photo, image.NewGray(image.Rect(0, 0, 20, 10)), nil); err != nil {
		t.Fatal(err)
	}
	// Orientation 6, on its side, in EXIF of big-endian order, and a text.
	exif := "Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00GPS 52.5200 N"
	segment := fmt.Sprintf("\xff\xe1%c%c%s", 0, len(exif)+2, exif)
	content := photo.String()[:2] + segment + photo.String()[2:]
	d.want(d.author().upload("p.jpg", []byte(content), false), http.StatusCreated, "-10x20.jpg")
	names, err := d.store.ImageNames(t.Context())
	if err != nil || len(names) != 1 {
		t.Fatalf("stored: %v, %v", names, err)
	}
	stored, err := d.store.Image(t.Context(), names[0])
	if err != nil || bytes.Contains(stored.Bytes, []byte("52.52")) || bytes.Contains(stored.Bytes, []byte("Exif")) || stored.Author != d.ann.ID {
		t.Errorf("stored: %.200q, %v", stored.Bytes, err)
	}
}
