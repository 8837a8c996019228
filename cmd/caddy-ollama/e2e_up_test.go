package main

import (
	"encoding/json"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startUpOutOfNothing starts `up` with nothing named. On a machine where something listens on
// Ollama's own port, `up` would serve that; three simulated nodes are named instead then.
func startUpOutOfNothing(t *testing.T) *gateway {
	t.Helper()
	conn, err := net.DialTimeout("tcp", "127.0.0.1:11434", time.Second)
	if err == nil {
		conn.Close()
		t.Log("something listens on 127.0.0.1:11434, so `up` gets its simulated nodes by name")
		_, urls := startSimulate(t, 3)
		return startUp(t, []string{"OLLAMA_NODES=" + strings.Join(urls, ",")})
	}
	g := startUp(t, nil)
	if !strings.Contains(g.output(), "SIMULATED") {
		t.Error("nothing says that the nodes are simulated")
	}
	return g
}

func TestUp_NeedsNothing(t *testing.T) {
	t.Parallel()
	g := startUpOutOfNothing(t)

	t.Run("says what it serves", func(t *testing.T) {
		for _, part := range []string{
			"http://localhost:" + g.httpPort, "https://localhost:" + g.tlsPort, "sim-small", "curl http://",
			filepath.Join(g.dataDir, "pki", "authorities", "local", "root.crt"),
		} {
			if !g.waitFor(part) {
				t.Errorf("it does not say %q", part)
			}
		}
	})

	t.Run("streams", func(t *testing.T) {
		for _, test := range []struct{ name, base, client, proto string }{
			{"http localhost", base("http", "localhost", g.httpPort), "HTTP/1.1", "HTTP/1.1"},
			{"http 127.0.0.1", base("http", "127.0.0.1", g.httpPort), "HTTP/1.1", "HTTP/1.1"},
			{"https", base("https", "localhost", g.tlsPort), "HTTP/1.1", "HTTP/1.1"},
			{"https HTTP2", base("https", "localhost", g.tlsPort), "HTTP/2.0", "HTTP/2.0"},
			{"h2c", base("http", "localhost", g.httpPort), "h2c", "HTTP/2.0"},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				client := g.client(test.client)
				checkNativeStream(t, askStream(t.Context(), client, test.base+"/api/chat", chatBody("sim-small", test.name, ""), nil), test.proto)
				checkOpenAIStream(t, askStream(t.Context(), client, test.base+"/v1/chat/completions",
					chatBody("sim-small", test.name+" again", `,"stream":true`), nil), test.proto)
			})
		}
	})

	t.Run("refuses a foreign Host", func(t *testing.T) {
		for _, url := range []string{base("http", "127.0.0.1", g.httpPort), base("https", "localhost", g.tlsPort)} {
			resp, body := get(t, g.client("HTTP/1.1"), url+"/api/tags", "evil.example.com")
			if resp.StatusCode != http.StatusForbidden || body != "" {
				t.Errorf("%s: got %d %q, want 403 and nothing", url, resp.StatusCode, body)
			}
		}
	})

	t.Run("nodes", func(t *testing.T) {
		for _, args := range [][]string{{"nodes"}, {"ollama", "nodes"}} {
			nodes, loaded, _ := strings.Cut(mustAsk(t, g.env, args...), "\n\n")
			if !strings.Contains(loaded, "sim-small") {
				t.Errorf("%q: what has been loaded is %s", args, loaded)
			}
			table := strings.Split(strings.TrimSpace(nodes), "\n")
			if len(table) != 4 || !strings.HasPrefix(table[0], "NAME") {
				t.Fatalf("%q: got\n%s\nwant a head and three nodes", args, strings.Join(table, "\n"))
			}
			for _, row := range table[1:] {
				if !strings.Contains(row, " up (") || !strings.Contains(row, "0.24.0") {
					t.Errorf("got %q, want a node that is up", row)
				}
			}
		}
	})

	t.Run("admin socket is private", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(g.dataDir, "ollama-up.sock"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != 0o600 {
			t.Errorf("got %s, want a socket with 0600", info.Mode())
		}
	})

	t.Run("a second one leaves the first alone", func(t *testing.T) {
		_, errs, ok := ask(t, g.env, "up", "--listen", "localhost:"+freePort(t), "--https", "off")
		if ok || !strings.Contains(errs, "XDG_DATA_HOME") {
			t.Errorf("in the same data directory: got\n%s", errs)
		}
		other := []string{"HOME=" + t.TempDir()}
		_, errs, ok = ask(t, other, "up", "--listen", "localhost:"+g.httpPort, "--https", "off")
		if ok || !strings.Contains(errs, "in use") || !strings.Contains(errs, "--listen localhost:") {
			t.Errorf("on the same port: got\n%s", errs)
		}
		_, errs, ok = ask(t, other, "up", "--listen", "localhost:"+freePort(t), "--https", g.tlsPort)
		if ok || !strings.Contains(errs, "in use") || !strings.Contains(errs, "--https ") {
			t.Errorf("on the same HTTPS port: got\n%s", errs)
		}
		if len(g.nodes()) != 3 {
			t.Error("the first one lost its socket")
		}
	})

	t.Run("ends in order", func(t *testing.T) {
		began := make(chan struct{})
		answer := make(chan *stream, 1)
		go func() { // ends with the answer
			answer <- askStream(t.Context(), g.client("HTTP/1.1"), base("http", "localhost", g.httpPort)+"/api/chat",
				chatBody("sim-small", "the last one", ""), func() { close(began) })
		}()
		<-began
		if code := g.end(syscall.SIGTERM); code != 0 {
			t.Errorf("SIGTERM: exit code %d", code)
		}
		checkNativeStream(t, <-answer, "HTTP/1.1")
		if _, err := os.Stat(filepath.Join(g.dataDir, "ollama-up.sock")); err == nil {
			t.Error("the socket is left behind")
		}
	})

	t.Run("leaves nothing outside the data directory", func(t *testing.T) {
		for _, dir := range []string{g.home, g.tmp, g.cmd.Dir} {
			filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil {
					t.Error(err)
				} else if !d.IsDir() && !strings.HasPrefix(path, g.dataDir+string(filepath.Separator)) {
					t.Errorf("left behind: %s", path)
				}
				return nil
			})
		}
	})
}

