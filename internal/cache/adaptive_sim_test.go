package cache

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
)

// The workload of algorithms.md section 1. What it does not say is chosen such that fixed TTLs do
// here what they do there.
const (
	simPrompts  = 2000
	simZipf     = 1.05
	simRate     = 0.5 // requests a second
	simSpan     = 14 * 24 * time.Hour
	simTimeless = 0.4            // share of prompts whose answers never change
	simMedian   = 24 * time.Hour // of the others' mean times from change to change
	simSigma    = 1.0            // of the logarithms of those
)

// A policy is one that is compared: options of the cache, whose one rule decides.
type policy struct {
	name  string
	opts  Options
	purge bool    // each change is told at once
	noise float64 // share of equal answers that differ all the same
}

// A simulated is what came of a policy.
type simulated struct {
	stale, generated float64 // per request
	results          map[string]int
}

// simulation asks for prompts as the workload has it. Its clock is a number that it counts up; what
// it asks is the policy that the steps ask: Judge, the succession of answers, jitter and Meta.left.
type simulation struct {
	policy
	rnd, noises *rand.Rand
	facts       Facts
	simulated
}

// A simPrompt is a question: what the truth is, and what the cache has.
type simPrompt struct {
	mean    float64 // seconds from change to change
	changes time.Time
	version uint64
	entry   *Meta
	said    uint64 // version that entry is of
	tells   bool   // entry is outdated, and the cache was told
}

func simulate(seed uint64, p policy) simulated {
	s := &simulation{
		policy: p, rnd: rand.New(rand.NewPCG(seed, 1)), noises: rand.New(rand.NewPCG(seed, 2)),
		facts:     Facts{Operation: "chat", Model: "m:latest", Deterministic: true},
		simulated: simulated{results: make(map[string]int)},
	}
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	wait := func(mean float64) time.Duration {
		return time.Duration(s.rnd.ExpFloat64() * mean * float64(time.Second))
	}
	prompts, weights, sum := make([]simPrompt, simPrompts), make([]float64, simPrompts), 0.0
	for i := range prompts {
		sum += math.Pow(float64(i+1), -simZipf)
		weights[i] = sum
		if s.rnd.Float64() >= simTimeless {
			prompts[i].mean = simMedian.Seconds() * math.Exp(simSigma*s.rnd.NormFloat64())
			prompts[i].changes = begin.Add(wait(prompts[i].mean))
		}
	}
	requests := 0
	for now := begin; now.Sub(begin) < simSpan; now = now.Add(wait(1 / simRate)) {
		requests++
		q := &prompts[sort.SearchFloat64s(weights, s.rnd.Float64()*sum)]
		for q.mean > 0 && !q.changes.After(now) {
			q.version++
			q.changes = q.changes.Add(wait(q.mean))
			q.tells = s.purge
		}
		s.ask(q, now)
	}
	s.stale /= float64(requests)
	s.generated /= float64(requests)
	return s.simulated
}

// ask is one request.
func (s *simulation) ask(q *simPrompt, now time.Time) {
	v := s.opts.Judge(nil, &s.facts)
	if q.entry != nil && !q.tells && q.entry.left(now, v.TTL) > 0 {
		if q.said != q.version {
			s.stale++
		}
		return
	}
	s.generated++
	said := q.version + 1
	if s.noises.Float64() < s.noise {
		said = s.noises.Uint64() | 1<<63
	}
	m := &Meta{Stored: now, TTL: s.opts.Life(v, s.rnd.Float64())}
	if v.Adaptive != nil {
		result := s.opts.succeed(m, q.entry, q.tells, v, Past{Said: said}, s.rnd.Float64())
		s.results[result]++
	}
	q.entry, q.said, q.tells = m, q.version, false
}

func fixedPolicy(ttl time.Duration) policy {
	return policy{name: "fixed " + lifeText(ttl), opts: Options{Rules: Rules{{TTL: ttl}}}}
}

func adaptivePolicy(target, noise float64) policy {
	name := fmt.Sprintf("adaptive, target %.2f", target)
	if noise > 0 {
		name += fmt.Sprintf(", %v%% false differences", noise*100)
	}
	a := &call.Adaptive{Target: target, First: time.Minute, Min: time.Minute, Max: 7 * 24 * time.Hour}
	return policy{name: name, noise: noise, opts: Options{Rules: Rules{{TTL: a.First, Deterministic: true, Adaptive: a}}}}
}

