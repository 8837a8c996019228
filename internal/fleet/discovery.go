package fleet

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What a Discovery looks up.
const (
	DiscoverA   = "a"   // the addresses of a host name, of both families
	DiscoverSRV = "srv" // the targets of a service, of all priorities and weights alike
)

// lookupTimeout bounds one lookup; the system's resolver gives up at about that time, too.
const lookupTimeout = 5 * time.Second

// A Discovery finds nodes by a name, again and again.
type Discovery struct {
	Kind    string        // DiscoverA or DiscoverSRV
	Name    string        // a host name, or _service._proto.name
	Port    int           // of the nodes that DiscoverA finds. Default: 11434.
	Refresh time.Duration // between lookups, jittered by a tenth. Default: 30s.

	// NewNode makes the config of a node from its host:port, once for each address that comes
	// and anew after each Configure. The name of the node is the address unless it sets one.
	// It must not call the fleet.
	NewNode func(address string) (NodeConfig, error)
	// Gone is told each config of NewNode when it is used no longer, but for calls that still
	// run on the node. It must not call the fleet. Optional.
	Gone func(NodeConfig)
}

// A Resolver looks names up; net.Resolver does.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
	LookupSRV(ctx context.Context, service, proto, name string) (cname string, addrs []*net.SRV, err error)
}

var errNoAddress = errors.New("no address")

// addresses looks the nodes up, sorted and each once. None at all is an error: a name server
// that has lost its records does not turn a fleet off.
func (d *Discovery) addresses(ctx context.Context, r Resolver) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	var found []string
	switch d.Kind {
	case DiscoverA:
		ips, err := r.LookupNetIP(ctx, "ip", d.Name)
		if err != nil {
			return nil, err
		}
		port := uint16(cmp.Or(d.Port, 11434))
		for _, ip := range ips {
			found = append(found, netip.AddrPortFrom(ip.Unmap(), port).String())
		}
	case DiscoverSRV:
		_, targets, err := r.LookupSRV(ctx, "", "", d.Name)
		if err != nil {
			return nil, err
		}
		for _, t := range targets {
			host := strings.ToLower(strings.TrimSuffix(t.Target, "."))
			if host != "" { // "." says that there is no such service
				found = append(found, net.JoinHostPort(host, strconv.Itoa(int(t.Port))))
			}
		}
	default:
		return nil, errors.New("unknown kind of discovery")
	}
	if len(found) == 0 {
		return nil, errNoAddress
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// A discoverer is a Discovery at work. Fleet.arranging guards all but the Discovery.
type discoverer struct {
	Discovery
	cancel  context.CancelFunc
	nodes   map[string]NodeConfig // by address
	refused map[string]bool       // addresses that NewNode did not want, told once
	looked  bool                  // the first lookup is over
	failing bool                  // as has been told
}

// sameTarget tells whether two look the same up.
func (d *discoverer) sameTarget(other Discovery) bool {
	return d.Kind == other.Kind && d.Name == other.Name && d.Port == other.Port
}

// replaceDiscoverersLocked makes the discoverers those of opts. One that looks up what another
// did before begins with what that has found. It gives the old ones.
func (f *Fleet) replaceDiscoverersLocked(opts Options) (old []*discoverer) {
	old = f.discoverers
	f.discoverers = nil
	for _, d := range opts.Discover {
		next := &discoverer{Discovery: d, nodes: make(map[string]NodeConfig), refused: make(map[string]bool)}
		for _, was := range old {
			if was.sameTarget(d) {
				next.looked, next.failing = was.looked, was.failing
				next.take(f, slices.Sorted(maps.Keys(was.nodes)))
				break
			}
		}
		f.discoverers = append(f.discoverers, next)
	}
	return old
}

// take makes the nodes of a discoverer those at the addresses, and gives those that left.
func (d *discoverer) take(f *Fleet, addresses []string) (gone []NodeConfig, changed bool) {
	for address, c := range d.nodes {
		if _, ok := slices.BinarySearch(addresses, address); !ok {
			gone = append(gone, c)
			delete(d.nodes, address)
			f.log.Info("node left", "node", c.Name, "discovery", d.Name)
		}
	}
	for _, address := range addresses {
		if _, ok := d.nodes[address]; ok {
			continue
		}
		c, err := d.NewNode(address)
		if err != nil {
			if !d.refused[address] {
				d.refused[address] = true
				f.log.Warn("node discovered but not usable", "node", address, "discovery", d.Name, "error", err)
			}
			continue
		}
		c.Name = cmp.Or(c.Name, address)
		d.nodes[address] = c
		changed = true
	}
	return gone, changed || len(gone) > 0
}

// discover looks up again and again until ctx ends.
func (f *Fleet) discover(ctx context.Context, d *discoverer) {
	resolver := f.opts.Load().Resolver
	refresh := cmp.Or(max(d.Refresh, 0), 30*time.Second)
	retry := min(time.Second, refresh)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		addresses, err := d.addresses(ctx, resolver)
		if ctx.Err() != nil {
			return
		}
		f.found(ctx, d, addresses, err)
		if err == nil {
			retry = min(time.Second, refresh)
			timer.Reset(jitter(refresh))
			continue
		}
		timer.Reset(jitter(retry)) // sooner at first: a start before the name server is usual
		retry = min(2*retry, refresh)
	}
}

// found takes over a lookup. One that failed leaves the nodes as they are.
func (f *Fleet) found(ctx context.Context, d *discoverer, addresses []string, err error) {
	f.arranging.Lock()
	if ctx.Err() != nil { // another configuration rules
		f.arranging.Unlock()
		return
	}
	if (err != nil) != d.failing {
		d.failing = err != nil
		if err != nil {
			f.log.Warn("discovery failed", "discovery", d.Name, "reason", reasonOf(err), "nodes", len(d.nodes))
		} else {
			f.log.Info("discovery works again", "discovery", d.Name)
		}
	}
	var gone []NodeConfig
	changed := !d.looked
	d.looked = true
	if err == nil {
		var other bool
		gone, other = d.take(f, addresses)
		changed = changed || other
	}
	if changed {
		f.arrangeLocked()
	}
	f.arranging.Unlock()
	if changed {
		f.publish()
	}
	d.dismiss(gone)
}

// dismiss tells whoever made them that configs are used no longer.

func (d *discoverer) dismiss(gone []NodeConfig) {
	if d.Gone == nil {
		return
	}
	for _, c := range gone {
		d.Gone(c)
	}
}

// configsLocked are the nodes of the configuration and then those discovered, by address. One that
// is named or reached like one before is left out.
func (f *Fleet) configsLocked() (all []NodeConfig, looked bool) {
	all = slices.Clone(f.static)
	names, hosts := make(map[string]bool), make(map[string]bool)
	for _, c := range all {
		names[c.Name] = true
		if c.URL != nil {
			hosts[c.URL.Host] = true
		}
	}
	looked = true
	for _, d := range f.discoverers {
		looked = looked && d.looked
		for _, address := range slices.Sorted(maps.Keys(d.nodes)) {
			c := d.nodes[address]
			if names[c.Name] || c.URL != nil && hosts[c.URL.Host] {
				continue
			}
			names[c.Name] = true
			if c.URL != nil {
				hosts[c.URL.Host] = true
			}
			all = append(all, c)
		}
	}
	return all, looked
}

var _ Resolver = (*net.Resolver)(nil)
