package gateway_test

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/telemetry"
)

// Each row of the matrix is counted as the process counts it.
func init() {
	gateway.NewCounting = func(state func() gateway.State) gateway.Counting { return counting{telemetry.New(state)} }
}

type counting struct{ *telemetry.Metrics }

// Check holds that each request is counted under its one outcome, and that none is left in flight.
func (c counting) Check(records []gateway.Record) error {
	r := prometheus.NewPedanticRegistry()
	if err := c.Register(r); err != nil {
		return err
	}
	families, err := r.Gather()
	if err != nil {
		return err
	}
	want, stalled := make(map[string]float64), 0.0
	for _, rec := range records {
		want[fmt.Sprintf("%s/%s/%s", rec.Endpoint, rec.Model, rec.Outcome)]++
		if rec.Stalled {
			stalled++
		}
	}
	var wrong []error
	all := 0.0
	for _, f := range families {
		for _, m := range f.Metric {
			labels := make(map[string]string)
			for _, l := range m.Label {
				labels[l.GetName()] = l.GetValue()
			}
			switch f.GetName() {
			case "caddy_ollama_requests_total":
				key := fmt.Sprintf("%s/%s/%s", labels["endpoint"], labels["model"], labels["outcome"])
				all += m.GetCounter().GetValue()
				if got := m.GetCounter().GetValue(); got != want[key] {
					wrong = append(wrong, fmt.Errorf("%v requests counted as %s, want %v", got, key, want[key]))
				}
			case "caddy_ollama_requests_in_flight":
				if got := m.GetGauge().GetValue(); got != 0 {
					wrong = append(wrong, fmt.Errorf("%v requests in flight at %v", got, labels))
				}
			case "caddy_ollama_streams_stalled_total":
				if got := m.GetCounter().GetValue(); labels["side"] == "client" && got != stalled {
					wrong = append(wrong, fmt.Errorf("%v clients stalled, want %v", got, stalled))
				}
			}
		}
	}
	if all != float64(len(records)) {
		wrong = append(wrong, fmt.Errorf("%d requests have %v outcomes", len(records), all))
	}
	return errors.Join(wrong...)
}
