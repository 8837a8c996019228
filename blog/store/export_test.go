package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

func everything(t *testing.T, s blog.Store) []blog.Post {
	t.Helper()
	var posts []blog.Post
	if err := s.EachPost(t.Context(), func(p blog.Post) error {
		if p.Deleted.IsZero() {
			posts = append(posts, p)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return posts
}

func testExportRoundTrip(t *testing.T, s blog.Store) {
	furnish(t, s)
	bob := author(t, s, "bob")
	for _, body := range []string{"", "\n\n", "---\ntitle: inner\n---\n", "no line end", "a\n---\nb\n", "tab\tand 北京 🚀\n"} {
		written(t, s, blog.Post{Title: `"quoted": 'yes' # & - {x} ` + body[:min(len(body), 3)] + "\u2028", Body: body, Author: bob.ID, Tags: []string{"true", "1", "a: b", "日记"}}, noon)
	}
	dir := filepath.Join(t.TempDir(), "export")
	exported, err := blog.Export(t.Context(), s, dir)
	if err != nil || exported != (blog.Exported{Posts: 8, Images: 1}) {
		t.Fatalf("exported %+v, %v", exported, err)
	}

	other := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	ann := author(t, other, "ann")
	for _, want := range []blog.Imported{{Created: 8, Images: 1}, {Unchanged: 8, Images: 1}} {
		got, err := blog.Import(t.Context(), other, dir, ann, noon.Add(time.Hour))
		if err != nil || got != want {
			t.Fatalf("imported %+v, %v, want %+v", got, err, want)
		}
	}
	if diff := cmp.Diff(everything(t, s), everything(t, other), cmpopts.IgnoreFields(blog.Post{}, "Author", "AuthorName")); diff != "" {
		t.Errorf("posts after a round trip (-want +got):\n%s", diff)
	}
	names, err := other.ImageNames(t.Context())
	if err != nil || len(names) != 1 {
		t.Fatalf("images %v, %v", names, err)
	}
	if image, err := other.Image(t.Context(), names[0]); err != nil || string(image.Bytes) != pixel {
		t.Errorf("image: %v", err)
	}
	if got := search(t, other, "北京"); !strings.Contains(got, "Welcome") {
		t.Errorf("an imported post is not found: %q", got)
	}
	if a, err := other.AuthorByName(t.Context(), "bob"); err != nil || a.Password != "" {
		t.Errorf("an imported author %+v, %v, want one without a password", a, err)
	}
}

func importInto(t *testing.T, s blog.Store, files map[string]string) (blog.Imported, error) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a, err := s.AuthorByName(t.Context(), "ann")
	if err != nil {
		a = author(t, s, "ann")
	}
	return blog.Import(t.Context(), s, dir, a, noon.Add(time.Hour))
}

func TestImport_UpdatesTheSamePostAndSparesOthers(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	mine := written(t, s, blog.Post{Title: "mine", Body: "old"}, noon)
	got, err := importInto(t, s, map[string]string{
		"posts/a.md": "---\ntitle: mine\nid: 1\ncreated: 2026-11-30T12:00:00.123456Z\npublished: 2026-11-30T12:00:00.123456Z\n---\nnew",
		"posts/b.md": "---\ntitle: other\nid: 1\ncreated: 2020-01-01\n---\nbody",
	})
	if err != nil || got != (blog.Imported{Created: 1, Updated: 1}) {
		t.Fatalf("imported %+v, %v", got, err)
	}
	if p, err := s.Post(t.Context(), mine.ID); err != nil || p.Body != "new" || p.Version != 2 {
		t.Errorf("the same post: %+v, %v", p, err)
	}
	if p, err := s.Post(t.Context(), 2); err != nil || p.Title != "other" {
		t.Errorf("another post of that id: %+v, %v", p, err)
	}
}

// What says no id, or one that is another post's, is not made again either.
func TestImport_TwiceChangesNothing(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	files := map[string]string{
		"1-nothing.md":      "---\ntitle: Weekly\n---\nfirst",
		"2-same-title.md":   "---\ntitle: Weekly\n---\nsecond",
		"3-twin.md":         "---\ntitle: Weekly\n---\nsecond",
		"4-created.md":      "---\ntitle: Weekly\ncreated: 2019-05-04\n---\nthird",
		"5-same-moment.md":  "---\ntitle: Weekly\ncreated: 2019-05-04\n---\nfourth",
		"6-draft.md":        "---\ntitle: Weekly\ndraft: true\n---\nfirst",
		"7-id.md":           "---\ntitle: Weekly\nid: 100\n---\nfirst",
		"8-id-taken.md":     "---\ntitle: Weekly\nid: 100\ncreated: 2018-01-01\n---\nfifth",
		"9-slug.md":         "---\ntitle: Other\nslug: Some Where\ntags: [b, A]\n---\n",
		"10-unpublished.md": "---\ntitle: Other\nid: 7000\ncreated: 2018-01-01\n---\n",
	}
	if got, err := importInto(t, s, files); err != nil || got != (blog.Imported{Created: 10}) {
		t.Fatalf("imported %+v, %v", got, err)
	}
	before, changes := everything(t, s), changesOf(t, s)
	if got, err := importInto(t, s, files); err != nil || got != (blog.Imported{Unchanged: 10}) {
		t.Errorf("imported again %+v, %v", got, err)
	}
	if diff := cmp.Diff(before, everything(t, s)); diff != "" || changesOf(t, s) != changes {
		t.Errorf("posts after the second import (-want +got):\n%s", diff)
	}

	files["1-nothing.md"] += " and more" // may be another post, and is one then
	files["5-same-moment.md"] += " and more"
	files["10-unpublished.md"] += " and more"
	if got, err := importInto(t, s, files); err != nil || got != (blog.Imported{Created: 1, Updated: 2, Unchanged: 7}) {
		t.Errorf("imported after changes %+v, %v", got, err)
	}
	for _, p := range everything(t, s) {
		if p.Title == "Other" && p.ID == 7000 && (p.Body != " and more" || !p.Published.Equal(noon.Add(time.Hour).Truncate(time.Microsecond))) {
			t.Errorf("the updated post: %+v", p)
		}
	}
}

func changesOf(t *testing.T, s blog.Store) int64 {
	t.Helper()
	n, err := s.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestImport_OfElsewhere(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	got, err := importInto(t, s, map[string]string{
		"hello.md":  "\ufeff---\r\ntitle: Hello\r\nlayout: post\r\ntags: [Go]\r\ncreated: 2019-05-04\r\n---\r\nbody\r\n",
		"README":    "not a post",
		"draft.md":  "---\ntitle: No body\ndraft: true\n---",
		"sub/no.md": "not looked at",
	})
	if err != nil || got.Created != 2 {
		t.Fatalf("imported %+v, %v", got, err)
	}
	if got := list(t, s, blog.Query{Tag: "go"}) + "|" + list(t, s, blog.Query{Show: blog.Drafts}); got != "Hello|No body" {
		t.Errorf("lists %q", got)
	}
}

// An id below 1 is no address, and behind the highest one there is no other.
func TestImport_LeavesIDsThatNoPostCanHave(t *testing.T) {
	for _, id := range []string{"-5", "9223372036854775807"} {
		s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
		if _, err := importInto(t, s, map[string]string{"a.md": "---\ntitle: Imported\nid: " + id + "\n---\n"}); err != nil {
			t.Fatalf("id %s: %v", id, err)
		}
		later := blog.Post{Title: "Later", Author: 1}
		if err := later.Prepare(noon); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreatePost(t.Context(), later); err != nil {
			t.Errorf("the next post after id %s: %v", id, err)
		}
		if all := everything(t, s); len(all) == 0 || all[0].Title != "Imported" || all[0].ID != 1 {
			t.Errorf("id %s: the blog has %+v", id, all)
		}
	}
}

func TestImport_KnowsAuthorsInWhateverCase(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	bob := author(t, s, "bob")
	if _, err := importInto(t, s, map[string]string{
		"a.md": "---\ntitle: Of Bob\nauthor: Bob\n---\n",
		"b.md": "---\ntitle: Of Eve\nauthor: Eve\n---\n",
	}); err != nil {
		t.Fatal(err)
	}
	eve, err := s.AuthorByName(t.Context(), "eve")
	if err != nil || eve.Shown != "Eve" {
		t.Errorf("the new author is %+v, %v; want eve, shown as Eve", eve, err)
	}
	for _, p := range everything(t, s) {
		if want := map[string]int64{"Of Bob": bob.ID, "Of Eve": eve.ID}[p.Title]; p.Author != want {
			t.Errorf("%s is author %d's, want %d", p.Title, p.Author, want)
		}
	}
}

func TestImport_SaysWhichFileIsWrong(t *testing.T) {
	for name, c := range map[string]struct{ file, content, want string }{
		"no front matter":   {"posts/bad.md", "text", "posts/bad.md: does not begin with front matter"},
		"open front matter": {"posts/bad.md", "---\ntitle: x\n", "posts/bad.md: does not begin with front matter"},
		"not YAML":          {"posts/bad.md", "---\ntitle: [\n---\n", "posts/bad.md: front matter"},
		"no title":          {"posts/bad.md", "---\nslug: x\n---\n", "posts/bad.md: title is empty"},
		"too long":          {"posts/bad.md", "---\ntitle: x\n---\n" + strings.Repeat("x", 2<<20), "posts/bad.md: it is longer"},
		"an SVG":            {"images/x.svg", "<svg onload='alert(1)'/>", "images/x.svg: not a PNG"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
			if _, err := importInto(t, s, map[string]string{c.file: c.content}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q", err, c.want)
			}
		})
	}
}

func TestImport_FollowsNoLinkOut(t *testing.T) {
	s := openFile(t, filepath.Join(t.TempDir(), "blog.db"))
	a := author(t, s, "ann")
	secret, dir := filepath.Join(t.TempDir(), "secret.md"), t.TempDir()
	if err := os.WriteFile(secret, []byte("---\ntitle: secret\n---\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(dir, "x.md")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(secret), filepath.Join(dir, "images")); err != nil {
		t.Fatal(err)
	}
	got, err := blog.Import(t.Context(), s, dir, a, noon)
	if got != (blog.Imported{}) || err == nil {
		t.Errorf("imported %+v, %v, want nothing and an error", got, err)
	}
}
