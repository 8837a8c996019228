package clients

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// patience is how long anything may take. It is far above what a slow machine needs; what
// passes never waits that long.
const patience = 45 * time.Second

// running are the processes that must not outlive the tests.
var running struct {
	mu        sync.Mutex // guards what follows
	processes []*process
}

// killAll ends what is left over.
func killAll() {
	running.mu.Lock()
	defer running.mu.Unlock()
	for _, p := range running.processes {
		p.kill()
	}
}

// A process is a running command and what it has said so far.
type process struct {
	cmd  *exec.Cmd
	dir  string
	done chan struct{} // closed when it has ended and all it said was read

	mu    sync.Mutex // guards what follows
	said  []string
	heard chan struct{} // closed and replaced with each line
}

// start runs the gateway's binary with env as its whole environment, in a directory of its own.
func start(env []string, args ...string) (*process, error) {
	dir, err := os.MkdirTemp(scrap, "")
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(binary, args...), dir: dir, done: make(chan struct{}), heard: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = env, dir
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	running.mu.Lock() // so that killAll misses none
	defer running.mu.Unlock()
	if err := p.cmd.Start(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	running.processes = append(running.processes, p)
	go func() { // ends with the process
		p.cmd.Wait()
		w.Close()
	}()
	go func() { // ends with the process
		defer close(p.done)
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			p.mu.Lock()
			p.said = append(p.said, lines.Text())
			close(p.heard)
			p.heard = make(chan struct{})
			p.mu.Unlock()
		}
		io.Copy(io.Discard, r) // a line too long for the scanner must not block the process
	}()
	return p, nil
}

// kill ends it as a crash would, and waits for the end. It may be called more than once.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
	os.RemoveAll(p.dir)
}

// output is everything said so far.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "\n")
}

// line waits for a line that has text in it.
func (p *process) line(text string) (string, error) {
	deadline := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		heard := p.heard
		i := slices.IndexFunc(p.said, func(line string) bool { return strings.Contains(line, text) })
		if i >= 0 {
			defer p.mu.Unlock()
			return p.said[i], nil
		}
		p.mu.Unlock()
		if ended {
			return "", fmt.Errorf("%q ended:\n%s", p.cmd.Args, p.output())
		}
		select {
		case <-heard:
		case <-p.done:
			ended = true // look once more: it may have been the last word
		case <-deadline:
			return "", fmt.Errorf("%q did not say %q in %s:\n%s", p.cmd.Args, text, patience, p.output())
		}
	}
}

// freePort is a port nobody listens on now. Somebody may take it before it is used, so who
// needs it tries again.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}
