package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

// contract is what every store promises. Each runs on an empty, migrated store.
var contract = []struct {
	name string
	test func(t *testing.T, s blog.Store)
}{
	{"post is stored and read whole", testPostWhole},
	{"stale update conflicts", testStaleUpdate},
	{"updates at once: one wins", testUpdatesAtOnce},
	{"lists page newest first", testPaging},
	{"lists by tag, author, draft, deleted", testLists},
	{"delete, restore and sweep", testDeleteRestoreSweep},
	{"search finds any script", testSearch},
	{"search ranks and pages", testSearchPaging},
	{"search follows changes", testSearchChanges},
	{"search ends with its last page", testSearchEnds},
	{"tags are counted", testTags},
	{"addresses are listed", testAddresses},
	{"changes of what readers see are counted", testChanges},
	{"given ids are kept", testGivenIDs},
	{"authors", testAuthors},
	{"sessions expire", testSessions},
	{"one-time links are used once", testLinks},
	{"attempts are counted and forgotten", testAttempts},
	{"images", testImages},
	{"the largest post is stored and found", testLargest},
	{"a cancelled call is no fault of the database", testCancelled},
	{"export and import is a round trip", testExportRoundTrip},
	{"migrating again changes nothing", testMigrateAgain},
}

func TestContract_SQLite(t *testing.T) {
	runContract(t, func(t *testing.T) blog.Store {
		s, err := OpenSQLite(filepath.Join(t.TempDir(), "a dir?#%41", "blog.db"))
		return opened(t, s, err)
	})
}

func TestContract_PostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	runContract(t, func(t *testing.T) blog.Store {
		s, err := OpenPostgres(server.Database())
		return opened(t, s, err)
	})
}

