package cache

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

const (
	// ttlHeader is where a client says how long its answer may be kept.
	ttlHeader = "X-Cache-Ttl"
	// mostSeconds is what a greater number of a directive is taken for (RFC 9111 1.2.2).
	mostSeconds = 1 << 31

	// Tags beyond these are dropped: they are kept with each answer.
	tagsLimit   = 8
	tagLimit    = 64 // bytes
	headerLimit = 64 // bytes of X-Cache-TTL
)

// ParseControl reads what the client wishes of the cache (RFC 9111 5.2.1). What is not understood
// is no wish; of a number that stands twice the first counts. Pragma counts where there is no
// Cache-Control (5.4).
func ParseControl(h http.Header) (c call.Control) {
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		for _, line := range h["Pragma"] {
			eachDirective(line, func(name, _ string, _ bool) {
				c.NoCache = c.NoCache || strings.EqualFold(name, "no-cache")
			})
		}
		return c
	}
	for _, line := range lines {
		eachDirective(line, func(name, value string, valued bool) {
			switch {
			case strings.EqualFold(name, "no-cache"):
				c.NoCache = true
			case strings.EqualFold(name, "no-store"):
				c.NoStore = true
			case strings.EqualFold(name, "only-if-cached"):
				c.OnlyIfCached = true
			case strings.EqualFold(name, "max-age"):
				setSeconds(&c.MaxAge, value)
			case strings.EqualFold(name, "min-fresh"):
				setSeconds(&c.MinFresh, value)
			case strings.EqualFold(name, "max-stale") && valued:
				setSeconds(&c.MaxStale, value)
			case strings.EqualFold(name, "max-stale") && c.MaxStale == nil:
				whatever := call.Forever
				c.MaxStale = &whatever
			}
		})
	}
	return c
}

// setSeconds reads digits; anything else, and what is set already, stays as it is.
func setSeconds(into **time.Duration, digits string) {
	d, ok := seconds(digits)
	if *into == nil && ok {
		*into = &d
	}
}

// seconds reads digits alone. A number that is too large is the largest.
func seconds(digits string) (time.Duration, bool) {
	for i := range len(digits) {
		if digits[i] < '0' || digits[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > mostSeconds {
		n = mostSeconds
	}
	return time.Duration(n) * time.Second, digits != ""
}

// eachDirective calls f for each directive of a header line. A value may be quoted, and then have
// commas in it; valued tells an empty value from none.
func eachDirective(line string, f func(name, value string, valued bool)) {
	for line != "" {
		var item string
		item, line = cutOutsideQuotes(line, ',')
		name, value := cutOutsideQuotes(item, '=')
		valued := len(name) < len(item)
		if name = strings.TrimSpace(name); name != "" {
			f(name, unquote(strings.TrimSpace(value)), valued)
		}
	}
}

// cutOutsideQuotes is strings.Cut at a byte that stands outside of a quoted string.
func cutOutsideQuotes(s string, at byte) (before, after string) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == at && !quoted:
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

// unquote takes the quotes off. Nobody needs to escape a digit, so what has escapes is garbage.
func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

// ClientTTL reads X-Cache-TTL: whole seconds, or a duration such as 10m or 7d, at most most. It
// is nil if the client says nothing that can be understood, or if most is 0.
func ClientTTL(h http.Header, most time.Duration) *time.Duration {
	text := strings.TrimSpace(h.Get(ttlHeader))
	if most <= 0 || text == "" || len(text) > headerLimit {
		return nil
	}
	d, ok := seconds(text)
	if !ok {
		if d, ok = duration(text); !ok {
			return nil
		}
	}
	d = min(d, most)
	return &d
}

// duration reads one that is not negative, as time.ParseDuration does and with whole days before
// the rest.
func duration(text string) (time.Duration, bool) {
	var days time.Duration
	if digits, rest, found := strings.Cut(text, "d"); found {
		n, ok := seconds(digits)
		if !ok {
			return 0, false
		}
		days = min(n, mostSeconds/(24*60*60)*time.Second) * 24 * 60 * 60
		if text = rest; text == "" {
			return days, true
		}
	}
	d, err := time.ParseDuration(text)
	// Together they could be more than there can be.
	return days + min(d, mostSeconds*time.Second), err == nil && d >= 0 && text[0] != '-' && text[0] != '+'
}

// Tags reads the tags of a header's lines, which stand between commas or blanks: at most 8, each
// of at most 64 bytes, each once. What is no tag is left out, and so is what is too much.
func Tags(values []string) []string {
	var tags []string
	for _, line := range values {
		for tag := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
			if len(tags) == tagsLimit {
				return tags
			}
			if isTag(tag) && !slices.Contains(tags, tag) {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// isTag keeps tags such that they can stand in a header, a log line and a path. A letter may have
// marks of its own.
func isTag(s string) bool {
	return len(s) <= tagLimit && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		if r < utf8.RuneSelf {
			return r <= ' ' || r == 0x7f
		}
		return !unicode.In(r, unicode.L, unicode.M, unicode.N)
	})
}
