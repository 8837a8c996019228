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
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"text/template"
	"time"
)

// The peers, by the names they have in the report.
const (
	direct   = "direct"
	caddy    = "caddy"
	gateway  = "gateway"
	uncached = "uncached" // a gateway without the word cache, beside one with it
	redis    = "redis"    // a gateway whose answers are in Redis, beside one that has them in memory
	alone    = "alone"    // a gateway that answers each request by itself, beside one that does not
	coalesce = "coalesce" // a gateway with the word coalesce alone, beside one that batches, too
)

// isGateway tells whether a proxy is this project.
func isGateway(name string) bool { return name != caddy }

// readyTimeout bounds the start of a process on a busy machine.
const readyTimeout = 30 * time.Second

// A peer is one way to the nodes.
type peer struct {
	name  string
	addrs []string // clients are spread over them
	pids  []int
	admin string // path of the admin socket, if it is a Caddy
	cold  bool   // its nodes have no model loaded

	fixed  bool   // it answers everything with the answer to the first known prompt
	stores bool   // it answers known prompts without a node
	pages  []page // what clients ask it for, in turn; nil: they chat
}

// A fleet is the nodes and all peers before them, in processes of their own.
type fleet struct {
	setup   setup
	dir     string
	lost    func(error)
	nodes   []int // pids
	peers   []*peer
	running []*process
	redis   string // address, "" for none
}

// nodeCount is what the reference measurements had.
const nodeCount = 4

// A setup is what a fleet is made of.
type setup struct {
	node     []string   // what makes a child of this program a node
	each     [][]string // the same, of single nodes
	single   bool       // there is one node, and not nodeCount
	nodeless bool       // there is none
	cold     bool       // the nodes begin without a model loaded
	proxies  []string   // the peers besides direct
	config   *template.Template
	slots    int                 // of a node, for the gateway
	answers  func(*client) error // asks a peer something and checks the answer

	counts func(addr string) (account, error) // what a node has done so far; nil: nobody asks

	words  map[string][]string // what else stands in the global options of the gateways
	sites  map[string][]string // what else stands in the sites of the gateways
	caches map[string][]string // what stands in the block cache of the gateways that have one
	body   string              // what plain Caddy answers to everything; "": it asks the nodes
	redis  bool                // there is a redis-server

	furnish func(ctx context.Context, dir string) error // makes the files that the proxies need; nil: they need none
}

// plainSetup has nodes that answer at once, and both proxies.
var plainSetup = setup{
	node: []string{"-node"}, proxies: []string{caddy, gateway}, config: plainCaddyfile, slots: 512,
	answers: func(c *client) error { return c.ask(prompt{words: 1}, false, new(observer)) },
}

