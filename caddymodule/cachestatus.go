package caddymodule

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/caddy-ollama/caddy-ollama/internal/cache"
)

// writeStats writes how much is in the cache.
func writeStats(w io.Writer, s cache.Stats) error {
	if !s.On {
		_, err := fmt.Fprintln(w, "There is no cache: the global option ollama does not have the word cache.")
		return err
	}
	return writeRows(w, [][2]string{
		{"entries", fmt.Sprint(s.Entries)},
		{"memory", bytesText(s.Bytes) + " of " + bytesText(s.Limit)},
		{"redis", s.Redis},
	})
}

// writePurged writes what came of a purge.
func writePurged(w io.Writer, p cache.Purged) error {
	text := "Purged, none was in memory.\n"
	switch p.Memory {
	case 0:
	case 1:
		text = "Purged, 1 answer was in memory.\n"
	default:
		text = fmt.Sprintf("Purged, %d answers were in memory.\n", p.Memory)
	}
	if p.Pending {
		text += "Redis could not be told: the other gateways do not know yet. This gateway tells them as soon as it can.\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// writeInspected writes what is known of an answer, and its text if that is there.
func writeInspected(w io.Writer, i cache.Inspected) error {
	rows := [][2]string{
		{"key", i.Key},
		{"route", i.Route},
		{"model", untagged(shortName(i.Model))},
		{"version", i.Version},
		{"stored", i.Stored.UTC().Format("2006-01-02 15:04:05 UTC") + ", in " + i.Backend},
		{"age", span(seconds(i.Age))},
		{"time left", leftText(&i)},
		{"rule", i.Rule},
		{"reason", i.Reason},
		{"class", i.Class},
		{"tokens", fmt.Sprint(i.Tokens)},
		{"size", bytesText(int64(i.Size))},
	}
	if len(i.Tags) > 0 {
		rows = append(rows, [2]string{"tags", strings.Join(i.Tags, " ")})
	}
	if err := writeRows(w, rows); err != nil {
		return err
	}
	if i.Question == "" && i.Answer == nil {
		return nil
	}
	// Frames have their line ends in them, one object has none.
	answer := strings.TrimRight(strings.Join(i.Answer, ""), "\n")
	_, err := fmt.Fprintf(w, "\nasked:\n%s\n\nanswered:\n%s\n", harmless(i.Question), harmless(answer))
	return err
}

// leftText says for how long an answer is still given.
func leftText(i *cache.Inspected) string {
	switch {
	case i.Purged:
		return "none, it was purged"
	case i.TTL < 0:
		return "until it is evicted"
	case i.Left <= 0:
		return fmt.Sprintf("none of %s, over since %s", span(seconds(i.TTL)), span(seconds(-i.Left)))
	}
	return span(seconds(i.Left)) + " of " + span(seconds(i.TTL))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func writeRows(w io.Writer, rows [][2]string) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\n", r[0], harmless(r[1]))
	}
	return table.Flush()
}

func bytesText(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

// harmless puts a dot in the place of what would do something to a terminal: clients wrote it. The
// canonical form of a request has lengths and digests between its texts, which become dots, too.
func harmless(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r != utf8.RuneError && unicode.IsGraphic(r) || unicode.Is(unicode.Join_Control, r) {
			return r
		}
		return '·'
	}, s)
}
