package main

import (
	"bytes"
	"context"
	"fmt"
	"slices"
)

// counter adds up the values of a metric that have all of the labels.
func (p *peer) counter(ctx context.Context, name string, labels ...string) (sum float64, err error) {
	resp, err := p.ask(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return 0, err
	}
	return sumOf(text.Bytes(), name, labels)
}

// sumOf is counter of a text in Prometheus' form.
func sumOf(text []byte, name string, labels []string) (sum float64, err error) {
	for line := range bytes.Lines(text) {
		rest, ok := bytes.CutPrefix(line, []byte(name+"{"))
		if !ok {
			continue
		}
		have, number, ok := bytes.Cut(rest, []byte("} "))
		if !ok || slices.ContainsFunc(labels, func(l string) bool { return !bytes.Contains(have, []byte(l)) }) {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(string(number), &v); err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum += v
	}
	return sum, nil
}
