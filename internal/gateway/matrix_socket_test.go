package gateway

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
	"github.com/caddy-ollama/caddy-ollama/internal/simnode/registry"
)

// A street is a gateway before nodes on real sockets, for what pipes do not have.
type street struct {
	witness
	engine *Engine
	front  *httptest.Server
	nodes  []*simnode.Node
}

func newStreet(t *testing.T, nodes, slots int, dial time.Duration) *street {
	t.Helper()
	certificates, err := simnode.NewCertificates()
	if err != nil {
		t.Fatal(err)
	}
	s := &street{engine: NewEngine(slog.New(slog.DiscardHandler))}
	s.engine.Observe(&s.witness)
	way := simnode.NewPipe(published(t, registry.Options{}))
	t.Cleanup(way.Close)
	var config Config
	for i := range nodes {
		socket, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		n := simnode.New(simnode.Options{Models: simnode.GoldenModels(), Scale: 0.01, Slots: slots, Registry: way})
		if i == 0 { // so that it is the first choice
			load := httptest.NewRequest(http.MethodPost, "/api/generate", strings.NewReader(`{"model":"tiny","keep_alive":-1}`))
			n.ServeHTTP(httptest.NewRecorder(), load)
		}
		server := simnode.Serve(socket, n, simnode.ServerOptions{TLS: certificates})
		u, err := url.Parse(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{
			DialContext:       (&net.Dialer{Timeout: dial}).DialContext,
			TLSClientConfig:   &tls.Config{RootCAs: certificates.Roots()},
			DisableKeepAlives: true, // each call meets the door
		}
		t.Cleanup(func() { server.Close(); n.Close(); transport.CloseIdleConnections() })
		s.nodes = append(s.nodes, n)
		config.Nodes = append(config.Nodes, fleet.NodeConfig{Name: fmt.Sprintf("n%d", i), URL: u, Slots: slots, Transport: transport, Key: fmt.Sprint(i)})
	}
	site, err := NewSite(SiteConfig{Manage: true})
	if err != nil {
		t.Fatal(err)
	}
	settings := NewSettings(s.engine, config)
	settings.Attach()
	s.front = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { settings.Serve(w, r, Entry{Site: site}) }))
	t.Cleanup(func() {
		s.front.Close()
		s.engine.Close()
		<-s.engine.Closed()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.engine.fleet.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *street) ask(t *testing.T, f form) (int, string) {
	t.Helper()
	resp, err := http.Post(s.front.URL+f.path, "application/json", strings.NewReader(f.body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(all)
}

// ended is the outcome of the only request, which is told after its answer was read.
func (s *street) ended(t *testing.T) Record {
	t.Helper()
	for range 500 {
		s.mu.Lock()
		if len(s.records) > 0 {
			defer s.mu.Unlock()
			return s.records[0]
		}
		s.mu.Unlock()
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("no outcome")
	return Record{}
}

func (s *street) fail(t *testing.T, text string) {
	t.Helper()
	f, err := simnode.ParseFault(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.nodes[0].SetFaults(f); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // the socket has moved
}

// 3
func TestMatrix_ANodeThatCannotBeTrustedGetsNoRequest(t *testing.T) {
	for _, fault := range []string{"expired", "wrong-name", "untrusted", "plain"} {
		t.Run(fault, func(t *testing.T) {
			for nodes, want := range map[int]int{1: 502, 2: 200} {
				s := newStreet(t, nodes, 1, time.Second)
				s.fail(t, "tls="+fault)
				before := s.nodes[0].Stats().Requests["/api/chat"]
				code, answer := s.ask(t, forms[1])
				// A check may have seen it first; then no node is reachable.
				if code != want && !(nodes == 1 && code == 503) || nodes == 1 && !strings.HasPrefix(answer, `{"error":"`) {
					t.Errorf("with %d nodes: %d %s, want %d", nodes, code, answer, want)
				}
				if n := s.nodes[0].Stats().Requests["/api/chat"]; n != before {
					t.Error("the node was asked all the same")
				}
				got := s.ended(t)
				if nodes == 2 && got.Outcome != OK || nodes == 1 && got.Outcome != UpstreamError && got.Outcome != Overloaded {
					t.Errorf("with %d nodes: %+v", nodes, got)
				}
				if len(got.Tries) > 0 && got.Tries[0].Outcome != "tls_error" {
					t.Errorf("tries %+v, want a TLS error first", got.Tries)
				}
			}
		})
	}
}

// 2
func TestMatrix_ANodeThatDoesNotAcceptCostsTheDialTimeout(t *testing.T) {
	s := newStreet(t, 2, 1, 300*time.Millisecond)
	s.fail(t, "hang-accept")
	for range 4 {
		began := time.Now()
		code, answer := s.ask(t, forms[0])
		if took := time.Since(began); code != 200 || !strings.Contains(answer, forms[0].whole) || took > 3*time.Second {
			t.Errorf("%d %.200s after %v", code, answer, took)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tries < 5 {
		t.Errorf("%d tries for 4 calls: the node was not met", s.tries)
	}
}
