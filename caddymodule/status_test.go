package caddymodule

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/status"
)

func TestStatus_WhoMaySeeIt(t *testing.T) {
	const local, office, away = "127.0.0.1", "10.1.2.3", "203.0.113.9"
	for _, test := range []struct {
		name    string
		allow   []string
		client  string
		host    string
		header  string
		trusted bool
		want    bool
	}{
		{"this machine", nil, local, "localhost:8080", "", false, true},
		{"this machine by IPv6", nil, "::1", "[::1]:8080", "", false, true},
		{"this machine, IPv4 in IPv6", nil, "::ffff:127.0.0.1", "127.0.0.1", "", false, true},
		{"another machine", nil, office, "localhost", "", false, false},
		{"a name that was rebound", nil, local, "evil.example.com", "", false, false},
		{"a proxy nobody trusts", nil, local, "localhost", "X-Forwarded-For", false, false},
		{"a proxy nobody trusts, RFC 7239", nil, local, "localhost", "Forwarded", false, false},
		{"this machine behind a trusted proxy", nil, local, "localhost", "X-Forwarded-For", true, true},
		{"another machine behind a trusted proxy", nil, away, "localhost", "X-Forwarded-For", true, false},
		{"a range", []string{"10.0.0.0/8"}, office, "status.example.com", "", false, true},
		{"outside of the range", []string{"10.0.0.0/8"}, away, "status.example.com", "", false, false},
		{"a range and this machine", []string{"10.0.0.0/8"}, local, "localhost", "", false, true},
		{"an address", []string{"192.168.1.4"}, "192.168.1.4", "a.example", "", false, true},
		{"another address", []string{"192.168.1.4"}, "192.168.1.5", "a.example", "", false, false},
		{"anybody", []string{"any"}, away, "a.example", "X-Forwarded-For", false, true},
		{"a socket", nil, "", "localhost", "", false, false},
		{"a socket, anybody", []string{"any"}, "", "localhost", "", false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := &StatusHandler{Allow: test.allow}
			if err := h.readAllow(); err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodGet, "http://"+test.host+"/", nil)
			if test.header != "" {
				r.Header.Set(test.header, away)
			}
			r = r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, map[string]any{
				caddyhttp.ClientIPVarKey: test.client, caddyhttp.TrustedProxyVarKey: test.trusted,
			}))
			if got := h.allows(r); got != test.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// statusSite is a gateway with pages in front of a node.
func statusSite(t *testing.T, node string) (config []byte, url string) {
	t.Helper()
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	return configOf(t, "servers {\ntrusted_proxies static 127.0.0.2/32\n}\nollama {\nnode "+node+" {\nname big\n}\nhealth {\ninterval 100ms\n}\n}",
		fmt.Sprintf(`http://:%s {
	bind 127.0.0.1
	ollama_status /status
	handle_path /deep/er* {
		ollama_status
	}
	ollama
}
`, port)), "http://localhost:" + port
}

func TestStatus_IsServedAnywhereAndShadowsNothing(t *testing.T) {
	config, url := statusSite(t, startNode(t, fast("m")))
	load(t, config)
	c := tcpClient(t)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	ask := func(method, path string) (*http.Response, string) {
		t.Helper()
		r, _ := http.NewRequest(method, url+path, nil)
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(text)
	}
	for _, at := range []string{"/status", "/deep/er"} {
		if resp, _ := ask("GET", at); resp.StatusCode != 307 || resp.Header.Get("Location") != "./"+at[strings.LastIndex(at, "/")+1:]+"/" {
			t.Errorf("%s: %d, Location %q", at, resp.StatusCode, resp.Header.Get("Location"))
		}
		resp, text := ask("GET", at+"/")
		if resp.StatusCode != 200 || !strings.Contains(text, "big") || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s/: %d %v %.200s", at, resp.StatusCode, resp.Header, text)
		}
		if resp, text := ask("HEAD", at+"/"); resp.StatusCode != 200 || text != "" {
			t.Errorf("HEAD %s/: %d", at, resp.StatusCode)
		}
		for path, want := range map[string]int{"/page.js": 200, "/uplot.js": 200, "/nothing": 404, "/x/": 404, "/page.js/": 404} {
			if resp, _ := ask("GET", at+path); resp.StatusCode != want {
				t.Errorf("%s: got %d, want %d", at+path, resp.StatusCode, want)
			}
		}
		if resp, _ := ask("POST", at+"/"); resp.StatusCode != 405 {
			t.Errorf("POST %s/: %d", at, resp.StatusCode)
		}
	}
	if resp, text := ask("GET", "/STATUS/"); resp.StatusCode != 200 || !strings.Contains(text, "</html>") {
		t.Errorf("/STATUS/: %d, as matchers fold case", resp.StatusCode)
	}
	// What is not its own is the gateway's, as before.
	if resp, text := ask("GET", "/statuses"); resp.StatusCode != 404 || strings.Contains(text, "nothing here") {
		t.Errorf("/statuses: %d %s", resp.StatusCode, text)
	}
	if resp, text := ask("GET", "/"); text != "Ollama is running" {
		t.Errorf("/: %d %s", resp.StatusCode, text)
	}
}

