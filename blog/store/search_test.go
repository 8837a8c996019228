package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caddy-ollama/caddy-ollama/blog"
	"github.com/caddy-ollama/caddy-ollama/blog/fulltext"
)

func search(t *testing.T, s blog.Store, text string) string {
	t.Helper()
	page, err := s.Search(t.Context(), blog.SearchQuery{Text: text})
	if err != nil {
		t.Fatalf("search %q: %v", text, err)
	}
	var posts []blog.Post
	for _, h := range page.Hits {
		posts = append(posts, h.Post)
	}
	return titles(posts)
}

func testSearch(t *testing.T, s blog.Store) {
	for i, p := range []blog.Post{
		{Title: "en", Body: "Deploying a **reverse proxy** in front of `Ollama`'s nodes"},
		{Title: "zh", Body: "我们在中国北京写了一个小博客。模型推理很快。"},
		{Title: "zh2", Body: "中文,大国之北,京城"},
		{Title: "ja", Body: "東京タワーでコーヒーを飲む"},
		{Title: "ru", Body: "Ёлка и Пушкин"},
		{Title: "fr", Body: "L'été à la crème brûlée"},
		{Title: "th", Body: "ภาษาไทยไม่มีช่องว่าง"},
		{Title: "ar", Body: "مرحبا بالعالم"},
		{Title: "ko", Body: "한국어 블로그 글"},
		{Title: "draft", Body: "proxy 北京", Draft: true},
	} {
		written(t, s, p, noon.Add(-time.Duration(i)*time.Second))
	}
	for _, c := range []struct{ text, want string }{
		{"proxy", "en"},
		{"PROXY nodes", "en"},
		{"deploy", "en"}, // the beginning of a word
		{"eploy", ""},
		{"proxy absent", ""},
		{"ollama", "en"},
		{"北京", "zh"},
		{"中国北京", "zh"},
		{"北京中国", ""},
		{"京", "zh zh2 ja"},
		{"模型 博客", "zh"},
		{"模型推理很快", "zh"},
		{"推理很慢", ""},
		{"东京", ""},
		{"東京", "ja"},
		{"タワー", "ja"},
		{"елка", "ru"}, // accents do not matter
		{"ПУШКИН", "ru"},
		{"ete", "fr"},
		{"Crème", "fr"},
		{"creme brulee", "fr"},
		{"ไทย", "th"},
		{"العالم", ""}, // with the article joined: only whole words and their beginnings
		{"بالعالم", "ar"},
		{"블로그", "ko"},
		{"블", ""},
		{"", ""},
		{`"`, ""},
		{`'; DROP TABLE posts; --`, ""},
		{`proxy" OR title:*`, ""},
		{"proxy & !x:* | (", ""},
		{"NOT proxy", ""},
		{"*", ""},
		{strings.Repeat("proxy ", 1000), "en"},
		{"\x00\xff proxy", "en"},
	} {
		if got := search(t, s, c.text); got != c.want {
			t.Errorf("search %q: got %q, want %q", c.text, got, c.want)
		}
	}
	page, err := s.Search(t.Context(), blog.SearchQuery{Text: "北京"})
	want := []fulltext.Fragment{{Text: "我们在中国"}, {Text: "北京", Match: true}, {Text: "写了一个小博客。模型推理很快。"}}
	if diff := cmp.Diff(want, page.Hits[0].Snippet); err != nil || diff != "" {
		t.Errorf("snippet (-want +got):\n%s%v", diff, err)
	}
}

func testSearchPaging(t *testing.T, s blog.Store) {
	for i := range 6 {
		written(t, s, blog.Post{Title: fmt.Sprint("body", i), Body: "about gateways"}, noon.Add(time.Duration(i)*time.Second))
	}
	written(t, s, blog.Post{Title: "tag", Tags: []string{"gateways"}}, noon.Add(-time.Hour))
	written(t, s, blog.Post{Title: "Gateways", Body: "about nothing"}, noon.Add(-2*time.Hour))
	var got []string
	q := blog.SearchQuery{Text: "gateway", Limit: 3}
	for {
		page, err := s.Search(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, h := range page.Hits {
			found = append(found, h.Title)
		}
		got = append(got, strings.Join(found, " "))
		if q.After = page.Next; q.After.IsZero() {
			break
		}
	}
	if want := []string{"tag Gateways body5", "body4 body3 body2", "body1 body0"}; !slices.Equal(got, want) {
		t.Errorf("pages %q, want %q", got, want)
	}
}

// testSearchEnds: a page that is just full is the last one if there is nothing else.
func testSearchEnds(t *testing.T, s blog.Store) {
	written(t, s, blog.Post{Title: "apples"}, noon)
	written(t, s, blog.Post{Title: "also apples"}, noon)
	for i, want := range []int{2, 1, 2} { // titles alone; cut between titles and texts; both
		if i == 1 {
			written(t, s, blog.Post{Title: "pie", Body: "apples"}, noon)
			written(t, s, blog.Post{Title: "cider", Body: "apples"}, noon)
		}
		page, err := s.Search(t.Context(), blog.SearchQuery{Text: "apples", Limit: 2})
		if err != nil || len(page.Hits) != 2 || page.Next.IsZero() != (i == 0) {
			t.Fatalf("%d hits, next %+v, %v", len(page.Hits), page.Next, err)
		}
		if i > 0 {
			page, err = s.Search(t.Context(), blog.SearchQuery{Text: "apples", Limit: want, After: page.Next})
			if err != nil || len(page.Hits) != want || page.Next.IsZero() != (want == 2) {
				t.Fatalf("after the titles: %d hits, next %+v, %v, want %d", len(page.Hits), page.Next, err, want)
			}
		}
	}
}

func testSearchChanges(t *testing.T, s blog.Store) {
	p := written(t, s, blog.Post{Title: "one", Body: "apples"}, noon)
	p.Body = "pears"
	if err := p.Prepare(noon); err != nil {
		t.Fatal(err)
	}
	if _, err := s.UpdatePost(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if got := search(t, s, "apples"); got != "" {
		t.Errorf("found by what it no longer says: %q", got)
	}
	if got := search(t, s, "pears"); got != "one" {
		t.Errorf("not found by what it says now: %q", got)
	}
}
