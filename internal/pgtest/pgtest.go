// Package pgtest runs a real PostgreSQL for a test. Only tests import it.
package pgtest

import (
	"bytes"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver
)

// A Server is a PostgreSQL of this test alone, on a unix socket. What it stores lasts until the test
// ends, over Stop and Start.
type Server struct {
	t         testing.TB
	dir       string
	owner     *syscall.Credential // nil: this user
	cmd       *exec.Cmd           // nil while it is stopped
	ended     chan struct{}
	databases int
}

// Start makes a cluster and runs it until the test ends. Without PostgreSQL the test fails: what it
// promises would stay unproven.
func Start(t testing.TB) *Server {
	t.Helper()
	// The path of a socket must be short; that of t.TempDir has the name of the test in it.
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, dir: dir}
	t.Cleanup(func() {
		s.Stop()
		os.RemoveAll(dir)
	})
	if os.Getuid() == 0 { // it refuses to run as root
		s.owner = postgresUser(t)
		if err := os.Chown(dir, int(s.owner.Uid), int(s.owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	initdb := s.command("initdb", "--pgdata", s.cluster(), "--username", "blog", "--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	s.Start()
	return s
}

func (s *Server) cluster() string { return filepath.Join(s.dir, "data") }

func postgresUser(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("PostgreSQL does not run as root, and there is no other user for it: %v", err)
	}
	var c syscall.Credential
	if _, err := fmt.Sscan(u.Uid+" "+u.Gid, &c.Uid, &c.Gid); err != nil {
		t.Fatal(err)
	}
	return &c
}

// command is one of PostgreSQL's programs, of which Debian has only the clients in the PATH.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	s.t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		installed, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
		if len(installed) == 0 {
			s.t.Fatal("PostgreSQL is not installed, and this test needs a real one: run make need-postgres")
		}
		path = installed[len(installed)-1]
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = s.dir // one that its user may enter
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	if s.owner != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.owner}
	}
	return cmd
}

// Start runs a server that was stopped.
func (s *Server) Start() {
	s.t.Helper()
	cmd := s.command("postgres", "-D", s.cluster(), "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "shared_buffers=16MB")
	log, err := os.Create(s.log())
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start postgres: %v", err)
	}
	s.cmd, s.ended = cmd, make(chan struct{})
	go func(ended chan struct{}) { // ends with the server: see Stop
		_ = cmd.Wait()
		close(ended)
	}(s.ended)
	db, err := sql.Open("pgx", s.url("postgres"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = db.Ping(); err == nil {
			return
		}
		select {
		case <-s.ended:
			s.t.Fatalf("postgres ended at its start: %s", s.tail())
		default:
		}
	}
	s.t.Fatalf("postgres does not answer: %v: %s", err, s.tail())
}

// Stop ends the server and all its connections at once. It does nothing while there is none.
func (s *Server) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // "immediate"; SIGKILL would leave its children
	<-s.ended
	s.cmd = nil
}

// Database makes an empty database and returns its URL.
func (s *Server) Database() string {
	s.t.Helper()
	s.databases++
	name := fmt.Sprintf("test%d", s.databases)
	s.Exec("postgres", "CREATE DATABASE "+name)
	return s.url(name)
}

// Exec has the server do something in a database, past the code under test.
func (s *Server) Exec(database, statements string) {
	s.t.Helper()
	db, err := sql.Open("pgx", s.url(database))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statements); err != nil {
		s.t.Fatalf("postgres: %s: %v", statements, err)
	}
}

func (s *Server) url(database string) string {
	return "postgres:///" + database + "?" + url.Values{"host": {s.dir}, "user": {"blog"}}.Encode()
}

func (s *Server) log() string { return filepath.Join(s.dir, "log") }

func (s *Server) tail() string {
	text, _ := os.ReadFile(s.log())
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// Dump is a database as SQL.
func (s *Server) Dump(url string) []byte {
	s.t.Helper()
	out, err := s.command("pg_dump", "--no-owner", "--inserts", url).Output()
	if err != nil {
		s.t.Fatalf("pg_dump: %v", err)
	}
	// Later minor versions write \restrict with a random word, which psql of earlier ones does not know.
	return regexp.MustCompile(`(?m)^\\(un)?restrict .*\n`).ReplaceAll(out, nil)
}

// Restore fills an empty database with what Dump said.
func (s *Server) Restore(url string, dump []byte) {
	s.t.Helper()
	psql := s.command("psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", url)
	psql.Stdin = bytes.NewReader(dump)
	if out, err := psql.CombinedOutput(); err != nil {
		s.t.Fatalf("psql: %v: %s", err, out)
	}
}