func purgePolicy() policy {
	p := fixedPolicy(7 * 24 * time.Hour)
	p.name, p.purge = "purge of each change, 7d", true
	return p
}

const simSeeds = 3

// doubtfulRate is the share of refreshes from which on docs/metrics.md says that differences are
// false.
const doubtfulRate = 0.1

func (s simulated) doubtful() float64 {
	all := s.results[RefreshEqual] + s.results[RefreshChanged] + s.results[RefreshDoubtful]
	return float64(s.results[RefreshDoubtful]) / float64(max(all, 1))
}

var updateChart = flag.Bool("update", false, "draw docs/img/adaptive.svg anew")

// TestAdaptive_KeepsItsTargetAtHalfTheGenerations prints the table of docs/caching.md.
func TestAdaptive_KeepsItsTargetAtHalfTheGenerations(t *testing.T) {
	policies := []policy{
		fixedPolicy(time.Minute), fixedPolicy(time.Hour), fixedPolicy(4 * time.Hour), fixedPolicy(24 * time.Hour),
		adaptivePolicy(0.05, 0), adaptivePolicy(0.1, 0), purgePolicy(),
		adaptivePolicy(0.05, 0.05), adaptivePolicy(0.05, 0.3), adaptivePolicy(0.1, 0.3), adaptivePolicy(0.05, 1),
	}
	if testing.Short() {
		t.Skip("some twenty million requests")
	}
	var ofMin [simSeeds]float64 // generations of the first policy, a fixed TTL of what is min for the others
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-46s %-7s %-11s %s\n", "policy", "stale", "generated", "doubtful")
	mean := make(map[string]simulated)
	for _, p := range policies {
		var all simulated
		for seed := range uint64(simSeeds) {
			s := simulate(seed, p)
			all.stale += s.stale / simSeeds
			all.generated += s.generated / simSeeds
			if ofMin[seed] == 0 {
				ofMin[seed] = s.generated
			}
			p.check(t, seed, s, ofMin[seed])
			if len(s.results) > 0 {
				t.Logf("%s, seed %d: stale %.3f, generated %.3f", p.name, seed, s.stale, s.generated)
			}
			if seed == 0 {
				all.results = s.results
			}
		}
		mean[p.name] = all
		fmt.Fprintf(&table, "%-46s %.3f   %.3f       %.3f\n", p.name, all.stale, all.generated, all.doubtful())
	}
	t.Log(table.String())
	if adaptive, hour := mean["adaptive, target 0.05"], mean["fixed 1h"]; adaptive.generated > 0.65*hour.generated {
		t.Errorf("adaptive generates %.3f per request, a fixed hour %.3f", adaptive.generated, hour.generated)
	}
	if *updateChart {
		if err := os.WriteFile("../../docs/img/adaptive.svg", simChart(policies, mean), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// check tells what one run of the policy has to keep.
func (p policy) check(t *testing.T, seed uint64, s simulated, most float64) {
	t.Helper()
	r := p.opts.Rules[0]
	if r.Adaptive == nil {
		return
	}
	if s.generated > most {
		t.Errorf("%s, seed %d: %.4f generations per request, a fixed TTL of min has %.4f", p.name, seed, s.generated, most)
	}
	switch {
	case p.noise == 0 && r.Adaptive.Target == 0.05 && (s.stale > 0.04 || s.generated > 0.2):
		t.Errorf("%s, seed %d: stale %.4f of at most 0.04, generated %.4f of at most 0.2", p.name, seed, s.stale, s.generated)
	case p.noise == 0 && s.doubtful() > doubtfulRate/10:
		t.Errorf("%s, seed %d: %.4f of refreshes are doubtful, and none is", p.name, seed, s.doubtful())
	case p.noise >= 0.3 && s.doubtful() < doubtfulRate:
		t.Errorf("%s, seed %d: %.4f of refreshes are doubtful, with so many false differences", p.name, seed, s.doubtful())
	}
}
