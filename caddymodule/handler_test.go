package caddymodule

import (
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// boundAddress is where the only server of the running configuration listens.
func boundAddress(t testing.TB) string {
	t.Helper()
	app, err := caddy.ActiveContext().App("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range app.(*caddyhttp.App).Servers {
		return s.Listeners()[0].Addr().String()
	}
	t.Fatal("no server runs")
	return ""
}

func TestHandler_HostRuleOnLoopbackOnly(t *testing.T) {
	node := startNode(t, fast("m"))
	for _, test := range []struct {
		name, listen, host string
		want               int
	}{
		{"loopback, own name", "127.0.0.1:0", "localhost", http.StatusOK},
		{"loopback, foreign name", "127.0.0.1:0", "evil.example.com", http.StatusForbidden},
		{"every address, foreign name", "0.0.0.0:0", "evil.example.com", http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			load(t, []byte(`{"admin":{"disabled":true,"config":{"persist":false}},"apps":{
				"ollama":{"nodes":[{"url":"`+node+`"}]},
				"http":{"servers":{"s":{"listen":["`+test.listen+`"],"automatic_https":{"disable":true},"routes":[{"handle":[{"handler":"ollama"}]}]}}}}}`))
			req, err := http.NewRequest(http.MethodGet, "http://"+boundAddress(t)+"/api/version", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = test.host
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			for range 2 { // the second time it is remembered
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != test.want {
					t.Errorf("Host %s at %s: got %d, want %d", test.host, test.listen, resp.StatusCode, test.want)
				}
			}
		})
	}
}

func TestHandler_RefusesImpossibleJSON(t *testing.T) {
	for _, test := range []struct{ handler, want string }{
		{`{"handler":"ollama","class":"urgent"}`, "interactive, background or batch"},
		{`{"handler":"ollama","manage":"on"}`, "use allow or deny"},
		{`{"handler":"ollama","models":["[a-"]}`, "not a glob"},
		{`{"handler":"ollama","guard":"maybe"}`, "use on or off"},
		{`{"handler":"ollama","keys":"alice 0123"}`, "write a placeholder"},
		{`{"handler":"ollama","keys":"{file./nowhere/keys}"}`, "{file./nowhere/keys}"},
		{`{"handler":"ollama","node":"x"}`, `unknown field "node"`},
	} {
		err := caddy.Load([]byte(`{"admin":{"disabled":true,"config":{"persist":false}},"apps":{"http":{"servers":{"s":{
			"listen":["127.0.0.1:0"],"routes":[{"handle":[`+test.handler+`]}]}}}}}`), true)
		t.Cleanup(stop)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.handler, err, test.want)
		}
		wantReferences(t, 0)
	}
}

// A site's own settings hold for that site alone.
func TestHandler_SitesShareOneEngine(t *testing.T) {
	node := startNode(t, fast("llama3"), fast("qwen"))
	public, private := socket(t), socket(t)
	load(t, configOf(t, "ollama {\nnode "+node+"\n}",
		"http://public {\nbind unix/"+public+"\nollama {\nmodels llama*\n}\n}\nhttp://private {\nbind unix/"+private+"\nollama\n}\n"))
	wantReferences(t, 1)
	eventually(t, "the inventory is there", func() bool { e, _ := currentEngine(); return e.Fleet().Snapshot().Ready })
	if _, tags := get(t, client(t, public, nil), "http://public/api/tags"); !strings.Contains(tags, "llama3") || strings.Contains(tags, "qwen") {
		t.Errorf("public: %s", tags)
	}
	if _, tags := get(t, client(t, private, nil), "http://private/api/tags"); !strings.Contains(tags, "llama3") || !strings.Contains(tags, "qwen") {
		t.Errorf("private: %s", tags)
	}
}
