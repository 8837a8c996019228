package fulltext

import (
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestTerms(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"The quick, quick FOX", "the quick fox"},
		{"don't e-mail 3.14", "don t e mail 3 14"},
		{"Größe CAFÉ e\u0301te\u0301", "große cafe ete"},
		{"Ｆｕｌｌ width ﬁne", "full width fine"},
		{"北京", "北京 京"},
		{"中国北京", "中国 国北 北京 京"},
		{"Go语言1.26", "go 语言 言 1 26"},
		{"がぎ コーヒー", "がぎ ぎ コー ーヒ ヒー ー"},
		{"한국어 글", "한국어 글"},
		{"हिन्दी", "हिन्दी"},
		{"ไม่มี", "ไม่ ม่มี มี"},
		{"!? \x00\xff", ""},
	} {
		if got := strings.Join(Terms(c.text), " "); got != c.want {
			t.Errorf("Terms(%q) = %q, want %q", c.text, got, c.want)
		}
	}
}

func show(fragments []Fragment) string {
	var b strings.Builder
	for _, f := range fragments {
		if f.Match {
			b.WriteString("[" + f.Text + "]")
		} else {
			b.WriteString(f.Text)
		}
	}
	return b.String()
}

func TestSnippet_ShowsThePlace(t *testing.T) {
	long := strings.Repeat("filler words here ", 20)
	for _, c := range []struct{ query, text, want string }{
		{"fox", "The quick\nFox jumps", "The quick [Fox] jumps"},
		{"qui fo", "The quick fox", "The [quick] fox"},
		{"cafe", "Le Café.", "Le [Café]."},
		{"absent", "The quick fox", "The quick fox"},
		{"北京", "我在北京,爱北京", "我在[北京],爱[北京]"},
		{"fox", long + "the fox " + long, "…here the [fox] filler words here filler words here filler word…"},
		{"fox", "", ""},
		{"<b>", "a <b>bold</b> word", "a <[b]>bold</[b]> word"},
	} {
		if got := show(ParseQuery(c.query).Snippet(c.text, 60)); got != c.want {
			t.Errorf("snippet of %q: got %q, want %q", c.query, got, c.want)
		}
	}
}

// FuzzFind: what is in a text is found by its own beginning, and a snippet is cut from the text.
func FuzzFind(f *testing.F) {
	for _, s := range []string{"The quick fox", "中国北京的博客", "コーヒー e\u0301", "ไม่มีช่อง", "a\u0300\u0300", "½ ﬁ Ⅷ", "\xff\x00", "ｶﾞ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		terms := Terms(text)
		for _, term := range terms {
			if term == "" || !utf8.ValidString(term) || strings.ContainsFunc(term, func(r rune) bool {
				return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.Is(unicode.M, r) && !unicode.Is(unicode.Co, r)
			}) {
				t.Errorf("%q has the term %q, which a database would split", text, term)
			}
		}
		q := ParseQuery(text)
		for _, want := range q.Terms {
			if !slices.ContainsFunc(terms, func(term string) bool {
				return term == want.Text || want.Prefix && strings.HasPrefix(term, want.Text)
			}) {
				t.Errorf("%q does not find itself: no %q in %q", text, want.Text, terms)
			}
		}
		if len(q.Terms) < termsLimit && !q.Found(text) {
			t.Errorf("%q is not found in itself", text)
		}
		var all strings.Builder
		for _, fragment := range q.Snippet(text, 100) {
			all.WriteString(fragment.Text)
		}
		if n := utf8.RuneCountInString(all.String()); n > 102 {
			t.Errorf("a snippet of 100 has %d characters", n)
		}
	})
}
