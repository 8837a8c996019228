package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// sampled is a line of a scrape: name, labels and value.
var sampled = regexp.MustCompile(`(?m)^(caddy_ollama_\w+)(?:\{(.*)\})? (\S+)$`)

// total adds up the samples of a metric whose labels have all of some words.
func total(t testing.TB, scrape, name string, labels ...string) (sum float64) {
	t.Helper()
next:
	for _, m := range sampled.FindAllStringSubmatch(scrape, -1) {
		if m[1] != "caddy_ollama_"+name {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(","+m[2]+",", ","+l+",") {
				continue next
			}
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func TestTelemetry_CountersAreExactOverReloadsUnderLoad(t *testing.T) {
	sock, logFile := socket(t), filepath.Join(t.TempDir(), "access.log")
	config := observed(t, sock, logFile, startNode(t, fast("fast")))
	load(t, config)
	c := overReloads(client(t, sock, nil))
	_, before := get(t, c, "http://localhost/metrics")

	var streams, wholes, wrongs, tokens, cut atomic.Int64
	ask := func(path, body string) (code int, answer string) {
		resp, err := c.Post("http://localhost"+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			cut.Add(1)
		}
		return resp.StatusCode, string(text)
	}
	told := func(answer string) int64 { // tokens that an answer says it has
		lines := strings.Split(strings.TrimSpace(answer), "\n")
		var last struct {
			Count int64 `json:"eval_count"`
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Error(err)
		}
		return last.Count
	}
	over := make(chan struct{})
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() { // ends when over is closed
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				switch (i + n) % 3 {
				case 0:
					code, answer := ask("/api/chat", `{"model":"fast","messages":[{"role":"user","content":"hello"}]}`)
					if code == http.StatusOK {
						streams.Add(1)
						tokens.Add(told(answer))
					}
				case 1:
					code, answer := ask("/api/generate", `{"model":"fast","prompt":"hello","stream":false}`)
					if code == http.StatusOK {
						wholes.Add(1)
						tokens.Add(told(answer))
					}
				case 2:
					if code, _ := ask("/api/chat", `{"model":"nobody-has-this"}`); code == http.StatusNotFound {
						wrongs.Add(1)
					}
				}
			}
		})
	}
	done := func() int64 { return streams.Load() + wholes.Load() + wrongs.Load() }
	for range 20 {
		was := done()
		load(t, config)
		eventually(t, "some more are answered", func() bool { return done() > was+10 })
	}
	close(over)
	clients.Wait()
	if cut.Load() > 0 || streams.Load() < 20 || wholes.Load() < 20 || wrongs.Load() < 20 {
		t.Fatalf("%d streams, %d wholes, %d refusals, %d cut", streams.Load(), wholes.Load(), wrongs.Load(), cut.Load())
	}

	var wrong []string
	eventually(t, "all is counted", func() bool { // the end is counted after the last byte is out
		_, scrape := get(t, c, "http://localhost/metrics")
		wrong = nil
		for _, w := range []struct {
			want   int64
			metric string
			labels []string
		}{
			{streams.Load(), "requests_total", []string{`endpoint="chat"`, `model="fast:latest"`, `outcome="ok"`}},
			{wholes.Load(), "requests_total", []string{`endpoint="generate"`, `model="fast:latest"`, `outcome="ok"`}},
			{wrongs.Load(), "requests_total", []string{`endpoint="chat"`, `model=""`, `outcome="client_error"`}},
			{done(), "requests_total", nil},
			{streams.Load() + wholes.Load(), "node_requests_total", nil},
			{streams.Load() + wholes.Load(), "request_duration_seconds_count", nil},
			{streams.Load(), "time_to_first_token_seconds_count", nil},
			{streams.Load() + wholes.Load(), "overhead_seconds_count", nil},
			{streams.Load() + wholes.Load(), "queue_wait_seconds_count", []string{`result="served"`}},
			{tokens.Load(), "tokens_total", []string{`model="fast:latest"`, `type="output"`}},
			{0, "requests_in_flight", nil},
			{0, "queue_depth", nil},
			{0, "node_in_flight", nil},
			{0, "panics_total", nil},
		} {
			if got := total(t, scrape, w.metric, w.labels...) - total(t, before, w.metric, w.labels...); got != float64(w.want) {
				wrong = append(wrong, fmt.Sprintf("%s%v is %v, want %d", w.metric, w.labels, got, w.want))
			}
		}
		return wrong == nil
	})
	for _, w := range wrong {
		t.Error(w)
	}
}

func TestTelemetry_MadeUpNamesMakeNoSeries(t *testing.T) {
	sock, logFile := socket(t), filepath.Join(t.TempDir(), "access.log")
	load(t, observed(t, sock, logFile, startNode(t, fast("fast"))))
	c := client(t, sock, nil)
	frames(t, post(t, c, "http://localhost/api/chat", `{"model":"fast","messages":[{"role":"user","content":"hello"}]}`).Body)
	series := func() (n int) {
		_, scrape := get(t, c, "http://localhost/metrics")
		return len(sampled.FindAllString(scrape, -1))
	}
	ask := func(i int) {
		resp, err := c.Post("http://localhost/api/chat", "application/json", strings.NewReader(fmt.Sprintf(`{"model":"made-up-%d"}`, i)))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Fatalf("%d for a model that nobody has", resp.StatusCode)
		}
	}
	ask(0)
	before := 0
	eventually(t, "the first ones are counted", func() bool {
		was := before
		before = series()
		return before == was
	})
	for i := range 10_000 {
		ask(i)
	}
	if after := series(); after != before {
		t.Errorf("%d series, before there were %d", after, before)
	}
}
