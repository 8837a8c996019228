package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Where `up` listens unless it is told otherwise.
const (
	defaultListen = "localhost:8080"
	defaultHTTPS  = "8443"
)

// An upListener is where `up` serves one protocol.
type upListener struct {
	flag  string       // that moves it
	shown string       // the host in URLs that are told to people
	hosts []netip.Addr // none: every interface
	port  string
}

// loopbacks are the addresses that only this machine can connect to.
var loopbacks = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// parseListen reads --listen: HOST, HOST:PORT or :PORT. HOST is an IP address, or localhost
// for both loopback addresses; without it every interface is meant.
func parseListen(text string) (upListener, error) {
	_, defaultPort, _ := net.SplitHostPort(defaultListen)
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), defaultPort
	}
	l := upListener{flag: "--listen", shown: "localhost", port: port}
	if err := checkPort(port); err != nil {
		return upListener{}, fmt.Errorf("--listen %s: %w", text, err)
	}
	switch addr, err := netip.ParseAddr(host); {
	case host == "" && err != nil && text != "":
	case strings.EqualFold(host, "localhost"):
		l.hosts = loopbacks
	case err != nil:
		return upListener{}, fmt.Errorf("--listen %s: say an IP address, localhost, or only :%s for every interface", text, port)
	default:
		l.hosts = []netip.Addr{addr}
		if !addr.IsUnspecified() {
			l.shown = addr.String()
		}
	}
	return l, nil
}

// parseHTTPS reads --https: a port on the loopback addresses. off gives no listener.
func parseHTTPS(text string) (*upListener, error) {
	if text == "off" {
		return nil, nil
	}
	if err := checkPort(text); err != nil {
		return nil, fmt.Errorf("--https %s: %w; off turns HTTPS off", text, err)
	}
	return &upListener{flag: "--https", shown: "localhost", hosts: loopbacks, port: text}, nil
}

func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port from 1 to 65535", port)
	}
	return nil
}

// private tells whether only this machine can connect.
func (l upListener) private() bool {
	return len(l.hosts) > 0 && !slices.ContainsFunc(l.hosts, func(a netip.Addr) bool { return !a.IsLoopback() })
}

// Binds are the addresses as Caddy's bind directive takes them; an empty one is every
// interface.
func (l upListener) Binds() []string {
	if len(l.hosts) == 0 {
		return []string{`""`}
	}
	binds := make([]string, len(l.hosts))
	for i, a := range l.hosts {
		binds[i] = a.String()
	}
	return binds
}

// url is how people reach the listener.
func (l upListener) url(scheme string) string {
	return scheme + "://" + net.JoinHostPort(l.shown, l.port)
}

// Port is the port of the listener.
func (l upListener) Port() string { return l.port }

// withoutMissing leaves out ::1 where the machine has no such address: on many containers
// IPv6 is off, and one address that cannot be bound would keep everything from starting.
func (l upListener) withoutMissing() upListener {
	if len(l.hosts) < 2 {
		return l
	}
	l.hosts = slices.DeleteFunc(slices.Clone(l.hosts), func(a netip.Addr) bool {
		if a.Is4() {
			return false
		}
		probe, err := net.Listen("tcp", net.JoinHostPort(a.String(), "0"))
		if err != nil {
			return true
		}
		probe.Close()
		return false
	})
	return l
}

// checkFree reports a port that another process has. Caddy itself would not notice another
// Caddy: both would share the port and take connections in turn.
func (l upListener) checkFree() error {
	for _, address := range l.addresses() {
		probe, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			probe.Close()
		case errors.Is(err, syscall.EADDRINUSE):
			return fmt.Errorf("%s is in use by another program; choose another port with %s", address, l.example())
		case errors.Is(err, syscall.EACCES):
			return fmt.Errorf("this user may not listen on %s; choose a port above 1023 with %s", address, l.example())
		default:
			return fmt.Errorf("cannot listen on %s (%w); choose another address with %s", address, err, l.example())
		}
	}
	return nil
}

// addresses are what is listened on, as host:port.
func (l upListener) addresses() []string {
	if len(l.hosts) == 0 {
		return []string{":" + l.port}
	}
	addresses := make([]string, len(l.hosts))
	for i, a := range l.hosts {
		addresses[i] = net.JoinHostPort(a.String(), l.port)
	}
	return addresses
}

// example is a flag that would help, with a port that is probably free.
func (l upListener) example() string {
	port, _ := strconv.Atoi(l.port) // it was checked when it was read
	if port++; port > 65535 {
		port = 8081
	}
	if l.flag == "--https" {
		return fmt.Sprintf("--https %d, or turn HTTPS off with --https off", port)
	}
	return fmt.Sprintf("--listen localhost:%d", port)
}

// checkNotOwn reports a node that is one of the listeners: a request would go round in
// circles. The gateway refuses such a configuration too, but cannot say which flag helps.
func checkNotOwn(found upNodes, listeners []upListener) error {
	own, err := localAddresses()
	if err != nil {
		return fmt.Errorf("reading this machine's addresses: %w", err)
	}
	for _, n := range found.nodes {
		for _, l := range listeners {
			for _, address := range l.addresses() {
				if !own.reaches(n.URL, address) {
					continue
				}
				origin := found.origin
				if origin == "" {
					origin = "Ollama's default address"
				}
				return fmt.Errorf("the node %s (from %s) is where this gateway itself would listen: name the Ollama nodes with --node, or listen elsewhere with %s",
					n.URL, origin, l.example())
			}
		}
	}
	return nil
}
