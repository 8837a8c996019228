package manage

import (
	"regexp"
	"strings"
	"unicode"
)

// textLimit bounds what is told of a node's words, in bytes.
const textLimit = 500

// leaks are what a node's words may hold of the node and its network, and what is put in its
// place. Their order counts: whole phrases of Go's errors go first, so that what is left reads well.
var leaks = []struct {
	what *regexp.Regexp
	with string
}{
	// Get "https://host/v2/x/manifests/latest": dial tcp 10.0.0.1:443: connect: connection refused
	{regexp.MustCompile(`\b(?i:get|head|post|put|patch|delete) "[^"]*"(: |$)`), ""},
	{regexp.MustCompile(`\b(?:dial|read|write|proxyconnect) (?:tcp|udp|ip|unix)[46]?(?: \S+?->\S+?| [^\s:]\S*?| \[[^\]]*\]\S*?)?: `), ""},
	{regexp.MustCompile(`\blookup \S+?(?: on \S+?)?: `), ""},
	// open /var/lib/ollama/models/blobs/sha256-0: no such file or directory
	{regexp.MustCompile(`\b(?:open|openat|read|write|stat|lstat|fstat|readlink|mkdir|remove|unlink|unlinkat|rename|link|symlink|chmod|chown|chtimes|truncate|close|sync|copy_file_range|readdirent|fdopendir) (?:"[^"]*"|[^\s:]*[/\\]\S*?|[A-Za-z]:\\\S*?)(?: (?:"[^"]*"|[^\s:]*[/\\]\S*?))?: `), ""},
	{regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`), "..."},
	{regexp.MustCompile(`\\\\[^\s"'<>]+|\b[A-Za-z]:\\[^\s"'<>:]*`), "..."},
	{regexp.MustCompile(`(^|[\s"'(\[{=:,;<>])~?\.{0,2}/[^\s"'<>:,;)\]}]*`), "$1..."},
	{regexp.MustCompile(`\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%\w+)?\](?::\d{1,5})?`), "..."},
	{regexp.MustCompile(`(?:\b[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{1,4})*)?::(?:[0-9A-Fa-f]{1,4}\b(?::[0-9A-Fa-f]{1,4}\b)*)?(?:%\w+)?`), "..."},
	{regexp.MustCompile(`\b(?:[0-9A-Fa-f]{1,4}:){3,7}[0-9A-Fa-f.]+(?:%\w+)?`), "..."},
	{regexp.MustCompile(`\b\d{1,3}(?:\.\d{1,3}){3}(?::\d{1,5})?\b`), "..."},
	{regexp.MustCompile(`\b(?i:localhost|[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)+):\d{2,5}\b`), "..."},
	{regexp.MustCompile(`\b(?i:localhost)\b`), "..."},
	{regexp.MustCompile(`\.{3}(?:[:,]?\s*\.{3})+`), "..."},
}

// Scrub makes a node's words safe for clients: one line of at most 500 bytes without paths, URLs,
// addresses and control characters. Words that do not have any of them stay as they are.
func Scrub(words string) string {
	words = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, clip(words, 8*textLimit)) // the patterns are linear, but their number is not small
	for _, l := range leaks {
		words = l.what.ReplaceAllString(words, l.with)
	}
	return clip(strings.TrimSpace(words), textLimit)
}

// clip cuts s to limit bytes, at a character, and to valid UTF-8.
func clip(s string, limit int) string {
	const dots = "..."
	if len(s) > limit {
		s = s[:limit-len(dots)] + dots
		return strings.ToValidUTF8(s, "")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