func runContract(t *testing.T, open func(t *testing.T) blog.Store) {
	for _, c := range contract {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// opened migrates a store and closes it with the test.
func opened(t *testing.T, s blog.Store, err error) blog.Store {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

var noon = time.Date(2026, 11, 30, 12, 0, 0, 123456000, time.UTC)

func author(t *testing.T, s blog.Store, name string) blog.Author {
	t.Helper()
	a, err := s.CreateAuthor(t.Context(), blog.Author{Name: name, Shown: strings.ToUpper(name), Password: "$argon2id$", Created: noon})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// written stores a post that was written at a time.
func written(t *testing.T, s blog.Store, p blog.Post, at time.Time) blog.Post {
	t.Helper()
	if p.Author == 0 {
		a, err := s.AuthorByName(t.Context(), "ann")
		if errors.Is(err, blog.ErrNotFound) {
			a = author(t, s, "ann")
		} else if err != nil {
			t.Fatal(err)
		}
		p.Author = a.ID
	}
	if err := p.Prepare(at); err != nil {
		t.Fatal(err)
	}
	stored, err := s.CreatePost(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func titles(posts []blog.Post) string {
	var all []string
	for _, p := range posts {
		all = append(all, p.Title)
	}
	return strings.Join(all, " ")
}

func list(t *testing.T, s blog.Store, q blog.Query) string {
	t.Helper()
	page, err := s.Posts(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return titles(page.Posts)
}

func testPostWhole(t *testing.T, s blog.Store) {
	a := author(t, s, "ann")
	p := blog.Post{Title: "Größe 大小 🚀", Body: "# Hi\n\n*text* 'quoted' \"too\" $1 ?\n", Tags: []string{"Go", "caddy"}, Author: a.ID}
	if err := p.Prepare(noon); err != nil {
		t.Fatal(err)
	}
	stored, err := s.CreatePost(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.ID, p.Version, p.AuthorName = stored.ID, 1, "ANN"
	got, err := s.Post(t.Context(), stored.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" || stored.ID == 0 {
		t.Errorf("stored post (-want +got):\n%s", diff)
	}
	if !got.Published.Equal(noon) || got.Published.Location() != time.UTC {
		t.Errorf("published %v, want %v in UTC", got.Published, noon)
	}

	got.Title, got.Tags, got.Draft = "Other", nil, true
	if err := got.Prepare(noon.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	updated, err := s.UpdatePost(t.Context(), got)
	if err != nil {
		t.Fatal(err)
	}
	got.Version = 2
	if diff := cmp.Diff(got, updated); diff != "" {
		t.Errorf("updated post (-want +got):\n%s", diff)
	}
	if !updated.Published.Equal(noon) {
		t.Errorf("published %v after an update, want the first time %v", updated.Published, noon)
	}
	_, err = s.Post(t.Context(), 4711)
	wantError(t, "absent post", err, blog.ErrNotFound)
	p.ID, p.Author = 0, 4711
	_, err = s.CreatePost(t.Context(), p)
	wantError(t, "post of an absent author", err, blog.ErrNotFound)
}

func testStaleUpdate(t *testing.T, s blog.Store) {
	p := written(t, s, blog.Post{Title: "one"}, noon)
	if _, err := s.UpdatePost(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	_, err := s.UpdatePost(t.Context(), p)
	wantError(t, "second update from the same version", err, blog.ErrConflict)
	p.ID = 4711
	_, err = s.UpdatePost(t.Context(), p)
	wantError(t, "update of an absent post", err, blog.ErrNotFound)
}

func testUpdatesAtOnce(t *testing.T, s blog.Store) {
	p := written(t, s, blog.Post{Title: "one"}, noon)
	const writers = 12
	var won, lost int
	var mu sync.Mutex // guards won and lost
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			_, err := s.UpdatePost(t.Context(), p)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case errors.Is(err, blog.ErrConflict):
				lost++
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if won != 1 || lost != writers-1 {
		t.Errorf("%d updates of one version succeeded and %d conflicted, want 1 and %d", won, lost, writers-1)
	}
}

func testPaging(t *testing.T, s blog.Store) {
	for i := range 10 {
		// Two each at the same moment: the id decides.
		written(t, s, blog.Post{Title: fmt.Sprint("p", i), Body: "body"}, noon.Add(time.Duration(i/2)*time.Second))
	}
	var got []string
	q := blog.Query{Limit: 3}
	for {
		page, err := s.Posts(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, titles(page.Posts))
		if q.After = page.Next; q.After.IsZero() {
			break
		}
		// What is published meanwhile moves no page.
		written(t, s, blog.Post{Title: "new"}, noon.Add(time.Hour))
	}
	if want := []string{"p9 p8 p7", "p6 p5 p4", "p3 p2 p1", "p0"}; !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
	page, err := s.Posts(t.Context(), blog.Query{Limit: 1})
	if err != nil || page.Posts[0].Body != "" || page.Posts[0].HTML != "" {
		t.Errorf("a list has bodies: %+v, %v", page.Posts, err)
	}
	page, err = s.Posts(t.Context(), blog.Query{After: blog.Cursor{At: noon.Add(time.Second), ID: 1}, Full: true, Limit: 1})
	if err != nil || page.Posts[0].Body != "body" || page.Posts[0].HTML != "<p>body</p>\n" || page.Posts[0].Text != "body" {
		t.Errorf("a full list has no bodies: %+v, %v", page.Posts, err)
	}
}

func testLists(t *testing.T, s blog.Store) {
	ann, bob := author(t, s, "ann"), author(t, s, "bob")
	written(t, s, blog.Post{Title: "a", Tags: []string{"go", "web"}, Author: ann.ID}, noon)
	written(t, s, blog.Post{Title: "b", Tags: []string{"go"}, Author: bob.ID}, noon.Add(1*time.Second))
	written(t, s, blog.Post{Title: "c", Tags: []string{"go"}, Author: bob.ID, Draft: true}, noon.Add(2*time.Second))
	written(t, s, blog.Post{Title: "d", Author: ann.ID, Draft: true}, noon.Add(3*time.Second))
	e := written(t, s, blog.Post{Title: "e", Tags: []string{"go"}, Author: ann.ID}, noon.Add(4*time.Second))
	if err := s.DeletePost(t.Context(), e.ID, noon.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		q    blog.Query
		want string
	}{
		{"published", blog.Query{}, "b a"},
		{"with a tag", blog.Query{Tag: "web"}, "a"},
		{"with a tag and an author", blog.Query{Tag: "go", Author: bob.ID}, "b"},
		{"with an absent tag", blog.Query{Tag: "go' OR '1'='1"}, ""},
		{"drafts", blog.Query{Show: blog.Drafts}, "d c"},
		{"an author's drafts", blog.Query{Show: blog.Drafts, Author: bob.ID}, "c"},
		{"deleted", blog.Query{Show: blog.Deleted}, "e"},
	} {
		if got := list(t, s, c.q); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func testDeleteRestoreSweep(t *testing.T, s blog.Store) {
	p := written(t, s, blog.Post{Title: "unique", Tags: []string{"go"}}, noon)
	if err := s.DeletePost(t.Context(), p.ID, noon); err != nil {
		t.Fatal(err)
	}
	wantError(t, "delete twice", s.DeletePost(t.Context(), p.ID, noon), blog.ErrNotFound)
	_, err := s.UpdatePost(t.Context(), p)
	wantError(t, "update of a deleted post", err, blog.ErrNotFound)
	if got := list(t, s, blog.Query{}); got != "" {
		t.Errorf("a deleted post is listed: %q", got)
	}
	if got := search(t, s, "unique"); got != "" {
		t.Errorf("a deleted post is found: %q", got)
	}
	if tags, err := s.Tags(t.Context()); err != nil || len(tags) != 0 {
		t.Errorf("a deleted post is counted: %v, %v", tags, err)
	}
	if got, err := s.Post(t.Context(), p.ID); err != nil || !got.Deleted.Equal(noon) {
		t.Errorf("a deleted post says deleted %v, %v, want %v", got.Deleted, err, noon)
	}
	if err := s.RestorePost(t.Context(), p.ID); err != nil {
		t.Fatal(err)
	}
	wantError(t, "restore twice", s.RestorePost(t.Context(), p.ID), blog.ErrNotFound)
	if got := search(t, s, "unique"); got != "unique" {
		t.Errorf("a restored post is not found: %q", got)
	}

	sweep := func(now time.Time) {
		t.Helper()
		if err := s.Sweep(t.Context(), now, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	sweep(noon.Add(1000 * time.Hour))
	if err := s.DeletePost(t.Context(), p.ID, noon); err != nil {
		t.Fatalf("a post that is not deleted was swept: %v", err)
	}
	sweep(noon.Add(23 * time.Hour))
	if _, err := s.Post(t.Context(), p.ID); err != nil {
		t.Fatalf("swept too early: %v", err)
	}
	sweep(noon.Add(25 * time.Hour))
	_, err = s.Post(t.Context(), p.ID)
	wantError(t, "swept post", err, blog.ErrNotFound)
	if q := written(t, s, blog.Post{Title: "next"}, noon); q.ID <= p.ID {
		t.Errorf("the id %d of a swept post is used again", q.ID)
	}
}

func testTags(t *testing.T, s blog.Store) {
	written(t, s, blog.Post{Title: "a", Tags: []string{"web", "Go", "日记"}}, noon)
	written(t, s, blog.Post{Title: "b", Tags: []string{"go", "Émile"}}, noon)
	written(t, s, blog.Post{Title: "c", Tags: []string{"go", "secret"}, Draft: true}, noon)
	got, err := s.Tags(t.Context())
	want := []blog.TagCount{{Tag: "go", Posts: 2}, {Tag: "web", Posts: 1}, {Tag: "émile", Posts: 1}, {Tag: "日记", Posts: 1}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("tags (-want +got):\n%s%v", diff, err)
	}
}

func testAddresses(t *testing.T, s blog.Store) {
	for i := range 4 {
		written(t, s, blog.Post{Title: fmt.Sprint("p", i), Body: "body"}, noon.Add(time.Duration(i)*time.Second))
	}
	written(t, s, blog.Post{Title: "draft", Draft: true}, noon)
	var got []string
	for after := (blog.Cursor{}); ; {
		page, err := s.Addresses(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Posts {
			got = append(got, p.Path()+" "+p.Updated.Format("05"))
		}
		if after = page.Next; after.IsZero() {
			break
		}
		got = append(got, "next")
	}
	if want := []string{"/post/4/p3 03", "/post/3/p2 02", "next", "/post/2/p1 01", "/post/1/p0 00"}; !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
}

func testChanges(t *testing.T, s blog.Store) {
	ann := author(t, s, "ann")
	var p blog.Post
	changed := func(what string, want bool, do func() error) {
		t.Helper()
		before, err := s.Changes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		failed := do()
		after, err := s.Changes(t.Context())
		if err != nil || (after != before) != want {
			t.Errorf("%s (%v): from %d to %d, %v, want a change: %v", what, failed, before, after, err, want)
		}
	}
	changed("a new post", true, func() error { p = written(t, s, blog.Post{Title: "one", Author: ann.ID}, noon); return nil })
	stale := p
	changed("an update", true, func() (err error) { p, err = s.UpdatePost(t.Context(), p); return err })
	changed("a refused update", false, func() error { _, err := s.UpdatePost(t.Context(), stale); return err })
	changed("a deletion", true, func() error { return s.DeletePost(t.Context(), p.ID, noon) })
	changed("a second deletion", false, func() error { return s.DeletePost(t.Context(), p.ID, noon) })
	changed("a restoration", true, func() error { return s.RestorePost(t.Context(), p.ID) })
	ann.Shown = "Another"
	changed("another name", true, func() error { return s.UpdateAuthor(t.Context(), ann) })
	changed("a failed login", false, func() error {
		_, err := s.CountAttempt(t.Context(), "account:ann", noon, time.Hour)
		return err
	})
}

func testGivenIDs(t *testing.T, s blog.Store) {
	if p := written(t, s, blog.Post{ID: 7, Title: "seven"}, noon); p.ID != 7 {
		t.Errorf("id %d, want the given 7", p.ID)
	}
	written(t, s, blog.Post{ID: 3, Title: "three"}, noon)
	if p := written(t, s, blog.Post{Title: "eight"}, noon); p.ID != 8 {
		t.Errorf("id %d after 7 and 3, want 8", p.ID)
	}
	p := blog.Post{ID: 7, Title: "again", Author: 1}
	if err := p.Prepare(noon); err != nil {
		t.Fatal(err)
	}
	_, err := s.CreatePost(t.Context(), p)
	wantError(t, "an id that is taken", err, blog.ErrConflict)
	var got []blog.Post
	if err := s.EachPost(t.Context(), func(p blog.Post) error { got = append(got, p); return nil }); err != nil {
		t.Fatal(err)
	}
	if titles(got) != "three seven eight" {
		t.Errorf("each post: %q", titles(got))
	}
	stop := errors.New("stop")
	wantError(t, "yield's error", s.EachPost(t.Context(), func(blog.Post) error { return stop }), stop)
}

func testLargest(t *testing.T, s blog.Store) {
	var words strings.Builder
	for i := 0; words.Len() < blog.BodyLimit-12; i++ { // each word another one: the worst for an index
		fmt.Fprintf(&words, "w%x ", i*7919)
	}
	written(t, s, blog.Post{Title: "words", Body: words.String()}, noon)
	var han strings.Builder
	for i := 0; han.Len() < blog.BodyLimit-3; i++ {
		han.WriteRune(rune(0x4e00 + i*i*31%20000))
	}
	written(t, s, blog.Post{Title: "汉字", Body: han.String()}, noon)
	if got := search(t, s, "w1eef"); got != "words" {
		t.Errorf("found %q, want words", got)
	}
	written(t, s, blog.Post{Title: "long", Body: strings.Repeat("x", 5000)}, noon)
	if got := search(t, s, strings.Repeat("x", 5000)); got != "long" {
		t.Errorf("found %q, want long", got)
	}
}

func testCancelled(t *testing.T, s blog.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Posts(ctx, blog.Query{})
	wantError(t, "list", err, context.Canceled)
	if errors.Is(err, blog.ErrBusy) {
		t.Errorf("a client that left is a fault of the database: %v", err)
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, err = s.Posts(late, blog.Query{})
	wantError(t, "list without time", err, blog.ErrBusy)
}

func testMigrateAgain(t *testing.T, s blog.Store) {
	p := written(t, s, blog.Post{Title: "one"}, noon)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if _, err := s.Post(t.Context(), p.ID); err != nil {
		t.Error(err)
	}
	if version, err := s.SchemaVersion(t.Context()); err != nil || version != 1 {
		t.Errorf("schema version %d, %v, want 1", version, err)
	}
}
