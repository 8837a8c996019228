package caddymodule

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWriteNodes(t *testing.T) {
	now := time.Now()
	var b strings.Builder
	err := writeNodes(&b, []nodeStatus{
		{
			Name: "big", URL: "http://10.0.0.1:11434", State: "up", Since: now.Add(-90 * time.Second), Version: "0.24.0",
			Slots: 4, InFlight: 3, Models: 12, Runners: []runnerStatus{{Model: "llama3:latest"}, {Model: "qwen3:8b"}},
		},
		{Name: "old", URL: "http://10.0.0.2:11434", State: "down", Since: now.Add(-50 * time.Hour), Reason: "connection refused", Slots: 1},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := `
NAME  URL                    STATE      REASON              SLOTS  IN FLIGHT  VERSION  MODELS  LOADED
big   http://10.0.0.1:11434  up (1m)    -                   4      3          0.24.0   12      llama3 qwen3:8b
old   http://10.0.0.2:11434  down (2d)  connection refused  1      0          -        0       -
`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

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