func TestUp_KeepsToTheXDGDirectories(t *testing.T) {
	t.Parallel()
	data, config := t.TempDir(), t.TempDir()
	_, urls := startSimulate(t, 1)
	g := startUp(t, []string{"XDG_DATA_HOME=" + data, "XDG_CONFIG_HOME=" + config, "OLLAMA_HOST=" + urls[0], "OLLAMA_NUM_PARALLEL=3"})
	if nodes := g.nodes(); len(nodes) != 1 || nodes[0].URL != urls[0] || nodes[0].Slots != 3 {
		t.Errorf("got %+v, want %s with 3 slots", nodes, urls[0])
	}
	if strings.Contains(g.output(), "SIMULATED") {
		t.Error("a named node is called simulated")
	}
	if code := g.end(os.Interrupt); code != 0 {
		t.Errorf("SIGINT: exit code %d", code)
	}
	for _, dir := range []string{g.home, config} {
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, %v, want it empty", dir, entries, err)
		}
	}
}

func TestUp_RefusesItself(t *testing.T) {
	t.Parallel()
	env := []string{"HOME=" + t.TempDir()}
	port := freePort(t)
	_, errs, ok := ask(t, env, "up", "--listen", ":"+port, "--node", "http://127.0.0.1:"+port)
	if ok || !strings.Contains(errs, "where this gateway itself would listen") {
		t.Errorf("got\n%s", errs)
	}
}

func TestUp_PrintConfigIsFormattedAndAdapts(t *testing.T) {
	t.Parallel()
	env := []string{"HOME=" + t.TempDir(), "OLLAMA_NODES=10.0.0.1,10.0.0.2"}
	for _, args := range [][]string{
		{"up", "--print-config"},
		{"up", "--print-config", "--listen", "0.0.0.0:9000", "--https", "off"},
	} {
		text := mustAsk(t, env, args...)
		file := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if formatted := mustAsk(t, env, "fmt", file); formatted != text {
			t.Errorf("%q: fmt makes it\n%s\nof\n%s", args, formatted, text)
		}
		mustAsk(t, env, "validate", "--config", file)
	}
}

func chatBody(model, prompt, more string) string {
	return `{"model":"` + model + `","messages":[{"role":"user","content":"` + prompt + `"}]` + more + `}`
}

// oneByOne is the least time that 39 tokens at 90 a second take, and a margin: the shortest
// answer of sim-small has 40.
const oneByOne = 250 * time.Millisecond

func checkOneByOne(t *testing.T, s *stream, proto, contentType string) {
	t.Helper()
	if s.err != nil || s.status != http.StatusOK || s.proto != proto || s.contentType != contentType {
		t.Fatalf("got %d %s %s, %v; want 200 %s %s", s.status, s.proto, s.contentType, s.err, proto, contentType)
	}
	if len(s.frames) < 20 {
		t.Fatalf("got %d frames, want one a token", len(s.frames))
	}
	if took := s.frames[len(s.frames)-1].at.Sub(s.frames[0].at); took < oneByOne {
		t.Errorf("%d frames came within %s: not as they were made", len(s.frames), took)
	}
}

func checkNativeStream(t *testing.T, s *stream, proto string) {
	t.Helper()
	checkOneByOne(t, s, proto, "application/x-ndjson")
	var last struct {
		Done       bool
		DoneReason string `json:"done_reason"`
	}
	if err := json.Unmarshal([]byte(s.last()), &last); err != nil || !last.Done || last.DoneReason != "stop" {
		t.Errorf("last record: %s, %v", s.last(), err)
	}
}

func checkOpenAIStream(t *testing.T, s *stream, proto string) {
	t.Helper()
	checkOneByOne(t, s, proto, "text/event-stream")
	if s.last() != "data: [DONE]" {
		t.Errorf("last event: %s", s.last())
	}
}
