package main

// A routingResult is one routing on both proxies.
type routingResult struct {
	routing routing
	samples map[string]*routingSample
}

func (r routingResult) writeGoals(out *printer) {
	for _, g := range r.routing.goals {
		v := g.value(r.samples[gateway], r.samples[caddy])
		sign := "<="
		if g.more {
			sign = ">="
		}
		out.print("| %d | %s | %s | **%s** | %s %s | %s %s | %s |\n", g.row, r.routing.name(), g.figure, g.spell(v),
			sign, g.spell(g.must), sign, g.spell(g.bar), figure{must: g.must, bar: g.bar, more: g.more}.verdict(v))
	}
}

func (r routingResult) write(out *printer) {
	out.print("\n## %s\n\n%s.\n\n", r.routing.name(), r.routing.About)
	out.print("| peer | answers | failed | TTFT mean ms | TTFT p50 ms | TTFT p99 ms | latency mean ms | latency p99 ms | prefix hits | loads | requests of the nodes |\n")
	out.print("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range proxies {
		s := r.samples[name]
		out.print("| %s | %d | %d | %s | %s | %s | %s | %s | %s | %d | %d |\n", name, len(s.firsts), s.failed,
			number(millis(mean(s.firsts))), number(millis(percentile(s.firsts, 0.5))), number(millis(percentile(s.firsts, 0.99))),
			number(millis(mean(s.tooks))), number(millis(percentile(s.tooks, 0.99))), ratio(s.prefixHits()), s.loads, s.requests)
	}
	out.print("\nThe cores were busy for %.0f and %.0f %% of the time.\n", 100*r.samples[caddy].busy, 100*r.samples[gateway].busy)
	if r.samples[caddy].texts != r.samples[gateway].texts {
		out.print("\n**The two gave different answers.**\n")
	}
	for _, name := range proxies {
		if err := r.samples[name].fault; err != nil {
			out.print("\nFirst failure of %s: `%v`\n", name, err)
		}
	}
}
