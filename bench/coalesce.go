package main

import (
	"fmt"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode/workload"
)

// What a gateway says to have requests answered together.
const (
	coalesceWord = "coalesce"
	batchWord    = "batch embed"
)

// varnishMillis is what a late one waited for the running stream of Varnish (perf.md 3).
const varnishMillis = 20

// sharingScenarios are about requests that are answered together, in the order of the goals. No
// gateway of them has a cache: what is shared is what runs.
func sharingScenarios(s settings) []scenario {
	const ms = time.Millisecond
	verses, followers, turns := 2, 1000, 2
	if s.quick {
		verses, followers, turns = 1, 200, 1
	}
	equal := chorus{clients: 50, verses: verses, spread: 100 * ms, ask: askStory}
	join := chorus{clients: 16, verses: 2 * verses, after: 150 * ms, spread: 150 * ms, ask: askStory}
	// All begin at the same moment, so that their records come together in any case. While they
	// begin, some are behind; the first fifth of a second does not count.
	frames := chorus{clients: 50, verses: 1, stamped: true, late: 10, ask: askWords(100, 50, 0)}
	const pause = 2 * time.Second // in which all of them come
	crowd := chorus{clients: followers, verses: 1, spread: 200 * ms, ask: askWords(500, 0, int(pause.Seconds()))}
	crowded := embedding{clients: 100, verses: 3}
	idle := embedding{clients: 1, verses: 100}

	together := plainSetup // of fast nodes
	together.proxies, together.counts = []string{caddy, alone, gateway}, fastAccount
	together.words = map[string][]string{gateway: {coalesceWord}}
	stories := sharingSetup(storyNode, caddy, gateway)
	stories.words = map[string][]string{gateway: {coalesceWord}}
	mixed := func(kind string) *setup {
		s := sharingSetup(kind, alone, coalesce, gateway)
		s.words = map[string][]string{coalesce: {coalesceWord}, gateway: {coalesceWord, batchWord}}
		return s
	}
	vectors := func(kind string) *setup {
		s := sharingSetup(kind, caddy, alone, gateway)
		s.single, s.slots = true, 1
		s.words = map[string][]string{gateway: {batchWord}}
		return s
	}
	oneByOne := []figure{
		meanMillis("mean ms", callsOf), against(alone, meanMillis("mean ms to one by one", callsOf)),
		callMillis("p99 ms", 0.99), upstreamCalls("calls of 100", crowded.verses),
	}
	saved := []figure{
		against(alone, gpuSeconds("GPU s", account.gpu)).goal(0, 1, 0),
		against(alone, gpuSeconds("of chats", func(a account) time.Duration { return a.gpuChats })),
		against(alone, gpuSeconds("of embeddings", func(a account) time.Duration { return a.gpuVectors })),
		against(alone, upstreamCalls("calls", 1)),
		against(alone, meanMillis("TTFT mean ms", firstsOf)),
		against(alone, meanMillis("vectors mean ms", func(s *sample) []time.Duration { return s.embeds })),
	}
	batched := []figure{oneByOne[0].goal(0, 1, 0), oneByOne[1].goal(0, 1, 0), oneByOne[2], oneByOne[3]}

	streams := func(turns int) load { return load{stream: true, turns: turns} }
	return []scenario{
		{
			name:  "coalesce-50",
			about: fmt.Sprintf("50 clients ask for the same stream within 100 ms, %d times a round; simulated nodes with %d slots. TTFT are those of all but the first one", verses, sharedSlots),
			load:  streams(1), play: equal.play, setup: stories, rows: []string{caddy, gateway},
			figures: []figure{
				firstMillis("TTFT p50 ms", 0.5).goal(9, 0.5, 0.15),
				meanMillis("TTFT mean ms", firstsOf).goal(9, 0.5, 0.15),
				firstMillis("TTFT p99 ms", 0.99),
				upstreamCalls("calls a question", verses).goal(9, 1.0/50, 1.0/50),
				{name: "s until all have all", value: func(s, _ *sample) float64 { return s.lasted.Seconds() / float64(verses) }},
			},
		},
		{
			name:  "coalesce-join",
			about: fmt.Sprintf("15 clients ask for a stream that runs, in its middle. Their time to the first record is that of another call at `caddy`; Varnish took %d ms for this", varnishMillis),
			load:  streams(1), play: join.play, setup: stories, rows: []string{caddy, gateway},
			figures: []figure{
				firstMillis("p50 ms", 0.5), firstMillis("p99 ms", 0.99),
				upstreamCalls("calls a question", join.verses),
			},
		},
		{
			name:  "coalesce-frames",
			about: "50 clients hear streams of 100 records at 50/s: `gateway` lets them follow one, the others give each its own. A gap is how much later a client has a record than the first one that has it",
			load:  streams(turns), play: frames.play, setup: &together, rows: []string{caddy, alone, gateway, direct}, profile: true,
			figures: []figure{
				plain(added(ageMillis("record p50 added ms", 0.5))), plain(added(ageMillis("record p99 added ms", 0.99))),
				plain(gapMillis("gap p50 ms", 0.5)), plain(gapMillis("gap p99 ms", 0.99)),
				cpuMicros(), upstreamCalls("calls", turns*frames.verses),
			},
		},
		{
			name:  "coalesce-1000",
			about: fmt.Sprintf("%d clients hear a stream of 501 records, which come at once %g s after the first: `gateway` lets them follow one stream, `caddy` gives each its own", followers, pause.Seconds()),
			load:  streams(1), play: crowd.play, setup: &together, rows: []string{caddy, gateway}, profile: true,
			figures: []figure{
				more(figure{name: "records/s", value: func(s, _ *sample) float64 { return float64(s.records) / (s.lasted - pause).Seconds() }}),
				cpuMicros(), rssMax(), nodesCPU(), upstreamCalls("calls", crowd.verses),
			},
		},
		{
			name: "coalesce-trace", about: workload.Repeats().About + "; the nodes work at the texts of a call together",
			load: streams(1), play: newRepetition().play, once: true, setup: mixed(mixedNode), rows: []string{alone, coalesce, gateway}, told: tellSaved, figures: saved,
		},
		{
			name: "coalesce-trace-serial", about: "The same before nodes that work at the texts of a call one by one, as Ollama 0.24.0 does",
			load: streams(1), play: newRepetition().play, once: true, setup: mixed(mixedSerial), rows: []string{alone, coalesce, gateway}, told: tellSaved, figures: saved,
		},
		{
			name:  "batch-100",
			about: "100 clients want the vector of a text each, all at once, of one node with one slot that works at the texts of a call together; `alone` asks for one by one, and so does `caddy`",
			play:  crowded.play, setup: vectors(batchNode), rows: []string{caddy, alone, gateway}, figures: batched,
		},
		{
			name:  "batch-serial",
			about: "The same before a node that works at the texts of a call one by one, as Ollama 0.24.0 does: nothing is to be gained there but round trips",
			play:  crowded.play, setup: vectors(serialNode), rows: []string{caddy, alone, gateway}, figures: oneByOne,
		},
		{
			name:  "batch-idle",
			about: "One client wants the vectors of single texts, one after the other: nobody is to be waited for",
			load:  load{turns: turns}, play: idle.play, setup: vectors(serialNode), rows: []string{caddy, alone, gateway, direct},
			figures: []figure{
				against(alone, callMillis("p50 ms", 0.5)), plain(added(callMillis("p50 added ms", 0.5))),
				against(alone, callMillis("p99 ms", 0.99)), against(alone, cpuPer1000()),
			},
		},
	}
}

