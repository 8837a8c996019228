package telemetry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

func state() gateway.State {
	return gateway.State{
		States: []string{"down", "up"},
		Nodes: []gateway.NodeState{
			{Name: "a", State: "up", Usable: true, Version: "0.24.0", InFlight: 2, Slots: 4},
			{Name: "b", State: "down", Slots: 1},
		},
		Waiting: map[string]int{"interactive": 3, "background": 0, "batch": 0}, QueueLimit: 512,
	}
}

func TestMetrics_GaugesTellTheMoment(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	if err := New(state).Register(r); err != nil {
		t.Fatal(err)
	}
	const want = `
# HELP caddy_ollama_node_in_flight Requests of this gateway that hold a slot of the node.
# TYPE caddy_ollama_node_in_flight gauge
caddy_ollama_node_in_flight{node="a"} 2
caddy_ollama_node_in_flight{node="b"} 0
# HELP caddy_ollama_node_info 1, with the version of Ollama that the node told last.
# TYPE caddy_ollama_node_info gauge
caddy_ollama_node_info{node="a",version="0.24.0"} 1
# HELP caddy_ollama_node_state 1 for the state the node is in, 0 for the others.
# TYPE caddy_ollama_node_state gauge
caddy_ollama_node_state{node="a",state="down"} 0
caddy_ollama_node_state{node="a",state="up"} 1
caddy_ollama_node_state{node="b",state="down"} 1
caddy_ollama_node_state{node="b",state="up"} 0
# HELP caddy_ollama_queue_depth Requests that wait for a slot.
# TYPE caddy_ollama_queue_depth gauge
caddy_ollama_queue_depth{class="background"} 0
caddy_ollama_queue_depth{class="batch"} 0
caddy_ollama_queue_depth{class="interactive"} 3
`
	if err := testutil.GatherAndCompare(r, strings.NewReader(want),
		"caddy_ollama_node_in_flight", "caddy_ollama_node_info", "caddy_ollama_node_state", "caddy_ollama_queue_depth"); err != nil {
		t.Error(err)
	}
}

func TestMetrics_AReloadResetsNothing(t *testing.T) {
	m := New(state)
	first, second := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	for _, r := range []*prometheus.Registry{first, second, second} { // two handlers of one configuration
		if err := m.Register(r); err != nil {
			t.Fatal(err)
		}
		m.Began("chat")
		m.Ended(&gateway.Record{Endpoint: "chat", Model: "tiny:latest", Outcome: gateway.OK})
	}
	m.Began("chat")
	if got := testutil.ToFloat64(m.requests.total.WithLabelValues("chat", "tiny:latest", "ok")); got != 3 {
		t.Errorf("%v requests counted, want 3", got)
	}
	if got := testutil.ToFloat64(m.requests.inFlight.WithLabelValues("chat", "false")); got != 1 {
		t.Errorf("%v in flight, want 1", got)
	}
}

func TestMetrics_ModelsAreBounded(t *testing.T) {
	m := New(state)
	for i := range 10_000 {
		m.Ended(&gateway.Record{Endpoint: "chat", Model: fmt.Sprint("m", i), Outcome: gateway.OK})
	}
	series := testutil.CollectAndCount(m.requests.total)
	known := len(gateway.Endpoints) * len(gateway.Outcomes)
	if series > known+(modelLimit+1)*len(gateway.Outcomes) {
		t.Errorf("%d series, of which %d are there from the start", series, known)
	}
	if got := testutil.ToFloat64(m.overflow.WithLabelValues("model")); got != 10_000-modelLimit {
		t.Errorf("%v observations told as overflow", got)
	}
}

func TestMetrics_NamesAndHelpAreSound(t *testing.T) {
	r := prometheus.NewPedanticRegistry()
	if err := New(state).Register(r); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
