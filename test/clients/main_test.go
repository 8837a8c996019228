package clients

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

var (
	binary string // the built gateway
	scrap  string // the directory of everything that the tests write
)

// TestMain builds the gateway once, as users do, so that the clients talk to what will run.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if scrap, err = os.MkdirTemp("", "clients"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scrap)
	if binary, err = findBinary(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer killAll()

	// Neither an interrupt nor a test that hangs leaves a process behind.
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, os.Interrupt, syscall.SIGTERM)
	go func() { // ends with the process
		why := "interrupted"
		select {
		case <-ends:
		case <-time.After(8 * time.Minute): // below the bound of `make test-clients`
			why = "the tests take too long"
		}
		killAll()
		os.RemoveAll(scrap)
		fmt.Fprintln(os.Stderr, why)
		os.Exit(1)
	}()
	return m.Run()
}

// findBinary gives the binary of the environment, or builds one with the default flags.
func findBinary() (string, error) {
	if path := os.Getenv("CADDY_OLLAMA"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(scrap, "caddy-ollama")
	build := exec.Command("go", "build", "-o", path, "./cmd/caddy-ollama")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return path, nil
}
