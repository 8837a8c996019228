package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

var simulateCommand = caddycmd.Command{
	Name: "simulate",
	Usage: "[--listen ADDR:PORT] [--count N] [--slots N] [--models NAME,...] [--scale FACTOR] [--version V]\n" +
		"\t[--disk SIZE] [--write-rate SIZE] [--fault WORDS|JSON]... [--faults-admin] [--restart TIME] [--tls-ca FILE]",
	Short: "Runs simulated Ollama nodes to rehearse with",
	Long: `
Runs simulated Ollama nodes. They behave like Ollama servers in what matters to who stands in
front of them: slots, queue, load times, speeds, streams, error texts. What they say is made up.

With --count N, further nodes listen on the ports that follow; with port 0 each takes a free
one. Each node prints one line once it listens. They run until they are interrupted, and like
a server that is stopped they cut what they were answering.

Models can be pulled, pushed, created, copied and deleted. In the place of Ollama's registry the
nodes have one of their own, with the sim-* models and what was pushed; weights in it are
stand-ins, which no real server can load. So with --models sim-chat, "ollama pull sim-small"
brings one more. Registries that are named in a model's name are called as they are.
` + simulateFaultsHelp,
	CobraFunc: func(cmd *cobra.Command) {
		f := cmd.Flags()
		f.String("listen", net.JoinHostPort("127.0.0.1", defaultNodePort), "where the first node listens")
		f.Int("count", 1, "how many nodes")
		f.Int("slots", 1, "answers a model gives at once, as OLLAMA_NUM_PARALLEL")
		f.StringSlice("models", nil, "models the nodes have; names other than sim-* make plain ones (default all sim-* models)")
		f.Float64("scale", 1, "factor on every simulated time: 0.1 is ten times as fast")
		f.String("disk", "", "room each node has for models, as 20GB; what does not fit fails as on a full disk (default no bound)")
		f.String("write-rate", "", "what a node takes in of each pull and blob in a second, as 50MB (default as it comes)")
		f.String("version", "", "the Ollama version the nodes tell and speak like: from 0.30 the newest forms, else those of 0.24.0 (default 0.24.0)")
		faultFlags(cmd)
		plain(cmd, simulate)
	},
}

// maxSimulated bounds a slip of the keyboard.
const maxSimulated = 1000

// simulate runs nodes until the process is told to leave.
func simulate(cmd *cobra.Command) error {
	f := caddycmd.Flags{FlagSet: cmd.Flags()}
	names, err := cmd.Flags().GetStringSlice("models")
	if err != nil {
		return err
	}
	texts, err := cmd.Flags().GetStringArray("fault")
	if err != nil {
		return err
	}
	opts := simnode.Options{
		Slots: f.Int("slots"), Scale: f.Float64("scale"), Version: f.String("version"), Models: simulatedModels(names),
		Admin: f.Bool("faults-admin"), Restart: f.Duration("restart"),
	}
	switch {
	case opts.Slots < 1 || opts.Slots > maxSlots:
		return fmt.Errorf("--slots %d: say a number from 1 to %d", opts.Slots, maxSlots)
	case !(opts.Scale > 0):
		return fmt.Errorf("--scale %g: say a factor above 0, as 0.1 for ten times as fast", opts.Scale)
	case f.Int("count") < 1 || f.Int("count") > maxSimulated:
		return fmt.Errorf("--count %d: say a number from 1 to %d", f.Int("count"), maxSimulated)
	case opts.Restart < 0:
		return fmt.Errorf("--restart %v: say a time as 3s, or 0 for never", opts.Restart)
	}
	if opts.Disk, err = sizeFlag("disk", f.String("disk")); err != nil {
		return err
	}
	if opts.WriteRate, err = sizeFlag("write-rate", f.String("write-rate")); err != nil {
		return err
	}
	faults, err := simulatedFaults(texts, f.Int("count"))
	if err != nil {
		return err
	}
	var serving simnode.ServerOptions
	switch file := f.String("tls-ca"); {
	case file != "":
		if serving.TLS, err = simulatedCertificates(file); err != nil {
			return err
		}
	case needsTLS(faults):
		return errors.New("--fault tls=...: the nodes speak plain HTTP; add --tls-ca FILE")
	}
	listeners, err := listenInARow(f.String("listen"), f.Int("count"))
	if err != nil {
		return err
	}

	models, err := newSimulatedRegistry(opts.Models)
	if err != nil {
		return err
	}
	defer models.Close() // after the nodes
	opts.Registry = models

	leave := make(chan os.Signal, 1)
	signal.Notify(leave, os.Interrupt, syscall.SIGTERM)
	for i, ln := range listeners {
		opts.Dir = simulatedDir(i)
		node := startSimulated(ln, opts, serving)
		defer node.Close()
		if err := node.node.SetFaults(faultsOf(faults, i+1)...); err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), "simulated Ollama node listens on", node.url)
	}
	<-leave
	return nil
}

