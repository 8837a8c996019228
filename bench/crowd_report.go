package main

import (
	"fmt"
	"strconv"
)

// A crowdResult is one crowd before both proxies.
type crowdResult struct {
	crowd   crowd
	samples map[string]*crowdSample
}

// mostCrowdMemory is what one of a crowd may take of memory, as a ratio to plain Caddy.
const mostCrowdMemory = 1.3

func (r crowdResult) writeGoals(out *printer) {
	v := r.samples[gateway].each() / r.samples[caddy].each()
	out.print("| 40 | %s | RSS each, ratio to caddy | **%s** | <= %s | | %s |\n", r.crowd.name, ratio(v), ratio(mostCrowdMemory), kept(v <= mostCrowdMemory))
}

func (r crowdResult) write(out *printer) {
	out.print("\n## %s\n\n%s.\n\n", r.crowd.name, r.crowd.about)
	out.print("| peer | connections | streams | RSS before MB | RSS MB | kB each | new chats p50 ms alone | amid | p99 ms alone | amid | failed |\n")
	out.print("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, name := range proxies {
		s := r.samples[name]
		out.print("| %s | %d | %d | %s | %s | %s%s |", name, s.connections, s.streams, number(megabytes(s.rssBefore)), number(megabytes(s.rss)),
			number(s.each()/1024), besides(name, s.each(), r.samples[caddy].each()))
		for _, q := range []float64{0.5, 0.99} {
			amid, theirs := percentile(s.amid.calls, q), percentile(r.samples[caddy].amid.calls, q)
			out.print(" %s | %s%s |", number(millis(percentile(s.alone.calls, q))), number(millis(amid)), besides(name, float64(amid), float64(theirs)))
		}
		out.print(" %s |\n", strconv.Itoa(s.alone.failed+s.amid.failed))
	}
	out.print("\nOthers took %.0f and %.0f %% of the cores while the crowd was there.\n",
		100*r.samples[caddy].amid.othersShare(), 100*r.samples[gateway].amid.othersShare())
}

// besides is the ratio to plain Caddy, behind a value of the gateway.
func besides(peer string, v, base float64) string {
	if peer == caddy || base <= 0 {
		return ""
	}
	return fmt.Sprintf(" **x%s**", ratio(v/base))
}
