package main

import (
	"bufio"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for anything to happen. It is far above what a slow
// machine needs; a test that passes never waits that long.
const patience = 45 * time.Second

// A process is a running command and what it has said so far.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and all it said was read

	mu    sync.Mutex // guards what follows
	said  []string
	heard chan struct{} // closed and replaced with each line
}

// start runs the binary with env as its whole environment, in a directory of its own. It is
// killed when the test ends, and if that failed, what it said is told.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	return startCommand(t, binary, env, args...)
}

// startCommand is start for another command.
func startCommand(t *testing.T, path string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), done: make(chan struct{}), heard: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = env, t.TempDir()
	r, w := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
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
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%q said:\n%s", p.cmd.Args, p.output())
		}
	})
	return p
}

// output is everything said so far.
func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "\n")
}

// wait waits until what was said is enough. It tells whether it was when the process had
// ended.
func (p *process) wait(what string, enough func(said []string) bool) bool {
	p.t.Helper()
	deadline := time.After(patience)
	for ended := false; ; {
		p.mu.Lock()
		heard, ok := p.heard, enough(p.said)
		p.mu.Unlock()
		if ok || ended {
			return ok
		}
		select {
		case <-heard:
		case <-p.done:
			ended = true // look once more: it may have been the last word
		case <-deadline:
			p.t.Fatalf("%q did not say %s in %s", p.cmd.Args, what, patience)
		}
	}
}

// waitFor waits until text was said.
func (p *process) waitFor(text string) bool {
	p.t.Helper()
	return p.wait(text, func(said []string) bool {
		return slices.ContainsFunc(said, func(line string) bool { return strings.Contains(line, text) })
	})
}

// rests waits for n lines that begin with text and gives the rest of each; fewer if the
// process ends before.
func (p *process) rests(text string, n int) (found []string) {
	p.t.Helper()
	p.wait(text, func(said []string) bool {
		found = found[:0]
		for _, line := range said {
			if rest, ok := strings.CutPrefix(line, text); ok && len(found) < n {
				found = append(found, rest)
			}
		}
		return len(found) == n
	})
	return found
}

// end sends a signal and gives the exit code.
func (p *process) end(signal os.Signal) int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
	return p.ended()
}

// ended waits for the end and gives the exit code.
func (p *process) ended() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("%q does not end", p.cmd.Args)
		return -1
	}
}

// freePort is a port nobody listens on now. Somebody may take it before it is used, so who
// needs it tries again.
func freePort(t *testing.T) string {
	t.Helper()
	// Below the ports that the kernel gives to outgoing connections, or one of these may take it
	// before the process does that it is for.
	for range 1000 {
		port := strconv.Itoa(20000 + rand.IntN(10000))
		if ln, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			ln.Close()
			return port
		}
	}
	t.Fatal("no free port below those of the kernel")
	return ""
}

// startSimulate runs simulated nodes on free ports and gives their URLs.
func startSimulate(t *testing.T, count int, args ...string) (*process, []string) {
	t.Helper()
	args = append([]string{"simulate", "--listen", "127.0.0.1:0", "--count", strconv.Itoa(count)}, args...)
	p := start(t, nil, args...)
	urls := p.rests("simulated Ollama node listens on ", count)
	if len(urls) != count {
		t.Fatalf("%q ended:\n%s", args, p.output())
	}
	return p, urls
}
