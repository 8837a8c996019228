package simnode_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

// A socket is a node behind real sockets, and a client of it.
type socket struct {
	*testing.T
	node   *simnode.Node
	server *simnode.Server
	client *http.Client
}

func newSocket(t *testing.T, opts simnode.ServerOptions) *socket {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	node := simnode.New(simnode.Options{Models: []simnode.Model{{Name: "a", LoadTime: 1, DecodeRate: 1e6}}})
	s := &socket{T: t, node: node, server: simnode.Serve(l, node, opts)}
	transport := &http.Transport{}
	if opts.TLS != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: opts.TLS.Roots()}
	}
	s.client = &http.Client{Transport: transport, Timeout: 5 * time.Second}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		s.server.Close()
		s.node.Close()
	})
	return s
}

func (s *socket) faults(list ...simnode.Fault) {
	s.Helper()
	if err := s.node.SetFaults(list...); err != nil {
		s.Fatal(err)
	}
}

// ask sends a prompt and returns what came of the answer.
func (s *socket) ask() (body string, err error) {
	resp, err := s.client.Post(s.server.URL()+"/api/generate", "", strings.NewReader(`{"model":"a","prompt":"x","options":{"num_predict":5}}`))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}

// soon waits for what the server's own goroutine does after a change.
func (s *socket) soon(what string, f func() bool) {
	s.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.Errorf("%s: not within 5 s", what)
}

func (s *socket) refuses() bool {
	_, err := s.ask()
	return errors.Is(err, syscall.ECONNREFUSED)
}

func (s *socket) answers() bool {
	body, err := s.ask()
	return err == nil && strings.Contains(body, `"done":true`)
}

func TestServer_RefusesAndComesBackOnItsPort(t *testing.T) {
	s := newSocket(t, simnode.ServerOptions{})
	if !s.answers() {
		t.Fatal("it does not answer")
	}
	for range 3 {
		s.faults(simnode.Fault{Refuse: true})
		s.soon("refuse", s.refuses)
		s.faults()
		s.soon("answer", s.answers)
	}
	s.faults(simnode.Fault{Refuse: true, For: 50 * time.Millisecond})
	s.soon("refuse for a while", s.refuses)
	s.soon("come back", s.answers)
}

func TestServer_DeathRefusesAndCutsIdleConnections(t *testing.T) {
	s := newSocket(t, simnode.ServerOptions{})
	idle, err := net.Dial("tcp", s.server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if !s.answers() { // and so the idle one has been accepted
		t.Fatal("it does not answer")
	}
	s.node.Kill()
	_ = idle.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := idle.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Errorf("the idle connection: %v", err)
	}
	s.soon("refuse", s.refuses)
	s.node.Restart()
	s.soon("answer", s.answers)
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func TestServer_HangsOnAccept(t *testing.T) {
	s := newSocket(t, simnode.ServerOptions{})
	s.faults(simnode.Fault{HangAccept: true})
	s.soon("hang", func() bool {
		conn, err := net.DialTimeout("tcp", s.server.Addr().String(), 100*time.Millisecond)
		if err == nil {
			conn.Close()
			return runtime.GOOS != "linux" // elsewhere the backlog takes it
		}
		return isTimeout(err)
	})
	s.faults()
	s.soon("answer", s.answers)
}

func TestServer_IsDeaf(t *testing.T) {
	s := newSocket(t, simnode.ServerOptions{})
	s.faults(simnode.Fault{Deaf: true})
	var conn net.Conn
	defer func() { conn.Close() }()
	s.soon("deaf", func() bool {
		if conn != nil {
			conn.Close()
		}
		var err error
		if conn, err = net.Dial("tcp", s.server.Addr().String()); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = conn.Read(make([]byte, 1))
		return isTimeout(err)
	})
	s.faults()
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), "Ollama is running") {
		t.Errorf("when it hears again: %q, %v", got, err)
	}
}

func TestServer_ResetIsAReset(t *testing.T) {
	certificates, err := simnode.NewCertificates()
	if err != nil {
		t.Fatal(err)
	}
	for name, opts := range map[string]simnode.ServerOptions{"plain": {}, "TLS": {TLS: certificates}} {
		t.Run(name, func(t *testing.T) {
			s := newSocket(t, opts)
			for _, frames := range []int{0, 2} {
				s.faults(simnode.Fault{End: "reset", Frames: frames})
				if body, err := s.ask(); !errors.Is(err, syscall.ECONNRESET) || lines(body) != frames {
					t.Errorf("after %d frames: %q, %v", frames, body, err)
				}
			}
			s.faults(simnode.Fault{End: "close", Frames: 2})
			if body, err := s.ask(); !errors.Is(err, io.ErrUnexpectedEOF) || lines(body) != 2 {
				t.Errorf("close: %q, %v", body, err)
			}
			s.faults(simnode.Fault{End: "half", Frames: 2})
			if body, err := s.ask(); opts.TLS == nil && (!errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(body, `{"model"`) || strings.HasSuffix(body, "\n")) {
				t.Errorf("half: %q, %v", body, err)
			}
		})
	}
}

func TestServer_SpoilsTLS(t *testing.T) {
	certificates, err := simnode.NewCertificates()
	if err != nil {
		t.Fatal(err)
	}
	s := newSocket(t, simnode.ServerOptions{TLS: certificates})
	if !s.answers() {
		t.Fatal("it does not answer")
	}
	for fault, wrong := range map[string]func(error) bool{
		"expired": func(err error) bool {
			var e x509.CertificateInvalidError
			return errors.As(err, &e) && e.Reason == x509.Expired
		},
		"wrong-name": func(err error) bool { return errors.As(err, new(x509.HostnameError)) },
		"untrusted":  func(err error) bool { return errors.As(err, new(x509.UnknownAuthorityError)) },
		"plain": func(err error) bool {
			return err != nil && strings.Contains(err.Error(), "HTTP response to HTTPS client")
		},
	} {
		s.faults(simnode.Fault{TLS: fault})
		s.soon(fault, func() bool {
			s.client.CloseIdleConnections()
			_, err := s.ask()
			return wrong(err)
		})
	}
	s.faults()
	s.soon("answer", s.answers)
}

func TestServer_ClosesInEveryState(t *testing.T) {
	for name, f := range map[string]simnode.Fault{"refuse": {Refuse: true}, "hang": {HangAccept: true}, "deaf": {Deaf: true}, "open": {Never: true}} {
		t.Run(name, func(t *testing.T) {
			s := newSocket(t, simnode.ServerOptions{})
			s.faults(f)
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL()+"/api/chat", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if resp, err := s.client.Do(req); err == nil {
				resp.Body.Close()
			}
			s.server.Close()
			s.server.Close()
		})
	}
}
