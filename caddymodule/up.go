package caddymodule

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

var upCommand = caddycmd.Command{
	Name:  "up",
	Usage: "[--demo|--node URL...] [--listen ADDR:PORT] [--https PORT] [--blog off] [--log-level LEVEL] [--print-config]",
	Short: "Serves Ollama nodes as one, without a file",
	Long: `
Serves Ollama's API in front of one node or many, and needs no file for it.

The nodes are those of --node (once for each), else of OLLAMA_NODES (separated by commas), else
of OLLAMA_HOST, else http://127.0.0.1:11434. OLLAMA_NUM_PARALLEL is the number of slots of each.
If nothing is named and nobody listens on 127.0.0.1:11434, three simulated nodes are started.

With --demo there are three simulated nodes and clients that ask them all the time: something to
look at. The status page shows it, and "top".

The API is on http://localhost:8080 and, with a certificate of Caddy's local authority, on
https://localhost:8443. There a browser gets a blog, whose posts are in blog.db in Caddy's data
directory; --blog off leaves it out. Only this machine can connect. --listen moves the first:

	--listen localhost:9000     another port, this machine only
	--listen 10.0.0.5:8080      one address of this machine
	--listen :8080              every address of this machine

Who can connect from elsewhere may not change what the nodes have: when --listen says more
than this machine, "manage" is denied on both.

On /status there is a page that shows what the gateway does, for this machine alone. The admin
endpoint is a socket in Caddy's data directory that only this user can reach; "nodes" and "top"
ask it. No configuration is saved, no trust store is touched, no root is needed.
`,
	CobraFunc: func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.Bool("demo", false, "serve three simulated nodes, with clients that ask them all the time")
		f.StringArray("node", nil, "URL of an Ollama node, once for each node")
		f.String("listen", defaultListen, "where HTTP is served: ADDR, ADDR:PORT, or :PORT for every address")
		f.String("https", defaultHTTPS, "port of HTTPS on localhost, or off")
		f.String("blog", "on", "on, or off for no blog on HTTPS")
		f.String("log-level", "warn", "what is logged: debug, info, warn or error")
		f.Bool("print-config", false, "print the Caddyfile and exit")
		plain(cmd, up)
	},
}

// up serves until the process is told to leave.
func up(cmd *cobra.Command) error {
	plan, err := planUp(cmd)
	if err != nil {
		return err
	}
	text, err := plan.caddyfile()
	if err != nil {
		return err
	}
	config, err := adaptUp(text)
	if err != nil {
		return err
	}
	if f := (caddycmd.Flags{FlagSet: cmd.Flags()}); f.Bool("print-config") {
		plan.notice(cmd.ErrOrStderr())
		_, err := cmd.OutOrStdout().Write(text)
		return err
	}
	for _, l := range plan.listeners() {
		if err := l.checkFree(); err != nil {
			return err
		}
	}
	if err := claimSocket(plan.socket); err != nil {
		return err
	}

	plan.notice(cmd.ErrOrStderr())
	caddy.TrapSignals()
	if err := caddy.Load(config, true); err != nil {
		return fmt.Errorf("the gateway does not start: %w", err)
	}
	announce(cmd.Context(), cmd.OutOrStdout(), plan)
	announceBlog(cmd.Context(), cmd.OutOrStdout(), plan)
	if plan.demo {
		(&demo{url: plan.http.url("http")}).run(context.Background()) // ends with the process
	}
	select {} // a signal ends the process; nothing after this runs
}

