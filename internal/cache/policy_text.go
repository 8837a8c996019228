package cache

import (
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// String is the rule as it is written, in one line: "ttl off model *-vision, operation chat".
func (r Rule) String() string {
	var conditions []string
	add := func(word string, values ...string) {
		for _, v := range values {
			word += " " + quoted(v)
		}
		conditions = append(conditions, word)
	}
	if len(r.Models) > 0 {
		add("model", r.Models...)
	}
	if len(r.Operations) > 0 {
		add("operation", r.Operations...)
	}
	if len(r.Prompts) > 0 {
		add("prompt", r.Prompts...)
	}
	for _, h := range r.Headers {
		if onlyStars(h.Glob) {
			add("header", h.Name)
		} else {
			add("header", h.Name, h.Glob)
		}
	}
	for _, mark := range []struct {
		set  bool
		word string
	}{{r.Deterministic, "deterministic"}, {r.Sampled, "sampled"}, {r.SingleTurn, "single_turn"}, {r.Tools, "tools"}} {
		if mark.set {
			add(mark.word)
		}
	}
	if r.Adaptive != nil {
		add("adaptive")
	}
	text := "ttl " + lifeText(r.TTL)
	if len(conditions) > 0 {
		text += " " + strings.Join(conditions, ", ")
	}
	return text
}

// quoted puts quotes around what would not be one word in one line.
func quoted(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r == '"' || r == '`' || r == ',' || r == '{' || r == '}' || unicode.IsSpace(r) || !unicode.IsGraphic(r)
	}) {
		return strconv.Quote(s)
	}
	return s
}

// lifeText is a time as one would write it: 60s, 10m, 24h, 30d.
func lifeText(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == 0:
		return "off"
	case d == call.Forever:
		return "forever"
	case d >= 2*day && d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	case d < 2*time.Minute && d%time.Second == 0:
		return strconv.FormatInt(int64(d/time.Second), 10) + "s"
	}
	text := d.String() // as 1h0m0s
	if d%time.Minute == 0 {
		text = strings.TrimSuffix(text, "0s")
	}
	if d%time.Hour == 0 {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
