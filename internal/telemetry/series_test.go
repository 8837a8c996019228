package telemetry

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caddy-ollama/caddy-ollama/internal/attempt"
	"github.com/caddy-ollama/caddy-ollama/internal/cache"
	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/schedule"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

// mostSeries is what reliability-ops 3.3 allows a gateway with ten nodes and thirty models.
const mostSeries = 15_000

// A large fleet has ten nodes, each of which has all of thirty models.
func large() gateway.State {
	s := gateway.State{Waiting: map[string]int{}, QueueLimit: 512, Cache: cache.Stats{On: true, Redis: "up"}}
	for _, state := range fleet.States {
		s.States = append(s.States, state.String())
	}
	for _, class := range call.Classes {
		s.Waiting[class.String()] = 0
	}
	var models []gateway.NodeModel
	for i := range 30 {
		name := fmt.Sprintf("m%02d:latest", i)
		s.Models = append(s.Models, gateway.ModelState{Name: name, Embedding: i%6 == 5})
		models = append(models, gateway.NodeModel{Name: name, Loaded: i%10 == 0})
	}
	for i := range 10 {
		s.Nodes = append(s.Nodes, gateway.NodeState{
			Name: fmt.Sprint("n", i), State: "up", Usable: true, Version: "0.24.0", Slots: 4, Models: models, VRAM: 1 << 30,
		})
	}
	return s
}

// seriesOf counts what Prometheus makes of a scrape with classic histograms.
func seriesOf(t testing.TB, r prometheus.Gatherer) (n int, by map[string]int) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	by = make(map[string]int)
	for _, f := range families {
		for _, m := range f.Metric {
			series := 1
			if f.GetType().String() == "HISTOGRAM" {
				series = len(m.GetHistogram().GetBucket()) + 3 // +Inf, sum and count
			}
			by[f.GetName()] += series
			n += series
		}
	}
	return n, by
}

func registered(t testing.TB, state func() gateway.State) (*Metrics, *prometheus.Registry) {
	t.Helper()
	m, r := New(state), prometheus.NewPedanticRegistry()
	if err := m.Register(r); err != nil {
		t.Fatal(err)
	}
	return m, r
}

// everything has all happen that can: each model at each endpoint with each outcome, on each node.
func everything(m *Metrics, s gateway.State) {
	for _, e := range gateway.Endpoints {
		for _, o := range gateway.Outcomes {
			m.Began(e)
			m.Ended(&gateway.Record{Endpoint: e, Outcome: o})
		}
	}
	for _, model := range s.Models {
		for e := range gateway.Answering {
			for _, o := range gateway.Outcomes {
				for _, c := range []call.CacheResult{{Status: call.Hit, Backend: "memory"}, {Status: call.Miss}, {Status: call.Bypass, Detail: "sampled"}, {}} {
					for _, coalesced := range []bool{false, true} {
						m.Began(e)
						m.Streams(e)
						m.Ended(&gateway.Record{
							Endpoint: e, Model: model.Name, Outcome: o, Stream: true, FirstByte: time.Second, Took: time.Minute, Cache: c, Coalesced: coalesced,
						})
					}
				}
			}
		}
		m.Gathered(model.Name, 3, time.Second)
		for _, n := range s.Nodes {
			for _, o := range attempt.Outcomes {
				m.Tried(attempt.Ended{
					Node: n.Name, Model: model.Name, Outcome: o, Took: time.Minute, First: time.Second,
					Totals: wire.Totals{PromptTokens: 5, OutputTokens: 50},
				})
			}
		}
	}
	for _, n := range s.Nodes {
		for _, o := range attempt.Outcomes {
			for _, reason := range schedule.LoadReasons {
				m.Loaded(n.Name, reason, string(o), time.Second)
			}
		}
	}
	for _, op := range []string{"get", "set", "mget", "del", "purge", "scan"} {
		m.CacheOperated("redis", op, time.Millisecond)
	}
	for _, class := range []string{"deterministic", "sampled", "embedding"} {
		m.CacheStored(class, time.Hour)
	}
}

func TestMetrics_SeriesAreBounded(t *testing.T) {
	m, r := registered(t, large)
	everything(m, large())
	n, by := seriesOf(t, r)
	if n > mostSeries {
		t.Errorf("%d series, want at most %d: %v", n, mostSeries, by)
	}
}

