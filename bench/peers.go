package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"
	"time"
)

// The peers, by the names they have in the report.
const (
	direct  = "direct"
	caddy   = "caddy"
	gateway = "gateway"
)

// readyTimeout bounds the start of a process on a busy machine.
const readyTimeout = 30 * time.Second

// A peer is one way to the nodes.
type peer struct {
	name  string
	addrs []string // clients are spread over them
	pids  []int
	admin string // path of the admin socket, if it is a Caddy
}

// A fleet is the nodes and all peers before them, in processes of their own.
type fleet struct {
	nodes   []int // pids
	peers   []*peer
	running []*process
}

// nodeCount is what the reference measurements had.
const nodeCount = 4

// startFleet starts what a scenario needs, with files in dir. When a process ends before
// Close, lost is called.
func startFleet(ctx context.Context, binary, dir string, lost func(error)) (_ *fleet, err error) {
	f := new(fleet)
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	all := &peer{name: direct}
	for i := range nodeCount {
		n, err := startProcess(filepath.Join(dir, fmt.Sprintf("node-%d.log", i+1)), lost, nil, self, "-node")
		if err != nil {
			return nil, err
		}
		f.running = append(f.running, n)
		addr, err := bufio.NewReader(n.stdout).ReadString('\n')
		if err != nil {
			return nil, fmt.Errorf("a node did not tell its address: %w", err)
		}
		f.nodes = append(f.nodes, n.cmd.Process.Pid)
		all.addrs = append(all.addrs, strings.TrimSpace(addr))
	}
	f.peers = []*peer{all}
	for _, name := range []string{caddy, gateway} {
		p, proc, err := startCaddy(ctx, name, binary, dir, all.addrs, lost)
		if proc != nil {
			f.running = append(f.running, proc)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		f.peers = append(f.peers, p)
	}
	return f, nil
}

// Close ends all processes and waits for them.
func (f *fleet) Close() {
	for _, p := range f.running {
		p.stop()
	}
	for _, p := range f.running {
		<-p.done
	}
}

// A process is a child that ends with this one.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout io.Reader
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
}

// startProcess starts a child whose standard error goes to a file.
func startProcess(log string, lost func(error), env []string, name string, args ...string) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{cmd: exec.CommandContext(ctx, name, args...), cancel: cancel, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stderr = file
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	p.cmd.WaitDelay = 5 * time.Second // then it is killed
	endWithParent(p.cmd)
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		cancel()
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	p.cmd.Stdout, p.stdout = in, out
	err = p.cmd.Start()
	in.Close()
	if err != nil {
		cancel()
		out.Close()
		return nil, err
	}
	go func() { // ends with the child
		defer close(p.done)
		err := p.cmd.Wait()
		out.Close()
		if ctx.Err() == nil {
			lost(fmt.Errorf("%s has ended: %w\n%s", filepath.Base(log), orUnasked(err), tail(log)))
		}
	}()
	return p, nil
}

// orUnasked is an error also for a child that ended in order.
func orUnasked(err error) error {
	if err == nil {
		return errors.New("nobody asked it to")
	}
	return err
}

// tail is the end of a log.
func tail(file string) []byte {
	text, _ := os.ReadFile(file) // without it there is nothing to show
	return text[max(0, len(text)-2000):]
}

func (p *process) stop() {
	p.stdin.Close()
	p.cancel()
}

// caddyfiles are what the two proxies run: the same server, and in it either handler. The
// gateway has slots and a queue that nothing of the bench fills.
var caddyfiles = template.Must(template.New("").Parse(`{
	admin unix/{{.Admin}}
	persist_config off
	auto_https off
{{- if .Gateway}}
	ollama {
{{- range .Nodes}}
		node {{.}} {
			slots 512
		}
{{- end}}
		queue {
			max_length 8192
		}
	}
{{- end}}
}

http://:{{.Port}} {
	bind 127.0.0.1
{{- if .Gateway}}
	ollama
{{- else}}
	reverse_proxy {{range .Nodes}}{{.}} {{end}}{
		lb_policy least_conn
		flush_interval -1
	}
{{- end}}
}
`))

// startCaddy starts the binary as one of the two proxies, and returns when it serves. The
// process is not nil as soon as there is one.
func startCaddy(ctx context.Context, name, binary, dir string, nodes []string, lost func(error)) (*peer, *process, error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	p := &peer{
		name:  name,
		addrs: []string{fmt.Sprintf("127.0.0.1:%d", port)},
		admin: filepath.Join(dir, name+".sock"),
	}
	var text bytes.Buffer
	if err := caddyfiles.Execute(&text, struct {
		Admin   string
		Port    int
		Gateway bool
		Nodes   []string
	}{p.admin, port, name == gateway, nodes}); err != nil {
		return nil, nil, err
	}
	file := filepath.Join(dir, name+".Caddyfile")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return nil, nil, err
	}
	_ = os.Remove(p.admin) // of a process that was killed
	log := filepath.Join(dir, name+".log")
	env := []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir}
	proc, err := startProcess(log, lost, env, binary, "run", "--config", file, "--adapter", "caddyfile")
	if err != nil {
		return nil, nil, err
	}
	p.pids = []int{proc.cmd.Process.Pid}
	if err := p.ready(ctx, proc, len(nodes)); err != nil {
		return nil, proc, fmt.Errorf("%w\n%s", err, tail(log))
	}
	return p, proc, nil
}

// freePort is one that the kernel has just given and taken back.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// ready waits until the proxy answers a chat, and the gateway knows all nodes.
func (p *peer) ready(ctx context.Context, proc *process, nodes int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New("not ready in time"))
	defer cancel()
	c := &client{ctx: ctx, addr: p.addrs[0]}
	defer c.close()
	for {
		err := p.knowsNodes(ctx, nodes)
		if err == nil {
			err = c.ask(prompt{words: 1}, false, new(observer))
		}
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-proc.done:
			return errors.New("it has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// knowsNodes asks the gateway's admin API whether the nodes are up with their model loaded.
func (p *peer) knowsNodes(ctx context.Context, nodes int) error {
	if p.name != gateway {
		return nil
	}
	resp, err := p.ask(ctx, "/ollama/nodes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var states []struct {
		State   string
		Runners []struct{ Model string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&states); err != nil {
		return err
	}
	up := 0
	for _, s := range states {
		if s.State == "up" && len(s.Runners) == 1 && s.Runners[0].Model == model {
			up++
		}
	}
	if up != nodes {
		return fmt.Errorf("%d of %d nodes are up", up, nodes)
	}
	return nil
}

// ask gets something of the admin endpoint. The caller closes the body.
func (p *peer) ask(ctx context.Context, path string) (*http.Response, error) {
	t := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.admin)
		},
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: status %d", path, resp.StatusCode)
	}
	return resp, nil
}
