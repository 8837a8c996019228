package gateway

import (
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// A routingScenario is a load before nodes, and what the gateway must make of it.
type routingScenario struct {
	workload.Scenario
	goals []routingGoal
}

// A routingGoal is a limit that the median of the seeds must keep.
type routingGoal struct {
	figure   string
	value    func(ours, theirs *tally) float64
	more     bool    // the limits are lower ones
	required float64 // in the end
	today    float64 // the limit of this test, until what is required is reached; then that
}

func (g routingGoal) keeps(v, limit float64) bool { return v == limit || g.more == (v > limit) }

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func meanFirst(ours, theirs *tally) float64 { return ratio(mean(ours.firsts), mean(theirs.firsts)) }

func lateFirst(ours, theirs *tally) float64 {
	return ratio(percentile(ours.firsts, 0.99), percentile(theirs.firsts, 0.99))
}

func lateEnd(ours, theirs *tally) float64 {
	return ratio(percentile(ours.tooks, 0.99), percentile(theirs.tooks, 0.99))
}

func loads(ours, _ *tally) float64 { return float64(ours.loads) }

func prefixShare(ours, _ *tally) float64 { return ours.prefixShare() }

// routingScenarios are all there are. What is required is what the lab's client with full
// knowledge came near to.
func routingScenarios() []routingScenario {
	return []routingScenario{
		{workload.Multimodel(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 0.15, today: 0.5}, // seen: 0.28 to 0.38
			{figure: "loads", value: loads, required: 20, today: 85},            // seen: 46 to 64
		}},
		{workload.Multiturn(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 0.5, today: 1.2},                    // seen: 0.99 to 1.06
			{figure: "prefix share", value: prefixShare, more: true, required: 0.65, today: 0.25}, // seen: 0.29 to 0.31
		}},
		{workload.Mixed(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 0.6, today: 0.75}, // seen: 0.52 to 0.63
			{figure: "TTFT p99", value: lateFirst, required: 1, today: 1},
		}},
		{workload.Hetero(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 1, today: 1.1},   // seen: 0.98 to 1.00
			{figure: "latency p99", value: lateEnd, required: 0.7, today: 1.2}, // seen: 0.96 to 1.03
		}},
	}
}
