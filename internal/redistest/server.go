// Package redistest runs a real redis-server for a test, and a proxy before it that can be slow or
// broken. Only tests import it.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Server is a redis-server of this test alone, on a unix socket. It forgets all when it stops.
type Server struct {
	t      testing.TB
	socket string
	args   []string
	log    string
	cmd    *exec.Cmd // nil while it is stopped
	ended  chan struct{}
	client *redis.Client
}

// Start runs a server until the test ends. args are options of redis-server, as on its command
// line. Without a redis-server the test fails: what it promises would stay unproven.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("redis-server is not installed, and this test needs a real one: run make need-redis")
	}
	// The path of a socket must be short; that of t.TempDir has the name of the test in it.
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, socket: filepath.Join(dir, "redis.sock"), args: args, log: filepath.Join(dir, "log")}
	s.client = redis.NewClient(&redis.Options{Network: "unix", Addr: s.socket, Protocol: 2, MaxRetries: -1, DialerRetries: 1, ReadTimeout: 20 * time.Second})
	t.Cleanup(func() {
		s.client.Close()
		s.Stop()
		os.RemoveAll(dir)
	})
	s.Start()
	return s
}

// URL is that of the socket, without the proxy.
func (s *Server) URL() string { return "unix://" + s.socket }

// Start runs a server that was stopped. It is empty.
func (s *Server) Start() {
	s.t.Helper()
	args := append([]string{
		"--port", "0", "--unixsocket", s.socket, "--dir", filepath.Dir(s.socket), "--logfile", s.log,
		"--save", "", "--appendonly", "no", "--daemonize", "no",
	}, s.args...)
	cmd := exec.Command("redis-server", args...)
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start redis-server: %v", err)
	}
	s.cmd, s.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) { // ends with the server: see Stop
		_ = cmd.Wait()
		close(ended)
	}(s.ended)
	var err error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var conn net.Conn
		if conn, err = net.Dial("unix", s.socket); err == nil {
			conn.Close()
			return
		}
		select {
		case <-s.ended:
			s.t.Fatalf("redis-server ended at its start: %s", s.tail())
		default:
		}
	}
	s.t.Fatalf("redis-server does not listen: %v: %s", err, s.tail())
}

// Stop kills the server, as a power cut would. It does nothing while there is none.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	<-s.ended
	s.cmd = nil
	os.Remove(s.socket)
}

// Command has the server do something, past the client under test, and returns its reply; nil if
// that is nil. An error of the server fails the test.
func (s *Server) Command(args ...any) any {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	reply, err := s.client.Do(ctx, args...).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatalf("redis-server: %v: %v", args, err)
	}
	return reply
}

// Keys lists the keys there are, sorted by nothing.
func (s *Server) Keys() []string {
	s.t.Helper()
	var keys []string
	for _, k := range s.Command("KEYS", "*").([]any) {
		keys = append(keys, fmt.Sprint(k))
	}
	return keys
}

func (s *Server) tail() string {
	text, _ := os.ReadFile(s.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Until polls until what is so, and fails the test after ten seconds in which it never was.
func Until(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came about: %s", what)
		}
	}
}

// Info is a section of INFO, name to value.
func (s *Server) Info(section string) map[string]string {
	s.t.Helper()
	info := map[string]string{}
	for line := range strings.Lines(s.Command("INFO", section).(string)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[name] = value
		}
	}
	return info
}