// simulatedModels are the sim-* models of these names, and plain models for other names; all
// of the former when nothing is named.
func simulatedModels(names []string) []simnode.Model {
	known := simnode.SimModels()
	if len(names) == 0 {
		return known
	}
	var models []simnode.Model
	for _, name := range names {
		model := simnode.Model{Name: name}
		if i := slices.IndexFunc(known, func(m simnode.Model) bool { return m.Name == name }); i >= 0 {
			model = known[i]
		}
		models = append(models, model)
	}
	return models
}

// listenInARow opens count listeners on ports that follow each other, or on free ports when
// the first is 0.
func listenInARow(address string, count int) ([]*net.TCPListener, error) {
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("--listen %s: say ADDR:PORT, as 127.0.0.1:%s", address, defaultNodePort)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port != 0 && int(port)+count-1 > 65535 {
		return nil, fmt.Errorf("--listen %s: the ports must lie between 0 and 65535", address)
	}
	listeners := make([]*net.TCPListener, 0, count)
	for i := range count {
		next := port
		if port != 0 {
			next += uint64(i)
		}
		ln, err := net.Listen("tcp", net.JoinHostPort(host, strconv.FormatUint(next, 10)))
		if err != nil {
			for _, open := range listeners {
				open.Close()
			}
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, fmt.Errorf("port %d is in use, perhaps by Ollama itself; choose another with --listen 127.0.0.1:PORT, or PORT 0 for a free one", next)
			}
			return nil, err
		}
		listeners = append(listeners, ln.(*net.TCPListener)) // as was asked for
	}
	return listeners, nil
}

// A simulated is a simulated node that serves.
type simulated struct {
	url    string
	node   *simnode.Node
	server *simnode.Server
}

// startSimulated serves a node on ln until Close. Like a real server on a loopback address it
// refuses foreign Host headers there.
func startSimulated(ln *net.TCPListener, opts simnode.Options, serving simnode.ServerOptions) *simulated {
	opts.CheckHost = ln.Addr().(*net.TCPAddr).AddrPort().Addr().Unmap().IsLoopback()
	node := simnode.New(opts)
	server := simnode.Serve(ln, node, serving)
	return &simulated{server.URL(), node, server}
}

// Close cuts what is being answered, as a server that is stopped does.
func (s *simulated) Close() {
	s.node.Close()
	s.server.Close()
}

// startSimulatedFleet starts nodes on free loopback ports that run as long as the process, and
// names them sim-1, sim-2, ... The faults are the last one's.
func startSimulatedFleet(count, slots int, faults ...simnode.Fault) (upNodes, error) {
	listeners, err := listenInARow("127.0.0.1:0", count)
	if err != nil {
		return upNodes{}, fmt.Errorf("starting simulated nodes: %w", err)
	}
	models, err := newSimulatedRegistry(nil)
	if err != nil {
		return upNodes{}, err
	}
	fleet := upNodes{origin: "the simulation", slots: slots}
	for i, ln := range listeners {
		s := startSimulated(ln, simnode.Options{
			Models: simnode.SimModels(), Slots: slots, Restart: supervised, Registry: models, Dir: simulatedDir(i),
		}, simnode.ServerOptions{})
		if i == count-1 {
			if err := s.node.SetFaults(faults...); err != nil {
				return upNodes{}, err
			}
		}
		n, err := parseNode(s.url)
		if err != nil {
			return upNodes{}, err
		}
		n.Name = "sim-" + strconv.Itoa(i+1)
		fleet.nodes = append(fleet.nodes, n)
	}
	return fleet, nil
}
