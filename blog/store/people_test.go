package store

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/blog"
)

func testAuthors(t *testing.T, s blog.Store) {
	ann := author(t, s, "ann")
	_, err := s.CreateAuthor(t.Context(), ann)
	wantError(t, "a name that is taken", err, blog.ErrConflict)
	ann.Shown, ann.Password = "Ann 安", "other"
	if err := s.UpdateAuthor(t.Context(), ann); err != nil {
		t.Fatal(err)
	}
	for _, read := range []func() (blog.Author, error){
		func() (blog.Author, error) { return s.AuthorByID(t.Context(), ann.ID) },
		func() (blog.Author, error) { return s.AuthorByName(t.Context(), "ann") },
		func() (blog.Author, error) {
			all, err := s.Authors(t.Context())
			if len(all) != 1 {
				t.Fatalf("%d authors, want 1", len(all))
			}
			return all[0], err
		},
	} {
		if got, err := read(); err != nil || got != ann {
			t.Errorf("author %+v, %v, want %+v", got, err, ann)
		}
	}
	_, err = s.AuthorByName(t.Context(), "' OR ''='")
	wantError(t, "absent name", err, blog.ErrNotFound)
	_, err = s.AuthorByID(t.Context(), 99)
	wantError(t, "absent id", err, blog.ErrNotFound)
	wantError(t, "update of an absent author", s.UpdateAuthor(t.Context(), blog.Author{ID: 99}), blog.ErrNotFound)
}

func testSessions(t *testing.T, s blog.Store) {
	ann := author(t, s, "ann")
	want := blog.Session{Hash: blog.TokenHash{1}, Author: ann.ID, Created: noon, Expires: noon.Add(time.Hour)}
	for i := range 3 {
		session := want
		session.Hash[0] = byte(1 + i)
		if err := s.CreateSession(t.Context(), session); err != nil {
			t.Fatal(err)
		}
	}
	wantError(t, "a hash that is taken", s.CreateSession(t.Context(), want), blog.ErrConflict)
	got, err := s.Session(t.Context(), want.Hash, noon.Add(time.Hour-time.Microsecond))
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("session (-want +got):\n%s%v", diff, err)
	}
	_, err = s.Session(t.Context(), want.Hash, noon.Add(time.Hour))
	wantError(t, "expired session", err, blog.ErrNotFound)
	if err := s.DeleteSession(t.Context(), want.Hash); err != nil {
		t.Fatal(err)
	}
	_, err = s.Session(t.Context(), want.Hash, noon)
	wantError(t, "ended session", err, blog.ErrNotFound)
	if _, err := s.Session(t.Context(), blog.TokenHash{2}, noon); err != nil {
		t.Errorf("another session ended, too: %v", err)
	}
	if err := s.DeleteSessions(t.Context(), ann.ID); err != nil {
		t.Fatal(err)
	}
	_, err = s.Session(t.Context(), blog.TokenHash{3}, noon)
	wantError(t, "session after all ended", err, blog.ErrNotFound)
	want.Author = 99
	wantError(t, "session of nobody", s.CreateSession(t.Context(), want), blog.ErrNotFound)
}

func testLinks(t *testing.T, s blog.Store) {
	ann := author(t, s, "ann")
	link := blog.OneTimeLink{Hash: blog.TokenHash{9}, Author: ann.ID, Expires: noon.Add(time.Hour)}
	if err := s.CreateLink(t.Context(), link); err != nil {
		t.Fatal(err)
	}
	_, err := s.UseLink(t.Context(), link.Hash, noon.Add(time.Hour))
	wantError(t, "expired link", err, blog.ErrNotFound)
	var used atomic.Int32
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			got, err := s.UseLink(t.Context(), link.Hash, noon)
			switch {
			case err == nil && got == link:
				used.Add(1)
			case !errors.Is(err, blog.ErrNotFound):
				t.Errorf("use a link: %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if used.Load() != 1 {
		t.Errorf("a link was used %d times, want once", used.Load())
	}
}

func testAttempts(t *testing.T, s blog.Store) {
	if a, err := s.Attempts(t.Context(), "ann"); err != nil || a != (blog.Attempts{}) {
		t.Errorf("no attempts: %+v, %v", a, err)
	}
	count := func(at time.Time, want int) {
		t.Helper()
		a, err := s.CountAttempt(t.Context(), "ann", at, time.Hour)
		if err != nil || a.Failures != want || !a.Last.Equal(at) {
			t.Errorf("attempts %+v, %v, want %d at %v", a, err, want, at)
		}
	}
	count(noon, 1)
	count(noon.Add(time.Minute), 2)
	count(noon.Add(2*time.Hour), 1)
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if _, err := s.CountAttempt(t.Context(), "ann", noon.Add(2*time.Hour), time.Hour); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	count(noon.Add(2*time.Hour), 12)
	if a, err := s.Attempts(t.Context(), "bob"); err != nil || a.Failures != 0 {
		t.Errorf("attempts of another: %+v, %v", a, err)
	}
	if err := s.ClearAttempts(t.Context(), "ann"); err != nil {
		t.Fatal(err)
	}
	if a, err := s.Attempts(t.Context(), "ann"); err != nil || a.Failures != 0 {
		t.Errorf("cleared attempts: %+v, %v", a, err)
	}
}

// pixel is a whole GIF.
const pixel = "GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01D\x00;"

func testImages(t *testing.T, s blog.Store) {
	ann := author(t, s, "ann")
	// Nearly the largest: no driver may cut it.
	content := append([]byte(pixel), bytes.Repeat([]byte{0, 1, 255}, 3<<20)...)
	want, err := blog.NewImage(content, ann.ID, noon)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is there already
		if err := s.CreateImage(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.Image(t.Context(), want.Name)
	whole := bytes.Equal(got.Bytes, want.Bytes)
	got.Bytes, want.Bytes = nil, nil
	if err != nil || !whole || !cmp.Equal(got, want) {
		t.Errorf("image %+v, bytes the same: %v, %v; want %+v", got, whole, err, want)
	}
	_, err = s.Image(t.Context(), "none")
	wantError(t, "absent image", err, blog.ErrNotFound)
	if names, err := s.ImageNames(t.Context()); err != nil || len(names) != 1 || names[0] != want.Name {
		t.Errorf("names %v, %v", names, err)
	}
}
