package caddymodule

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/caddy-ollama/caddy-ollama/internal/call"
	"github.com/caddy-ollama/caddy-ollama/internal/gateway"
	"github.com/caddy-ollama/caddy-ollama/internal/wire"
)

const canary = "canary-prompt-8f3a"

// observed is a gateway with a log, metrics and probes on one socket.
func observed(t *testing.T, socket, logFile string, node string) []byte {
	return configOf(t, "ollama {\nnode "+node+"\nhealth {\ninterval 100ms\n}\n}", fmt.Sprintf(`http:// {
	bind unix/%s
	log {
		output file %s
	}
	handle /metrics {
		metrics
	}
	handle /livez {
		ollama_health live
	}
	handle /readyz {
		ollama_health ready
	}
	handle {
		ollama
	}
}
`, socket, logFile))
}

func TestTelemetry_AReloadResetsNothing(t *testing.T) {
	sock, logFile := socket(t), filepath.Join(t.TempDir(), "access.log")
	config := observed(t, sock, logFile, startNode(t, fast("fast")))
	load(t, config)
	c := overReloads(client(t, sock, nil))
	const series = `caddy_ollama_requests_total{endpoint="chat",model="fast:latest",outcome="ok"} `
	for i := 1; i <= 3; i++ {
		frames(t, post(t, c, "http://localhost/api/chat", `{"model":"fast","messages":[{"role":"user","content":"`+canary+`"}]}`).Body)
		var scrape string
		eventually(t, "the request is counted", func() bool { // the end is counted after the last byte is out
			_, scrape = get(t, c, "http://localhost/metrics")
			// So is a load: who waited for it is not held up by that.
			return strings.Contains(scrape, series+fmt.Sprint(i)) && strings.Contains(scrape, `reason="first",result="ok"} 1`)
		})
		for _, want := range []string{
			"caddy_ollama_requests_in_flight{endpoint=\"chat\",stream=\"true\"} 0", "caddy_ollama_node_up{node=", "caddy_ollama_queue_limit 512",
			"caddy_ollama_node_requests_total{node=", "caddy_ollama_panics_total 0",
			`caddy_ollama_route_choices_total{reason="trial"} 0`, "caddy_ollama_node_reloads_soon_total{node=",
		} {
			if !strings.Contains(scrape, want) {
				t.Errorf("a scrape without %s", want)
			}
		}
		if strings.Contains(scrape, canary) {
			t.Error("a prompt is in the metrics")
		}
		load(t, config)
	}
}

func TestTelemetry_TheAccessLogTellsWhatBecameOfARequest(t *testing.T) {
	sock, logFile := socket(t), filepath.Join(t.TempDir(), "access.log")
	load(t, observed(t, sock, logFile, startNode(t, fast("fast"))))
	c := client(t, sock, nil)
	resp := post(t, c, "http://localhost/v1/chat/completions", `{"model":"FAST","messages":[{"role":"user","content":"`+canary+`"}]}`)
	id := resp.Header.Get("X-Request-Id")
	resp.Body.Close()
	var line struct {
		Ollama struct {
			RequestID    string  `json:"request_id"`
			TraceID      string  `json:"trace_id"`
			Endpoint     string  `json:"endpoint"`
			Operation    string  `json:"operation"`
			Dialect      string  `json:"dialect"`
			Outcome      string  `json:"outcome"`
			Model        string  `json:"model"`
			Node         string  `json:"node"`
			Attempts     int     `json:"attempts"`
			Route        string  `json:"route"`
			FirstToken   float64 `json:"time_to_first_token"`
			FirstByte    float64 `json:"first_byte"`
			OutputTokens int     `json:"output_tokens"`
		} `json:"ollama"`
	}
	eventually(t, "the line is written", func() bool {
		text, _ := os.ReadFile(logFile)
		if strings.Contains(string(text), canary) {
			t.Fatal("a prompt is in the log")
		}
		return json.Unmarshal(text, &line) == nil
	})
	got := line.Ollama
	if got.RequestID != id || id == "" || got.Endpoint != "v1_chat_completions" || got.Operation != "chat" || got.Dialect != "openai" || got.TraceID != "" || got.Outcome != "ok" || got.Model != "fast:latest" ||
		got.Node == "" || got.Attempts != 1 || got.Route != "only" || got.FirstByte <= 0 || got.FirstToken != got.FirstByte || got.OutputTokens == 0 {
		t.Errorf("got %+v for request %s", got, id)
	}
}

func TestTelemetry_EachFieldOfTheAccessLogIsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	fields := zapcore.NewMapObjectEncoder()
	record := gateway.Record{
		RequestID: "x", TraceID: "x", Tenant: "x", Endpoint: "x", Operation: "x", Dialect: "x", Model: "x", Route: "x",
		FirstByte: 1, Tries: []call.Try{{}}, Totals: wire.Totals{OutputTokens: 1}, Coalesced: true,
		Cache: call.CacheResult{Status: call.Hit, Detail: "x", Texts: call.Texts{Items: 1}},
	}
	if err := (recordFields{&record}).MarshalLogObject(fields); err != nil {
		t.Fatal(err)
	}
	if len(fields.Fields) < 24 {
		t.Errorf("only %d fields are looked at", len(fields.Fields))
	}
	for name := range fields.Fields {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/metrics.md says nothing of %s", name)
		}
	}
}

func TestHealthHandler_TellsWhetherRequestsCanBeAnswered(t *testing.T) {
	sock, logFile := socket(t), filepath.Join(t.TempDir(), "access.log")
	load(t, observed(t, sock, logFile, startNode(t, fast("fast"))))
	c := overReloads(client(t, sock, nil))
	eventually(t, "it is ready", func() bool { code, _ := get(t, c, "http://localhost/readyz"); return code == 200 })
	load(t, observed(t, sock, logFile, "http://127.0.0.1:1")) // nobody is there
	if code, text := get(t, c, "http://localhost/readyz"); code != 503 || text != "no Ollama node is up\n" {
		t.Errorf("%d %q without a node", code, text)
	}
	if code, text := get(t, c, "http://localhost/livez"); code != 200 || text != "ok\n" {
		t.Errorf("%d %q", code, text)
	}
}
