package web

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// spoken are the fields of trouble and frame that are shown in the reader's language.
var spoken = map[string]bool{"Heading": true, "Advice": true, "Title": true}

// shown lists the English texts of the interface: those that templates ask T for, and those that the
// program gives to text, a trouble or a frame. Where says where each is.
func shown(t *testing.T) (where map[string]string) {
	t.Helper()
	where = map[string]string{}
	add := func(quoted, file string) {
		text, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, quoted, err)
		}
		where[text] = file
	}
	templates, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range templates {
		source, err := templateFiles.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("\\.T (\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`)").FindAllSubmatch(source, -1) {
			add(string(m[1]), name)
		}
	}
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if called, ok := n.Fun.(*ast.SelectorExpr); ok && (called.Sel.Name == "text" || called.Sel.Name == "T") && len(n.Args) > 0 {
					if said, ok := n.Args[0].(*ast.BasicLit); ok && said.Kind == token.STRING {
						add(said.Value, name)
					}
				}
			case *ast.CompositeLit:
				if made, ok := n.Type.(*ast.Ident); ok && (made.Name == "trouble" || made.Name == "frame") {
					for _, e := range n.Elts {
						if field, ok := e.(*ast.KeyValueExpr); ok && spoken[field.Key.(*ast.Ident).Name] {
							if said, ok := field.Value.(*ast.BasicLit); ok && said.Kind == token.STRING {
								add(said.Value, name)
							}
						}
					}
				}
			}
			return true
		})
	}
	return where
}

func TestText_EachHasChinese(t *testing.T) {
	texts := shown(t)
	if len(texts) < 30 || texts["Search"] == "" || texts["Nothing is here"] == "" || texts["Older posts"] == "" {
		t.Fatalf("only %d texts were found: %v", len(texts), texts)
	}
	verbs := regexp.MustCompile(`%(\[\d+\])?[a-z]`)
	for text, file := range texts {
		said, ok := chineseTexts()[text]
		switch {
		case !ok:
			t.Errorf("%s: %q has no Chinese in chinese.json", file, text)
		case !strings.ContainsFunc(said, func(r rune) bool { return unicode.Is(unicode.Han, r) }):
			t.Errorf("%q is not Chinese: %q", text, said)
		case len(verbs.FindAllString(text, -1)) != len(verbs.FindAllString(said, -1)):
			t.Errorf("%q has other verbs than %q", said, text)
		}
	}
	var inOrder map[string]string
	if err := json.Unmarshal(chineseFile, &inOrder); err != nil || strings.Count(string(chineseFile), `": "`) != len(inOrder) {
		t.Errorf("chinese.json: %d texts, %v; is one there twice?", len(inOrder), err)
	}
}

func TestLanguageOf_IsWhatTheBrowserAsksFor(t *testing.T) {
	for asked, want := range map[string]language{
		"": english, "en-GB,en;q=0.9": english, "zh-CN,zh;q=0.9,en;q=0.8": chinese, "zh-TW": chinese, "zh-Hant-HK;q=0.5, fr": chinese,
		"de": english, "de,zh;q=0.5": chinese, "en;q=0.5,zh;q=0.9": chinese, "en,zh": english, "*": english, ";;;": english,
		"zh;q=0": english, strings.Repeat("zh,", 1000): english,
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Language", asked)
		if got := languageOf(r); got != want {
			t.Errorf("%.40q: %s, want %s", asked, got, want)
		}
	}
}

func FuzzLanguageOf(f *testing.F) {
	f.Add("zh-CN,zh;q=0.9,en;q=0.8")
	f.Fuzz(func(t *testing.T, asked string) {
		r := &http.Request{Header: http.Header{"Accept-Language": {asked}}}
		if got := languageOf(r); got != english && got != chinese {
			t.Errorf("%q: %q", asked, got)
		}
	})
}

func FuzzParseCursor(f *testing.F) {
	f.Add("t1-1")
	f.Add("-5-7")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := parseCursor(text); err == nil && text != "" && cursorText(c) != text {
			t.Errorf("%q was taken for %q", text, cursorText(c))
		}
	})
}
