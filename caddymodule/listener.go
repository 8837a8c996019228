package caddymodule

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// addresses are those of this machine.
type addresses struct {
	host string // the machine's own name
	ips  []netip.Addr
}

// localAddresses reads the addresses of all interfaces.
func localAddresses() (addresses, error) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return addresses{}, err
	}
	var own addresses
	own.host, _ = os.Hostname() // without it one name less is known
	for _, a := range interfaces {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own.ips = append(own.ips, prefix.Addr().Unmap())
		}
	}
	return own, nil
}

// reaches tells whether a request to u arrives at the listener, as far as can be told without
// asking a name server: a name that is not this machine's is taken for another machine. What
// escapes here is refused when the first request comes back.
func (own addresses) reaches(u *url.URL, listen string) bool {
	l, err := caddy.ParseNetworkAddress(listen)
	if err != nil || !strings.HasPrefix(l.Network, "tcp") {
		return false
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || uint(port) < l.StartPort || uint(port) > l.EndPort {
		return false
	}
	if strings.EqualFold(u.Hostname(), l.Host) {
		return true
	}
	bound := addressesOf(l.Host)
	for _, target := range own.named(u.Hostname()) {
		if target.IsUnspecified() {
			// The kernel takes it for the loopback address of the same family.
			target = loopback(target)
		}
		for _, b := range bound {
			switch {
			case b == target:
				return true
			case b == netip.IPv6Unspecified() && own.has(target): // both families
				return true
			case b == netip.IPv4Unspecified() && target.Is4() && own.has(target):
				return true
			}
		}
	}
	return false
}

// named gives the addresses a host stands for here, none for a name of elsewhere.
func (own addresses) named(host string) []netip.Addr {
	if own.host != "" && strings.EqualFold(host, own.host) {
		return own.ips
	}
	if host == "" {
		return nil
	}
	return addressesOf(host)
}

func (own addresses) has(a netip.Addr) bool { return a.IsLoopback() || slices.Contains(own.ips, a) }

// addressesOf gives the addresses of a literal or of localhost, none for another name. No
// host at all is how Go spells every address of the machine.
func addressesOf(host string) []netip.Addr {
	switch {
	case host == "":
		return []netip.Addr{netip.IPv6Unspecified()}
	case isLocalhost(host):
		return []netip.Addr{loopback(netip.IPv4Unspecified()), loopback(netip.IPv6Unspecified())}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return nil
	}
	return []netip.Addr{a.Unmap()}
}

func loopback(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

func isLocalhost(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// loopbackOnly tells whether every TCP address a server listens on is a loopback address. A
// server on Unix sockets alone is not meant: no web page reaches those.
func loopbackOnly(server *caddyhttp.Server) bool {
	found := false
	for _, listen := range server.Listen {
		l, err := caddy.ParseNetworkAddress(listen)
		if err != nil {
			return false
		}
		if l.IsUnixNetwork() {
			continue
		}
		bound := addressesOf(l.Host)
		if !strings.HasPrefix(l.Network, "tcp") || len(bound) == 0 ||
			slices.ContainsFunc(bound, func(a netip.Addr) bool { return !a.IsLoopback() }) {
			return false
		}
		found = true
	}
	return found
}
