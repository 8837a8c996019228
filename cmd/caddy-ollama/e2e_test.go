package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binary is the built command under test.
var binary string

// TestMain builds the command once, as users do, so that the tests drive what they will run.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "caddy-ollama")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if binary, err = build(dir, "."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// build compiles a package of this module with the default flags.
func build(dir, pkg string) (string, error) {
	path := filepath.Join(dir, "caddy-ollama")
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", pkg, err, out)
	}
	return path, nil
}

// ask runs a command that ends by itself and gives its standard output, and whether it ended
// with 0.
func ask(t *testing.T, env []string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	return askBinary(t, binary, env, args...)
}

func askBinary(t *testing.T, path string, env []string, args ...string) (stdout, stderr string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env, cmd.Dir = env, t.TempDir()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%q: %v", args, err)
	}
	return out.String(), errs.String(), err == nil
}

// mustAsk is ask for a command that must succeed.
func mustAsk(t *testing.T, env []string, args ...string) string {
	t.Helper()
	out, errs, ok := ask(t, env, args...)
	if !ok {
		t.Fatalf("%q failed:\n%s%s", args, out, errs)
	}
	return out
}
