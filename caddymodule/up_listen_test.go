package caddymodule

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseListen_SaysWhereAndForWhom(t *testing.T) {
	for _, test := range []struct {
		text      string
		addresses []string
		url       string
		private   bool
	}{
		{"localhost:8080", []string{"127.0.0.1:8080", "[::1]:8080"}, "http://localhost:8080", true},
		{"LOCALHOST", []string{"127.0.0.1:8080", "[::1]:8080"}, "http://localhost:8080", true},
		{"127.0.0.1:9000", []string{"127.0.0.1:9000"}, "http://127.0.0.1:9000", true},
		{"127.0.0.1", []string{"127.0.0.1:8080"}, "http://127.0.0.1:8080", true},
		{"::1", []string{"[::1]:8080"}, "http://[::1]:8080", true},
		{"[::1]:9000", []string{"[::1]:9000"}, "http://[::1]:9000", true},
		{":9000", []string{":9000"}, "http://localhost:9000", false},
		{"0.0.0.0:9000", []string{"0.0.0.0:9000"}, "http://localhost:9000", false},
		{"0.0.0.0", []string{"0.0.0.0:8080"}, "http://localhost:8080", false},
		{"10.0.0.5", []string{"10.0.0.5:8080"}, "http://10.0.0.5:8080", false},
	} {
		l, err := parseListen(test.text)
		if err != nil {
			t.Errorf("--listen %s: %v", test.text, err)
			continue
		}
		if got := l.addresses(); !slices.Equal(got, test.addresses) || l.private() != test.private || l.url("http") != test.url {
			t.Errorf("--listen %s: got %q, private %t, %s; want %q, private %t, %s",
				test.text, got, l.private(), l.url("http"), test.addresses, test.private, test.url)
		}
	}
}

func TestParseListen_RefusalSaysWhatToWrite(t *testing.T) {
	for text, want := range map[string]string{
		"":              "localhost",
		"example.com":   "IP address",
		"8080":          "IP address",
		":0":            "port from 1 to 65535",
		":http":         "port from 1 to 65535",
		"10.0.0.1:":     "port from 1 to 65535",
		"10.0.0.1:9x":   "port from 1 to 65535",
		"10.0.0.1:1:2":  "IP address",
		"unix//x.sock":  "IP address",
		"10.0.0.1:-100": "port from 1 to 65535",
	} {
		l, err := parseListen(text)
		if err == nil {
			t.Errorf("--listen %q: accepted as %q", text, l.addresses())
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("--listen %q: got %q, which does not say %q", text, err, want)
		}
	}
}

func TestParseHTTPS_OffGivesNoListener(t *testing.T) {
	if l, err := parseHTTPS("off"); l != nil || err != nil {
		t.Errorf("--https off: got %v, %v", l, err)
	}
	if l, err := parseHTTPS("9443"); err != nil || l.url("https") != "https://localhost:9443" || !l.private() {
		t.Errorf("--https 9443: got %+v, %v", l, err)
	}
	for _, text := range []string{"", "no", "0", "localhost:8443", "70000"} {
		if _, err := parseHTTPS(text); err == nil || !strings.Contains(err.Error(), "off turns HTTPS off") {
			t.Errorf("--https %q: got %v", text, err)
		}
	}
}

func TestCheckFree_NamesTheFlagThatHelps(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())

	l, err := parseListen("127.0.0.1:" + port)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.checkFree(); err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "--listen localhost:") {
		t.Errorf("a taken port: got %v", err)
	}
	https, err := parseHTTPS(port)
	if err != nil {
		t.Fatal(err)
	}
	if err := https.checkFree(); err == nil || !strings.Contains(err.Error(), "--https ") {
		t.Errorf("a taken port: got %v", err)
	}
	taken.Close()
	if err := l.checkFree(); err != nil {
		t.Errorf("a free port: got %v", err)
	}
}

func TestCheckNotOwn_RefusesANodeThatIsTheGateway(t *testing.T) {
	for _, test := range []struct {
		name, node, listen string
		own                bool
	}{
		{"the same address", "127.0.0.1:9000", "127.0.0.1:9000", true},
		{"localhost by name", "localhost:9000", "127.0.0.1:9000", true},
		{"the unspecified address", "0.0.0.0:9000", "localhost:9000", true},
		{"IPv6", "[::1]:9000", "localhost:9000", true},
		{"every address", "127.0.0.1:9000", ":9000", true},
		{"the port of HTTPS", "https://localhost:9443", "localhost:9000", true},
		{"another port", "127.0.0.1:9001", "127.0.0.1:9000", false},
		{"another machine", "192.0.2.1:9000", ":9000", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			found, err := findNodes([]string{test.node}, environ(nil))
			if err != nil {
				t.Fatal(err)
			}
			l, err := parseListen(test.listen)
			if err != nil {
				t.Fatal(err)
			}
			https, err := parseHTTPS("9443")
			if err != nil {
				t.Fatal(err)
			}
			err = checkNotOwn(found, []upListener{l, *https})
			if own := err != nil; own != test.own {
				t.Fatalf("node %s, --listen %s: got %v", test.node, test.listen, err)
			}
			if err != nil && !strings.Contains(err.Error(), "--node") {
				t.Errorf("%q does not say what helps", err)
			}
		})
	}
}

func TestClaimSocket_LeavesARunningOneAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "caddy")
	path := filepath.Join(dir, "s.sock")
	if err := claimSocket(path); err != nil {
		t.Fatalf("nobody there: %v", err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, %v, want it private", info.Mode(), err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if err := claimSocket(path); err == nil || !strings.Contains(err.Error(), "XDG_DATA_HOME") {
		t.Errorf("one that runs: got %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
	if err := claimSocket(path); err != nil {
		t.Errorf("a file left behind: %v", err)
	}
	if err := claimSocket(filepath.Join(dir, strings.Repeat("x", maxSocketPath))); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long path: got %v", err)
	}
}

func TestRefuses(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if address := ln.Addr().String(); refuses(address) {
		t.Errorf("%s accepts, but was taken for nobody", address)
	}
	ln.Close()
	if address := ln.Addr().String(); !refuses(address) {
		t.Errorf("%s refuses, but was taken for a node", address)
	}
}
