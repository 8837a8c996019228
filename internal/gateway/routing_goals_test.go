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
			{figure: "TTFT mean", value: meanFirst, required: 0.15},
			{figure: "loads", value: loads, required: 20},
		}},
		{workload.Multiturn(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 0.5},
			{figure: "prefix share", value: prefixShare, more: true, required: 0.65},
		}},
		{workload.Mixed(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 0.6},
			{figure: "TTFT p99", value: lateFirst, required: 1},
		}},
		{workload.Hetero(), []routingGoal{
			{figure: "TTFT mean", value: meanFirst, required: 1},
			{figure: "latency p99", value: lateEnd, required: 0.7},
		}},
	}
}
