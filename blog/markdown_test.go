package blog

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	xhtml "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

func TestRender_Golden(t *testing.T) {
	source, err := os.ReadFile("testdata/post.md")
	if err != nil {
		t.Fatal(err)
	}
	safe, plain, err := Render(string(source))
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "post.html", safe)
	golden(t, "post.txt", plain)
	generated, err := RenderGenerated(string(source))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(generated, "<img") || !strings.Contains(generated, "<table>") {
		t.Errorf("what a model wrote has images, or no tables:\n%s", generated)
	}
}

func TestRender_HeadingsBeginBelowTheTitle(t *testing.T) {
	for source, want := range map[string]string{
		"# a\n\n## b\n\n# c": "h2 h3 h2",
		"## a\n\n### b":      "h2 h3",
		"#### a":             "h2",
		"# a\n\n## b\n\n### c\n\n#### d\n\n##### e\n\n###### f": "h2 h3 h4 h5 h6 h6",
	} {
		safe, _, err := Render(source)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range regexp.MustCompile(`<(h\d)`).FindAllStringSubmatch(safe, -1) {
			got = append(got, m[1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: headings %v, want %s", source, got, want)
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// xss is what attackers and models write. Browsers must be shown none of it as anything but text.
var xss = []string{
	`<script>alert(1)</script>`,
	`<ScRiPt src=//evil.example/x.js></sCrIpT>`,
	`<img src=x onerror=alert(1)>`,
	`<svg/onload=alert(1)>`,
	`<svg><script>alert(1)</script></svg>`,
	`<iframe src="javascript:alert(1)"></iframe>`,
	`<iframe srcdoc="<script>alert(1)</script>">`,
	`<a href="javascript:alert(1)">x</a>`,
	`[x](javascript:alert(1))`,
	`[x](JaVaScRiPt:alert(1))`,
	"[x](java\tscript:alert(1))",
	"[x](java&#x0A;script:alert(1))",
	`[x](&#106;avascript:alert(1))`,
	`[x](&#x6A&#x61vascript&colon;alert(1))`,
	`[x](\x01javascript:alert(1))`,
	"[x](\x01javascript:alert(1))",
	`[x](<javascript:alert(1)>)`,
	`[x](javascript&#58;alert(1))`,
	`[x](javascript%3Aalert(1))`,
	`[x](vbscript:msgbox(1))`,
	`[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)`,
	`![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+)`,
	`![x](javascript:alert(1))`,
	`![x](http://tracker.example/pixel.gif)`,
	`![x](//tracker.example/pixel.gif)`,
	`![x](https://a.example/" onerror="alert(1))`,
	`![" onerror="alert(1)](https://a.example/x.png)`,
	`[x](https://a.example/ "x" onmouseover="alert(1)")`,
	"[x](https://a.example/ '\" onmouseover=\"alert(1)')",
	`<javascript:alert(1)>`,
	`<https://a.example/"onmouseover="alert(1)>`,
	`https://a.example/"onmouseover="alert(1)`,
	"[x]: javascript:alert(1)\n\n[x]",
	"```\"><script>alert(1)</script>\ncode\n```",
	"```go {hl_lines=[1] style=\"x:expression(alert(1))\" onclick=\"alert(1)\"}\ncode\n```",
	"``` js\" onclick=\"alert(1)\ncode\n```",
	"# <img src=x onerror=alert(1)>",
	`# x {#id onclick="alert(1)"}`,
	`# location`,
	`|a|b|` + "\n|-|-|\n|<script>alert(1)</script>|[x](javascript:alert(1))|",
	`<style>*{background:url(javascript:alert(1))}</style>`,
	`<div style="background:url(javascript:alert(1))">`,
	`<math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>`,
	`<form action="javascript:alert(1)"><button>x</button></form>`,
	`<input autofocus onfocus=alert(1)>`,
	`<details open ontoggle=alert(1)>`,
	`<base href="https://evil.example/">`,
	`<meta http-equiv="refresh" content="0;url=javascript:alert(1)">`,
	`<object data="javascript:alert(1)"></object>`,
	`<noscript><p title="</noscript><img src=x onerror=alert(1)>">`,
	`<!--><img src=x onerror=alert(1)>-->`,
	`<![CDATA[><img src=x onerror=alert(1)>]]>`,
	`<?php ?><img src=x onerror=alert(1)>`,
	"<scr\x00ipt>alert(1)</scr\x00ipt>",
	`&lt;script&gt;alert(1)&lt;/script&gt;`,
	`- [ ] <input onfocus=alert(1) autofocus>`,
	"`<script>alert(1)</script>`",
	`<a href="https://a.example" target=_blank onclick=alert(1)>x</a>`,
	`<x onclick=alert(1)>`,
	`<p/onclick=alert(1)>`,
	`<textarea></textarea><script>alert(1)</script>`,
	"\xff<script>alert(1)</script>",
}

func TestRender_XSSCorpusIsInert(t *testing.T) {
	for _, source := range xss {
		safe, _, err := Render(source)
		if err != nil {
			t.Errorf("%q: %v", source, err)
		}
		checkInert(t, source, safe)
		generated, err := RenderGenerated(source)
		if err != nil {
			t.Errorf("%q: %v", source, err)
		}
		checkInert(t, source, generated)
		// The policy alone has to hold, too, should raw HTML ever get through.
		checkInert(t, source, postPolicy.Sanitize(source))
		checkInert(t, source, generatedPolicy.Sanitize(source))
	}
}

var (
	harmless  = map[string]bool{}
	safeLink  = regexp.MustCompile(`(?i)^(https?:|mailto:|[^:]*$|[^:]*[/?#])`)
	safeImage = regexp.MustCompile(`^(https://|/[^/\\])`)
)

func init() {
	for name := range strings.FieldsSeq("p br hr blockquote em strong del code pre ul ol li table thead tbody tr th td h1 h2 h3 h4 h5 h6 span input a img") {
		harmless[name] = true
	}
}

// checkInert reads HTML as a browser does and reports whatever could run, load or navigate.
func checkInert(t *testing.T, source, safe string) {
	t.Helper()
	doc, err := xhtml.ParseFragment(strings.NewReader(safe), &xhtml.Node{Type: xhtml.ElementNode, Data: "div", DataAtom: atom.Div})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(n *xhtml.Node)
	walk = func(n *xhtml.Node) {
		if n.Type == xhtml.ElementNode && n.Data != "html" && n.Data != "head" && n.Data != "body" {
			if !harmless[n.Data] {
				t.Errorf("%q has a %s: %q", source, n.Data, safe)
			}
			for _, a := range n.Attr {
				value := strings.TrimSpace(a.Val)
				switch a.Key {
				case "href":
					if !safeLink.MatchString(value) || strings.HasPrefix(value, "\x01") {
						t.Errorf("%q links to %q: %q", source, a.Val, safe)
					}
				case "src":
					if !safeImage.MatchString(value) {
						t.Errorf("%q loads %q: %q", source, a.Val, safe)
					}
				case "id":
					if !strings.HasPrefix(value, "s-") {
						t.Errorf("%q has id %q: %q", source, a.Val, safe)
					}
				case "type":
					if value != "checkbox" {
						t.Errorf("%q has an input of type %q: %q", source, a.Val, safe)
					}
				case "aria-label":
					if n.Data != "input" || value != "☑" && value != "☐" {
						t.Errorf("%q names a %s %q: %q", source, n.Data, a.Val, safe)
					}
				case "width", "height":
					if !imageSide.MatchString(value) {
						t.Errorf("%q has a %s of %q: %q", source, a.Key, a.Val, safe)
					}
				case "loading":
					if value != "lazy" {
						t.Errorf("%q is loaded %q: %q", source, a.Val, safe)
					}
				case "class", "title", "alt", "align", "start", "checked", "disabled", "rel":
				default:
					t.Errorf("%q has an attribute %s: %q", source, a.Key, safe)
				}
			}
		}
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			walk(c)
		}
	}
	for _, n := range doc {
		walk(n)
	}
}

func FuzzRender(f *testing.F) {
	for _, source := range xss {
		f.Add(source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		safe, _, err := Render(source)
		if _, ok := IsInvalid(err); ok {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		checkInert(t, source, safe)
		generated, err := RenderGenerated(source)
		if err != nil {
			t.Fatal(err)
		}
		checkInert(t, source, generated)
		checkInert(t, source, postPolicy.Sanitize(source))
	})
}

func TestRender_IsXMLForFeeds(t *testing.T) {
	source, err := os.ReadFile("testdata/post.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range append(xss, string(source)) {
		p := Post{Title: "x", Body: source}
		if err := p.Prepare(time.Now()); err != nil {
			t.Fatal(err)
		}
		d := xml.NewDecoder(strings.NewReader("<div>" + p.HTML + "</div>"))
		d.Entity = xml.HTMLEntity
		for {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Errorf("%q: %v: %q", source, err, p.HTML)
				break
			}
		}
	}
}

// Bodies whose cost grows with the square of their length would hold up a gateway's processor.
func TestRender_BodiesThatCostTooMuchAreRefused(t *testing.T) {
	for _, piece := range []string{"> ", ">", "1. ", "+ ", "* ", "[a](", "[a](b", "[a](<"} {
		if _, _, err := Render(strings.Repeat(piece, BodyLimit/len(piece))); err == nil {
			t.Errorf("%q repeated is rendered", piece)
		} else if _, ok := IsInvalid(err); !ok {
			t.Errorf("%q repeated: got error %v, want one that says what to change", piece, err)
		}
	}
	for name, body := range map[string]string{
		"many links":       strings.Repeat("[a](https://a.example) ", 2000),
		"many paragraphs":  strings.Repeat("see [a](b\n\n", 2000),
		"a long rule":      strings.Repeat("-", 500),
		"a deep quote":     strings.Repeat("> ", 50) + "text",
		"a table's border": "|a|\n|" + strings.Repeat("-", 500) + "|\n|b|",
		"dots":             strings.Repeat(".", 80),
	} {
		if _, _, err := Render(body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRender_LargeBodiesTakeSeconds(t *testing.T) {
	for _, piece := range []string{"[", "*a ", "`", "<", "![", "| a ", "\n\n- a", "#", "_*", "&amp;", "https://a.a ", "~~", "a\n", "    a\n", "[a]: b\n", "```\n"} {
		body := strings.Repeat(piece, (64<<10)/len(piece))
		begun := time.Now()
		if _, _, err := Render(body); err != nil {
			t.Error(err)
		}
		// 10s: none takes a second alone; other tests run beside it.
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%q %d times took %v", piece, len(body)/len(piece), took)
		}
	}
}
