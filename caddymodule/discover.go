package caddymodule

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-ollama/caddy-ollama/internal/fleet"
)

// Discover finds nodes by a name that is looked up again and again. Nodes come and go with it,
// without a reload: one that goes finishes what it has. A lookup that fails changes nothing.
// What is found listens over `http`, and is called by its address.
type Discover struct {
	// What is looked up: `a`, the addresses of a host name, or `srv`, the targets of a service.
	Kind string `json:"kind"`

	// The host name with its port, as in `ollama.internal:11434`, or the service, as in
	// `_ollama._tcp.internal`. The port defaults to `11434`.
	Name string `json:"name"`

	// How often it is looked up, give or take a tenth. Default: 30s.
	Refresh caddy.Duration `json:"refresh,omitempty"`

	// How many answers each of the nodes gives at once for one model. Default: 1.
	Slots int `json:"slots,omitempty"`

	// Header fields set on every request to these nodes, as those of a node.
	Headers map[string]string `json:"headers,omitempty"`
}

// check tells what is wrong, and gives name and port apart.
func (d *Discover) check() (name string, port int, err error) {
	name = d.Name
	switch d.Kind {
	case fleet.DiscoverA:
		host, text, err := net.SplitHostPort(name)
		if err != nil {
			host, text = name, defaultNodePort
		}
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n == 0 {
			return "", 0, fmt.Errorf("discover: port %s does not exist; use one between 1 and 65535", text)
		}
		name, port = host, int(n)
	case fleet.DiscoverSRV:
		if strings.Contains(name, ":") {
			return "", 0, errors.New("discover srv: the records have the ports; leave out what follows the colon")
		}
	default:
		return "", 0, fmt.Errorf("unrecognized discover %q; use a or srv", d.Kind)
	}
	if name == "" || strings.ContainsAny(name, "/ {}") {
		return "", 0, fmt.Errorf("discover: %q is not a name; write it as in ollama.internal:11434 or _ollama._tcp.internal", d.Name)
	}
	_, err = (&Node{URL: "127.0.0.1", Slots: d.Slots, Headers: d.Headers}).resolve()
	if err == nil && d.Refresh < 0 {
		err = errors.New("refresh must not be negative")
	}
	if err != nil {
		return "", 0, fmt.Errorf("discover %s: %w", d.Name, err)
	}
	return name, port, nil
}

// discovery is a Discover as the fleet takes it. The nodes' transports are held in the pool
// from when a node is found until it has gone.
func (d *Discover) discovery(ctx caddy.Context, dialTimeout time.Duration) (fleet.Discovery, error) {
	name, port, err := d.check()
	if err != nil {
		return fleet.Discovery{}, err
	}
	keys := &heldKeys{}
	return fleet.Discovery{
		Kind: d.Kind, Name: name, Port: port, Refresh: time.Duration(d.Refresh),
		NewNode: func(address string) (fleet.NodeConfig, error) {
			n, err := (&Node{URL: "http://" + address, Slots: d.Slots, Headers: d.Headers}).resolve()
			if err != nil {
				return fleet.NodeConfig{}, err
			}
			transport, key, err := loadTransport(ctx, n, dialTimeout)
			if err != nil {
				return fleet.NodeConfig{}, err
			}
			keys.add(key)
			return n.config(transport, key), nil
		},
		Gone: func(c fleet.NodeConfig) {
			if keys.remove(c.Key) {
				_, _ = transports.Delete(c.Key) // it is in the pool as long as it is held
			}
		},
	}, nil
}

// heldKeys are references on pooled transports.
type heldKeys struct {
	mu   sync.Mutex // guards what follows
	held map[string]int
}

func (h *heldKeys) add(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held == nil {
		h.held = make(map[string]int)
	}
	h.held[key]++
}

func (h *heldKeys) remove(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held[key] == 0 {
		return false
	}
	h.held[key]--
	return true
}

func (a *App) readDiscover(d *caddyfile.Dispenser) error {
	found := new(Discover)
	if !d.Args(&found.Kind, &found.Name) {
		return d.Errf("discover needs a kind and a name, as in: discover a ollama.internal:11434")
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if _, _, err := found.check(); err != nil {
		return d.WrapErr(err)
	}
	template := &Node{}
	g := grammar{name: "discover", options: []word{
		{name: "refresh", read: duration(&found.Refresh, "30s")},
		{name: "slots", read: count(&found.Slots, 1, maxSlots, "4")},
		{name: "header", read: template.readHeader, often: true},
	}, elsewhere: ofNode}
	if _, err := g.block(d); err != nil {
		return err
	}
	found.Headers = template.Headers
	a.Discover = append(a.Discover, found)
	return nil
}
