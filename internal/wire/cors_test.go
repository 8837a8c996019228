package wire

import (
	"slices"
	"testing"

	"github.com/caddy-ollama/caddy-ollama/internal/golden"
)

func TestHostAndOrigin_AreJudgedAsRecorded(t *testing.T) {
	refused := 0
	for _, rec := range golden.Load(t, "general") {
		if rec.ID == "host-missing" || rec.ID == "web-search" {
			continue // refused before the check, and after it
		}
		host, origin := requestHeader(rec.Request, "Host"), requestHeader(rec.Request, "Origin")
		allowed, _ := OriginAllowed(origin, host)
		got, want := HostAllowed(host, "recorder") && allowed, rec.Response.Status != 403
		if got != want {
			t.Errorf("%s: host %q, origin %q\ngot  %v\nwant %v", rec.ID, host, origin, got, want)
		}
		if !want {
			refused++
		}
	}
	if refused < 5 {
		t.Errorf("%d refusals recorded, want several", refused)
	}
}

func TestCORSHeaders_AreAsRecorded(t *testing.T) {
	compared := 0
	for _, rec := range golden.Load(t, "general") {
		host, origin := requestHeader(rec.Request, "Host"), requestHeader(rec.Request, "Origin")
		allowed, same := OriginAllowed(origin, host)
		if origin == "" || !allowed {
			continue
		}
		got := OriginHeaders(origin)
		switch {
		case same:
			got = nil
		case rec.Request.Method == "OPTIONS":
			got = PreflightHeaders(origin)
		}
		for _, name := range []string{
			"Access-Control-Allow-Headers", "Access-Control-Allow-Methods", "Access-Control-Allow-Origin",
			"Access-Control-Max-Age", "Vary",
		} {
			var want []string
			for _, h := range rec.Response.Headers {
				if h[0] == name {
					want = append(want, h[1])
				}
			}
			if !slices.Equal(got[name], want) {
				t.Errorf("%s: %s\ngot  %q\nwant %q", rec.ID, name, got[name], want)
			}
		}
		compared++
	}
	if compared < 3 {
		t.Errorf("%d answers compared, want a preflight, an allowed origin and the same host", compared)
	}
}

func TestHostAllowed(t *testing.T) {
	tests := []struct {
		host string
		want bool
	}{
		{"", true},
		{":11434", true},
		{"localhost", true},
		{"LocalHost:80", true},
		{"127.0.0.1", true},
		{"127.8.9.10:1", true},
		{"[::1]:8443", true},
		{"[::1]", true},
		{"::1", true},
		{"0.0.0.0:1", true},
		{"[::]:1", true},
		{"192.168.1.2", true},
		{"172.16.0.1:11434", true},
		{"[fd00::1]:80", true},
		{"box:8080", true},
		{"BOX", true},
		{"x.localhost", true},
		{"nas.local:80", true},
		{"ollama.internal", true},

		{"box.example.com", false},
		{"boxes", false},
		{"local", false},
		{"internal", false},
		{"notlocalhost", false},
		{"localhost.", false},
		{"localhost.evil.com", false},
		{"x.local.evil.com", false},
		{"8.8.8.8:80", false},
		{"[2001:db8::1]:80", false},
		{"172.32.0.1", false},
		{"127.0.0.1.evil.com", false},
		{"localhost:80:80", false},
		{"[localhost", true}, // as harmless as localhost
	}
	for _, tt := range tests {
		if got := HostAllowed(tt.host, "Box"); got != tt.want {
			t.Errorf("HostAllowed(%q, \"Box\")\ngot  %v\nwant %v", tt.host, got, tt.want)
		}
	}
	if HostAllowed("box", "") {
		t.Error("HostAllowed(\"box\") without an own name: got true, want false")
	}
}

func TestOriginAllowed(t *testing.T) {
	tests := []struct {
		name, origin, host string
		allowed, same      bool
	}{
		{"none", "", "h", true, false},
		{"loopback name", "http://localhost", "h", true, false},
		{"loopback name with port", "https://localhost:3000", "h", true, false},
		{"loopback address", "http://127.0.0.1:8080", "h", true, false},
		{"any address", "https://0.0.0.0", "h", true, false},
		{"desktop app", "app://obsidian.md", "h", true, false},
		{"editor", "vscode-webview://abc", "h", true, false},
		{"own host", "https://ai.example.com", "ai.example.com", true, true},
		{"own host with port", "http://ai.example.com:81", "ai.example.com:81", true, true},

		{"null", "null", "h", false, false},
		{"foreign site", "https://app.example.com", "ai.example.com", false, false},
		{"own host, other port", "http://ai.example.com:82", "ai.example.com:81", false, false},
		{"name that begins alike", "http://localhost.evil.com", "h", false, false},
		{"other loopback address", "http://127.0.0.2", "h", false, false},
		{"IPv6 loopback", "http://[::1]:80", "h", false, false},
		{"upper case", "HTTP://LOCALHOST", "h", false, false},
		{"other scheme", "ftp://localhost", "h", false, false},
		{"browser extension", "chrome-extension://abc", "h", false, false},
	}
	for _, tt := range tests {
		allowed, same := OriginAllowed(tt.origin, tt.host)
		if allowed != tt.allowed || same != tt.same {
			t.Errorf("%s: OriginAllowed(%q, %q)\ngot  %v, %v\nwant %v, %v", tt.name, tt.origin, tt.host, allowed, same, tt.allowed, tt.same)
		}
	}
}
