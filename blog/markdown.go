package blog

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	chromahtml "github.com/alecthomas/chroma/v2/formatters/html"
	"github.com/yuin/goldmark"
	highlighting "github.com/yuin/goldmark-highlighting/v2"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	east "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// markdown renders GitHub's dialect. Raw HTML is left out, colours of code are classes, since our
// pages allow no style attributes. Safe for concurrent use.
var markdown = goldmark.New(
	goldmark.WithExtensions(
		extension.Linkify, extension.Strikethrough, extension.TaskList,
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
		highlighting.NewHighlighting(highlighting.WithFormatOptions(chromahtml.WithClasses(true))),
	),
	goldmark.WithParserOptions(parser.WithAutoHeadingID(), parser.WithASTTransformers(util.Prioritized(roomForImages{}, 100))),
	goldmark.WithRendererOptions(html.WithXHTML()), // feeds are XML
)

// Render makes the safe HTML of a post from its Markdown, and its plain text. The error may be an
// *InvalidError.
func Render(source string) (safe, plain string, err error) {
	return render(source, postPolicy.SanitizeBytes)
}

// RenderGenerated is Render for what a model wrote. It shows no images: their addresses could tell
// another server what the post, or the question, said.
func RenderGenerated(source string) (safe string, err error) {
	safe, _, err = render(source, generatedPolicy.SanitizeBytes)
	return safe, err
}

func render(source string, sanitize func([]byte) []byte) (safe, plain string, err error) {
	if err := checkNesting(source); err != nil {
		return "", "", err
	}
	in := []byte(strings.ToValidUTF8(source, "\uFFFD"))
	doc := markdown.Parser().Parse(text.NewReader(in), parser.WithContext(parser.NewContext(parser.WithIDs(headingIDs{}))))
	arrangeHeadings(doc)
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, in, doc); err != nil {
		return "", "", fmt.Errorf("render markdown: %w", err)
	}
	// Sanitised although no raw HTML was let through: neither of the two is trusted alone.
	return string(sanitize([]byte(boxes.Replace(out.String())))), plainText(doc, in), nil
}

// boxes gives those of task lists names, which readers who do not see them need, in no language. Text
// and attributes cannot have these quotes: they are escaped there.
var boxes = strings.NewReplacer(
	`<input checked="" disabled="" type="checkbox"`, `<input checked="" disabled="" type="checkbox" aria-label="☑"`,
	`<input disabled="" type="checkbox"`, `<input disabled="" type="checkbox" aria-label="☐"`)

// arrangeHeadings has the highest headings of a document be the second level: the first is its title,
// and readers who go from heading to heading miss none, whatever the author began with.
func arrangeHeadings(doc ast.Node) {
	var headings []*ast.Heading
	highest := 6
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if h, ok := n.(*ast.Heading); ok && entering {
			headings, highest = append(headings, h), min(highest, h.Level)
		}
		return ast.WalkContinue, nil
	})
	for _, h := range headings {
		h.Level = min(6, h.Level-highest+2)
	}
}

// headingIDs makes ids of headings in any script. The prefix keeps them from being those of a page's
// own elements.
type headingIDs map[string]bool

func (h headingIDs) Generate(value []byte, _ ast.NodeKind) []byte {
	id := "s-" + Slug(string(bytes.TrimSpace(value)))
	unique := id
	for n := 2; h[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", id, n)
	}
	h[unique] = true
	return []byte(unique)
}

func (h headingIDs) Put(value []byte) { h[string(value)] = true }

// roomForImages has a page not jump when its images come: those of the blog's own get their size,
// which their names tell. All are loaded only when they come near.
type roomForImages struct{}

func (roomForImages) Transform(doc *ast.Document, _ text.Reader, _ parser.Context) {
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		image, ok := n.(*ast.Image)
		if !ok || !entering {
			return ast.WalkContinue, nil
		}
		image.SetAttributeString("loading", []byte("lazy"))
		name, own := bytes.CutPrefix(image.Destination, []byte(ImagePath))
		if width, height, ok := imageSize(string(name)); own && ok {
			image.SetAttributeString("width", []byte(strconv.Itoa(width)))
			image.SetAttributeString("height", []byte(strconv.Itoa(height)))
		}
		return ast.WalkContinue, nil
	})
}

// plainText is what a document says, a line a block.
func plainText(doc ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			switch {
			case n.Kind() == east.KindTableCell:
				b.WriteByte(' ')
			case n.Type() == ast.TypeBlock:
				endLine(&b)
			}
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Text:
			b.Write(unescape(n.Segment.Value(source)))
			if n.SoftLineBreak() || n.HardLineBreak() {
				b.WriteByte('\n')
			}
		case *ast.String:
			b.Write(n.Value)
		case *ast.AutoLink:
			b.Write(n.Label(source))
		case *ast.CodeBlock, *ast.FencedCodeBlock:
			for i := range n.Lines().Len() {
				line := n.Lines().At(i)
				b.Write(line.Value(source))
			}
		case *ast.HTMLBlock, *ast.RawHTML:
			return ast.WalkSkipChildren, nil // readers do not see it either
		}
		return ast.WalkContinue, nil
	})
	return strings.TrimSpace(b.String())
}

// unescape resolves what only Markdown means: escaped punctuation and entities.
func unescape(segment []byte) []byte {
	return util.ResolveEntityNames(util.ResolveNumericReferences(util.UnescapePunctuations(segment)))
}

func endLine(b *strings.Builder) {
	if s := b.String(); s != "" && !strings.HasSuffix(s, "\n") {
		b.WriteByte('\n')
	}
}

// Excerpt is the beginning of a plain text in one line, cut between words where there are spaces. It
// ends with a paragraph that is long enough: what follows may be a heading, code or a table, which a
// plain text does not tell apart.
func Excerpt(plain string, characters int) string {
	var b strings.Builder
	n, space := 0, 0
	for i, r := range plain {
		if n == characters {
			s := b.String()
			if space > len(s)*2/3 {
				s = s[:space]
			}
			return strings.TrimRightFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsPunct(r) }) + "…"
		}
		if unicode.IsSpace(r) {
			if r == '\n' && n >= characters/5 && endsSentence(b.String()) {
				break
			}
			// A line break between Chinese lines is a space, too; several are one.
			if prev, _ := utf8.DecodeLastRuneInString(plain[:i]); unicode.IsSpace(prev) {
				continue
			}
			space, r = b.Len(), ' '
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimSpace(b.String())
}

func endsSentence(s string) bool {
	last, _ := utf8.DecodeLastRuneInString(s)
	return strings.ContainsRune(".!?…。！？", last)
}
