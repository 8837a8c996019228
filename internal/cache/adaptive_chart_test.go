package cache

import (
	"bytes"
	"fmt"
)

// simChart draws what a policy costs over how much of what it gives is stale: to the left and
// below is better.
func simChart(policies []policy, mean map[string]simulated) []byte {
	const (
		width, height, left, top, right, bottom = 720, 400, 70, 20, 40, 50
		mostStale, mostGenerated                = 0.26, 0.8
	)
	x := func(stale float64) float64 { return left + stale/mostStale*(width-left-right) }
	y := func(generated float64) float64 { return height - bottom - generated/mostGenerated*(height-top-bottom) }
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	b.WriteString("<title>Generations per request over stale answers: fixed TTLs, adaptive ones and a purge</title>\n")
	b.WriteString(`<rect width="100%" height="100%" fill="#fff"/>` + "\n")
	for g := 0.0; g <= mostGenerated+0.01; g += 0.2 {
		fmt.Fprintf(&b, `<path d="M%d %.0fH%d" stroke="#ddd"/><text x="%d" y="%.0f" text-anchor="end" fill="#444">%.1f</text>`+"\n", left, y(g), width-right, left-8, y(g)+4, g)
	}
	for s := 0.0; s <= mostStale; s += 0.05 {
		fmt.Fprintf(&b, `<text x="%.0f" y="%d" text-anchor="middle" fill="#444">%.0f%%</text>`+"\n", x(s), height-bottom+18, s*100)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">answers given that are out of date</text>`+"\n", (left+width-right)/2, height-10)
	fmt.Fprintf(&b, `<text transform="translate(18 %d) rotate(-90)" text-anchor="middle">generations per request</text>`+"\n", (top+height-bottom)/2)
	var line bytes.Buffer
	for _, p := range policies {
		s, a := mean[p.name], p.opts.Rules[0].Adaptive
		label, fill, above := p.name, "#888", 4.0
		switch {
		case p.purge:
			fill = "#1a7f37"
		case a == nil:
			above = -6 // clear of its neighbours
			fmt.Fprintf(&line, "%.1f,%.1f ", x(s.stale), y(s.generated))
		case p.noise > 0 && (p.noise > 0.3 || a.Target > 0.05):
			continue // where others are
		case p.noise > 0:
			fill, label = "#cf222e", fmt.Sprintf("adaptive %v%%, %v%% false differences", a.Target*100, p.noise*100)
		default:
			fill, label = "#0969da", fmt.Sprintf("adaptive %v%%", a.Target*100)
		}
		fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="4" fill="%s"/><text x="%.1f" y="%.1f" fill="%[3]s">%[6]s</text>`+"\n",
			x(s.stale), y(s.generated), fill, x(s.stale)+8, y(s.generated)+above, label)
	}
	fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="#888" stroke-dasharray="4 3"/>`+"\n</svg>\n", bytes.TrimSpace(line.Bytes()))
	return b.Bytes()
}
