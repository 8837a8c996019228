package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// example is the file that users start from.
const example = "../../Caddyfile.example"

func readExample(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCaddy_ExampleIsFormattedAdaptsAndIsValid(t *testing.T) {
	t.Parallel()
	file, err := filepath.Abs(example)
	if err != nil {
		t.Fatal(err)
	}
	const secret = "sesame-open" // a word that the example does not have
	env := []string{"HOME=" + t.TempDir(), "BIG_NODE_TOKEN=" + secret}
	if formatted, text := mustAsk(t, env, "fmt", file), readExample(t); formatted != text {
		t.Errorf("fmt makes it\n%s", formatted)
	}
	file = filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(withKeys(t, readExample(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	adapted := mustAsk(t, env, "adapt", "--config", file)
	for _, part := range []string{`"ollama":{"nodes":[`, `"handler":"ollama"`} {
		if !strings.Contains(adapted, part) {
			t.Errorf("adapted: no %s in\n%s", part, adapted)
		}
	}
	if strings.Contains(adapted, secret) {
		t.Error("adapted: a secret is in it")
	}
	mustAsk(t, env, "validate", "--config", file)
	if _, errs, ok := ask(t, env[:1], "validate", "--config", file); ok {
		t.Errorf("validate without the secrets: accepted\n%s", errs)
	}
}

func TestCaddy_ListsTheModules(t *testing.T) {
	t.Parallel()
	modules := strings.Fields(mustAsk(t, nil, "list-modules"))
	for _, id := range []string{"ollama", "http.handlers.ollama", "http.handlers.ollama_status", "ollama_blog", "http.handlers.ollama_blog", "admin.api.ollama", "http.handlers.reverse_proxy"} {
		if !slices.Contains(modules, id) {
			t.Errorf("%s is not there", id)
		}
	}
}

// A module must work in every build, so it is also built as xcaddy does.
func TestXcaddy_BuildHasEverything(t *testing.T) {
	t.Parallel()
	caddy, err := build(t.TempDir(), "../../test/xcaddy")
	if err != nil {
		t.Fatal(err)
	}
	out, errs, ok := askBinary(t, caddy, nil, "list-modules")
	for _, id := range []string{"ollama", "http.handlers.ollama", "http.handlers.ollama_status", "ollama_blog", "http.handlers.ollama_blog", "admin.api.ollama"} {
		if !ok || !slices.Contains(strings.Fields(out), id) {
			t.Errorf("%s is not there:\n%s%s", id, out, errs)
		}
	}
	env := []string{"HOME=" + t.TempDir()}
	if out, errs, ok := askBinary(t, caddy, env, "ollama", "up", "--print-config", "--node", "10.0.0.1"); !ok || !strings.Contains(out, "node http://10.0.0.1:11434") {
		t.Errorf("ollama up --print-config:\n%s%s", out, errs)
	}
	if out, _, ok := askBinary(t, caddy, env, "up", "--print-config"); ok {
		t.Errorf("`up` is at top level in a build that is not ours alone:\n%s", out)
	}
}

// The example, moved to free ports, to simulated nodes and to names of its own.
func TestCaddy_RunsTheExampleAndReloadsIt(t *testing.T) {
	t.Parallel()
	_, nodes := startSimulate(t, 2, "--models", "sim-small,llama3")
	home := t.TempDir()
	socket := filepath.Join(home, "admin.sock")
	httpPort, publicPort, redirectPort := freePort(t), freePort(t), freePort(t)
	edit := strings.NewReplacer(
		"{\n\tollama {\n\t\tnode http://10.0.0.1:11434 {\n", fmt.Sprintf("{\n\tadmin unix/%s|0600\n\tpersist_config off\n\tskip_install_trust\n\tlocal_certs\n"+
			"\thttp_port %s\n\thttps_port %s\n\tgrace_period 5s\n\tollama {\n\t\tnode %s {\n", socket, redirectPort, publicPort, nodes[0]),
		"https://10.0.0.2", nodes[1], "http://:8080", "http://:"+httpPort)
	file := filepath.Join(home, "Caddyfile")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"HOME=" + home, "BIG_NODE_TOKEN=token"}
	text := withKeys(t, edit.Replace(readExample(t)))
	for _, part := range append(nodes, httpPort, publicPort) {
		if !strings.Contains(text, part) {
			t.Fatalf("the example has changed; this test moves it no longer:\n%s", text)
		}
	}
	write(text)
	run := start(t, env, "run", "--config", file)
	for _, ready := range []string{"serving initial configuration", "certificate obtained successfully"} {
		if !run.waitFor(ready) {
			t.Fatalf("run ended:\n%s", run.output())
		}
	}
	g := &gateway{process: run, env: env, httpPort: httpPort, dataDir: filepath.Join(home, ".local", "share", "caddy")}

	table, _, _ := strings.Cut(mustAsk(t, env, "nodes", "--config", file), "\n\n") // what is loaded follows
	if !strings.Contains(table, "big ") || len(strings.Split(strings.TrimSpace(table), "\n")) != 3 {
		t.Errorf("nodes:\n%s", table)
	}
	checkPublicSite(t, g, publicPort)

	// A reload in the middle of a stream.
	client := g.client("HTTP/1.1")
	chat := base("http", "127.0.0.1", httpPort) + "/api/chat"
	began, answer := make(chan struct{}), make(chan *stream, 1)
	go func() { // ends with the answer
		answer <- askStream(t.Context(), client, chat, chatBody("sim-small", "over a reload", ""), func() { close(began) })
	}()
	<-began
	write(strings.Replace(text, "class background", "class batch", 1))
	mustAsk(t, env, "reload", "--config", file)
	checkNativeStream(t, <-answer, "HTTP/1.1")

	// A reload that fails changes nothing and says where.
	write(strings.Replace(text, "class background", "klass background", 1))
	if _, errs, ok := ask(t, env, "reload", "--config", file); ok || !strings.Contains(errs, "Caddyfile:") {
		t.Errorf("a misspelt word: accepted %t\n%s", ok, errs)
	}
	checkNativeStream(t, askStream(t.Context(), client, chat, chatBody("sim-small", "after it", ""), nil), "HTTP/1.1")
	if code := run.end(syscall.SIGTERM); code != 0 {
		t.Errorf("SIGTERM: exit code %d", code)
	}
}

// checkPublicSite asks the guarded site of the example by its name.
func checkPublicSite(t *testing.T, g *gateway, port string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: g.authority()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
		},
	}}
	defer client.CloseIdleConnections()
	url := base("https", "ollama.example.com", port) + "/api/tags"
	for _, header := range []string{"", "Authorization: Bearer sk-unknown", "Authorization: Bearer " + exampleKey, "X-Api-Key: " + exampleKey} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if name, value, ok := strings.Cut(header, ": "); ok {
			req.Header.Set(name, value)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		body, known := string(answer), strings.Contains(header, exampleKey)
		switch {
		case err != nil:
			t.Error(err)
		case !known && (resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "llama3")):
			t.Errorf("%q: got %d %s, want 401", header, resp.StatusCode, body)
		case known && (resp.StatusCode != http.StatusOK || !strings.Contains(body, "llama3") || strings.Contains(body, "sim-small")):
			t.Errorf("%q: got %d %s, want 200 and the site's models only", header, resp.StatusCode, body)
		}
	}
}

const exampleKey = "sk-correct-horse"

// withKeys moves the keys of the example to a file that there is, with one key.
func withKeys(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, fmt.Appendf(nil, "alice %x\n", sha256.Sum256([]byte(exampleKey))), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(text, "{file./etc/caddy-ollama/keys}", "{file."+file+"}", 1)
	if moved == text {
		t.Fatalf("the example has changed; this test moves its keys no longer:\n%s", text)
	}
	return moved
}