// planUp finds out what to serve and where. If it takes simulated nodes, they run from here to
// the end of the process: their ports are in the plan.
func planUp(cmd *cobra.Command) (upPlan, error) {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	var (
		p   upPlan
		err error
	)
	if p.http, err = parseListen(f.String("listen")); err != nil {
		return p, err
	}
	if p.https, err = parseHTTPS(f.String("https")); err != nil {
		return p, err
	}
	p.http = p.http.withoutMissing()
	if p.https != nil {
		https := p.https.withoutMissing()
		p.https = &https
		if p.https.port == p.http.port {
			return p, fmt.Errorf("HTTP and HTTPS cannot share port %s; choose another with --https PORT", p.http.port)
		}
	}
	if p.logLevel, err = parseLogLevel(f.String("log-level")); err != nil {
		return p, err
	}
	switch word := f.String("blog"); word {
	case "on":
		p.blog = true
	case "off":
	default:
		return p, fmt.Errorf("--blog %s: say on or off", word)
	}
	if p.socket, err = socketPath(); err != nil {
		return p, err
	}
	nodes, err := cmd.Flags().GetStringArray("node")
	if err != nil {
		return p, err
	}
	if f.Bool("demo") {
		if len(nodes) > 0 {
			return p, errors.New("--demo has nodes of its own; leave out --node")
		}
		p.demo = true
		p.found, err = startSimulatedFleet(simulatedFleet, demoSlots, demoFault())
		return p, err
	}
	if p.found, err = findNodes(nodes, os.Getenv); err != nil {
		return p, err
	}
	if p.found.origin == "" && refuses(p.found.nodes[0].URL.Host) {
		p.simulated = true
		p.found, err = startSimulatedFleet(simulatedFleet, p.found.slots)
		return p, err
	}
	return p, checkNotOwn(p.found, p.listeners())
}

func (p upPlan) listeners() []upListener {
	if p.https == nil {
		return []upListener{p.http}
	}
	return []upListener{p.http, *p.https}
}

func parseLogLevel(word string) (string, error) {
	levels := []string{"debug", "info", "warn", "error"}
	if !slices.Contains(levels, strings.ToLower(word)) {
		return "", fmt.Errorf("--log-level %s: say one of %s", word, strings.Join(levels, ", "))
	}
	return strings.ToUpper(word), nil
}

// simulatedFleet is how many nodes are simulated: enough to see requests spread.
const simulatedFleet = 3

// notice says loudly that nothing here is real, if that is so.
func (p upPlan) notice(w io.Writer) {
	switch {
	case p.demo:
		io.WriteString(w, demoNotice)
	case p.simulated:
		io.WriteString(w, simulationNotice)
	}
}

const simulationNotice = `
  ------------------------------------------------------------------------------
  No Ollama node is named, and nobody listens on 127.0.0.1:11434.
  Three SIMULATED nodes are started instead: their models are called sim-*, and
  what they say is made up. For real answers start Ollama, or name the nodes:

      --node http://10.0.0.1:11434 --node http://10.0.0.2:11434
  ------------------------------------------------------------------------------

`

// refuseWait is how long the default node may take to accept a connection. A machine that is
// this slow has a node all the same.
const refuseWait = 2 * time.Second

// refuses tells whether nobody listens at the address.
func refuses(address string) bool {
	conn, err := net.DialTimeout("tcp", address, refuseWait)
	if err == nil {
		conn.Close()
		return false
	}
	var slow net.Error
	return !errors.As(err, &slow) || !slow.Timeout()
}

// maxSocketPath is the shortest bound on a socket's path among systems: macOS, 104 with the
// terminating zero.
const maxSocketPath = 103

// socketPath is where `up` has its admin endpoint and `nodes` looks for it.
func socketPath() (string, error) {
	path, err := filepath.Abs(filepath.Join(caddy.AppDataDir(), "ollama-up.sock"))
	if err != nil {
		return "", fmt.Errorf("finding the data directory: %w", err)
	}
	return path, nil
}

// claimSocket makes the data directory and makes sure that no other `up` has its socket
// there: Caddy would take it away from that one without a word.
func claimSocket(path string) error {
	dir := filepath.Dir(path)
	if len(path) > maxSocketPath {
		return fmt.Errorf("the path of the data directory %s is too long for a socket; name a shorter one with XDG_DATA_HOME", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("making the data directory: %w; choose another with XDG_DATA_HOME", err)
	}
	if !answers(path) {
		return nil // none, or a file that a killed one left behind
	}
	return fmt.Errorf("another `up` runs with the data directory %s; stop it, or give this one a directory of its own with XDG_DATA_HOME", dir)
}
