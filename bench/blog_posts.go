package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/store"
)

const (
	blogPosts     = 10_000
	blogPostWords = 300  // of a post, in the mean
	blogWords     = 5000 // different ones

	usualWord    = "lantern"      // in each fiftieth post
	frequentWord = "caravanserai" // in nine of ten; no other word begins as it does
)

// blogSyllables are what words are made of, as many as are needed: which words begin as others
// do is so as in a language.
var blogSyllables = strings.Fields("ba de fi go hu ja ke li mo nu pa re si to vu wa ze dri ple sto")

// blogWord is word n, from 0 to blogWords-1.
func blogWord(n int) string {
	var b strings.Builder
	for n += len(blogSyllables); n > 0; n /= len(blogSyllables) {
		b.WriteString(blogSyllables[n%len(blogSyllables)])
	}
	return b.String()
}

// blogTime is when post 0 was published; each further one is an hour younger.
var blogTime = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func blogTitle(n int) string {
	return fmt.Sprintf("Of %s and %s", blogWord(n%blogWords), blogWord(n*7%blogWords))
}

func blogSlug(n int) string { return blog.Slug(blogTitle(n)) }

// blogPost is post n: some paragraphs, a list and code, of words that are as frequent as Zipf says.
// One of seven is also in Chinese.
func blogPost(n int) blog.Post {
	random := rand.New(rand.NewPCG(7, uint64(n)))
	zipf := rand.NewZipf(random, 1.1, 4, blogWords-1)
	var b strings.Builder
	sentence := func(words int) {
		for range words {
			b.WriteString(blogWord(int(zipf.Uint64())))
			b.WriteByte(' ')
		}
	}
	fmt.Fprintf(&b, "# %s\n\n", blogWord(int(zipf.Uint64())))
	for range 4 {
		sentence(blogPostWords/6 + random.IntN(blogPostWords/6))
		b.WriteString("and *then* `so`.\n\n")
	}
	for range 3 {
		b.WriteString("- ")
		sentence(4)
		b.WriteByte('\n')
	}
	b.WriteString("\n```go\nfunc main() { fmt.Println(\"hello\") }\n```\n\n")
	if n%10 > 0 {
		b.WriteString("The " + frequentWord + " of it.\n\n")
	}
	if n%100 == 0 {
		b.WriteString("Under a " + usualWord + ".\n\n")
	}
	if n%100 == 50 {
		b.WriteString("The " + frequentWord + " has a " + usualWord + ".\n\n")
	}
	if n%7 == 0 {
		b.WriteString("我们昨天从上海到北京去看朋友，路上下了大雨。\n")
	}
	return blog.Post{Title: blogTitle(n), Body: b.String(), Tags: []string{"all", blogWord(n % 40)}}
}

// fillBlog makes the database with the first posts, unless it is there: the scenarios of a run share it.
func fillBlog(ctx context.Context, file string, posts int) (err error) {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	s, err := store.OpenSQLite(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	author, err := s.CreateAuthor(ctx, blog.Author{Name: "ann", Shown: "Ann", Created: blogTime})
	if err != nil {
		return err
	}
	for n := range posts {
		p := blogPost(n)
		p.Author = author.ID
		if err := p.Prepare(blogTime.Add(time.Duration(n) * time.Hour)); err != nil {
			return err
		}
		if _, err := s.CreatePost(ctx, p); err != nil {
			return err
		}
	}
	return nil
}
