package main

import "strconv"

// A drillResult is one drill on both proxies.
type drillResult struct {
	drill   drill
	samples map[string]*drillSample
}

// proxies is the order of what has no zero.
var proxies = []string{caddy, gateway}

func (r drillResult) writeGoals(out *printer) {
	for _, g := range r.drill.goals {
		v := g.value(r.samples[gateway], r.samples[caddy])
		sign := "<="
		if g.below {
			sign = "<"
		}
		out.print("| %d | %s | %s | **%s** | %s %s | | %s |\n", g.row, r.drill.name, g.figure, g.spell(v), sign, g.spell(g.must), kept(g.kept(v)))
	}
}

func kept(ok bool) string {
	if ok {
		return "must"
	}
	return "MISSED"
}

func (r drillResult) write(out *printer) {
	d := r.drill
	out.print("\n## %s\n\n%s, from second %g to %g of %g; %.0f chats a second.\n\n", d.name, d.about,
		d.lead.Seconds(), (d.lead + d.lasts).Seconds(), (d.lead + d.lasts + d.after).Seconds(), fleetRate(drillShare))
	out.print("| peer | requests | failed | before a byte | broken, told | broken, cut | TTFT p50 ms before | TTFT p50 ms | TTFT p99 ms | back s |\n")
	out.print("|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range proxies {
		s := r.samples[name]
		back := number(s.back.Seconds())
		if s.back == never {
			back = "not within " + number(d.after.Seconds())
		}
		out.print("| %s | %d | %d (%s %%) | %d | %d | %d | %s | %s | %s | %s |\n", name, s.requests, s.failed(),
			number(100*float64(s.failed())/float64(s.requests)), s.ends[refused], s.ends[told], s.ends[cut],
			number(millis(s.usual)), number(millis(percentile(s.firsts, 0.5))), number(millis(percentile(s.firsts, 0.99))), back)
	}
	out.print("\nThe cores were busy for %.0f and %.0f %% of the time.\n", 100*r.samples[caddy].busy, 100*r.samples[gateway].busy)
	for _, name := range proxies {
		if err := r.samples[name].fault; err != nil {
			out.print("\nFirst failure of %s: `%v`\n", name, err)
		}
	}
}

func whole(v float64) string { return strconv.Itoa(int(v)) }
