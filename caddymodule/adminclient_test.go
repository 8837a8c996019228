package caddymodule

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestAdminAddress_PrefersWhatIsSaidThenARunningUp(t *testing.T) {
	data := t.TempDir()
	t.Setenv("XDG_DATA_HOME", data)
	config := filepath.Join(data, "Caddyfile")
	if err := os.WriteFile(config, []byte("{\n\tadmin localhost:2020\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(what, address, config, want string) {
		t.Helper()
		if got, err := adminAddress(address, config, ""); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", what, got, err, want)
		}
	}
	check("nothing runs", "", "", "localhost:2019")

	socket, err := socketPath()
	if err != nil {
		t.Fatal(err)
	}
	if err := claimSocket(socket); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	check("an up runs", "", "", "unix/"+socket)
	check("an up runs, --address", "localhost:2021", "", "localhost:2021")
	check("an up runs, --config", "", config, "localhost:2020")
}

func TestRefusal_IsWhatTheGatewaySays(t *testing.T) {
	for name, test := range map[string]struct{ err, want string }{
		"of ours":           {`caddy responded with error: HTTP 404: {"error":"no node is called \"x: y\""}` + "\n", `no node is called "x: y"`},
		"of something else": {"caddy responded with error: HTTP 404: 404 page not found\n", "HTTP 404: 404 page not found"},
		"nobody answered":   {"performing request: dial tcp: connection refused", ""},
	} {
		if got := refusal(errors.New(test.err)); got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
