package blog

import (
	"regexp"

	"github.com/microcosm-cc/bluemonday"
)

var (
	postPolicy      = newPolicy(true)
	generatedPolicy = newPolicy(false)

	headingID   = regexp.MustCompile(`^s-[\p{L}\p{N}\p{M}-]+$`)
	codeClasses = regexp.MustCompile(`^[a-z0-9 -]{1,60}$`) // of chroma, and language-go
	imageSide   = regexp.MustCompile(`^[1-9][0-9]{0,4}$`)
	imageSource = regexp.MustCompile(`^(https://[\p{L}\p{N}]|/[^/\\])`)
)

// newPolicy allows what markdown makes, and nothing else. Links are marked so that search engines
// pass nothing on to them, which is what spam would be for.
func newPolicy(images bool) *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "blockquote", "em", "strong", "del", "code", "pre",
		"ul", "li", "table", "thead", "tbody", "tr", "h1", "h2", "h3", "h4", "h5", "h6")
	p.AllowAttrs("start").Matching(bluemonday.Integer).OnElements("ol")
	p.AllowElements("ol", "th", "td", "span")
	p.AllowAttrs("id").Matching(headingID).OnElements("h1", "h2", "h3", "h4", "h5", "h6")
	p.AllowAttrs("align").Matching(regexp.MustCompile(`^(left|right|center)$`)).OnElements("th", "td")
	p.AllowAttrs("class").Matching(codeClasses).OnElements("pre", "code", "span")
	// The boxes of a task list: shown, not for use.
	p.AllowAttrs("type").Matching(regexp.MustCompile(`^checkbox$`)).OnElements("input")
	p.AllowAttrs("checked", "disabled").OnElements("input")
	p.AllowAttrs("aria-label").Matching(regexp.MustCompile(`^[☑☐]$`)).OnElements("input")
	p.AllowAttrs("href", "title").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.AllowRelativeURLs(true)
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnFullyQualifiedLinks(true)
	p.RequireNoReferrerOnFullyQualifiedLinks(true)
	if images {
		p.AllowAttrs("src").Matching(imageSource).OnElements("img")
		p.AllowAttrs("alt", "title").OnElements("img")
		p.AllowAttrs("width", "height").Matching(imageSide).OnElements("img")
		p.AllowAttrs("loading").Matching(regexp.MustCompile(`^lazy$`)).OnElements("img")
	}
	return p
}
