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
		{`{"handler":"ollama","manage_to":["a"]}`, "need manage to be allow"},
		{`{"handler":"ollama","manage":"allow","manage_nodes":"all"}`, "use client"},
		{`{"handler":"ollama","manage":"allow","manage_require":"most"}`, "use all"},
		{`{"handler":"ollama","manage":"allow","manage_registries":["http://x"]}`, "is not a registry"},
		{`{"handler":"ollama","models":["[a-"]}`, "not a glob"},
		{`{"handler":"ollama","guard":"maybe"}`, "use on or off"},
		{`{"handler":"ollama","num_ctx":"max"}`, "use pass or keep, or set max_num_ctx"},
		{`{"handler":"ollama","num_ctx":"pass","max_num_ctx":8192}`, "num_ctx is pass and max_num_ctx is set"},
		{`{"handler":"ollama","max_num_ctx":-1}`, "max_num_ctx must not be negative"},
		{`{"handler":"ollama","keep_alive":"0"}`, "use pass or ignore, or set max_keep_alive"},
		{`{"handler":"ollama","keep_alive":"ignore","max_keep_alive":"1h"}`, "keep_alive is ignore and max_keep_alive is set"},
		{`{"handler":"ollama","max_keep_alive":"-1h"}`, "max_keep_alive must not be negative"},
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

func TestHandler_ChangesWhatItsSiteDoesNotLetThrough(t *testing.T) {
	node := startNode(t, fast("m"))
	strict, open := socket(t), socket(t)
	load(t, configOf(t, "ollama {\nnode "+node+"\n}",
		"http://strict {\nbind unix/"+strict+"\nollama {\nnum_ctx max 2048\nkeep_alive ignore\n}\n}\nhttp://open {\nbind unix/"+open+"\nollama\n}\n"))
	eventually(t, "the inventory is there", func() bool { e, _ := currentEngine(); return e.Fleet().Snapshot().Ready })
	for _, test := range []struct{ name, socket, want string }{{"strict", strict, "num_ctx=2048, keep_alive"}, {"open", open, ""}} {
		resp, err := client(t, test.socket, nil).Post("http://"+test.name+"/api/generate", "", strings.NewReader(
			`{"model":"m","prompt":"hi","stream":false,"options":{"num_ctx":4096,"num_predict":1},"keep_alive":"2h"}`))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Ollama-Changed"); resp.StatusCode != http.StatusOK || got != test.want {
			t.Errorf("%s: %d, changed %q, want %q", test.name, resp.StatusCode, got, test.want)
		}
	}
}

func TestHandler_ExplainsWhereItsSiteWantsIt(t *testing.T) {
	node := startNode(t, fast("m"))
	open, plain := socket(t), socket(t)
	load(t, configOf(t, "ollama {\nnode "+node+" {\nname big\n}\n}",
		"http://open {\nbind unix/"+open+"\nollama {\nexplain\n}\n}\nhttp://plain {\nbind unix/"+plain+"\nollama\n}\n"))
	for _, test := range []struct{ name, socket, want string }{{"open", open, "node=big, reason=only"}, {"plain", plain, ""}} {
		resp := post(t, client(t, test.socket, nil), "http://"+test.name+"/api/generate", `{"model":"m","prompt":"hi","stream":false}`)
		resp.Body.Close()
		if got := resp.Header.Get("X-Ollama-Route"); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
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