func TestMetrics_MadeUpNamesMakeNoSeries(t *testing.T) {
	m, r := registered(t, large)
	seriesOf(t, r) // all are born
	before, _ := seriesOf(t, r)
	for range 10_000 { // the gateway names no model that the fleet does not have
		m.Began("chat")
		m.Ended(&gateway.Record{Endpoint: "chat", Outcome: gateway.ClientError})
	}
	if after, _ := seriesOf(t, r); after != before {
		t.Errorf("%d series, before there were %d", after, before)
	}
	for i := range 2_000 { // whatever calls itself a model or a node
		m.Ended(&gateway.Record{Endpoint: "chat", Model: fmt.Sprint("made-up-", i), Outcome: gateway.OK, Stream: true, FirstByte: 1})
		m.Tried(attempt.Ended{Node: fmt.Sprint("made-up-", i), Model: fmt.Sprint("made-up-", i), Outcome: attempt.OK})
	}
	// 200 models of nine outcomes, 200 nodes of some 150 series.
	if after, by := seriesOf(t, r); after > before+60_000 {
		t.Errorf("%d series, before there were %d: %v", after, before, by)
	}
}

// A rate misses what a series begins with.
func TestMetrics_WhatIsKnownBeginsAtZero(t *testing.T) {
	_, r := registered(t, large)
	seriesOf(t, r)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	left := map[string]bool{
		`requests_total endpoint=chat model=m00:latest outcome=upstream_error`: true,
		`requests_total endpoint=embed model=m05:latest outcome=timeout`:       true,
		`node_requests_total node=n9 result=reset`:                             true,
		`node_state_changes_total node=n0 to=down`:                             true,
		`node_health_checks_total node=n0 result=timeout`:                      true,
		`model_loads_total node=n1 reason=first result=no_memory`:              true,
		`retries_total reason=reset result=budget_exhausted`:                   true,
		`tokens_total model=m29:latest type=output`:                            true,
		`tokens_saved_total model=m29:latest type=input`:                       true,
		`client_disconnects_total phase=queue`:                                 true,
		`streams_stalled_total side=node`:                                      true,
		`auth_failures_total reason=unknown`:                                   true,
		`admission_rejected_total reason=queue_full`:                           true,
		`request_body_rejected_total reason=too_large`:                         true,
		`coalesced_requests_total endpoint=chat`:                               true,
		`label_overflow_total label=model`:                                     true,
	}
	for _, f := range families {
		if f.GetType().String() != "COUNTER" {
			continue
		}
		for _, s := range f.Metric {
			name := f.GetName()[len(namespace)+1:]
			for _, l := range s.Label {
				name += " " + l.GetName() + "=" + l.GetValue()
			}
			if left[name] && s.GetCounter().GetValue() == 0 {
				delete(left, name)
			}
		}
	}
	for name := range left {
		t.Errorf("%s is not there, or not zero", name)
	}
}

