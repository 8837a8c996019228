package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
)

// A result is all rounds of a scenario.
type result struct {
	scenario scenario
	rounds   []round
	skipped  string   // why it was not measured
	notes    []string // what else there is to say
}

// order is that of the rows.
var order = []string{caddy, gateway, direct}

// writeReport writes everything as Markdown.
func writeReport(w io.Writer, about string, all results) error {
	out := &printer{w: w}
	out.print("# Results\n\n%s\n", about)
	out.print("\nA cell is the median of the rounds (smallest..largest), and in bold the median of the per-round\n" +
		"ratios to plain Caddy, or to the peer without a ratio. Faults, idle clients, routing, memory and traces\n" +
		"have one round.\n" +
		"What the numbers mean is in [README.md](README.md).\n")
	writeGoals(out, all)
	for _, r := range all.scenarios {
		writeScenario(out, r)
	}
	for _, r := range all.drills {
		r.write(out)
	}
	for _, r := range all.crowds {
		r.write(out)
	}
	for _, r := range all.routings {
		r.write(out)
	}
	for _, r := range all.hoards {
		r.write(out)
	}
	return out.err
}

// A printer remembers its first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) print(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// writeGoals puts the gateway's ratios beside the goals.
func writeGoals(out *printer, all results) {
	out.print("\n## The gateway against its goals\n\n")
	out.print("| row | scenario | figure, ratio to | got (rounds) | must | bar | |\n|---|---|---|---|---|---|---|\n")
	for _, r := range all.scenarios {
		if r.skipped != "" {
			continue
		}
		for _, f := range r.scenario.figures {
			if f.must == 0 {
				continue
			}
			values, ratios := f.values(r.rounds, gateway)
			against, spell := ", "+f.against(), ratio
			if f.absolute {
				ratios, against, spell = values, "", number
			}
			sign := "<="
			if f.more {
				sign = ">="
			}
			row, bar := "", ""
			if f.row > 0 {
				row = strconv.Itoa(f.row)
			}
			if f.bar > 0 {
				bar = sign + " " + spell(f.bar)
			}
			out.print("| %s | %s | %s%s | **%s** %s | %s %s | %s | %s |\n", row, r.scenario.name, f.name, against,
				spell(median(ratios)), span(ratios, spell), sign, spell(f.must), bar, f.verdict(median(ratios)))
		}
		if r.scenario.load.stream {
			_, cut := r.failures(gateway)
			out.print("| | %s | cut streams | **%d** | 0 | 0 | %s |\n", r.scenario.name, cut, map[bool]string{true: "bar", false: "MISSED"}[cut == 0])
		}
	}
	for _, r := range all.drills {
		r.writeGoals(out)
	}
	for _, r := range all.crowds {
		r.writeGoals(out)
	}
	for _, r := range all.routings {
		r.writeGoals(out)
	}
	for _, r := range all.hoards {
		r.writeGoals(out)
	}
}

// verdict is what a ratio reaches.
func (f figure) verdict(got float64) string {
	reaches := func(limit float64) bool { return f.more && got >= limit || !f.more && got <= limit }
	switch {
	case math.IsNaN(got):
		return "noise"
	case f.bar > 0 && reaches(f.bar):
		return "bar"
	case reaches(f.must):
		return "must"
	}
	return "MISSED"
}

func writeScenario(out *printer, r result) {
	out.print("\n## %s\n\n%s.\n\n", r.scenario.name, r.scenario.about)
	if r.skipped != "" {
		out.print("Not measured: %s.\n", r.skipped)
		return
	}
	out.print("| peer |")
	for _, f := range r.scenario.figures {
		out.print(" %s |", f.name)
	}
	out.print(" failed of | cut |\n|---|")
	for range r.scenario.figures {
		out.print("---|")
	}
	out.print("---|---|\n")
	for _, peer := range r.scenario.peers() {
		out.print("| %s |", peer)
		for _, f := range r.scenario.figures {
			values, ratios := f.values(r.rounds, peer)
			out.print(" %s", number(median(values)))
			if spread := span(values, number); spread != "" {
				out.print(" %s", spread)
			}
			if m := median(ratios); !f.plain && peer != f.against() && peer != direct && !math.IsNaN(m) {
				out.print(" **x%s**", ratio(m))
			}
			out.print(" |")
		}
		failed, cut := r.failures(peer)
		answers := 0
		for _, one := range r.rounds {
			answers += one[peer].answers
		}
		out.print(" %d of %d | %d |\n", failed, answers+failed, cut)
	}
	var others []float64
	for _, one := range r.rounds {
		for _, s := range one {
			others = append(others, 100*s.othersShare())
		}
	}
	out.print("\nOthers took %.0f %% of the cores %s.\n", median(others), span(others, func(v float64) string { return strconv.Itoa(int(v)) }))
	for _, note := range r.notes {
		out.print("\n%s\n", note)
	}
	for _, peer := range r.scenario.peers() {
		for _, one := range r.rounds {
			if err := one[peer].fault; err != nil {
				out.print("\nFirst failure of %s: `%v`\n", peer, err)
				break
			}
		}
	}
}

// failures adds up what was not right.
func (r result) failures(peer string) (failed, cut int) {
	for _, one := range r.rounds {
		failed += one[peer].failed
		cut += one[peer].cut
	}
	return failed, cut
}

// span is the range of values, in the given spelling; nothing if they do not differ.
func span(values []float64, spell func(float64) string) string {
	known := numbers(values)
	if len(known) < 2 {
		return ""
	}
	from, to := spell(known[0]), spell(known[len(known)-1])
	if from == to {
		return ""
	}
	return "(" + from + ".." + to + ")"
}

// number has three digits that count, or all before the point.
func number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case size == 0:
		return "0"
	case size >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case size >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case size >= 1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

func ratio(v float64) string {
	if math.IsNaN(v) {
		return "-"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