// sharingSetup has simulated nodes of a kind that know time.
func sharingSetup(kind string, proxies ...string) *setup {
	return &setup{
		node: []string{"-sharing", kind}, proxies: proxies, config: plainCaddyfile, slots: sharedSlots, counts: simnodeAccount,
		answers: func(c *client) error { return asksVersion(c.ctx, c.addr) },
	}
}

// tellSaved tells what of the nodes' work was not done at all.
func tellSaved(rounds []round) string {
	r := rounds[0]
	saved := func(peer string) float64 { return 100 * (1 - r[peer].gpu().Seconds()/r[alone].gpu().Seconds()) }
	return fmt.Sprintf("Of the GPU seconds `%s` saved %.0f %%, and `%s`, which batches too, %.0f %%.", coalesce, saved(coalesce), gateway, saved(gateway))
}

func callsOf(s *sample) []time.Duration { return s.calls }

func firstsOf(s *sample) []time.Duration { return s.firsts }

func meanMillis(name string, of func(*sample) []time.Duration) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return millis(mean(of(s))) }}
}

func gapMillis(name string, q float64) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return millis(percentile(s.gaps, q)) }}
}

func gpuSeconds(name string, of func(account) time.Duration) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return of(s.account).Seconds() }}
}

// upstreamCalls is what the nodes were asked for each of so many questions.
func upstreamCalls(name string, questions int) figure {
	return figure{name: name, value: func(s, _ *sample) float64 { return float64(s.upstream) / float64(questions) }}
}

// cpuMicros is the CPU time of the peer for a record that a client got.
func cpuMicros() figure {
	return figure{name: "CPU µs/record", value: func(s, _ *sample) float64 {
		return float64(s.cpu.Microseconds()) / float64(s.records)
	}}
}
