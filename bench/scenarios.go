package main

import (
	"context"
	"fmt"
	"math"
	"time"
)

// A scenario is one load and what is read from it.
type scenario struct {
	name    string
	about   string
	load    load
	figures []figure
	profile bool // worth a profile

	// play, if it is there, puts a turn on a peer in place of load, which tells the rest.
	play func(context.Context, *fleet, *peer, *uint64) (*sample, error)
	once bool // there is one round

	setup *setup   // other than plainSetup
	rows  []string // the peers that are measured, as they stand in the report; nil: order
	warm  []string // of these, who is asked all known prompts first

	before func(context.Context, *fleet) error // readies the fleet for the rounds

	told  func([]round) string                          // what its samples say together
	after func(context.Context, *fleet) (string, error) // tells what else there is to say
}

// peers are the measured ones, as they stand in the report.
func (sc scenario) peers() []string {
	if sc.rows == nil {
		return order
	}
	return sc.rows
}

// turn puts one turn on a peer. Prompts are numbered from *nonce on.
func (sc scenario) turn(ctx context.Context, f *fleet, p *peer, nonce *uint64) (*sample, error) {
	if sc.play != nil {
		return sc.play(ctx, f, p, nonce)
	}
	return sc.load.run(ctx, p, f.nodes, nonce)
}

// A figure is one number of a sample, and a goal for its ratio if it has one.
type figure struct {
	name     string
	value    func(s, direct *sample) float64 // direct is the nodes' own sample of the same round
	base     string                          // whose value the ratio is to; caddy if empty
	plain    bool                            // no ratio
	absolute bool                            // the limits are of the value itself, not of its ratio

	row       int     // of the goals; 0: of none
	must, bar float64 // limits of the ratio, 0 for none
	more      bool    // the limits are lower ones
}

// goal gives a figure the limits that the release must keep and the bar it sets itself.
func (f figure) goal(row int, must, bar float64) figure {
	f.row, f.must, f.bar = row, must, bar
	return f
}

// against is the name of the peer that the ratio is to.
func (f figure) against() string {
	if f.base == "" {
		return caddy
	}
	return f.base
}

// settings are what flags change of the scenarios.
type settings struct {
	lasting time.Duration // of the loads that are as fast as they can be
	words   int           // of an unstreamed answer
	quick   bool
}

// scenarios are all there are, in the order of the goals.
func scenarios(s settings) []scenario {
	calls, streams, seconds, turns := 3000, 12, 4, 3
	if s.quick {
		calls, streams, seconds, turns = 1000, 4, 2, 1
	}
	single := func(clients int) load {
		return load{clients: clients, words: s.words, lasting: s.lasting, turns: turns}
	}
	atOnce := func(clients, words int) load {
		return load{clients: clients, stream: true, words: words, lasting: s.lasting, turns: turns}
	}
	return []scenario{
		{
			name: "latency-call", about: "One client, unstreamed small chats, instant nodes",
			load: load{clients: 1, words: s.words, answers: calls, turns: turns},
			figures: []figure{
				plain(callMillis("p50 ms", 0.5)),
				added(callMillis("p50 added ms", 0.5)).goal(1, 1.15, 0.75),
				added(callMillis("p99 added ms", 0.99)).goal(1, 1.2, 0.8),
				cpuPer1000(),
			},
		},
		{
			name: "latency-stream", about: "8 clients, streams of 40 records at 100/s",
			load: load{clients: 8, stream: true, words: 40, rate: 100, spread: 10 * time.Millisecond, stamped: true, answers: streams, turns: turns},
			figures: []figure{
				added(firstMillis("TTFT p50 added ms", 0.5)).goal(2, 1.2, 1),
				added(ageMillis("record p50 added ms", 0.5)),
				added(ageMillis("record p99 added ms", 0.99)).goal(2, 1.3, 1),
				cpuPer1000(),
			},
		},
		{
			name: "rate-64", about: "Unstreamed small chats over 64 connections, instant nodes",
			load: single(64), figures: rateFigures(), profile: true,
		},
		{
			name: "rate-512", about: "Unstreamed small chats over 512 connections, instant nodes",
			load: single(512), figures: rateFigures(),
		},
		{
			name: "records-1", about: "One stream at a time, of 2000 records at once",
			load: atOnce(1, 2000), figures: recordFigures(false),
		},
		{
			name: "records-64", about: "64 streams at a time, of 40 records at once",
			load: atOnce(64, 40), figures: recordFigures(true), profile: true,
		},
		{
			name: "records-512", about: "512 streams at a time, of 40 records at once",
			load: atOnce(512, 40), figures: recordFigures(true),
		},
		{
			name: "streams-1000", about: fmt.Sprintf("1000 open streams of 10 records a second, each %d s long, begun within a second", seconds),
			load: load{clients: 1000, stream: true, words: 10 * seconds, rate: 10, spread: time.Second, stamped: true, answers: 1},
			figures: []figure{
				plain(figure{name: "RSS before MB", value: func(s, _ *sample) float64 { return megabytes(s.rssBefore) }}),
				rssMax().goal(5, 1.3, 1),
				againstDirect(callMillis("stream p50 ms", 0.5)).goal(5, 1.02, 1.02),
				plain(ageMillis("record p99 ms", 0.99)),
				cpuPer1000(),
			},
		},
	}
}

