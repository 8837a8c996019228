package main

import "time"

// silent is a gateway that writes no access log and serves no metrics, beside one that does.
const silent = "silent"

// telemetryScenarios show what it costs to be watched. What no configuration turns off, the
// counters and the headers of answers, both gateways have.
func telemetryScenarios(s settings) []scenario {
	turns := 2
	if s.quick {
		turns = 1
	}
	watched := plainSetup
	watched.proxies = []string{silent, gateway}
	// Into a file: what has "output discard" is not even spelt by Caddy.
	watched.sites = map[string][]string{gateway: {"log {\n\t\toutput file {$HOME}/access.log\n\t}", "metrics /metrics"}}
	cpu := against(silent, cpuPer1000())
	beside := []figure{against(silent, callMillis("p99 ms", 0.99)), against(silent, rssMax())}
	return []scenario{
		{
			name: "telemetry-stream-64", about: "64 streams at a time, of 100 records at 100/s: `gateway` has an access log in a file and serves metrics; `silent` has neither",
			load:  load{clients: 64, stream: true, words: 100, rate: 100, spread: 10 * time.Millisecond, answers: 2, turns: turns},
			setup: &watched, rows: []string{silent, gateway}, profile: true,
			figures: append([]figure{cpu.goal(0, 1.05, 0)}, beside...),
		},
		{
			name: "telemetry-call-64", about: "The same with unstreamed small chats over 64 connections and instant nodes: the log's share of what costs as little as can be",
			load:  load{clients: 64, words: s.words, lasting: s.lasting, turns: turns},
			setup: &watched, rows: []string{silent, gateway}, profile: true,
			figures: append([]figure{cpu, against(silent, perSecond("req/s"))}, beside...),
		},
	}
}
