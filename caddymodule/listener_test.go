package caddymodule

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestAddresses_Reaches(t *testing.T) {
	own := addresses{host: "gateway7", ips: []netip.Addr{
		netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00::7"),
	}}
	for _, test := range []struct {
		name, node, listen string
		want               bool
	}{
		{"same port on every address", "http://127.0.0.1:8080", ":8080", true},
		{"localhost on every address", "http://localhost:8080", ":8080", true},
		{"own interface", "http://10.1.1.1:8080", ":8080", true},
		{"own interface, v6", "http://[fd00::7]:8080", ":8080", true},
		{"own name", "http://Gateway7:8080", ":8080", true},
		{"unspecified node", "http://0.0.0.0:8080", "127.0.0.1:8080", true},
		{"other port", "http://127.0.0.1:8081", ":8080", false},
		{"port range", "http://127.0.0.1:8081", ":8080-8085", true},
		{"other machine", "http://10.1.1.2:8080", ":8080", false},
		{"other name", "http://ollama.internal:8080", ":8080", false},
		{"same foreign name", "http://ollama.internal:8080", "ollama.internal:8080", true},
		{"other own address", "http://127.0.0.1:8080", "10.1.1.1:8080", false},
		{"same own address", "http://10.1.1.1:8080", "10.1.1.1:8080", true},
		{"own name, one address", "http://gateway7:8080", "10.1.1.1:8080", true},
		{"other loopback address", "http://127.0.0.2:8080", ":8080", true},
		{"v6 node, v4 listener", "http://[::1]:8080", "0.0.0.0:8080", false},
		{"v4 node, v4 listener", "http://127.0.0.1:8080", "0.0.0.0:8080", true},
		{"v4 node, both families", "http://127.0.0.1:8080", "[::]:8080", true},
		{"localhost listener", "http://[::1]:8080", "localhost:8080", true},
		{"tcp4 network", "http://127.0.0.1:8080", "tcp4/127.0.0.1:8080", true},
		{"udp", "http://127.0.0.1:8080", "udp/127.0.0.1:8080", false},
		{"socket", "http://127.0.0.1:8080", "unix//run/gateway", false},
		{"port of the kernel's choice", "http://127.0.0.1:8080", "127.0.0.1:0", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			u, err := parseNodeURL(test.node)
			if err != nil {
				t.Fatal(err)
			}
			if got := own.reaches(u, test.listen); got != test.want {
				t.Errorf("%s at %s: got %t, want %t", test.node, test.listen, got, test.want)
			}
		})
	}
}

func TestLoopbackOnly(t *testing.T) {
	for _, test := range []struct {
		name, listen string
		want         bool
	}{
		{"v4", "127.0.0.1:8080", true},
		{"all of 127", "127.8.8.8:8080", true},
		{"both", "127.0.0.1:8080 [::1]:8080", true},
		{"localhost", "localhost:8080", true},
		{"every address", ":8080", false},
		{"every v4 address", "0.0.0.0:8080", false},
		{"one of two", "127.0.0.1:8080 10.1.1.1:8080", false},
		{"a name", "gateway:8080", false},
		{"socket", "unix//run/gateway", false},
		{"socket and loopback", "unix//run/gateway 127.0.0.1:8080", true},
		{"inherited", "fd/3", false},
		{"none", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := loopbackOnly(&caddyhttp.Server{Listen: strings.Fields(test.listen)}); got != test.want {
				t.Errorf("%s: got %t, want %t", test.listen, got, test.want)
			}
		})
	}
}

// freeAddress gives an address on the loopback interface that was free a moment ago.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
