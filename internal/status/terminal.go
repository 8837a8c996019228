package status

import (
	"cmp"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// A Line is one of a report in a terminal. Its text has no control characters.
type Line struct {
	Style string // "", title, dim, ok, warn or bad
	Text  string
}

// Lines writes a report for a terminal of so many columns; what is wider is cut, but not below 40.
func (r *Report) Lines(width int) []Line {
	width = max(width, 40)
	t := terminal{width: width}
	v := view{r}
	t.say("title", "caddy-ollama, serving for %s", v.Ago(r.Since))
	for _, n := range r.Notices() {
		t.say(n.Level, "%s", n.Text)
	}
	now := r.Now()
	t.say("", "")
	t.say("", "nodes in use %d of %d   slots held %d of %d   waiting %s of %s", r.Up(), len(r.Nodes), r.InFlight(), r.Room(),
		Count(r.Queue.Length()), Count(r.Queue.Limit))
	t.say("", "")
	requests := make([]*float64, len(r.History.Answered))
	for i := range requests {
		h := &r.History
		n := h.Answered[i] + h.FromCache[i] + h.Overloaded[i] + h.Failed[i] + h.Clients[i]
		requests[i] = share(float64(n), h.Step)
	}
	t.plot("requests/s", requests, fmt.Sprint(now.Rate))
	t.plot("first token", r.History.FirstP50, Seconds(now.FirstP50)+", p95 "+Seconds(now.FirstP95))
	t.plot("tokens/s", pointers(r.History.TokensRate), fmt.Sprint(now.TokensRate))
	t.plot("waiting", pointers(r.History.Waiting), fmt.Sprint(now.Waiting))
	t.say("dim", "the last minutes, and the last one in numbers; times of streams that nodes generated")
	t.say("", "")
	t.nodes(r.Nodes, &v)
	t.say("", "")
	t.queue(&v)
	t.savings(&v)
	return t.lines
}

// terminal gathers lines.
type terminal struct {
	width int
	lines []Line
}

func (t *terminal) say(style, format string, args ...any) {
	t.lines = append(t.lines, Line{style, cut(plain(fmt.Sprintf(format, args...)), t.width)})
}

// plot draws values as a row of blocks, the newest at the right, where there is room for them.
func (t *terminal) plot(name string, values []*float64, now string) {
	const label, numbers = 12, 24
	room := min(len(values), t.width-label-numbers)
	if room < 10 {
		t.say("", "%-*s%s", label, name, now)
		return
	}
	t.say("", "%-*s%s  %s", label, name, blocks(values[len(values)-room:]), now)
}

// blocks draws what is there as at least the lowest block: few is not none.
func blocks(values []*float64) string {
	most := 0.0
	for _, v := range values {
		if v != nil {
			most = max(most, *v)
		}
	}
	const levels = "▁▂▃▄▅▆▇█"
	var b strings.Builder
	for _, v := range values {
		if v == nil || *v <= 0 || most == 0 {
			b.WriteByte(' ')
			continue
		}
		i := min(7, max(0, int(math.Ceil(*v/most*8))-1))
		b.WriteString(levels[3*i : 3*i+3]) // each has three bytes
	}
	return b.String()
}

func (t *terminal) nodes(nodes []Node, v *view) {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tSTATE\tSLOTS HELD\tLOADED, TOKENS/S")
	for _, n := range nodes {
		loaded := make([]string, len(n.Runners))
		for i, r := range n.Runners {
			loaded[i] = r.Model
			if r.DecodeRate > 0 {
				loaded[i] += fmt.Sprintf(" %.0f", r.DecodeRate)
			}
		}
		state := StateText(n.State)
		if n.Reason != "" {
			state += ": " + n.Reason
		}
		if ago := v.Ago(n.Since); ago != "" {
			state += " (" + ago + ")"
		}
		fmt.Fprintf(table, "%s\t%s\t%s %d of %d\t%s\n", plain(n.Name), plain(state), slots(n), n.InFlight, n.Room(),
			plain(cmp.Or(strings.Join(loaded, ", "), "-")))
	}
	table.Flush()
	rows := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	t.say("dim", "%s", rows[0])
	for i, row := range rows[1:] {
		style := "warn"
		switch nodes[i].State {
		case "up":
			style = ""
		case "down", "ejected":
			style = "bad"
		}
		t.say(style, "%s", row)
	}
}

// slots draws how busy a node is.
func slots(n Node) string {
	const width = 8
	taken := (n.Busy()*width + 99) / 100
	return strings.Repeat("█", taken) + strings.Repeat("░", width-taken)
}

func (t *terminal) queue(v *view) {
	parts := make([]string, 0, 3)
	for _, class := range v.Classes() {
		parts = append(parts, fmt.Sprintf("%s %s", class, Count(v.Waiting(class))))
	}
	t.say("", "queue   %s", strings.Join(parts, ", "))
}

func (t *terminal) savings(v *view) {
	if v.Cache.On {
		redis := ""
		if v.Cache.Redis != "off" {
			redis = ", redis is " + v.Cache.Redis
		}
		t.say("", "cache   %s answers, %s of %s%s", Count(v.Cache.Entries), Bytes(v.Cache.Bytes), Bytes(v.Cache.Limit), redis)
	} else {
		t.say("", "cache   there is none")
	}
	s := v.Saved
	t.say("", "saved   %s of nodes: %s answers from the cache (%s), %s shared while generated", Span(s.NodeSeconds), Count(s.Hits), Share(s.HitShare()), Count(s.Coalesced))
	t.say("", "        %s tokens not generated, %s not read; %s embedding texts found, %s shared", Count(s.OutputTokens), Count(s.PromptTokens), Count(s.TextsFound), Count(s.TextsJoined))
}

// cut leaves so many runes.
func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// plain puts a dot in the place of what would do something to a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError {
			return '·'
		}
		return r
	}, s)
}

func pointers[T int | float64](values []T) []*float64 {
	all := make([]*float64, len(values))
	for i, v := range values {
		f := float64(v)
		all[i] = &f
	}
	return all
}

func share(n, of float64) *float64 {
	if of <= 0 {
		return nil
	}
	f := n / of
	return &f
}
