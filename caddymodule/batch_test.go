package caddymodule

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
)

func TestBatchPrompts_JSONIsWhatTheEngineTakes(t *testing.T) {
	for _, test := range []struct {
		text string
		want gateway.PromptsConfig
		err  string
	}{
		{`null`, gateway.PromptsConfig{}, ""},
		{`{}`, gateway.PromptsConfig{}, ""},
		{`{"prompts":{"max_items":5,"concurrency":6}}`, gateway.PromptsConfig{MaxItems: 5, Concurrency: 6}, ""},
		{`{"prompts":{"max_items":-5}}`, gateway.PromptsConfig{}, "batch prompts: max_items must not be negative"},
		{`{"prompts":{"concurrency":-5}}`, gateway.PromptsConfig{}, "batch prompts: concurrency must not be negative"},
		{`{"prompts":{"concurrency":1025}}`, gateway.PromptsConfig{}, "between 1 and 1024"},
	} {
		app := new(App)
		if err := json.Unmarshal([]byte(`{"batch":`+test.text+`}`), app); err != nil {
			t.Fatal(err)
		}
		config, err := app.config()
		if config.Prompts != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: got %+v, %v, want %+v, %q", test.text, config.Prompts, err, test.want, test.err)
		}
	}
}

func TestBatchPrompts_AreCountedAndLoggedWithoutTheirText(t *testing.T) {
	sock, logFile := socket(t), filepath.Join(t.TempDir(), "access.log")
	config := configOf(t, "ollama {\nnode "+startNode(t, fast("m"))+"\nbatch prompts {\nmax_items 2\n}\n}", fmt.Sprintf(
		"http:// {\nbind unix/%s\nlog {\noutput file %s\n}\nhandle /metrics {\nmetrics\n}\nhandle {\nollama\n}\n}\n", sock, logFile))
	load(t, config)
	c := client(t, sock, nil)
	_, scrape := get(t, c, "http://localhost/metrics")
	if want := `caddy_ollama_requests_total{endpoint="batch",model="",outcome="ok"} 0`; !strings.Contains(scrape, want) {
		t.Errorf("at first there is no %s", want)
	}
	item := `{"model":"m","prompt":"` + canary + `"}` + "\n"
	resp := post(t, c, "http://localhost/api/batch", item+`{"prompt":"`+canary+`"}`)
	answer, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || strings.Count(string(answer), "\n") != 2 {
		t.Errorf("got %s, %v", answer, err)
	}
	eventually(t, "the batch is counted", func() bool {
		_, scrape = get(t, c, "http://localhost/metrics")
		return strings.Contains(scrape, `caddy_ollama_requests_total{endpoint="batch",model="",outcome="ok"} 1`) &&
			strings.Contains(scrape, `caddy_ollama_requests_total{endpoint="generate",model="m:latest",outcome="ok"} 1`) &&
			strings.Contains(scrape, `caddy_ollama_requests_total{endpoint="generate",model="",outcome="client_error"} 1`)
	})
	eventually(t, "the batch is logged", func() bool {
		log, _ := os.ReadFile(logFile)
		return strings.Contains(string(log), `"endpoint":"batch","operation":"batch","dialect":"ollama","outcome":"ok","items":2,"items_failed":1}`)
	})
	if log, _ := os.ReadFile(logFile); strings.Contains(string(log)+scrape, canary) {
		t.Error("a prompt is in the log or in the metrics")
	}
	resp, err = c.Post("http://localhost/api/batch", "application/json", strings.NewReader(strings.Repeat(item, 3)))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ = io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode != 413 || !strings.Contains(string(answer), "more than 2 items") {
		t.Errorf("three items: %d %s", resp.StatusCode, answer)
	}
}

func TestBatchPrompts_SurviveAReload(t *testing.T) {
	node := startNode(t, slow("slow"))
	for name, change := range map[string]func(address string, good []byte){
		"good reload": func(_ string, good []byte) { load(t, good) },
		"app removed": func(address string, _ []byte) { load(t, siteless(t, address)) },
	} {
		t.Run(name, func(t *testing.T) {
			address := freeAddress(t)
			good := gatewayConfig(t, address, node)
			load(t, good)
			resp := post(t, tcpClient(t), "http://"+address+"/api/batch", strings.Repeat(`{"model":"slow","prompt":"hello"}`+"\n", 3))
			defer resp.Body.Close()
			change(address, good) // while the first item runs
			answer, err := io.ReadAll(resp.Body)
			if n := strings.Count(string(answer), `"error":null}`); err != nil || n != 3 {
				t.Errorf("%d of 3 were answered, %v:\n%s", n, err, answer)
			}
		})
	}
}
