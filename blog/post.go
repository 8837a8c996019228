package blog

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Limits of a Post. They are checked by Prepare, so that no store has to.
const (
	TitleLimit = 100     // characters
	BodyLimit  = 1 << 20 // bytes of Markdown
	TagLimit   = 40      // characters of one
	TagsLimit  = 20      // of one post
	slugLimit  = 80      // characters
	slugTaken  = "edit"  // at a post's path with it is the form for its authors
)

// A Post is a draft or what readers see. Times are UTC, exact to the microsecond.
type Post struct {
	ID    int64  // 0: not stored yet
	Slug  string // the readable end of its address; the ID alone finds it
	Title string
	Body  string   // Markdown
	HTML  string   // what Body shows, safe to send: see Prepare
	Text  string   // what Body says, without any markup: for search, excerpts and descriptions
	Tags  []string // lower case, sorted

	Author     int64
	AuthorName string // as shown; filled in by the store

	Draft     bool
	Created   time.Time
	Updated   time.Time
	Published time.Time // when it was published first; zero for what never was
	Deleted   time.Time // zero unless it is waiting to be restored or swept

	Version int64 // counts updates; the store refuses one that was made from an older version
}

// InvalidError says what a person has to change in what they wrote.
type InvalidError struct {
	Field string // title, body, tags
	Limit int    // the most there may be; 0: it must not be empty
	Unit  string // of Limit
}

func (e *InvalidError) Error() string {
	if e.Limit == 0 {
		return e.Field + " is empty"
	}
	return fmt.Sprintf("%s has more than %d %s", e.Field, e.Limit, e.Unit)
}

// Prepare makes a post ready to be stored: its fields are normalised and checked, Slug is made from
// the title unless it has one, HTML and Text from the body, and what is published gets its time. An
// error is an *InvalidError unless the renderer itself failed.
func (p *Post) Prepare(now time.Time) error {
	p.Title = strings.Join(strings.Fields(clean(p.Title)), " ")
	p.Body = strings.ReplaceAll(clean(p.Body), "\r\n", "\n")
	switch {
	case p.Title == "":
		return &InvalidError{Field: "title"}
	case utf8.RuneCountInString(p.Title) > TitleLimit:
		return &InvalidError{Field: "title", Limit: TitleLimit, Unit: "characters"}
	case len(p.Body) > BodyLimit:
		return &InvalidError{Field: "body", Limit: BodyLimit, Unit: "bytes"}
	}
	p.Tags = NormalizeTags(p.Tags)
	if len(p.Tags) > TagsLimit {
		return &InvalidError{Field: "tags", Limit: TagsLimit, Unit: "tags"}
	}
	for _, tag := range p.Tags {
		if utf8.RuneCountInString(tag) > TagLimit {
			return &InvalidError{Field: "tags", Limit: TagLimit, Unit: "characters"}
		}
	}
	if p.Slug = Slug(p.Slug); p.Slug == "" {
		p.Slug = Slug(p.Title)
	}
	if p.Slug == slugTaken {
		p.Slug += "-post"
	}
	var err error
	if p.HTML, p.Text, err = Render(p.Body); err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Microsecond)
	if p.Created.IsZero() {
		p.Created = now
	}
	p.Updated = now
	if !p.Draft && p.Published.IsZero() {
		p.Published = now
	}
	return nil
}

// Path is the post's canonical path below the blog.
func (p Post) Path() string { return fmt.Sprintf("/post/%d/%s", p.ID, p.Slug) }

// clean has equal texts be equal bytes, and takes out what databases and XML refuse.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return r
		case r < 0x20 || r == 0x7f || r == 0xfffe || r == 0xffff:
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	return norm.NFC.String(s)
}

// NormalizeTags makes tags lower case, one space between words, sorted, each once.
func NormalizeTags(tags []string) []string {
	var out []string
	for _, tag := range tags {
		// A slash would end a tag's address, a comma separates tags where they are typed.
		tag = strings.NewReplacer("/", " ", ",", " ", "#", " ").Replace(clean(tag))
		// Composed again: some letters with a mark are one character in lower case only.
		if tag = norm.NFC.String(strings.ToLower(strings.Join(strings.Fields(tag), " "))); tag != "" {
			out = append(out, tag)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Slug makes a readable part of an address from a title, in its own script. It is "post" for a title
// without letters, and empty for none.
func Slug(title string) string {
	if title == "" {
		return ""
	}
	var b strings.Builder
	n, gap := 0, false
	// Composed again: some letters with a mark are one character in lower case only, and a slug is its own slug.
	for _, r := range norm.NFKC.String(strings.ToLower(norm.NFKC.String(title))) {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !(n > 0 && !gap && unicode.Is(unicode.M, r)) {
			gap = true
			continue
		}
		if gap && n > 0 {
			b.WriteByte('-')
			n++
		}
		if n >= slugLimit {
			break
		}
		b.WriteRune(r)
		n, gap = n+1, false
	}
	if n == 0 {
		return "post"
	}
	return strings.TrimRight(b.String(), "-")
}

// IsInvalid reports what a person has to change, if err says so.
func IsInvalid(err error) (*InvalidError, bool) {
	var invalid *InvalidError
	return invalid, errors.As(err, &invalid)
}
