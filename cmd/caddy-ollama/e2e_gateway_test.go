package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A gateway is a running `up` with a home of its own.
type gateway struct {
	*process
	env      []string // HOME, TMPDIR and what the test adds
	home     string
	tmp      string
	dataDir  string
	httpPort string
	tlsPort  string
}

// startUp starts `up` with a home, the variables of env and nothing else in its environment,
// and waits until it is READY. It listens on free ports.
func startUp(t *testing.T, env []string, args ...string) *gateway {
	t.Helper()
	g := &gateway{home: t.TempDir(), tmp: t.TempDir()}
	g.env = append([]string{"HOME=" + g.home, "TMPDIR=" + g.tmp}, env...)
	g.dataDir = filepath.Join(g.home, ".local", "share", "caddy")
	for range 3 { // somebody else may take a port that was free
		g.httpPort, g.tlsPort = freePort(t), freePort(t)
		g.process = start(t, g.env, append([]string{"up", "--listen", "localhost:" + g.httpPort, "--https", g.tlsPort}, args...)...)
		if g.waitFor("READY") {
			return g
		}
		if !strings.Contains(g.output(), "is in use") {
			break
		}
	}
	t.Fatalf("up ended:\n%s", g.output())
	return nil
}

// client trusts the gateway's own authority and speaks one protocol.
func (g *gateway) client(protocol string) *http.Client {
	g.t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols)}
	switch protocol {
	case "HTTP/1.1":
		transport.Protocols.SetHTTP1(true)
	case "HTTP/2.0":
		transport.Protocols.SetHTTP2(true)
	case "h2c":
		transport.Protocols.SetUnencryptedHTTP2(true)
	default:
		g.t.Fatalf("unknown protocol %s", protocol)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: g.authority()}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// authority is the root certificate that `up` tells of.
func (g *gateway) authority() *x509.CertPool {
	g.t.Helper()
	return authorityIn(g.t, g.dataDir)
}

func authorityIn(t *testing.T, dataDir string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(dataDir, "pki", "authorities", "local", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("the root certificate is no certificate")
	}
	return pool
}

// A nodeStatus is what these tests read of `nodes --json`.
type nodeStatus struct {
	Name     string
	URL      string
	State    string
	Slots    int
	InFlight int `json:"in_flight"`
}

// nodes asks the command.
func (g *gateway) nodes() []nodeStatus {
	g.t.Helper()
	var nodes []nodeStatus
	if err := json.Unmarshal([]byte(mustAsk(g.t, g.env, "nodes", "--json")), &nodes); err != nil {
		g.t.Fatal(err)
	}
	return nodes
}

// waitForNodes asks the command until enough is true.
func (g *gateway) waitForNodes(what string, enough func([]nodeStatus) bool) {
	g.t.Helper()
	var nodes []nodeStatus
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if nodes = g.nodes(); enough(nodes) {
			return
		}
	}
	g.t.Fatalf("no %s: %+v", what, nodes)
}

// A frame is a line of a streamed answer, and when it was there.
type frame struct {
	text string
	at   time.Time
}

// A stream is a streamed answer to its end.
type stream struct {
	status      int
	proto       string
	contentType string
	frames      []frame
	err         error // other than the end
}

// last is the last line, "" if there was none.
func (s *stream) last() string {
	if len(s.frames) == 0 {
		return ""
	}
	return s.frames[len(s.frames)-1].text
}

// askStream posts a body and reads the answer line by line; began, if any, is called once the first
// one is there.
func askStream(ctx context.Context, client *http.Client, url, body string, began func()) *stream {
	s := new(stream)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return &stream{err: err}
	}
	resp, err := client.Do(r)
	if err != nil {
		return &stream{err: err}
	}
	defer resp.Body.Close()
	s.status, s.proto, s.contentType = resp.StatusCode, resp.Proto, resp.Header.Get("Content-Type")
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		if text := strings.TrimSpace(line); text != "" {
			s.frames = append(s.frames, frame{text, time.Now()})
			if len(s.frames) == 1 && began != nil {
				began()
			}
		}
		if err == io.EOF {
			return s
		}
		if err != nil {
			s.err = err
			return s
		}
	}
}

// get is a GET whose answer is short.
func get(t *testing.T, client *http.Client, url, host string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// base is a URL without path.
func base(scheme, host, port string) string { return scheme + "://" + net.JoinHostPort(host, port) }
