package caddymodule

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// transportOf makes the transport of a node until the test ends.
func transportOf(t *testing.T, n *Node) (http.RoundTripper, string) {
	t.Helper()
	rt, key, err := tryTransport(t, n)
	if err != nil {
		t.Fatal(err)
	}
	return rt, key
}

func tryTransport(t *testing.T, n *Node) (http.RoundTripper, string, error) {
	t.Helper()
	resolved, err := n.resolve()
	if err != nil {
		return nil, "", err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	rt, key, err := loadTransport(ctx, resolved, time.Second)
	if err == nil {
		t.Cleanup(func() {
			if _, err := transports.Delete(key); err != nil {
				t.Error(err)
			}
		})
	}
	return rt, key, err
}

// echo answers what it was asked, in headers.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Host", r.Host)
	w.Header().Set("X-Encoding", r.Header.Get("Accept-Encoding"))
	w.Header().Set("X-Authorization", r.Header.Get("Authorization"))
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Path", r.URL.String())
	if r.URL.Path == "/redirect" {
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}
})

func roundTrip(t *testing.T, rt http.RoundTripper, url string) (*http.Response, *http.Request) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp, req
}

func TestTransport_SpeaksPlainlyToTheNode(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // nobody is there
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	server := httptest.NewServer(echo)
	defer server.Close()
	rt, _ := transportOf(t, &Node{URL: server.URL})
	resp, _ := roundTrip(t, rt, server.URL+"/api/chat")
	for header, want := range map[string]string{
		"X-Host": strings.TrimPrefix(server.URL, "http://"), "X-Encoding": "", "X-Authorization": "",
		"X-Proto": "HTTP/1.1", "X-Path": "/api/chat",
	} {
		if got := resp.Header.Get(header); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
	if resp, _ := roundTrip(t, rt, server.URL+"/redirect"); resp.StatusCode != http.StatusFound {
		t.Errorf("a redirect was followed: %d", resp.StatusCode)
	}
}

func TestTransport_OwnHeadersAreNotSeenOutside(t *testing.T) {
	t.Setenv("TOKEN", "sesame")
	server := httptest.NewServer(echo)
	defer server.Close()
	rt, key := transportOf(t, &Node{URL: server.URL, Headers: map[string]string{"authorization": "Bearer {env.TOKEN}"}})
	resp, req := roundTrip(t, rt, server.URL)
	if got := resp.Header.Get("X-Authorization"); got != "Bearer sesame" {
		t.Errorf("the node got %q", got)
	}
	if len(req.Header) != 0 {
		t.Errorf("the caller's request was changed: %v", req.Header)
	}
	if strings.Contains(key, "sesame") {
		t.Errorf("the secret is in the key %s", key)
	}
}

func TestTransport_IdleConnectionsForAllSlots(t *testing.T) {
	for slots, want := range map[int]int{0: 64, 1: 64, 16: 64, 32: 128} {
		resolved, err := (&Node{URL: "10.0.0.1", Slots: slots}).resolve()
		if err != nil {
			t.Fatal(err)
		}
		if got := transportSettings(resolved, time.Second).KeepAlive.MaxIdleConnsPerHost; got != want {
			t.Errorf("slots %d: %d idle connections, want %d", slots, got, want)
		}
	}
}

func TestTransportKey_DiffersWithSettings(t *testing.T) {
	t.Setenv("TOKEN", "one")
	base := func() *Node {
		return &Node{URL: "https://10.0.0.1", Headers: map[string]string{"Authorization": "{env.TOKEN}"}, TLS: &reverseproxy.TLSConfig{}}
	}
	_, key := transportOf(t, base())
	if _, again := transportOf(t, base()); again != key {
		t.Error("equal settings have different keys")
	}
	for name, change := range map[string]func(*Node){
		"url":           func(n *Node) { n.URL = "https://10.0.0.2" },
		"header name":   func(n *Node) { n.Headers = map[string]string{"X-Api-Key": "{env.TOKEN}"} },
		"header value":  func(n *Node) { t.Setenv("TOKEN", "two") },
		"server_name":   func(n *Node) { n.TLS.ServerName = "ollama" },
		"no trust":      func(n *Node) { n.TLS.InsecureSkipVerify = true },
		"connections":   func(n *Node) { n.Slots = 100 },
		"further value": func(n *Node) { n.Headers["X-Team"] = "search" },
	} {
		n := base()
		change(n)
		if _, other := transportOf(t, n); other == key {
			t.Errorf("%s makes no difference", name)
		}
	}
}

func TestTransport_TrustsWhatTLSNames(t *testing.T) {
	server := httptest.NewUnstartedServer(echo)
	server.Config.ErrorLog = nil
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	trusting := func() *Node {
		return &Node{URL: server.URL, TLS: &reverseproxy.TLSConfig{
			CARaw: []byte(`{"provider":"file","pem_files":["` + file + `"]}`), ServerName: "example.com",
		}}
	}
	rt, key := transportOf(t, trusting())
	resp, _ := roundTrip(t, rt, server.URL)
	// A connection a call: what stalls one does not stall all.
	if got := resp.Header.Get("X-Proto"); got != "HTTP/1.1" {
		t.Errorf("got %s", got)
	}

	for name, n := range map[string]*Node{
		"no tls block": {URL: server.URL},
		"wrong name": {URL: server.URL, TLS: &reverseproxy.TLSConfig{
			CARaw: trusting().TLS.CARaw, ServerName: "other.example.org",
		}},
	} {
		rt, _ := transportOf(t, n)
		req, _ := http.NewRequest(http.MethodGet, server.URL, nil)
		if resp, err := rt.RoundTrip(req); err == nil {
			resp.Body.Close()
			t.Errorf("%s: it was trusted", name)
		}
	}

	// A certificate renewed in place is taken up by a forced reload.
	if err := os.WriteFile(file, append(certificate, certificate...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, renewed := transportOf(t, trusting()); renewed == key {
		t.Error("other contents of a certificate file make no difference")
	}
}

func TestTransport_PresentsItsCertificate(t *testing.T) {
	asked := false
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked = len(r.TLS.PeerCertificates) > 0
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	defer server.Close()
	cert, key := keyPair(t)
	t.Setenv("CERT_FILE", cert)
	rt, _ := transportOf(t, &Node{URL: server.URL, TLS: &reverseproxy.TLSConfig{
		InsecureSkipVerify: true, ClientCertificateFile: "{env.CERT_FILE}", ClientCertificateKeyFile: key,
	}})
	roundTrip(t, rt, server.URL)
	if !asked {
		t.Error("the node saw no certificate")
	}
}

func TestTransport_RunningRequestOutlivesDestruct(t *testing.T) {
	proceed := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		<-proceed
		io.WriteString(w, "end")
	}))
	defer server.Close()
	n, err := (&Node{URL: server.URL}).resolve()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	rt, key, err := loadTransport(ctx, n, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequest(http.MethodGet, server.URL, nil)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	if deleted, err := transports.Delete(key); !deleted || err != nil {
		t.Errorf("delete: %t, %v", deleted, err)
	}
	close(proceed)
	if text, err := io.ReadAll(resp.Body); string(text) != "end" || err != nil {
		t.Errorf("got %q, %v", text, err)
	}
}
