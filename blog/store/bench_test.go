package store

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/internal/pgtest"
)

// BenchmarkRead is what pages ask for, with 10,000 posts of some 300 words from 5,000 different ones.
func BenchmarkRead(b *testing.B) {
	b.Run("SQLite", func(b *testing.B) {
		s, err := OpenSQLite(filepath.Join(b.TempDir(), "blog.db"))
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		if err := s.Migrate(b.Context()); err != nil {
			b.Fatal(err)
		}
		if _, err := s.write.Exec("PRAGMA synchronous = OFF"); err != nil { // only for the filling
			b.Fatal(err)
		}
		benchmarkRead(b, s)
	})
	b.Run("PostgreSQL", func(b *testing.B) {
		s, err := OpenPostgres(pgtest.Start(b).Database())
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		if err := s.Migrate(b.Context()); err != nil {
			b.Fatal(err)
		}
		benchmarkRead(b, s)
	})
}

func benchmarkRead(b *testing.B, s blog.Store) {
	a, err := s.CreateAuthor(b.Context(), blog.Author{Name: "ann"})
	if err != nil {
		b.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 10_000 {
		var text strings.Builder
		for range 300 {
			// Squared: some words are in most posts, most in few.
			n := random.IntN(71)
			fmt.Fprintf(&text, "word%d ", n*random.IntN(71))
		}
		p := blog.Post{
			Title: fmt.Sprint("post ", i), Slug: "post", Text: text.String(), Body: text.String(), HTML: text.String(), Author: a.ID,
			Tags: []string{"all", fmt.Sprint("tag", i%100)}, Published: noon.Add(time.Duration(i) * time.Second),
		}
		if _, err := s.CreatePost(b.Context(), p); err != nil {
			b.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		read func() (int, error)
	}{
		{"post", func() (int, error) { p, err := s.Post(b.Context(), 5000); return int(p.ID), err }},
		{"newest", func() (int, error) { p, err := s.Posts(b.Context(), blog.Query{Limit: 10}); return len(p.Posts), err }},
		{"tag=1%", func() (int, error) {
			p, err := s.Posts(b.Context(), blog.Query{Limit: 10, Tag: "tag7"})
			return len(p.Posts), err
		}},
		{"tag=all", func() (int, error) {
			p, err := s.Posts(b.Context(), blog.Query{Limit: 10, Tag: "all"})
			return len(p.Posts), err
		}},
		{"tags", func() (int, error) { t, err := s.Tags(b.Context()); return len(t), err }},
		{"search=frequent", func() (int, error) {
			p, err := s.Search(b.Context(), blog.SearchQuery{Text: "word0", Limit: 10})
			return len(p.Hits), err
		}},
		{"search=rare", func() (int, error) {
			p, err := s.Search(b.Context(), blog.SearchQuery{Text: "word4489 word2345", Limit: 10})
			return len(p.Hits) + 1, err
		}},
		{"search=prefix", func() (int, error) {
			p, err := s.Search(b.Context(), blog.SearchQuery{Text: "wor", Limit: 10})
			return len(p.Hits), err
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if n, err := c.read(); err != nil || n == 0 {
					b.Fatalf("%d rows, %v", n, err)
				}
			}
		})
	}
}