// startFleet starts what a scenario needs, with files in dir. When a process ends before
// Close, lost is called.
func startFleet(ctx context.Context, binary, dir string, with setup, lost func(error)) (_ *fleet, err error) {
	f := &fleet{setup: with, dir: dir, lost: lost}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	all := &peer{name: direct}
	count := nodeCount
	switch {
	case with.nodeless:
		count = 0
	case with.single:
		count = 1
	}
	if with.furnish != nil {
		if err := with.furnish(ctx, dir); err != nil {
			return nil, err
		}
	}
	for i := range count {
		n, addr, err := f.startNode(i, anyPort)
		if err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, n.cmd.Process.Pid)
		all.addrs = append(all.addrs, addr)
		if err := f.warm(ctx, addr); err != nil {
			return nil, err
		}
	}
	f.peers = []*peer{all}
	if with.redis {
		if err := f.startRedis(ctx); err != nil {
			return nil, err
		}
	}
	for _, name := range with.proxies {
		p, proc, err := f.startCaddy(ctx, name, binary, all.addrs)
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

// anyPort is where a node listens that has none yet.
const anyPort = "127.0.0.1:0"

// startNode starts node i and returns when it listens.
func (f *fleet) startNode(i int, listen string) (*process, string, error) {
	args := append(slices.Clone(f.setup.node), "-listen", listen)
	if i < len(f.setup.each) {
		args = append(args, f.setup.each[i]...)
	}
	n, err := f.startSelf(filepath.Join(f.dir, fmt.Sprintf("node-%d.log", i+1)), args...)
	if err != nil {
		return nil, "", err
	}
	addr, err := bufio.NewReader(n.stdout).ReadString('\n')
	if err != nil {
		return nil, "", fmt.Errorf("a node did not tell its address: %w", err)
	}
	return n, strings.TrimSpace(addr), nil
}

// startSelf starts this program once more, in another role.
func (f *fleet) startSelf(log string, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := startProcess(log, f.lost, nil, self, args...)
	if err == nil {
		f.running = append(f.running, p)
	}
	return p, err
}

// warm lets a node load its model.
func (f *fleet) warm(ctx context.Context, addr string) error {
	c := &client{ctx: ctx, addr: addr}
	defer c.close()
	if err := f.setup.answers(c); err != nil {
		return fmt.Errorf("a node does not answer: %w", err)
	}
	return nil
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
	stdin  io.WriteCloser
	stdout io.Reader
	cancel context.CancelFunc
	killed atomic.Bool   // on purpose
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
		if ctx.Err() == nil && !p.killed.Load() {
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

// kill ends it without a chance to do anything, and waits.
func (p *process) kill() error {
	p.killed.Store(true)
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

func (p *process) stop() {
	p.killed.Store(true) // it may end by itself, its input being over, before it is told to
	p.stdin.Close()
	p.cancel()
}

// startCaddy starts the binary as one of the two proxies, and returns when it serves. The
// process is not nil as soon as there is one.
func (f *fleet) startCaddy(ctx context.Context, name, binary string, nodes []string) (*peer, *process, error) {
	port, err := freePort()
	if err != nil {
		return nil, nil, err
	}
	p := &peer{
		name:  name,
		addrs: []string{fmt.Sprintf("127.0.0.1:%d", port)},
		admin: filepath.Join(f.dir, name+".sock"),
		cold:  f.setup.cold,
		fixed: name == caddy && f.setup.body != "",
	}
	cache := f.setup.caches[name]
	p.stores = p.fixed || cache != nil
	var text bytes.Buffer
	if err := f.setup.config.Execute(&text, caddyfileFields{
		Admin: p.admin, Port: port, Gateway: isGateway(name), Nodes: nodes, Slots: f.setup.slots,
		Words: f.setup.words[name], Site: f.setup.sites[name], Cache: cache, Shared: f.setup.redis, Body: f.setup.body, Dir: f.dir,
	}); err != nil {
		return nil, nil, err
	}
	file := filepath.Join(f.dir, name+".Caddyfile")
	if err := os.WriteFile(file, text.Bytes(), 0o600); err != nil {
		return nil, nil, err
	}
	_ = os.Remove(p.admin) // of a process that was killed
	log := filepath.Join(f.dir, name+".log")
	env := []string{"HOME=" + f.dir, "XDG_DATA_HOME=" + f.dir, "XDG_CONFIG_HOME=" + f.dir}
	if f.redis != "" {
		env = append(env, redisEnv+"=redis://"+f.redis+"/0", secretEnv+"=only this bench has it")
	}
	proc, err := startProcess(log, f.lost, env, binary, "run", "--config", file, "--adapter", "caddyfile")
	if err != nil {
		return nil, nil, err
	}
	p.pids = []int{proc.cmd.Process.Pid}
	if err := p.ready(ctx, proc, len(nodes), f.setup.answers); err != nil {
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
func (p *peer) ready(ctx context.Context, proc *process, nodes int, answers func(*client) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, errors.New("not ready in time"))
	defer cancel()
	c := &client{ctx: ctx, addr: p.addrs[0]}
	defer c.close()
	for {
		err := p.knowsNodes(ctx, nodes)
		if err == nil {
			err = answers(c)
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
	if !isGateway(p.name) || nodes == 0 {
		return nil
	}
	resp, err := p.ask(ctx, "/ollama/nodes")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var states []struct {
		State   string
		Runners []struct{}
	}
	if err := json.NewDecoder(resp.Body).Decode(&states); err != nil {
		return err
	}
	up := 0
	for _, s := range states {
		if s.State == "up" && (p.cold || len(s.Runners) > 0) {
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