func TestStatus_OthersAreRefused(t *testing.T) {
	config, url := statusSite(t, startNode(t, fast("m")))
	load(t, config)
	c := tcpClient(t)
	for _, path := range []string{"/status/", "/status/events", "/status/page.js", "/status"} {
		r, _ := http.NewRequest(http.MethodGet, url+path, nil)
		r.Header.Set("X-Forwarded-For", "203.0.113.9")
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden || strings.Contains(string(text), "big") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
}

// events opens a stream; next reads the report in its next event, or tells that it has ended.
func events(t *testing.T, c *http.Client, url string) (next func() (html string, ok bool)) {
	t.Helper()
	resp, err := c.Get(url + "/status/events")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		t.Fatalf("got %d %v", resp.StatusCode, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	return func() (string, bool) {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var event struct{ HTML string }
				if err := json.Unmarshal([]byte(data), &event); err != nil {
					t.Error(err)
				}
				return event.HTML, true
			}
		}
		return "", false
	}
}

func TestStatus_AReloadEndsTheStreamAndKeepsTheHistory(t *testing.T) {
	config, url := statusSite(t, startNode(t, fast("m")))
	load(t, config)
	c := overReloads(tcpClient(t))
	post(t, c, url+"/api/generate", `{"model":"m","prompt":"`+canary+`","stream":false}`).Body.Close()
	eventually(t, "the request is in the history", func() bool {
		r, ok := currentReport()
		return ok && r.Now().Answered == 1
	})
	next := events(t, c, url)
	if html, ok := next(); !ok || !strings.Contains(html, "big") || strings.Contains(html, canary) {
		t.Fatalf("the first event: %t %s", ok, html)
	}
	began := time.Now()
	load(t, config)
	for {
		if _, more := next(); !more {
			break
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the stream ended after %v", took)
	}
	if html, ok := events(t, c, url)(); !ok || !strings.Contains(html, "All is well") {
		t.Errorf("the new configuration's stream: %t %s", ok, html)
	}
	if r, _ := currentReport(); r.Now().Answered != 1 || r.Saved.Misses != 0 {
		t.Errorf("after the reload: %+v", r.Now())
	}
}

func TestStatus_AStreamDoesNotHoldUpTheEnd(t *testing.T) {
	config, url := statusSite(t, startNode(t, fast("m")))
	load(t, config)
	next := events(t, tcpClient(t), url)
	next()
	began := time.Now()
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, more := next(); !more {
			break
		}
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestAdmin_StatusIsWhatThePageShows(t *testing.T) {
	c := adminClient(t, "ollama {\nnode "+startNode(t, fast("m"))+" {\nname big\n}\ncache\n}")
	var r status.Report
	eventually(t, "the node is up", func() bool {
		code, body := get(t, c, "http://localhost"+statusPath)
		if code != http.StatusOK || json.Unmarshal([]byte(body), &r) != nil {
			t.Fatalf("got %d %s", code, body)
		}
		if strings.Contains(body, "127.0.0.1") {
			t.Fatalf("an address is in %s", body)
		}
		return len(r.Nodes) == 1 && r.Nodes[0].State == "up" && r.Ready
	})
	if !r.Cache.On || r.Queue.Limit != 512 || len(r.Queue.Waiting) != 3 || len(r.Minutes) != 10 || len(r.History.Answered) != 120 || time.Since(r.At) > time.Minute {
		t.Errorf("got %+v", r)
	}
}

func TestFrame_FitsTheTerminal(t *testing.T) {
	lines := []status.Line{{Style: "title", Text: "a"}, {Text: "b"}, {Style: "bad", Text: "c"}}
	for _, test := range []struct {
		height int
		colors bool
		want   string
	}{
		{24, true, "\x1b[H\x1b[1ma\x1b[0m\x1b[K\r\nb\x1b[K\r\n\x1b[31mc\x1b[0m\x1b[K\x1b[J"},
		{2, false, "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J"},
		{0, false, "\x1b[Ha\x1b[K\x1b[J"},
	} {
		if got := string(frame(lines, test.height, test.colors)); got != test.want {
			t.Errorf("height %d: got %q, want %q", test.height, got, test.want)
		}
	}
}

func TestDemo_EndsAndIsBounded(t *testing.T) {
	var (
		mu            sync.Mutex
		running, most int
	)
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		running += n
		most = max(most, running)
	}
	url := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		count(1)
		defer count(-1)
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done() // nothing is ever answered, so nobody asks twice
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	(&demo{url: url}).run(ctx)
	mu.Lock()
	defer mu.Unlock()
	if most == 0 || most > demoClients {
		t.Errorf("%d asked at once, want at most %d", most, demoClients)
	}
	if err := simnode.New(simnode.Options{}).SetFaults(demoFault()); err != nil {
		t.Error(err)
	}
}
