package blog

import (
	"errors"
	"flag"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func TestPrepare_SaysWhatToChange(t *testing.T) {
	for _, c := range []struct {
		name string
		post Post
		want InvalidError // zero: none
	}{
		{"100 characters of title", Post{Title: strings.Repeat("字", 100)}, InvalidError{}},
		{"101 characters of title", Post{Title: strings.Repeat("字", 101)}, InvalidError{Field: "title", Limit: 100, Unit: "characters"}},
		{"no title", Post{Title: " \n\x00"}, InvalidError{Field: "title"}},
		{"1 MiB of body", Post{Title: "x", Body: strings.Repeat("x", 1<<20)}, InvalidError{}},
		{"more than 1 MiB of body", Post{Title: "x", Body: strings.Repeat("x", 1<<20+1)}, InvalidError{Field: "body", Limit: 1 << 20, Unit: "bytes"}},
		{"a long tag", Post{Title: "x", Tags: []string{strings.Repeat("x", 41)}}, InvalidError{Field: "tags", Limit: 40, Unit: "characters"}},
		{"many tags", Post{Title: "x", Tags: strings.Split("abcdefghijklmnopqrstu", "")}, InvalidError{Field: "tags", Limit: 20, Unit: "tags"}},
	} {
		err := c.post.Prepare(noon)
		var got InvalidError
		if invalid, ok := IsInvalid(err); ok {
			got = *invalid
		} else if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestPrepare_NormalizesAndDates(t *testing.T) {
	p := Post{Title: " A\n  title\x00 Cafe\u0301 ", Body: "a\r\nb\x00\xff", Tags: []string{" Go ", "go", "a/b", "", "日记"}, Draft: true}
	if err := p.Prepare(noon); err != nil {
		t.Fatal(err)
	}
	if p.Title != "A title Café" || p.Body != "a\nb\uFFFD" || !slices.Equal(p.Tags, []string{"a b", "go", "日记"}) || p.Slug != "a-title-café" {
		t.Errorf("got %+v", p)
	}
	if !p.Published.IsZero() || !p.Created.Equal(noon) {
		t.Errorf("a draft: created %v, published %v", p.Created, p.Published)
	}
	p.Draft = false
	if err := p.Prepare(noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if !p.Published.Equal(noon.Add(time.Hour)) || !p.Created.Equal(noon) {
		t.Errorf("published an hour later: created %v, published %v", p.Created, p.Published)
	}
}

func TestSlug(t *testing.T) {
	for title, want := range map[string]string{
		"Hello, World!": "hello-world", "  C++ & Go  ": "c-go", "北京 小博客": "北京-小博客", "": "", "🚀!": "post", "Ünï": "ünï",
		"J\u030can": "\u01f0an", "H\u0331 T\u0308": "\u1e96-\u1e97",
		"../../etc/passwd": "etc-passwd", "हिन्दी": "हिन्दी", strings.Repeat("ab ", 60): strings.TrimSuffix(strings.Repeat("ab-", 27), "-"),
	} {
		if got := Slug(title); got != want {
			t.Errorf("Slug(%q) = %q, want %q", title, got, want)
		}
		if again := Slug(Slug(title)); again != Slug(title) {
			t.Errorf("Slug(%q) is not its own slug: %q", title, again)
		}
	}
}

func TestNormalizeTags_AreTheirOwnTags(t *testing.T) {
	for tag, want := range map[string]string{
		" Go  Lang ": "go lang", "a/b": "a b", "日记": "日记", "e\u0301": "\u00e9",
		"J\u030can": "\u01f0an", "H\u0331": "\u1e96", // together only in lower case
	} {
		got := NormalizeTags([]string{tag})
		if !slices.Equal(got, []string{want}) {
			t.Errorf("NormalizeTags(%+q) = %+q, want %+q", tag, got, want)
		}
		if again := NormalizeTags(got); !slices.Equal(again, got) {
			t.Errorf("NormalizeTags(%+q) is not its own tag: %+q", tag, again)
		}
	}
}

func TestExcerpt(t *testing.T) {
	for _, c := range []struct {
		plain  string
		length int
		want   string
	}{
		{"short", 10, "short"},
		{"one two  three\n\nfour five", 15, "one two three…"},
		{"我们在中国北京写了一个小博客。", 5, "我们在中国…"},
		{"first line\nsecond", 100, "first line second"},
		{"A paragraph of two\nlines, long enough.\nA heading\nfunc main() {", 100, "A paragraph of two lines, long enough."},
		{"今天我们在北京写了一个小博客。\n标题", 40, "今天我们在北京写了一个小博客。"},
		{"Short.\nMore of it.", 100, "Short. More of it."},
		{"", 5, ""},
	} {
		if got := Excerpt(c.plain, c.length); got != c.want {
			t.Errorf("Excerpt(%q, %d) = %q, want %q", c.plain, c.length, got, c.want)
		}
	}
}

const gif = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;"

func TestNewImage_BelievesBytesOnly(t *testing.T) {
	image, err := NewImage([]byte(gif), 1, noon)
	if err != nil || image.Type != "image/gif" || !IsImageName(image.Name) {
		t.Errorf("got %s %s, %v", image.Name, image.Type, err)
	}
	for name, content := range map[string]string{
		"svg": `<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>`, "html": "<html><script>", "empty": "", "text": "GIF",
	} {
		if _, err := NewImage([]byte(content), 1, noon); !errors.Is(err, ErrImageType) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrImageType)
		}
	}
	if _, err := NewImage(append([]byte(gif), make([]byte, ImageLimit)...), 1, noon); !errors.Is(err, ErrImageSize) {
		t.Errorf("large: got error %v, want %v", err, ErrImageSize)
	}
	if width, height, ok := imageSize(image.Name); width != 1 || height != 1 || !ok {
		t.Errorf("%s tells the size %d x %d, %v; want 1 x 1", image.Name, width, height, ok)
	}
	for _, name := range []string{"../../etc/passwd", strings.Replace(image.Name, "1x1", "0x1", 1), strings.Replace(image.Name, "1x1", "1x100000", 1), "x.png", image.Name + "/", strings.TrimSuffix(image.Name, ".gif") + ".svg"} {
		if IsImageName(name) {
			t.Errorf("%q passes for the name of an image", name)
		}
	}
}
