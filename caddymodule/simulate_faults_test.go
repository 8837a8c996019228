package caddymodule

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/caddy-ollama/caddy-ollama/internal/simnode"
)

func TestSimulatedFaults_BelongToTheirNodes(t *testing.T) {
	faults, err := simulatedFaults([]string{"status=500,share=0.1", "2:flap=10s", `{"never":true}`}, 2)
	if err != nil {
		t.Fatal(err)
	}
	first, second := faultsOf(faults, 1), faultsOf(faults, 2)
	if len(first) != 2 || first[0].Share != 0.1 || !first[1].Never {
		t.Errorf("node 1 has %+v", first)
	}
	if len(second) != 3 || !second[1].Refuse {
		t.Errorf("node 2 has %+v", second)
	}
}

// runSimulate runs the command with flags that make it fail.
func runSimulate(args ...string) error {
	cmd := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
	simulateCommand.CobraFunc(cmd)
	cmd.SetArgs(append([]string{"--listen", "127.0.0.1:0"}, args...))
	cmd.SetOut(io.Discard)
	cmd.SetErr(io.Discard)
	return cmd.Execute()
}

func TestSimulate_RefusesWrongFaults(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--fault", "statsu=500"}, `unrecognized word "statsu"`},
		{[]string{"--fault", "share=0.1"}, "does nothing"},
		{[]string{"--fault", "3:refuse", "--count", "2"}, "no node 3, only 1 to 2"},
		{[]string{"--fault", `{"status":500`}, "unexpected"},
		{[]string{"--fault", "tls=expired"}, "add --tls-ca"},
		{[]string{"--restart", "-1s"}, "--restart -1s"},
		{[]string{"--tls-ca", "/nowhere/at/all"}, "--tls-ca"},
		{[]string{"--fault", "never,model=a b"}, "invalid model name"},
	} {
		if err := runSimulate(tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want it to say %s", tt.args, err, tt.want)
		}
	}
}

func TestSimulate_HelpShowsFaultsThatAreRight(t *testing.T) {
	shown := 0
	for line := range strings.Lines(simulateFaultsHelp) {
		_, text, ok := strings.Cut(line, "\t--fault ")
		if !ok {
			continue
		}
		if text, ok = strings.CutPrefix(text, "'"); ok {
			text, _, _ = strings.Cut(text, "'")
		} else {
			text, _, _ = strings.Cut(text, " ")
		}
		shown++
		if _, err := simulatedFaults([]string{text}, 2); err != nil {
			t.Error(err)
		}
	}
	if shown < 10 {
		t.Errorf("found %d examples", shown)
	}
}

func TestStartSimulated_TLSAndAdmin(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	certificates, err := simulatedCertificates(file)
	if err != nil {
		t.Fatal(err)
	}
	if pem, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(pem), "-----BEGIN CERTIFICATE") {
		t.Errorf("got %q, %v", pem, err)
	}
	listeners, err := listenInARow("127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	s := startSimulated(listeners[0], simnode.Options{Admin: true}, simnode.ServerOptions{TLS: certificates})
	defer s.Close()
	if !strings.HasPrefix(s.url, "https://127.0.0.1:") {
		t.Errorf("it is at %s", s.url)
	}
	n, err := parseNode(s.url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := http.Get(n.URL.String() + "/_faults"); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a client that does not trust it: %v", err)
	}
}
