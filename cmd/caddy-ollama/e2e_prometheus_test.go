package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/ops"
)

// faster is by what factor the times of the shipped rules are divided: 5 m become 5 s.
const faster = 60

// A prometheus scrapes a gateway and evaluates the shipped rules.
type prometheus struct {
	*process
	url string
}

// startPrometheus starts one, with rules that are the shipped ones but for their times.
func startPrometheus(t *testing.T, gateway string) *prometheus {
	t.Helper()
	path, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatalf("%v: make need-prometheus installs it", err)
	}
	dir := t.TempDir()
	files, err := ops.RuleFiles()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, text []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for shipped, f := range files {
		text, err := f.Faster(faster)
		if err != nil {
			t.Fatal(err)
		}
		write(filepath.Base(shipped), text)
	}
	config := write("prometheus.yaml", fmt.Appendf(nil, `
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: gateway
    static_configs:
      - targets: [%s]
`, filepath.Join(dir, "*.yml"), gateway))
	for range 3 { // somebody else may take a port that was free
		port := freePort(t)
		p := startCommand(t, path, nil, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"),
			"--web.listen-address=127.0.0.1:"+port)
		if p.waitFor("ready to receive web requests") {
			return &prometheus{p, base("http", "127.0.0.1", port)}
		}
		if !strings.Contains(p.output(), "address already in use") {
			break
		}
	}
	t.Fatal("prometheus ended")
	return nil
}

// ask reads an answer of the API.
func (p *prometheus) ask(path string, into any) {
	p.t.Helper()
	_, body := get(p.t, http.DefaultClient, p.url+"/api/v1/"+path, "")
	answer := struct {
		Status string
		Data   any
	}{Data: into}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		p.t.Fatalf("%s: %v\n%s", path, err, body)
	}
}

// firing are the alerts that fire, as "name node".
func (p *prometheus) firing() []string {
	p.t.Helper()
	var data struct {
		Alerts []struct {
			Labels map[string]string
			State  string
		}
	}
	p.ask("alerts", &data)
	var firing []string
	for _, a := range data.Alerts {
		if a.State == "firing" {
			firing = append(firing, strings.TrimSpace(a.Labels["alertname"]+" "+a.Labels["node"]))
		}
	}
	slices.Sort(firing)
	return firing
}

// value is the first one of an expression's answer, "" if it is empty.
func (p *prometheus) value(expression string) string {
	p.t.Helper()
	var data struct {
		Result []struct{ Value [2]any }
	}
	p.ask("query?query="+url.QueryEscape(expression), &data) // or it ends the test
	if len(data.Result) == 0 {
		return ""
	}
	return fmt.Sprint(data.Result[0].Value[1])
}

// waitUntil polls until it is so.
func (p *prometheus) waitUntil(what string, so func() bool) {
	p.t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > patience {
			p.t.Fatalf("not within %s: %s; firing: %q", patience, what, p.firing())
		}
		time.Sleep(100 * time.Millisecond) // it evaluates once a second
	}
	p.t.Logf("%s: after %.1fs", what, time.Since(began).Seconds())
}

func (p *prometheus) waitUntilFires(alert string) {
	p.t.Helper()
	p.waitUntil(alert+" fires", func() bool { return slices.Contains(p.firing(), alert) })
}

// setFaults replaces what is wrong with a simulated node.
func setFaults(t *testing.T, node, faults string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, node+"/_faults", strings.NewReader(faults))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		t.Fatalf("faults %s: %s", faults, resp.Status)
	}
}

// keepAsking has four clients ask one short question after the other until the end is called.
func (w *watched) keepAsking() (end func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() { // ends with ctx
			for n := 0; ctx.Err() == nil; n++ {
				s := askStream(ctx, w.client, w.url+"/api/chat", chatBody("sim-small", fmt.Sprint("load ", i, n), `,"options":{"num_predict":4}`), nil)
				if s.status != http.StatusOK {
					select { // a client that is refused waits for a moment
					case <-ctx.Done():
					case <-time.After(50 * time.Millisecond):
					}
				}
			}
		})
	}
	return func() {
		cancel()
		clients.Wait()
	}
}

// A real Prometheus scrapes the binary: a node is killed, the other one stops answering until the
// queue is full, then fails everything, and then all is well again.
func TestPrometheus_AlertsFireAndResolve(t *testing.T) {
	t.Parallel()
	args := []string{"--slots", "2", "--models", "sim-small", "--scale", "0.1", "--faults-admin"}
	_, a := startSimulate(t, 1, args...)
	victim, b := startSimulate(t, 1, args...)
	w := startWatched(t, a[0], b[0])
	p := startPrometheus(t, w.address)

	const node, queue, failures = "NodeDown b", "QueueSaturated", "RequestFailureRatioHigh"
	end := w.keepAsking()
	p.waitUntil("requests are recorded, none of which fails", func() bool {
		return p.value("job:caddy_ollama_requests:rate5m > 1") != "" && p.value("job:caddy_ollama_request_errors:ratio_rate5m == 0") != ""
	})
	fires := func(alert string) bool { return slices.Contains(p.firing(), alert) }
	if fires(node) || fires(queue) || fires(failures) {
		t.Errorf("all is well, and there fire %q", p.firing())
	}

	expressions, err := ops.Expressions()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range expressions { // none is ambiguous over what the binary serves
		p.value(e.Text)
	}

	if err := victim.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.waitUntilFires(node)
	end()

	setFaults(t, a[0], `["gap=5m"]`)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting sync.WaitGroup
	for i := range 12 { // two hold the slots, ten fill the queue
		waiting.Go(func() { // ends with ctx
			askStream(ctx, w.client, w.url+"/api/chat", chatBody("sim-small", fmt.Sprint("waits ", i), ""), nil)
		})
	}
	p.waitUntilFires(queue)
	cancel()
	waiting.Wait()

	setFaults(t, a[0], `["status=500"]`)
	end = w.keepAsking()
	p.waitUntilFires(failures)

	setFaults(t, a[0], `[]`)
	startSimulate(t, 1, append(args, "--listen", strings.TrimPrefix(b[0], "http://"))...)
	p.waitUntil("none of them fires any more", func() bool { return !fires(node) && !fires(queue) && !fires(failures) })
	end()

	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	p.ask("rules", &rules)
	if len(rules.Groups) == 0 {
		t.Error("it has no rules")
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				t.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
}
