package blog

import "strings"

// What no person writes, but takes goldmark time that grows with its square: 1 MiB of ">" would take
// hours. It cannot be interrupted, so it is refused before.
const (
	levelsLimit    = 100 // quotes and lists in each other, on one line
	openLinksLimit = 250 // "[x](" in one paragraph that are never closed
)

// checkNesting is an *InvalidError for a body that goes beyond them.
func checkNesting(body string) error {
	open := 0
	for line := range strings.Lines(body) {
		if levels(line) > levelsLimit {
			return &InvalidError{Field: "body", Limit: levelsLimit, Unit: "quotes and lists in each other"}
		}
		if strings.TrimSpace(line) == "" {
			open = 0
			continue
		}
		for i := 0; i < len(line); i++ {
			switch {
			case line[i] == '(' && i > 0 && line[i-1] == ']':
				open++
			case line[i] == ')' && open > 0:
				open--
			}
			if open > openLinksLimit {
				return &InvalidError{Field: "body", Limit: openLinksLimit, Unit: "links without an end in a paragraph"}
			}
		}
	}
	return nil
}

// levels counts the marks of quotes and list items that a line begins with.
func levels(line string) int {
	n := 0
	for i := range len(line) {
		switch c := line[i]; {
		case c == ' ' || c == '\t' || c >= '0' && c <= '9':
		case c == '>' || c == '.' || c == ')':
			n++
		case c == '-' || c == '+' || c == '*':
			// A rule of dashes is one mark, however long.
			if i+1 < len(line) && line[i+1] == ' ' {
				n++
			}
		default:
			return n
		}
	}
	return n
}
