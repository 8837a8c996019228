package ops

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// grafana puts values in the place of Grafana's variables.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$instance", ".*")

// durations finds those of an expression: ranges and offsets.
var durations = regexp.MustCompile(`(\[|offset )([0-9]+(?:ms|[smhdw]))`)

var units = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// duration reads a duration of Prometheus with one unit.
func duration(text string) (time.Duration, error) {
	number := strings.TrimRight(text, "smhdw")
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0, err
	}
	unit, ok := units[text[len(number):]]
	if !ok {
		return 0, fmt.Errorf("%q has no unit", text)
	}
	return time.Duration(n) * unit, nil
}

// A Selector is a metric that an expression reads.
type Selector struct {
	Metric string
	Labels []Matcher
}

// A Matcher is a condition on a label.
type Matcher struct{ Label, Op, Value string }

// Words are what a label has to be, of a matcher that lists words: "a|b" is two.
func (m Matcher) Words() []string { return strings.Split(m.Value, "|") }

var (
	lexeme = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*|"(?:[^"\\]|\\.)*"|[0-9][0-9a-zA-Z.+]*|=~|!~|!=|==|>=|<=|\S`)
	name   = regexp.MustCompile(`^[a-zA-Z_:]`)

	// After these stands a list of labels.
	grouping = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	keywords = []string{"and", "or", "unless", "bool", "offset", "inf", "nan", "Inf", "NaN"}
)

// Read finds what an expression reads: its metrics, and the labels that it groups by or matches
// series on. It is no parser and takes what promtool has found sound.
func Read(expression string) (selectors []Selector, labels []string) {
	words := lexeme.FindAllString(expression, -1)
	at := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	for i := 0; i < len(words); i++ {
		word := words[i]
		switch {
		case word == "[":
			for ; at(i) != "]" && i < len(words); i++ { // a range is no metric
			}
		case slices.Contains(grouping, word):
			for i++; at(i) != ")" && i < len(words); i++ {
				if name.MatchString(at(i)) {
					labels = append(labels, at(i))
				}
			}
		case !name.MatchString(word), slices.Contains(keywords, word), at(i+1) == "(", slices.Contains(grouping, at(i+1)) && at(i+2) == "(" && aggregates(word):
		default:
			s := Selector{Metric: word}
			if at(i+1) == "{" {
				for i += 2; at(i) != "}" && i < len(words); i++ {
					if name.MatchString(at(i)) {
						value, _ := strconv.Unquote(at(i + 2))
						s.Labels = append(s.Labels, Matcher{at(i), at(i + 1), value})
						i += 2
					}
				}
			}
			selectors = append(selectors, s)
		}
	}
	return selectors, labels
}

// aggregates reports whether a word is an aggregation, which may have its labels before its
// parentheses.
func aggregates(word string) bool {
	return slices.Contains([]string{"sum", "max", "min", "avg", "count", "topk", "bottomk", "quantile", "group"}, word)
}