func rateFigures() []figure {
	return []figure{
		perSecond("req/s").goal(3, 0.9, 1.3),
		cpuPer1000().goal(3, 1.2, 0.7),
		callMillis("p99 ms", 0.99),
		rssMax(),
		nodesCPU(),
	}
}

func recordFigures(goals bool) []figure {
	cpu := cpuMicros()
	rate := more(figure{name: "records/s", value: func(s, _ *sample) float64 { return float64(s.records) / s.lasted.Seconds() }})
	if goals {
		rate, cpu = rate.goal(4, 0.9, 1.05), cpu.goal(4, 1.2, 0.9)
	}
	return []figure{rate, cpu, callMillis("stream p99 ms", 0.99), rssMax(), nodesCPU()}
}

// What figures are made of.

func perSecond(name string) figure {
	return more(figure{name: name, value: func(s, _ *sample) float64 { return float64(s.answers) / s.lasted.Seconds() }})
}

func callMillis(name string, q float64) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return millis(percentile(s.calls, q)) }}
}

func firstMillis(name string, q float64) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return millis(percentile(s.firsts, q)) }}
}

func ageMillis(name string, q float64) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return millis(percentile(s.ages, q)) }}
}

// cpuPer1000 is the CPU time of the peer for 1000 answers.
func cpuPer1000() figure {
	return figure{name: "CPU s/1000", value: func(s, _ *sample) float64 {
		return s.cpu.Seconds() / float64(s.answers) * 1000
	}}
}

// nodesCPU is what the nodes have taken meanwhile: they share the cores.
func nodesCPU() figure {
	return plain(figure{name: "nodes' CPU s/1000", value: func(s, _ *sample) float64 {
		return s.nodes.Seconds() / float64(s.answers) * 1000
	}})
}

func rssMax() figure {
	return figure{name: "RSS max MB", value: func(s, _ *sample) float64 { return megabytes(s.rssMax) }}
}

// added is a figure less that of the nodes themselves.
func added(f figure) figure {
	whole := f.value
	f.value = func(s, direct *sample) float64 { return whole(s, nil) - whole(direct, nil) }
	return f
}

func plain(f figure) figure { f.plain = true; return f }

func more(f figure) figure { f.more = true; return f }

func absolute(f figure) figure { f.absolute = true; return f }

func againstDirect(f figure) figure { return against(direct, f) }

func against(base string, f figure) figure { f.base = base; return f }

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func megabytes(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// A round has one sample of each peer.
type round map[string]*sample

// values are those of one peer in all rounds, and ratios the per-round ratios to the base.
// A ratio to nothing, or to less, is none.
func (f figure) values(rounds []round, peer string) (values, ratios []float64) {
	for _, r := range rounds {
		v, base := f.value(r[peer], r[direct]), 0.0
		if s := r[f.against()]; s != nil {
			base = f.value(s, r[direct])
		}
		values = append(values, v)
		if base <= 0 {
			ratios = append(ratios, math.NaN())
			continue
		}
		ratios = append(ratios, v/base)
	}
	return values, ratios
}