func TestMetrics_HistogramsAreClassicAndNative(t *testing.T) {
	m, r := registered(t, large)
	everything(m, large())
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		if f.GetType().String() != "HISTOGRAM" {
			continue
		}
		seen++
		for _, s := range f.Metric {
			h := s.GetHistogram()
			if len(h.GetBucket()) == 0 || h.Schema == nil {
				t.Errorf("%s is not both", f.GetName())
				break
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d histograms", seen)
	}
}

func TestMetrics_ATraceIsAnExample(t *testing.T) {
	m, r := registered(t, state)
	m.Began("chat")
	m.Streams("chat")
	m.Ended(&gateway.Record{
		Endpoint: "chat", Model: "tiny:latest", Outcome: gateway.OK, Stream: true, FirstByte: time.Second, Took: 2 * time.Second,
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736",
	})
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, f := range families {
		for _, s := range f.Metric {
			for _, b := range s.GetHistogram().GetBucket() {
				if e := b.GetExemplar(); e != nil {
					found[f.GetName()] = e.GetLabel()[0].GetName() + "=" + e.GetLabel()[0].GetValue()
				}
			}
		}
	}
	for _, name := range []string{"caddy_ollama_request_duration_seconds", "caddy_ollama_time_to_first_token_seconds"} {
		if got := found[name]; got != "trace_id=4bf92f3577b34da6a3ce929d0e0e4736" {
			t.Errorf("%s has the example %q", name, got)
		}
	}
}

func TestMetrics_OverflowOfAHistogramIsTold(t *testing.T) {
	m := New(state)
	end := func(model int) {
		m.Ended(&gateway.Record{Endpoint: "chat", Model: fmt.Sprint("m", model), Outcome: gateway.OK, FirstByte: 1, Took: time.Second})
	}
	for i := range latencyLimit + 5 {
		end(i)
		end(i)
	}
	if got := testutil.ToFloat64(m.overflow.WithLabelValues("latency")); got != 10 {
		t.Errorf("%v observations told as overflow, want 10", got)
	}
	if got := testutil.CollectAndCount(m.requests.duration.HistogramVec); got != latencyLimit+1 {
		t.Errorf("%d children, want %d", got, latencyLimit+1)
	}
	if got := testutil.ToFloat64(m.overflow.WithLabelValues("model")); got != 0 {
		t.Errorf("%v of them are said to be for want of names of models", got)
	}
}

func TestMetrics_NodesThatLeftAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here := large()
		m, r := registered(t, func() gateway.State { return here })
		seriesOf(t, r)
		_, before := seriesOf(t, r)
		tried := func(node string) {
			m.Tried(attempt.Ended{Node: node, Model: "m00:latest", Outcome: attempt.OK, First: 1, Took: time.Second, Totals: wire.Totals{OutputTokens: 9}})
		}
		tried("n0")
		tried("n1")
		all := here.Nodes
		here.Nodes = all[1:]
		seriesOf(t, r)
		time.Sleep(forgetAfter - time.Second)
		seriesOf(t, r)
		if got := testutil.ToFloat64(m.nodes.tries.WithLabelValues("n0", "ok")); got != 1 {
			t.Errorf("a node that left a moment ago: %v tries, want 1", got)
		}
		time.Sleep(2 * time.Second)
		seriesOf(t, r)
		_, after := seriesOf(t, r)
		for _, name := range []string{"node_requests_total", "node_health_checks_total", "model_loads_total", "node_attempt_duration_seconds"} {
			name = namespace + "_" + name
			if want := before[name] * 9 / 10; after[name] != want {
				t.Errorf("%s: %d series of nine nodes, want %d", name, after[name], want)
			}
		}
		if got := testutil.CollectAndCount(m.nodes.pace); got != 1 || m.nodes.told != 1 {
			t.Errorf("%d of pace, %d told apart; want 1", got, m.nodes.told)
		}
		here.Nodes = all
		seriesOf(t, r)
		tried("n0")
		if got := testutil.ToFloat64(m.nodes.tries.WithLabelValues("n0", "ok")); got != 1 {
			t.Errorf("a node that came back: %v tries, want 1", got)
		}
	})
}

// BenchmarkEnded is what telemetry takes of a request.
func BenchmarkEnded(b *testing.B) {
	rec := &gateway.Record{
		Endpoint: "chat", Model: "tiny:latest", Outcome: gateway.OK, Stream: true, FirstByte: 300 * time.Millisecond, Took: 3 * time.Second,
		Cache: call.CacheResult{Status: call.Miss},
	}
	traced := *rec
	traced.TraceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	for name, rec := range map[string]*gateway.Record{"plain": rec, "traced": &traced} {
		b.Run(name, func(b *testing.B) {
			m := New(state)
			b.ReportAllocs()
			for b.Loop() {
				m.Began("chat")
				m.Streams("chat")
				m.Ended(rec)
			}
		})
	}
}

// BenchmarkTried is what it takes of a try.
func BenchmarkTried(b *testing.B) {
	m := New(state)
	e := attempt.Ended{
		Node: "a", Model: "tiny:latest", Outcome: attempt.OK, Took: 3 * time.Second, First: 300 * time.Millisecond,
		Totals: wire.Totals{PromptTokens: 30, OutputTokens: 200},
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Chosen(schedule.ChoiceOnly)
		m.Waited(call.Interactive, schedule.Served, 0)
		m.Tried(e)
	}
}
